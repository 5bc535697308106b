//! References, and the owners that they are sealed for.

use std::fmt;
use std::str::FromStr;

use crate::sturdy_capnp::{owner, sturdy_ref};
use capnp_threads_core::offer::ObjectId;
use capnp_threads_core::{Error, Result};
use sha2::{Digest, Sha256};

use crate::store::Key;

const SECRET_BYTES: usize = 32;
/// The longest name of an owner that a peer may give, in bytes. Names take up memory and
/// room on the disk.
const LONGEST_NAME: usize = 255;

/// A saved reference: a secret of 256 random bits.
///
/// `Debug` does not print the secret. [`to_text`](Self::to_text) makes text of it, which
/// `FromStr` reads.
///
/// ```
/// use capnp_threads_persist::SturdyRef;
///
/// # fn main() -> capnp_threads_core::Result<()> {
/// let reference = SturdyRef::from_bytes(&[7; 32])?;
/// let text = reference.to_text();
/// assert!(text.parse::<SturdyRef>()? == reference);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct SturdyRef([u8; SECRET_BYTES]);

impl SturdyRef {
    /// A new one.
    ///
    /// # Errors
    /// The system gives no random numbers.
    pub(crate) fn random() -> Result<Self> {
        let mut secret = [0; SECRET_BYTES];
        getrandom::fill(&mut secret).map_err(|error| {
            Error::failed("no reference can be made: the system gives no random numbers")
                .with_internal(error.to_string())
        })?;
        Ok(SturdyRef(secret))
    }

    /// The secret.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The reference with this secret.
    ///
    /// # Errors
    /// There are not 32 of them.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        match bytes.try_into() {
            Ok(secret) => Ok(SturdyRef(secret)),
            Err(_) => {
                Err(Error::failed("this is not a saved reference: it does not have 32 bytes"))
            }
        }
    }

    /// A reference in a message.
    ///
    /// # Errors
    /// It is malformed.
    pub fn read(reference: sturdy_ref::Reader<'_>) -> Result<Self> {
        Self::from_bytes(reference.get_secret()?)
    }

    /// Puts the reference into a message.
    pub fn write(&self, mut reference: sturdy_ref::Builder<'_>) {
        reference.set_secret(&self.0);
    }

    /// The secret as 64 hexadecimal digits.
    pub fn to_text(&self) -> String {
        let digits = self.0.iter().flat_map(|byte| [byte >> 4, byte & 15]);
        digits.filter_map(|digit| char::from_digit(digit.into(), 16)).collect()
    }

    /// What a store keeps the record under. The secret cannot be found out from it,
    /// because there are too many secrets to try.
    pub(crate) fn key(&self) -> Key {
        let mut hash = Sha256::new();
        hash.update(b"rpc-persist sturdy reference 1\0");
        hash.update(self.0);
        Key(hash.finalize().into())
    }
}

impl FromStr for SturdyRef {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let digits: Option<Vec<u8>> =
            text.chars().map(|digit| u8::try_from(digit.to_digit(16)?).ok()).collect();
        let digits = digits.ok_or_else(|| {
            Error::failed("this is not a saved reference: it is not all hexadecimal digits")
        })?;
        if digits.len() % 2 != 0 {
            return Err(Error::failed("this is not a saved reference: it does not have 32 bytes"));
        }
        let bytes: Vec<u8> = digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect();
        Self::from_bytes(&bytes)
    }
}

impl fmt::Debug for SturdyRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SturdyRef(secret)")
    }
}

/// For restoring by name; see
/// [`Persistence::restorer_by`](crate::Persistence::restorer_by).
impl TryFrom<&SturdyRef> for ObjectId {
    type Error = Error;

    fn try_from(reference: &SturdyRef) -> Result<Self> {
        ObjectId::build(|content| {
            reference.write(content.reborrow().init_as());
            Ok(())
        })
    }
}

/// Whom a reference is sealed for: a person, a machine, an organisation, or whatever
/// else the application can tell apart.
///
/// ```
/// use capnp_threads_persist::Owner;
///
/// assert_eq!(Owner::new("alice").name(), "alice");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Owner(String);

impl Owner {
    /// The owner of this name.
    pub fn new(name: impl Into<String>) -> Self {
        Owner(name.into())
    }

    /// The name.
    pub fn name(&self) -> &str {
        &self.0
    }

    /// An owner in a message.
    ///
    /// # Errors
    /// It is malformed, or the name is empty or longer than 255 bytes.
    pub fn read(owner: owner::Reader<'_>) -> Result<Self> {
        match owner.get_name()?.to_str()? {
            "" => Err(Error::failed("an owner must have a name")),
            name if name.len() > LONGEST_NAME => {
                Err(Error::failed("the name of an owner has at most 255 bytes"))
            }
            name => Ok(Owner::new(name)),
        }
    }

    /// Puts the owner into a message.
    pub fn write(&self, mut owner: owner::Builder<'_>) {
        owner.set_name(self.name());
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn references_differ_and_survive_as_text_and_bytes() {
        let (one, other) = (SturdyRef::random().unwrap(), SturdyRef::random().unwrap());
        assert_ne!(one, other);
        assert_ne!(one.key(), other.key());
        assert_eq!(one.to_text().parse::<SturdyRef>().unwrap(), one);
        assert_eq!(SturdyRef::from_bytes(one.as_bytes()).unwrap(), one);
        assert!(!format!("{one:?}").contains(&one.to_text()[..4]));
        for wrong in ["", "0", "zz", &one.to_text()[2..], "ä"] {
            wrong.parse::<SturdyRef>().unwrap_err();
        }
    }

    #[test]
    fn the_key_is_not_the_secret() {
        let reference = SturdyRef::random().unwrap();
        assert_ne!(&reference.key().0[..], reference.as_bytes());
    }
}
