//! How a capability of this vat answers a Join: Note [join].

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use sha2::{Digest, Sha256};

use crate::error::{Error, Result};
use crate::wire::Nonce;

/// What a host answers to a nonce.
pub(crate) type Answer = [u8; 32];

/// What a vat answers for null, of which no vat is the host.
pub(crate) const NULL: Answer = [0; 32];

/// A number of a capability that no other one of this process has had. It is given when it is
/// first needed, and 0 before.
#[derive(Default)]
pub(crate) struct Number(AtomicU64);

impl Number {
    fn known(&self) -> u64 {
        static LAST: AtomicU64 = AtomicU64::new(0);
        let known = self.0.load(Ordering::SeqCst);
        if known != 0 {
            return known;
        }
        let new = LAST.fetch_add(1, Ordering::SeqCst) + 1;
        match self.0.compare_exchange(0, new, Ordering::SeqCst, Ordering::SeqCst) {
            Ok(_) => new,
            Err(known) => known,
        }
    }

    /// # Errors
    /// The system gives no random bytes.
    pub(crate) fn answer_to(&self, nonce: &Nonce) -> Result<Answer> {
        // Everything that is hashed has a fixed size, and the secret comes first.
        let hash = Sha256::new().chain_update(secret()?).chain_update(nonce);
        Ok(hash.chain_update(self.known().to_le_bytes()).finalize().into())
    }
}

/// Random bytes that stay in this process.
fn secret() -> Result<&'static [u8; 32]> {
    static SECRET: OnceLock<[u8; 32]> = OnceLock::new();
    if let Some(secret) = SECRET.get() {
        return Ok(secret);
    }
    let made = random()?;
    Ok(SECRET.get_or_init(|| made))
}

/// # Errors
/// The system gives no random bytes.
pub(super) fn random() -> Result<[u8; 32]> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(|error| {
        Error::failed("the system gives no random bytes").with_internal(error.to_string())
    })?;
    Ok(bytes)
}

#[allow(clippy::unwrap_used)]
#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_that_of_one_number_and_one_nonce() {
        let [one, other] = [Number::default(), Number::default()];
        let answer = one.answer_to(&[1; 32]).unwrap();
        assert_eq!(one.answer_to(&[1; 32]).unwrap(), answer);
        assert_ne!(one.answer_to(&[2; 32]).unwrap(), answer);
        assert_ne!(other.answer_to(&[1; 32]).unwrap(), answer);
    }
}
