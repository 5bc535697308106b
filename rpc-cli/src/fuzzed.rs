//! What is true of any bytes that are read as a recording. The target `recording` in `fuzz/`
//! looks for such bytes; the test gives the function those that are kept in `fuzz/corpus`.
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use crate::recording::Recording;
use crate::schema::Schema;

/// A recording is drawn as far as it can be read: no more events than there are bytes for,
/// in a page out of whose data nothing gets that a vat has said. What is read is the same
/// when it was written again.
pub fn recording(bytes: &[u8]) {
    // The least that an event takes is its framing and a pointer.
    let most = bytes.len() / 16;
    let events = Recording::new(bytes).map_while(Result::ok);
    let mut count = 0;
    for event in events {
        let mut written = Vec::new();
        event.write(&mut written).unwrap();
        let again = Recording::new(&written[..]).next().unwrap().unwrap();
        let mut rewritten = Vec::new();
        again.write(&mut rewritten).unwrap();
        assert!(rewritten == written, "{event:?} becomes {again:?}");
        count += 1;
    }
    assert!(count <= most, "{count} events in {} bytes", bytes.len());

    if let Ok(page) = crate::trace::draw(schema(), bytes, LIMIT) {
        let (_, data) = page.split_once("id=\"data\">").unwrap();
        let (data, _) = data.split_once("</script>").unwrap();
        assert!(!data.contains('<'), "{data}");
        // Each line and each content that is drawn is cut off somewhere.
        assert!(data.len() <= 1000 + count.min(LIMIT) * 16_384, "{} bytes", data.len());
    }
}

/// How many events are drawn.
const LIMIT: usize = 1000;

/// The schema of the conformance interfaces, by which contents are shown; none where there is
/// no compiler for it.
fn schema() -> Option<&'static Schema> {
    static SCHEMA: OnceLock<Option<Schema>> = OnceLock::new();
    let load = || {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../schema");
        let file: PathBuf = folder.join("test.capnp");
        Schema::load(&[file], &[folder]).ok()
    };
    SCHEMA.get_or_init(load).as_ref()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recordings() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus/recording");
        let mut count = 0;
        for file in std::fs::read_dir(folder).unwrap() {
            let path = file.unwrap().path();
            let bytes = std::fs::read(&path).unwrap();
            let outcome = std::panic::catch_unwind(|| recording(&bytes));
            assert!(outcome.is_ok(), "{}", path.display());
            count += 1;
        }
        assert!(count >= 5, "only {count} files are kept");
    }
}
