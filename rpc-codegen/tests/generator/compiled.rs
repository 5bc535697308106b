//! Builds crates as users of the generator do: crates of their own, whose lints and
//! build scripts are the user's.
//!
//! All share one target folder with the crate that the test of the guide builds, and its
//! profile, so that the runtime library is compiled once for all of them.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use capnp_threads_codegen::{Compiler, GeneratedFile};

use crate::support::{self, workspace};

/// A crate in a folder that is kept between runs.
pub(crate) struct Crate {
    pub(crate) folder: PathBuf,
}

impl Crate {
    /// A crate that depends on the runtime library, and on the generator for its build
    /// script if there is one.
    pub(crate) fn new(name: &str) -> Self {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        let this = Crate { folder };
        let workspace = fs::canonicalize(workspace()).unwrap();
        this.write(
            "Cargo.toml",
            &format!(
                "[package]\nname = {name:?}\nversion = \"0.0.0\"\nedition = \"2021\"\n\
                 [workspace]\n\
                 [dependencies]\ncapnp-threads = {{ path = '{}' }}\n\
                 [build-dependencies]\ncapnp-threads-codegen = {{ path = '{}' }}\n\
                 [profile.dev]\ndebug = false\nincremental = false\n",
                workspace.display(),
                workspace.join("rpc-codegen").display(),
            ),
        );
        // The versions that are known to work, and to be on this machine.
        this.write("Cargo.lock", &fs::read_to_string(workspace.join("Cargo.lock")).unwrap());
        this
    }

    /// Leaves a file alone that has this content, so that Cargo sees no change.
    pub(crate) fn write(&self, path: &str, content: &str) {
        let path = self.folder.join(path);
        if fs::read(&path).is_ok_and(|present| present == content.as_bytes()) {
            return;
        }
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    /// Has the crate's root contain generated files, each as a public module.
    fn root(&self, attributes: &str, files: &[GeneratedFile]) {
        let mut root = format!("//! Generated code.\n{attributes}\n");
        for file in files {
            file.write(&self.folder.join("src")).unwrap();
            let module = file.path.file_stem().unwrap().to_str().unwrap();
            let path = file.path.display();
            writeln!(root, "/// A schema.\npub mod {module} {{ include!(\"{path}\"); }}").unwrap();
        }
        self.write("src/lib.rs", &root);
    }

    fn cargo(&self, arguments: &[&str]) -> Output {
        Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
            .args(["--offline", "--quiet"])
            .args(arguments)
            .current_dir(&self.folder)
            .env("CARGO_TARGET_DIR", Path::new(env!("CARGO_TARGET_TMPDIR")).join("reader/target"))
            // What this test itself was built with is none of the user's.
            .env_remove("CARGO_ENCODED_RUSTFLAGS")
            .env_remove("RUSTFLAGS")
            .output()
            .unwrap()
    }

    #[track_caller]
    pub(crate) fn succeeds(&self, arguments: &[&str]) -> String {
        let output = self.cargo(arguments);
        let report = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{report}");
        String::from_utf8(output.stdout).unwrap()
    }
}

/// The generated files that are committed for the tests, all in the crate's root.
fn committed() -> Vec<GeneratedFile> {
    let schemas = workspace().join("rpc-codegen/tests/schema");
    let mut compiler = Compiler::new();
    compiler.src_prefix(&schemas).no_standard_import();
    compiler.import_path(schemas.join("import")).import_path(workspace().join("schema"));
    let mut paths: Vec<PathBuf> =
        fs::read_dir(schemas).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    for path in paths {
        // These two want to lie elsewhere.
        let elsewhere = ["moved.capnp", "torture.capnp"].map(std::ffi::OsStr::new);
        if path.is_file() && !elsewhere.contains(&path.file_name().unwrap()) {
            compiler.file(path);
        }
    }
    compiler.generate().unwrap()
}

/// Lints that people forbid or deny, though few do all.
const LINTS: &str = "
    #![forbid(unsafe_code, missing_docs, missing_debug_implementations)]
    #![forbid(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    #![forbid(clippy::indexing_slicing, clippy::as_conversions)]
    #![deny(warnings, clippy::all, clippy::pedantic, clippy::nursery)]
    #![deny(
        elided_lifetimes_in_paths, explicit_outlives_requirements, let_underscore_drop,
        missing_copy_implementations, non_ascii_idents, redundant_imports, redundant_lifetimes,
        single_use_lifetimes, trivial_casts, trivial_numeric_casts, unit_bindings,
        unnameable_types, unreachable_pub, unused_import_braces, unused_lifetimes,
        unused_macro_rules, unused_qualifications, unused_results
    )]";

#[test]
fn no_lint_is_concerned_with_generated_code() {
    if !support::have_compiler("no_lint_is_concerned_with_generated_code") {
        return;
    }
    let crate_ = Crate::new("lints");
    crate_.root(LINTS, &committed());
    crate_.succeeds(&["clippy"]);
    crate_.succeeds(&["rustdoc", "--", "-D", "warnings"]);
}

#[test]
fn code_of_another_version_is_one_error_that_says_what_to_do() {
    let test = "code_of_another_version_is_one_error_that_says_what_to_do";
    if !support::have_compiler(test) {
        return;
    }
    let crate_ = Crate::new("versions");
    let mut files = committed();
    files.retain(|file| file.path == Path::new("options_capnp.rs"));
    crate_.root("", &files);
    crate_.succeeds(&["check"]);

    let code = &mut files[0].code;
    *code = code.replacen("{ \"0.1\", ", "{ \"0.0\", ", 1);
    // Code of another version may well use what there is not.
    *code = code.replace("__rt::interface!", "__rt::what_is_not_there!");
    crate_.root("", &files);
    let output = crate_.cargo(&["check"]);
    assert!(!output.status.success());
    let report = String::from_utf8_lossy(&output.stderr);
    let errors: Vec<&str> = report.lines().filter(|line| line.starts_with("error")).collect();
    assert_eq!(errors.len(), 2, "{report}");
    assert!(errors[1].starts_with("error: could not compile"), "{report}");
    for words in
        ["options.capnp", "capnp-threads-codegen 0.0", "capnp-threads 0.1", "generate it again"]
    {
        assert!(errors[0].contains(words), "{report}");
    }
}

#[test]
fn schemas_of_the_cxx_library_compile() {
    let Some(wheel) = support::find_wheel("schemas_of_the_cxx_library_compile") else { return };
    let include = wheel.join("include");
    let mut compiler = Compiler::new();
    compiler.capnp_executable(wheel.join("bin/capnp")).no_standard_import();
    compiler.src_prefix(&include).import_path(&include);
    let mut folders = vec![include];
    let mut count = 0;
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "capnp") {
                compiler.file(path);
                count += 1;
            }
        }
    }
    assert!(count >= 7, "{count} schemas");
    let files = compiler.generate().unwrap();
    assert_eq!(files.len(), count);
    let crate_ = Crate::new("wheel");
    crate_.root("#![deny(warnings, missing_docs, missing_debug_implementations)]", &files);
    crate_.succeeds(&["check"]);
}

#[test]
fn a_build_script_runs_again_when_anything_has_changed_that_it_read() {
    let test = "a_build_script_runs_again_when_anything_has_changed_that_it_read";
    if !support::have_compiler(test) {
        return;
    }
    let crate_ = Crate::new("script");
    crate_.write(
        "build.rs",
        "fn main() -> Result<(), capnp_threads_codegen::Error> {
             capnp_threads_codegen::Compiler::new()
                 .src_prefix(\"schema\")
                 .file(\"schema/text.capnp\")
                 .file(\"schema/deep/imported.capnp\")
                 .run()
         }",
    );
    crate_.write(
        "src/main.rs",
        "mod text_capnp { include!(concat!(env!(\"OUT_DIR\"), \"/text_capnp.rs\")); }
         mod imported_capnp {
             include!(concat!(env!(\"OUT_DIR\"), \"/deep/imported_capnp.rs\"));
         }
         fn main() {
             let text = text_capnp::TEXT.get().unwrap();
             print!(\"{} {:?}\", text.get_text().unwrap().to_str().unwrap(), text.get_number());
         }",
    );
    crate_.write(
        "schema/text.capnp",
        "@0xc3a58ed1f6b20794;
         using Imported = import \"deep/imported.capnp\";
         const text :Imported.Type = (text = embed \"text.txt\");",
    );
    let imported = |number| {
        format!(
            "@0xe90b7c4d2f5a1836; struct Type {{ text @0 :Text; number @1 :UInt32 = {number}; }}"
        )
    };
    crate_.write("schema/deep/imported.capnp", &imported(1));
    crate_.write("schema/text.txt", "before");
    assert_eq!(crate_.succeeds(&["run"]), "before 1");
    crate_.write("schema/text.txt", "after");
    assert_eq!(crate_.succeeds(&["run"]), "after 1");
    crate_.write("schema/deep/imported.capnp", &imported(2));
    assert_eq!(crate_.succeeds(&["run"]), "after 2");

    // What is wrong is printed as it is meant to be read.
    crate_.write("schema/text.txt", "before");
    crate_.write("schema/deep/imported.capnp", "@0xe90b7c4d2f5a1836; struct Type { a @0 :No; }");
    let output = crate_.cargo(&["run"]);
    let report = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    assert!(report.contains("Error: the schema compiler reported:\n"), "{report}");
}
