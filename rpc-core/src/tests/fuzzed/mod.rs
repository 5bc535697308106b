//! What is true of the machine whatever bytes a fuzzer thinks of. Each function panics where
//! it is not: the targets in `fuzz/` look for such bytes, and the tests here give the
//! functions what is kept in `fuzz/corpus`.
//!
//! - [`message`]: the bytes are a message.
//! - [`protocol`]: they choose what two hostile peers of one vat say, and what the vat does.
//! - [`network`]: they choose the steps of a [walk](super::walk), of two to five vats.

mod choices;
mod peers;
mod said;
mod wire;

pub use self::peers::protocol;
pub use self::wire::message;
pub use super::walk::network;

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// Gives a function everything that is kept for it.
    fn replay(target: &str, function: fn(&[u8])) {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(target);
        let mut count = 0;
        for file in std::fs::read_dir(folder).unwrap() {
            let path = file.unwrap().path();
            let bytes = std::fs::read(&path).unwrap();
            let outcome = std::panic::catch_unwind(|| function(&bytes));
            assert!(outcome.is_ok(), "{}", path.display());
            count += 1;
        }
        assert!(count >= 5, "only {count} files are kept for {target}");
    }

    #[test]
    fn messages() {
        replay("message", message);
    }

    #[test]
    fn hostile_peers() {
        replay("protocol", protocol);
    }

    #[test]
    fn walks() {
        replay("network", network);
    }
}
