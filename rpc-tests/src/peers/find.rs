//! Finding peers, and building those that Cargo builds.

use std::collections::hash_map::DefaultHasher;
use std::ffi::OsString;
use std::fs;
use std::hash::{Hash, Hasher};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

pub(super) fn package() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

pub(super) fn workspace() -> &'static Path {
    package().parent().unwrap_or(package())
}

/// Where this workspace is being built: the folder above that of the profile.
pub(super) fn target() -> Result<PathBuf, String> {
    let this = std::env::current_exe().map_err(|error| error.to_string())?;
    this.parent()
        .map(|folder| match folder.file_name() {
            Some(name) if name == "deps" || name == "examples" => folder.parent(),
            _ => Some(folder),
        })
        .and_then(|profile| profile?.parent())
        .map(Path::to_owned)
        .ok_or_else(|| format!("{} is not in a target folder", this.display()))
}

/// Runs a command to its end and returns what it printed, or the end of its
/// complaints.
pub(super) fn run(command: &mut Command) -> Result<String, String> {
    let output = command.stdin(Stdio::null()).output().map_err(|error| error.to_string())?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let complaints = String::from_utf8_lossy(&output.stderr);
    let mut last: Vec<&str> = complaints.lines().rev().take(20).collect();
    last.reverse();
    Err(format!("{}: {}", output.status, last.join("\n")))
}

/// A hash of what some files contain, and the files directly in some folders, and of
/// a word.
pub(super) fn hash_of_files(paths: &[&Path], word: &str) -> io::Result<u64> {
    let mut files = Vec::new();
    for path in paths {
        if path.is_file() {
            files.push((*path).to_owned());
            continue;
        }
        for entry in fs::read_dir(path)? {
            let path = entry?.path();
            if path.is_file() {
                files.push(path);
            }
        }
    }
    files.sort();
    let mut hasher = DefaultHasher::new();
    word.hash(&mut hasher);
    for file in files {
        file.file_name().hash(&mut hasher);
        fs::read(&file)?.hash(&mut hasher);
    }
    Ok(hasher.finish())
}

pub(super) fn pycapnp() -> Result<Vec<OsString>, String> {
    let python = std::env::var_os("PYTHON").unwrap_or_else(|| "python3".into());
    let version = run(Command::new(&python).args(["-c", "import capnp; print(capnp.__version__)"]))
        .map_err(|_| format!("{} not installed, or pycapnp is not", python.display()))?;
    let version = version.trim();
    let major: u32 = version.split('.').next().and_then(|n| n.parse().ok()).unwrap_or(0);
    if major < 2 {
        return Err(format!("pycapnp is {version}, needed is 2 or later"));
    }
    Ok(vec![python, package().join("peers/python/peer.py").into()])
}

pub(super) fn build_capnp_rpc() -> Result<PathBuf, String> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let target = target()?;
    run(Command::new(cargo)
        .args(["build", "--quiet", "--package", "peer-capnp-rpc", "--target-dir"])
        .arg(&target)
        .current_dir(workspace()))
    .map_err(|why| format!("does not build: {why}"))?;
    let program = target.join("debug/peer-capnp-rpc");
    if program.exists() {
        Ok(program)
    } else {
        Err(format!("cargo has not built {}", program.display()))
    }
}
