//! The names of vats that have keys.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;

use capnp_threads_core::transport::VatId;
use thiserror::Error;

use crate::Address;

/// A vat in a [`TlsNetwork`](super::TlsNetwork): its id, which it has to prove, and where it
/// may be found.
///
/// Two of them are equal if their ids are: the addresses are hints, which may be out of date
/// or wrong, and need not be given for a vat that has been in touch before. As text it is
/// `tls:VATID@host:port,host:port` or `tls:VATID`.
///
/// ```
/// use capnp_threads_transport::tls::TlsVat;
///
/// let id = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";
/// let vat: TlsVat = format!("tls:{id}@greeter.example:7000,10.0.0.1:7000").parse()?;
/// assert_eq!(vat, TlsVat::new(id.parse()?));
/// assert_eq!(vat.hints().len(), 2);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct TlsVat {
    id: VatId,
    /// Each is an [`Address::Tls`] of this vat.
    hints: Vec<Address>,
}

/// Why a text or an address does not name a vat.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{0:?} names no vat; write tls:VATID@host:port")]
pub struct NotAVat(String);

impl TlsVat {
    /// A vat whose address is not known.
    pub fn new(id: VatId) -> Self {
        TlsVat { id, hints: Vec::new() }
    }

    /// Adds a host and port at which it may be found. They are tried in the order in which
    /// they were added.
    #[must_use]
    pub fn at(mut self, host: &str, port: u16) -> Self {
        self.hints.push(Address::Tls { vat: self.id, host: host.to_owned(), port });
        self
    }

    /// Who it is.
    pub fn id(&self) -> VatId {
        self.id
    }

    /// Where it may be found: addresses of the kind [`Address::Tls`].
    pub fn hints(&self) -> &[Address] {
        &self.hints
    }

    /// Adds those that a text lists, as far as they are any.
    pub(super) fn with_list(self, list: &str) -> Self {
        self.with_places(list.split(','))
    }

    /// Adds those of these that are any.
    pub(super) fn with_places<'a>(self, places: impl IntoIterator<Item = &'a str>) -> Self {
        let id = self.id;
        let hints = places.into_iter().filter_map(|place| parse_hint(id, place).ok());
        hints.fold(self, Self::with)
    }

    pub(super) fn with(mut self, hint: Address) -> Self {
        if !self.hints.contains(&hint) {
            self.hints.push(hint);
        }
        self
    }

    /// The hints, as they are in the text behind the `@`.
    pub(super) fn list(&self) -> String {
        self.places().collect::<Vec<_>>().join(",")
    }

    /// The hints without the id.
    pub(super) fn places(&self) -> impl Iterator<Item = String> {
        let start = format!("tls:{}@", self.id).len();
        self.hints.iter().map(move |hint| hint.to_string().split_off(start))
    }
}

fn parse_hint(id: VatId, text: &str) -> Result<Address, NotAVat> {
    format!("tls:{id}@{text}").parse().map_err(|_| NotAVat(text.to_owned()))
}

impl PartialEq for TlsVat {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

impl Eq for TlsVat {}

impl Hash for TlsVat {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.id.hash(state);
    }
}

impl From<VatId> for TlsVat {
    fn from(id: VatId) -> Self {
        TlsVat::new(id)
    }
}

impl TryFrom<Address> for TlsVat {
    type Error = NotAVat;

    fn try_from(address: Address) -> Result<Self, NotAVat> {
        match address {
            Address::Tls { vat, .. } => Ok(TlsVat::new(vat).with(address)),
            _ => Err(NotAVat(address.to_string())),
        }
    }
}

impl FromStr for TlsVat {
    type Err = NotAVat;

    fn from_str(text: &str) -> Result<Self, NotAVat> {
        let wrong = || NotAVat(text.chars().take(200).collect());
        let rest = text.strip_prefix("tls:").ok_or_else(wrong)?;
        let (id, hints) = match rest.split_once('@') {
            Some((id, hints)) => (id, Some(hints)),
            None => (rest, None),
        };
        let id = id.parse().map_err(|_| wrong())?;
        let mut vat = TlsVat::new(id);
        for hint in hints.into_iter().flat_map(|hints| hints.split(',')) {
            vat = vat.with(parse_hint(id, hint).map_err(|_| wrong())?);
        }
        Ok(vat)
    }
}

impl fmt::Display for TlsVat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "tls:{}", self.id)?;
        if self.hints.is_empty() { Ok(()) } else { write!(f, "@{}", self.list()) }
    }
}

impl fmt::Debug for TlsVat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const ID: &str = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";

    #[test]
    fn a_vat_is_its_id_and_not_its_addresses() {
        let id: VatId = ID.parse().unwrap();
        let text = format!("tls:{ID}@a:1,[::1]:2");
        let vat: TlsVat = text.parse().unwrap();
        assert_eq!((vat.id(), vat.to_string()), (id, text));
        assert_eq!(vat.hints(), TlsVat::new(id).at("a", 1).at("::1", 2).hints());
        assert_eq!(vat, TlsVat::new(id));
        let other = format!("tls:{}@a:1,[::1]:2", ID.replace('d', "e"));
        assert_ne!(vat, other.parse().unwrap());
        let alone = format!("tls:{ID}");
        assert_eq!(alone.parse::<TlsVat>().unwrap().to_string(), alone);
        let address: Address = format!("tls:{ID}@a:1").parse().unwrap();
        assert_eq!(TlsVat::try_from(address.clone()).unwrap().hints(), [address]);
    }

    #[test]
    fn what_names_no_vat_is_refused() {
        let bad = ["", "tls:", "tls:a:1", "a:1"].map(str::to_owned);
        let more = ["@", "@a", "@a:1,", "@a:1,b", "a@a:1"].map(|end| format!("tls:{ID}{end}"));
        for text in bad.into_iter().chain(more) {
            let error = text.parse::<TlsVat>().unwrap_err();
            assert!(error.to_string().contains("write tls:VATID@host:port"), "{error}");
        }
        assert!(TlsVat::try_from("a:1".parse::<Address>().unwrap()).is_err());
    }

    #[test]
    fn what_a_peer_lists_is_taken_as_far_as_it_makes_sense() {
        let vat = TlsVat::new(ID.parse().unwrap()).with_list("a:1,,nonsense,a:1,b:2,unix:/c");
        assert_eq!(vat.to_string(), format!("tls:{ID}@a:1,b:2"));
    }
}
