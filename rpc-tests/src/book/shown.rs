//! What users construct is shown in an example.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs;
use std::path::{Path, PathBuf};

/// Types that have a public function that makes them, or a default, and that users
/// nevertheless do not make: the library hands them out, or does not document them.
const NOT_MADE: [&str; 13] = [
    "Client",
    "ConnectionId",
    "Deadline",
    "Identity",
    "Interceptors",
    "Hook",
    "Payload",
    "PeerDescription",
    "Signal",
    "Snapshot",
    "Span",
    "TwoVats",
    "VatId",
];

/// Enums whose values users do not choose: the library hands them out, or plug-ins make
/// them, such as transports and networks.
const NOT_CHOSEN: [&str; 20] = [
    "CarriedOut",
    "ConnectErrorCode",
    "Direction",
    "Ending",
    "Error",
    "ErrorKind",
    "Event",
    "IncomingError",
    "Listener",
    "NewEndpointError",
    "OwnedFd",
    "Reached",
    "ReceiveError",
    "Received",
    "SendError",
    "Side",
    "Timeout",
    "TransportError",
    "TrySendError",
    "Unsealed",
];

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if path.is_dir() {
            if !["generated", "tests", "models"].contains(&name) {
                files(&path, found);
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// The documentation and attributes in front of a line.
fn above<'t>(lines: &[&'t str], line: usize) -> Vec<&'t str> {
    let before = lines[..line].iter().rev();
    before.take_while(|line| !line.is_empty() && !line.starts_with('}')).copied().collect()
}

/// The blocks that implement something for a type.
fn blocks<'t>(text: &'t str, name: &str) -> Vec<&'t str> {
    let mut found = Vec::new();
    for (at, _) in text.match_indices("\nimpl") {
        let block = text[at + 1..].split_once("\n}").map_or("", |(block, _)| block);
        let head = block.lines().next().unwrap_or_default();
        let is_it = |after: char| !after.is_alphanumeric() && after != '_';
        let is_about = head.match_indices(name).any(|(at, _)| {
            let before = head[..at].chars().next_back().is_some_and(|c| c == ' ');
            before && head[at + name.len()..].chars().next().is_some_and(is_it)
        });
        if is_about && (!head.contains(" for ") || head.contains("Default for ")) {
            found.push(block);
        }
    }
    found
}

/// Whether a block has a public function that makes the type.
fn makes(block: &str) -> bool {
    if block.lines().next().is_some_and(|head| head.contains("Default for ")) {
        return true;
    }
    block.split("\n    pub ").skip(1).any(|item| {
        let head = item.split('{').next().unwrap_or_default();
        let returns = head.split("->").nth(1).unwrap_or_default();
        head.contains("fn ") && !head.contains("self") && returns.contains("Self")
    })
}

#[test]
fn every_enum_that_users_choose_from_is_shown_in_an_example() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut found = Vec::new();
    for folder in ["", "rpc-core", "rpc-transport", "rpc-endpoint", "rpc-persist", "rpc-codegen"] {
        files(&root.join(folder).join("src"), &mut found);
    }
    let (mut checked, mut missing) = (0, Vec::new());
    for path in found {
        let text = fs::read_to_string(&path).unwrap();
        for line in text.lines() {
            let Some(rest) = line.strip_prefix("pub enum ") else { continue };
            let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
            let name = &rest[..end];
            if NOT_CHOSEN.contains(&name) {
                continue;
            }
            let used = [format!("{name}::"), format!("<{name}>")];
            let is_shown = text.lines().any(|line| {
                line.trim_start().starts_with("/// ") && used.iter().any(|used| line.contains(used))
            });
            if !is_shown {
                missing.push(format!("{}: {name}", path.display()));
            }
            checked += 1;
        }
    }
    assert!(checked > 8, "only {checked} enums were found");
    assert!(missing.is_empty(), "without an example: {missing:#?}");
}

#[test]
fn every_type_that_users_construct_is_shown_in_an_example() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut found = Vec::new();
    for folder in ["", "rpc-core", "rpc-transport", "rpc-endpoint", "rpc-persist", "rpc-codegen"] {
        files(&root.join(folder).join("src"), &mut found);
    }
    let (mut checked, mut missing) = (0, Vec::new());
    for path in found {
        let text = fs::read_to_string(&path).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        for (index, line) in lines.iter().enumerate() {
            let Some(rest) = line.strip_prefix("pub struct ") else { continue };
            let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
            let name = &rest[..end];
            let above = above(&lines, index);
            let blocks = blocks(&text, name);
            let made = blocks.iter().any(|block| makes(block))
                || above.iter().any(|line| line.contains("derive(") && line.contains("Default"));
            if !made || NOT_MADE.contains(&name) {
                continue;
            }
            let is_shown = above.iter().any(|line| line.starts_with("/// ```"))
                || blocks.iter().any(|block| block.contains("/// ```"));
            if !is_shown {
                missing.push(format!("{}: {name}", path.display()));
            }
            checked += 1;
        }
    }
    assert!(checked > 40, "only {checked} types were found");
    assert!(missing.is_empty(), "without an example: {missing:#?}");
}
