//! The schemas of `capnp-threads` itself, which other schemas can import.

use std::fs;
use std::io;

use tempfile::TempDir;

/// The folder in which imports find them: `import "/capnp-threads/items.capnp"`.
const FOLDER: &str = "capnp-threads";

/// The names of the files, the ids in them, and what they contain. Their code is in the root
/// of `capnp-threads`.
const SCHEMAS: [(&str, u64, &str); 4] = [
    ("byte-stream.capnp", 0x8f5d_14e1_c273_738d, include_str!("library/byte-stream.capnp")),
    ("description.capnp", 0xa6e6_a265_105a_ae94, include_str!("library/description.capnp")),
    ("health.capnp", 0xa9d3_f0c4_7be6_152d, include_str!("library/health.capnp")),
    ("items.capnp", 0xf4d0_3655_f690_cda6, include_str!("library/items.capnp")),
];

/// Whether the file with this id is one of them.
pub(crate) fn has(file: u64) -> bool {
    SCHEMAS.iter().any(|(_, id, _)| *id == file)
}

/// Puts them where the schema compiler finds them: in a folder that goes with what this
/// returns, for `import "/…"` to look in.
pub(crate) fn unpacked() -> io::Result<TempDir> {
    let folder = tempfile::tempdir()?;
    fs::create_dir(folder.path().join(FOLDER))?;
    for (name, _, text) in SCHEMAS {
        fs::write(folder.path().join(FOLDER).join(name), text)?;
    }
    Ok(folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ids_are_those_of_the_files() {
        for (name, id, text) in SCHEMAS {
            assert_eq!(text.lines().next(), Some(&*format!("@{id:#018x};")), "{name}");
        }
    }
}
