//! The ways of a call that the architecture chapter draws are those of the code.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs;
use std::path::Path;

/// Maximum number of files from the typed request to the socket.
const FILES_OUT: usize = 14;

/// Maximum number of files from the socket to the method.
const FILES_IN: usize = 16;

/// A file on the way of a call.
struct Step {
    layer: String,
    file: String,
    /// The function that takes the call, perhaps with its type.
    function: String,
    source: String,
}

impl Step {
    fn name(&self) -> &str {
        self.function.rsplit("::").next().unwrap()
    }

    /// How often this file calls a function of this name.
    fn calls(&self, name: &str) -> usize {
        let code = self.source.lines().map(|line| line.split("//").next().unwrap());
        let code = code.collect::<Vec<_>>().join("\n");
        let count = |pattern: &str| {
            let word = |c: char| c.is_alphanumeric() || c == '_';
            let starts = code.match_indices(pattern);
            starts.filter(|(at, _)| !code[..*at].ends_with(word)).count()
        };
        count(&format!("{name}(")) - count(&format!("fn {name}("))
    }
}

fn chapter() -> String {
    fs::read_to_string(root().join("docs/architecture.md")).unwrap()
}

fn root() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The fenced blocks of one part of the chapter.
fn drawings(heading: &str) -> Vec<String> {
    let chapter = chapter();
    let part = chapter.split("\n## ").find(|part| part.starts_with(heading)).unwrap();
    part.split("```text\n").skip(1).map(|rest| rest.split("```").next().unwrap().into()).collect()
}

fn way(drawing: &str) -> Vec<Step> {
    let mut layer = "";
    let mut way = Vec::new();
    for line in drawing.lines() {
        let mut words = line.split_whitespace();
        if !line.starts_with("   ") {
            layer = words.next().unwrap();
        }
        let (file, function) = (words.next().unwrap(), words.next().unwrap());
        let core = root().join("rpc-core/src").join(file);
        let path = if file.starts_with("rpc-") { root().join(file) } else { core };
        let source = fs::read_to_string(&path).unwrap_or_else(|_| panic!("{file} does not exist"));
        way.push(Step {
            layer: layer.to_owned(),
            file: file.to_owned(),
            function: function.to_owned(),
            source: source.split("\nmod tests {").next().unwrap().to_owned(),
        });
    }
    way
}

fn check(way: &[Step], most: usize) {
    assert!(way.len() <= most, "the call goes through {} files", way.len());
    for step in way {
        let Step { layer, file, function, .. } = step;
        let folder = match file.split_once('/') {
            Some(("rpc-transport", _)) => "transport",
            Some((folder, _)) => folder,
            // Macros for typed code.
            None => "typed",
        };
        assert_eq!(layer, folder, "{file} is not of this layer");
        let definition = format!("fn {}", step.name());
        let defined = step
            .source
            .match_indices(&definition)
            .any(|(at, _)| step.source[at + definition.len()..].starts_with(['(', '<']));
        assert!(defined, "{file} does not define {function}");
        if let Some((kind, _)) = function.split_once("::") {
            let of = |line: &str| line.starts_with("impl") && line.contains(kind);
            assert!(step.source.lines().any(of), "{file} has no methods of {kind}");
        }
    }
    for step in &way[1..] {
        let calls: usize = way.iter().map(|other| other.calls(step.name())).sum();
        assert!(calls > 0, "nothing on the way calls {} in {}", step.function, step.file);
    }
    let mut files: Vec<&str> = way.iter().map(|step| &*step.file).collect();
    files.sort_unstable();
    files.dedup();
    assert_eq!(files.len(), way.len(), "a file is drawn twice");
}

/// The layers in the order in which a way goes through them.
fn layers(way: &[Step]) -> Vec<&str> {
    let mut layers: Vec<&str> = way.iter().map(|step| &*step.layer).collect();
    layers.dedup();
    layers
}

#[test]
fn the_ways_of_a_call_are_short_and_as_they_are_drawn() {
    let drawings = drawings("The way of a call");
    let [_, out, into] = &drawings[..] else { panic!("{} drawings", drawings.len()) };
    let (out, into) = (way(out), way(into));
    check(&out, FILES_OUT);
    check(&into, FILES_IN);
    assert_eq!(layers(&out), ["typed", "cap", "protocol", "runtime", "wire", "transport"]);
    // A worker takes the call out of the mailbox.
    let up = ["transport", "runtime", "wire", "protocol", "cap", "work", "cap", "typed"];
    assert_eq!(layers(&into), up);
}

/// A message between two vats, and whether the left one sends it.
#[derive(Debug, PartialEq, Eq)]
struct Sent {
    from_left: bool,
    text: String,
}

/// The messages in a picture, from the first to the last.
fn pictured(picture: &str) -> Vec<Sent> {
    let arrows = picture.lines().filter_map(|line| {
        let arrow = line.split('│').nth(1)?.trim();
        let from_left = arrow.ends_with('►');
        (from_left || arrow.starts_with('◄')).then(|| Sent {
            from_left,
            text: arrow.trim_matches(|c| " ─►◄".contains(c)).to_owned(),
        })
    });
    arrows.collect()
}

/// The messages that a test of rpc-core delivers one by one, in a net where the vats are
/// `a` and `b`.
fn tested(test: &str) -> Vec<Sent> {
    let tests = root().join("rpc-core/src/tests/embargoes.rs");
    let tests = fs::read_to_string(tests).unwrap();
    let test = tests.split_once(&format!("fn {test}()")).expect("the test exists").1;
    let test = test.split("\n}\n").next().unwrap();
    let steps = test.lines().filter_map(|line| {
        let step = line.trim().strip_prefix("net.step(")?;
        let (from, text) = step.split_once(", \"")?;
        Some(Sent { from_left: from == "a", text: text.strip_suffix("\");")?.to_owned() })
    });
    steps.collect()
}

#[test]
fn the_pictures_of_messages_are_those_of_the_tests_that_they_name() {
    let mut pictures = 0;
    for part in chapter().split("\n**").skip(1) {
        let Some((text, rest)) = part.split_once("```text\n") else { continue };
        let picture = rest.split("```").next().unwrap();
        let messages = pictured(picture);
        if messages.is_empty() {
            continue;
        }
        let text = text.replace('\n', " ");
        let test = text.rsplit_once("test `").expect("a picture names its test").1;
        let test = test.split('`').next().unwrap();
        assert_eq!(messages, tested(test), "the picture of {test}");
        pictures += 1;
    }
    assert_eq!(pictures, 2, "an embargo, and a described path");
}
