//! The files that a schema is read from.
//!
//! The schema compiler does not say which files it has read, so they are looked for as
//! it does: in the texts of the schemas.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

/// The schemas that are given, and every file that one of them imports or embeds, and
/// so on: each that can be read, once. `import_paths` are the folders in which
/// `import "/…"` looks.
pub(crate) fn of(schemas: &[PathBuf], import_paths: &[PathBuf]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut seen = HashSet::new();
    let mut next: Vec<PathBuf> = schemas.iter().rev().cloned().collect();
    while let Some(path) = next.pop() {
        // Text that is embedded may contain what looks like an import: a file too many
        // does no harm.
        let Ok(content) = std::fs::read(&path) else { continue };
        if !seen.insert(path.clone()) {
            continue;
        }
        for name in names(&content).into_iter().rev() {
            next.extend(resolve(&path, &name, import_paths));
        }
        found.push(path);
    }
    found
}

/// Where the schema compiler finds a file that `schema` names.
fn resolve(schema: &Path, name: &str, import_paths: &[PathBuf]) -> Option<PathBuf> {
    let mut candidates: Box<dyn Iterator<Item = PathBuf>> = match name.strip_prefix('/') {
        Some(name) => Box::new(import_paths.iter().map(move |folder| folder.join(name))),
        None => Box::new(schema.parent().map(|folder| folder.join(name)).into_iter()),
    };
    candidates.find(|path| path.is_file())
}

/// The names behind `import` and `embed` in a schema.
fn names(schema: &[u8]) -> Vec<String> {
    let mut names = Vec::new();
    let mut after_keyword = false;
    let mut rest = schema;
    while let Some(&first) = rest.first() {
        match first {
            b'#' => rest = &rest[position(rest, |byte| byte == b'\n')..],
            b'"' => {
                let (text, length) = string(rest);
                if std::mem::take(&mut after_keyword)
                    && let Ok(name) = String::from_utf8(text)
                {
                    names.push(name);
                }
                rest = &rest[length..];
            }
            _ if is_part_of_word(first) => {
                let length = position(rest, |byte| !is_part_of_word(byte));
                after_keyword = matches!(&rest[..length], b"import" | b"embed");
                rest = &rest[length..];
            }
            _ => {
                after_keyword &= first.is_ascii_whitespace();
                rest = &rest[1..];
            }
        }
    }
    names
}

fn is_part_of_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

fn position(bytes: &[u8], is_end: impl Fn(u8) -> bool) -> usize {
    bytes.iter().position(|&byte| is_end(byte)).unwrap_or(bytes.len())
}

/// The content of a string that `bytes` begin with, and how long it is with its quotes.
/// Of escapes, only those are known that file names need.
fn string(bytes: &[u8]) -> (Vec<u8>, usize) {
    let mut text = Vec::new();
    let mut index = 1;
    while let Some(&byte) = bytes.get(index) {
        match byte {
            b'"' => return (text, index + 1),
            b'\\' => {
                index += 1;
                text.extend(bytes.get(index));
            }
            _ => text.push(byte),
        }
        index += 1;
    }
    (text, bytes.len())
}

#[cfg(test)]
mod tests {
    #[test]
    fn names_stand_behind_their_keywords() {
        let schema = br#"
            @0xb41e2d20f0a9c3d8;  # import "comment.capnp"
            using A = import "a.capnp"; using import # a comment between
              "/b/b.capnp".B;
            const import2 :Text = "import"; const text :Text = "import \"c.capnp\"";
            const data :Data = embed "quo\"te.bin"; const hex :Data = 0x"00 ff";
            const importer :Text = import; const y :Text = "no.capnp";
        "#;
        assert_eq!(super::names(schema), ["a.capnp", "/b/b.capnp", "quo\"te.bin"]);
    }
}
