//! What is true of any bytes that are read as a saved reference, or as what one stands for.
//! The target `stored` in `fuzz/` looks for such bytes; the test gives the function those
//! that are kept in `fuzz/corpus`.
#![allow(clippy::unwrap_used)]

use capnp_threads_core::capnp::Word;
use capnp_threads_core::capnp::message::{Builder, Reader, ReaderOptions, SegmentArray};

use crate::folder::record;
use crate::reference::{Owner, SturdyRef};
use crate::store::Key;
use crate::sturdy_capnp::{owner, sturdy_ref};

/// The first byte says what the others are: text, a message, or the file of a record, with
/// its own checksum or with the right one.
pub fn stored(bytes: &[u8]) {
    let Some((kind, bytes)) = bytes.split_first() else { return };
    match kind % 5 {
        0 => text(bytes),
        1 => reference_in_message(bytes),
        2 => owner_in_message(bytes),
        3 => file(bytes),
        _ => file(&record::with_checksum(&KEY, bytes)),
    }
}

const KEY: Key = Key([7; 32]);

fn text(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    match text.parse::<SturdyRef>() {
        Ok(reference) => {
            assert_eq!(reference.to_text(), text.to_ascii_lowercase());
            assert!(SturdyRef::from_bytes(reference.as_bytes()).unwrap() == reference);
        }
        // Whoever reads the error may not be whom the secret is for.
        Err(error) => assert!(error.reason().starts_with("this is not a saved reference: it ")),
    }
}

/// What is read of a message is the same when it was written to another.
fn reference_in_message(bytes: &[u8]) {
    in_message(bytes, |reader| {
        let Ok(root) = reader.get_root::<sturdy_ref::Reader<'_>>() else { return };
        if let Ok(reference) = SturdyRef::read(root) {
            let mut message = Builder::new_default();
            reference.write(message.init_root());
            let again = SturdyRef::read(message.get_root_as_reader().unwrap()).unwrap();
            assert!(again == reference);
        }
    });
}

fn owner_in_message(bytes: &[u8]) {
    in_message(bytes, |reader| {
        let Ok(root) = reader.get_root::<owner::Reader<'_>>() else { return };
        if let Ok(owner) = Owner::read(root) {
            assert!((1..=255).contains(&owner.name().len()));
            let mut message = Builder::new_default();
            owner.write(message.init_root());
            let again = Owner::read(message.get_root_as_reader().unwrap()).unwrap();
            assert_eq!(again, owner);
        }
    });
}

/// The bytes are the only segment of a message.
fn in_message(bytes: &[u8], read: impl FnOnce(&Reader<SegmentArray<'_>>)) {
    // Words are aligned, bytes need not be.
    let mut words = Word::allocate_zeroed_vec(bytes.len().div_ceil(8));
    Word::words_to_bytes_mut(&mut words)[..bytes.len()].copy_from_slice(bytes);
    let segments = [Word::words_to_bytes(&words)];
    read(&Reader::new(SegmentArray::new(&segments), ReaderOptions::new()));
}

/// A file that can be read is the one that is written of what was read, byte for byte, and
/// what it counts for is what it has.
fn file(bytes: &[u8]) {
    match record::decode(&KEY, bytes) {
        Ok(record) => {
            assert!(record.size() <= bytes.len() as u64);
            assert_eq!(record::encode(&KEY, &record).unwrap(), bytes);
        }
        Err(damaged) => assert!(damaged.to_string().starts_with("it")),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn what_is_stored() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus/stored");
        let mut count = 0;
        for file in std::fs::read_dir(folder).unwrap() {
            let path = file.unwrap().path();
            let bytes = std::fs::read(&path).unwrap();
            // Also where it was cut off, for that is where readers err.
            for end in 0..=bytes.len() {
                let outcome = std::panic::catch_unwind(|| stored(&bytes[..end]));
                assert!(outcome.is_ok(), "the first {end} bytes of {}", path.display());
            }
            count += 1;
        }
        assert!(count >= 5, "only {count} files are kept");
    }
}
