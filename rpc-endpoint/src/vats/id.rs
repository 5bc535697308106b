//! The names of vats.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;
use std::sync::Arc;

use thiserror::Error;

use crate::EndpointAddress;

/// The longest name, in bytes.
pub(super) const MAX_ID: usize = 255;

/// A vat in an [`EndpointNetwork`](super::EndpointNetwork): its id, which says who
/// it is, and where it may be found.
///
/// Two of them are equal if their ids are: the addresses are hints, which may be
/// out of date, and need not be given for a vat that has been in touch before. As
/// text it is `id@address,address` or `id`.
///
/// ```
/// use capnp_threads_endpoint::EndpointVat;
///
/// let alice: EndpointVat = "alice@10.0.0.1:7113:0".parse()?;
/// assert_eq!(alice, EndpointVat::new("alice")?);
/// assert_eq!(alice.hints(), ["10.0.0.1:7113:0".into()]);
/// # Ok::<(), capnp_threads_endpoint::InvalidVatId>(())
/// ```
#[derive(Clone)]
pub struct EndpointVat {
    id: Arc<str>,
    hints: Vec<EndpointAddress>,
}

/// A text that is no vat's id: it is empty, longer than 255 bytes, or contains `@` or a
/// control character.
#[derive(Clone, PartialEq, Eq, Error)]
#[error("{0:?} is no id of a vat: it needs 1 to 255 bytes without @ and control characters")]
pub struct InvalidVatId(String);

pub(super) fn is_valid(id: &str) -> bool {
    !id.is_empty() && id.len() <= MAX_ID && !id.contains(|c: char| c == '@' || c.is_control())
}

impl EndpointVat {
    /// A vat whose address is not known.
    ///
    /// # Errors
    /// The id is empty, longer than 255 bytes, or contains `@` or a control character.
    pub fn new(id: &str) -> Result<Self, InvalidVatId> {
        if !is_valid(id) {
            return Err(InvalidVatId(id.to_owned()));
        }
        Ok(EndpointVat { id: id.into(), hints: Vec::new() })
    }

    /// Adds an address at which it may be found. They are tried in the order in
    /// which they were added, after one at which it was found before.
    #[must_use]
    pub fn at(mut self, address: impl Into<EndpointAddress>) -> Self {
        self.hints.push(address.into());
        self
    }

    /// Who it is.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Where it may be found.
    pub fn hints(&self) -> &[EndpointAddress] {
        &self.hints
    }

    pub(super) fn of_shared(id: Arc<str>) -> Self {
        EndpointVat { id, hints: Vec::new() }
    }

    pub(super) fn shared_id(&self) -> &Arc<str> {
        &self.id
    }
}

impl PartialEq for EndpointVat {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

impl Eq for EndpointVat {}

impl Hash for EndpointVat {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.id.hash(state);
    }
}

impl FromStr for EndpointVat {
    type Err = InvalidVatId;

    fn from_str(text: &str) -> Result<Self, InvalidVatId> {
        let (id, hints) = text.split_once('@').unwrap_or((text, ""));
        let vat = EndpointVat::new(id)?;
        Ok(hints.split(',').filter(|hint| !hint.is_empty()).fold(vat, EndpointVat::at))
    }
}

impl fmt::Display for EndpointVat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.id)?;
        for (index, hint) in self.hints.iter().enumerate() {
            write!(f, "{}{hint}", if index == 0 { '@' } else { ',' })?;
        }
        Ok(())
    }
}

impl fmt::Debug for EndpointVat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_vat_is_its_id_and_not_its_addresses() {
        let alice: EndpointVat = "alice@a:1:0,::1:2:3".parse().unwrap();
        assert_eq!(alice.hints(), [EndpointAddress::from("a:1:0"), "::1:2:3".into()]);
        assert_eq!(alice.to_string(), "alice@a:1:0,::1:2:3");
        assert_eq!(alice, EndpointVat::new("alice").unwrap());
        assert_ne!(alice, "bob@a:1:0,::1:2:3".parse().unwrap());
        assert_eq!("bob".parse::<EndpointVat>().unwrap().to_string(), "bob");
    }

    #[test]
    fn an_id_has_bounds() {
        assert!(EndpointVat::new(&"x".repeat(MAX_ID)).is_ok());
        for wrong in ["", "@a:1:0", &"x".repeat(MAX_ID + 1)] {
            assert!(wrong.parse::<EndpointVat>().is_err(), "{wrong}");
        }
        for wrong in ["a@b", "a\0b", "a\nb", "\u{7f}"] {
            assert!(EndpointVat::new(wrong).is_err(), "{wrong:?}");
        }
    }
}
