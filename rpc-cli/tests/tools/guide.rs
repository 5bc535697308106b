//! The sessions in `docs/tools.md`: every command of theirs is run, and prints what is
//! printed there.

use std::fs;
use std::path::Path;
use std::process::Command;

use rpc_testing::process::finished;

use crate::described::schema_of;
use crate::support::{Served, compiler, schemas};

/// The commands in blocks of the language `console`, each with what it prints.
fn sessions(chapter: &str) -> Vec<(String, String)> {
    let mut sessions: Vec<(String, String)> = Vec::new();
    for block in chapter.split("```console\n").skip(1) {
        let block = block.split("```").next().unwrap();
        for line in block.lines() {
            if let Some(command) = line.strip_prefix("$ ") {
                sessions.push((command.to_owned(), String::new()));
                continue;
            }
            // A command goes on in the next line as a shell has it.
            let (command, printed) = sessions.last_mut().unwrap();
            let open = command.matches('\'').count() % 2 == 1;
            let more = printed.is_empty() && (open || command.ends_with('\\'));
            let text = if more { command } else { printed };
            *text = if more { format!("{text}\n{line}") } else { format!("{text}{line}\n") };
        }
    }
    sessions
}

#[test]
fn sessions_in_the_guide_print_what_they_show() {
    if !compiler() {
        return;
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let chapter = fs::read_to_string(root.join("docs/tools.md")).unwrap();
    let (calculator, echo) = (Served::calculator(), Served::echo());
    let described = Served::describing_calculator(schema_of("calculator.capnp"));
    let folder = Path::new(env!("CARGO_BIN_EXE_capnp-threads")).parent().unwrap();
    let path = format!("{}:{}", folder.display(), std::env::var("PATH").unwrap());
    let sessions = sessions(&chapter);
    assert!(sessions.len() > 5);
    for (shown, printed) in sessions {
        let command = format!("exec 2>&1; {shown}")
            .replace("localhost:7000", &calculator.address)
            .replace("localhost:7001", &echo.address)
            .replace("localhost:7002", &described.address);
        let output = finished(
            Command::new("sh").args(["-c", &command]).env("PATH", &path).current_dir(schemas()),
        );
        assert_eq!(String::from_utf8(output.stdout).unwrap(), printed, "$ {shown}");
    }
}
