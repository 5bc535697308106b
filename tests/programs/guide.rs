//! A reader who follows the guide and the README gets programs that work.
//!
//! What they print is taken as it is, into a package outside this workspace that
//! depends on nothing but `capnp-threads` and, for its build script,
//! `capnp-threads-codegen`.

use std::fs;
use std::path::Path;
use std::process::Command;

use rpc_testing::process::{installed, output};

/// The blocks of code of a chapter, each with its language and without the lines that
/// readers do not see.
fn blocks(chapter: &str) -> Vec<(&str, String)> {
    let pieces = chapter.split("```").skip(1).step_by(2);
    pieces
        .map(|piece| {
            let (info, code) = piece.split_once('\n').unwrap();
            let seen = code.lines().filter(|line| !line.starts_with("# ") || info == "toml");
            let language = info.split(',').next().unwrap();
            (language, seen.fold(String::new(), |code, line| code + line + "\n"))
        })
        .collect()
}

/// The only block in a language that contains a text.
fn block(chapter: &str, language: &str, text: &str) -> String {
    let mut found = blocks(chapter)
        .into_iter()
        .filter(|(own, code)| *own == language && code.contains(text))
        .map(|(_, code)| code);
    let code = found.next().unwrap_or_else(|| panic!("no {language} block has {text:?}"));
    assert!(found.next().is_none(), "several {language} blocks have {text:?}");
    code
}

/// A package that a reader makes, and the files that they put into it.
fn package(folder: &Path) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let guide = fs::read_to_string(root.join("docs/getting-started.md")).unwrap();
    let readme = fs::read_to_string(root.join("README.md")).unwrap();

    let dependencies = block(&guide, "toml", "[dependencies]");
    assert_eq!(dependencies, block(&readme, "toml", "[dependencies]"));
    // Until they are published, and for what is here now even then.
    let patches = [("capnp-threads", "."), ("capnp-threads-codegen", "rpc-codegen")];
    let patches = patches.iter().fold(String::new(), |text, (name, path)| {
        text + &format!("{name} = {{ path = '{}' }}\n", root.join(path).display())
    });
    let manifest = format!(
        "[package]\nname = \"reader\"\nversion = \"0.1.0\"\nedition = \"2024\"\n\n\
         {dependencies}\n[workspace]\n\n[patch.crates-io]\n{patches}\n\
         # Is built once, for one run.\n\
         [profile.dev]\ndebug = false\nincremental = false\n"
    );
    let module = block(&guide, "rust", "mod greeter_capnp");
    let program = |code: String| format!("{module}\n{code}");
    let files = [
        ("Cargo.toml", manifest),
        ("build.rs", block(&guide, "rust", "// build.rs")),
        ("schema/greeter.capnp", block(&guide, "capnp", "@0x")),
        ("src/main.rs", program(block(&guide, "rust", "memory::pair()"))),
        ("src/bin/server.rs", program(block(&readme, "rust", "capnp_threads::serve("))),
        ("src/bin/client.rs", program(block(&readme, "rust", "capnp_threads::connect("))),
    ];
    for (path, text) in files {
        let path = folder.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    // The versions that are on this machine.
    fs::copy(root.join("Cargo.lock"), folder.join("Cargo.lock")).unwrap();
}

#[test]
fn the_steps_of_the_guide_and_of_the_readme_work_in_a_package_of_its_own() {
    if !installed("the schema compiler", Command::new("capnp").arg("--version")) {
        return;
    }
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("reader");
    package(&folder);
    let wrong = folder.join("src/bin/wrong.rs");
    if wrong.exists() {
        fs::remove_file(&wrong).unwrap();
    }
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let build = || {
        let mut build = Command::new(&cargo);
        build.args(["build", "--quiet", "--offline", "--target-dir", "target"]);
        let built = build.current_dir(&folder).output().unwrap();
        (built.status.success(), String::from_utf8_lossy(&built.stderr).into_owned())
    };
    let (succeeded, told) = build();
    assert!(succeeded, "{told}");
    let printed = output(&mut Command::new(folder.join("target/debug/reader")));
    assert_eq!(printed, "Hello, threads!\nHello, Ada!\n");

    // What the compiler says of a frequent mistake leads on.
    let main = fs::read_to_string(folder.join("src/main.rs")).unwrap();
    let (module, _) = main.split_once("\n\n").unwrap();
    fs::write(&wrong, format!("{module}\n{MOVES_A_RESPONSE}")).unwrap();
    let (succeeded, told) = build();
    assert!(!succeeded && told.contains("CallDetachToMoveThisToAnotherThread"), "{told}");
}

/// A program that the compiler refuses.
const MOVES_A_RESPONSE: &str = "
fn give_away(greeter: &greeter_capnp::greeter::Client) -> capnp_threads::Result<()> {
    let response = greeter.greet_request().call()?;
    std::thread::spawn(move || drop(response));
    Ok(())
}

fn main() {}
";
