//! How much may be saved.

use std::collections::HashMap;

use capnp_threads_core::{Error, Result};

use crate::reference::Owner;
use crate::store::Record;

/// How much a store keeps for somebody.
///
/// ```
/// use capnp_threads_persist::{Quota, Quotas};
///
/// let mut quotas = Quotas::default();
/// quotas.owner = Quota { references: 100, bytes: 1 << 20 };
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "users make it")]
pub struct Quota {
    /// The number of references.
    pub references: u64,
    /// The bytes of their [records](Record::size) together.
    pub bytes: u64,
}

/// How much a store keeps, as [`PersistenceBuilder::quotas`] sets it.
///
/// [`PersistenceBuilder::quotas`]: crate::PersistenceBuilder::quotas
///
/// ```
/// use capnp_threads_core::Vat;
/// use capnp_threads_persist::{MemoryStore, Persistence, Quotas};
///
/// let mut quotas = Quotas::default();
/// quotas.owner.references = 10;
/// let persistence = Persistence::builder(&Vat::new(), MemoryStore::new()).quotas(quotas).build();
/// # let _ = persistence;
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Quotas {
    /// For each owner. References for nobody in particular count as those of one more
    /// owner. Default: 1 000 references, 16 MiB.
    ///
    /// A reference counts for the owner that it is sealed for, whoever saves it.
    pub owner: Quota,
    /// For all owners together, because whoever can save an object can make up owners
    /// to save it for. Default: 100 000 references, 256 MiB.
    pub total: Quota,
}

impl Default for Quotas {
    fn default() -> Self {
        Quotas {
            owner: Quota { references: 1_000, bytes: 16 << 20 },
            total: Quota { references: 100_000, bytes: 256 << 20 },
        }
    }
}

/// What is kept for somebody.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    pub(crate) references: u64,
    pub(crate) bytes: u64,
}

impl Usage {
    fn add(&mut self, bytes: u64) {
        self.references += 1;
        self.bytes += bytes;
    }

    fn subtract(&mut self, bytes: u64) {
        self.references = self.references.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(bytes);
    }

    fn has_room(self, bytes: u64, quota: Quota) -> bool {
        self.references < quota.references
            && self.bytes.checked_add(bytes).is_some_and(|bytes| bytes <= quota.bytes)
    }
}

/// What a store keeps for each owner, and for all of them.
#[derive(Debug, Default)]
pub(crate) struct Accounts {
    owners: HashMap<Option<Owner>, Usage>,
    total: Usage,
}

impl Accounts {
    /// Enters a record that is there already, whether or not there is room.
    pub(crate) fn add(&mut self, record: &Record) {
        self.owners.entry(record.owner.clone()).or_default().add(record.size());
        self.total.add(record.size());
    }

    /// Enters a record if there is room.
    ///
    /// # Errors
    /// `overloaded` if there is not.
    pub(crate) fn reserve(&mut self, record: &Record, quotas: &Quotas) -> Result<()> {
        let size = record.size();
        let own = self.owners.get(&record.owner).copied().unwrap_or_default();
        if !own.has_room(size, quotas.owner) {
            let whose = record.owner.as_ref().map_or("nobody in particular", Owner::name);
            return Err(Error::overloaded(format!(
                "as many references as allowed are saved for {whose}: revoke some"
            )));
        }
        if !self.total.has_room(size, quotas.total) {
            return Err(Error::overloaded("as many references as allowed are saved"));
        }
        self.add(record);
        Ok(())
    }

    /// Takes a record out that was entered.
    pub(crate) fn subtract(&mut self, record: &Record) {
        self.total.subtract(record.size());
        if let Some(own) = self.owners.get_mut(&record.owner) {
            own.subtract(record.size());
            if own.references == 0 {
                self.owners.remove(&record.owner);
            }
        }
    }

    /// What is kept in all.
    pub(crate) fn total(&self) -> Usage {
        self.total
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use capnp_threads_core::ErrorKind;

    use super::*;

    fn record(owner: Option<&str>, state: usize) -> Record {
        Record { owner: owner.map(Owner::new), kind: "kind".into(), state: vec![0; state] }
    }

    fn quotas(owner: (u64, u64), total: (u64, u64)) -> Quotas {
        let quota = |(references, bytes)| Quota { references, bytes };
        Quotas { owner: quota(owner), total: quota(total) }
    }

    #[test]
    fn an_owner_has_so_many_references_and_no_more_until_one_is_gone() {
        let mut accounts = Accounts::default();
        let quotas = quotas((2, u64::MAX), (100, u64::MAX));
        let alices = record(Some("alice"), 10);
        for _ in 0..2 {
            accounts.reserve(&alices, &quotas).unwrap();
        }
        let error = accounts.reserve(&alices, &quotas).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Overloaded);
        assert!(error.reason().contains("alice"), "{error}");
        // Others have their own, and so has nobody.
        accounts.reserve(&record(Some("bob"), 10), &quotas).unwrap();
        for _ in 0..2 {
            accounts.reserve(&record(None, 10), &quotas).unwrap();
        }
        accounts.reserve(&record(None, 10), &quotas).unwrap_err();
        accounts.subtract(&alices);
        accounts.reserve(&alices, &quotas).unwrap();
    }

    #[test]
    fn bytes_count_to_the_last_one() {
        let mut accounts = Accounts::default();
        let size = record(Some("alice"), 10).size();
        let quotas = quotas((100, 2 * size), (100, u64::MAX));
        accounts.reserve(&record(Some("alice"), 10), &quotas).unwrap();
        accounts.reserve(&record(Some("alice"), 11), &quotas).unwrap_err();
        accounts.reserve(&record(Some("alice"), 10), &quotas).unwrap();
        accounts.reserve(&record(Some("bob"), 11), &quotas).unwrap();
    }

    #[test]
    fn owners_that_are_made_up_do_not_exceed_the_total() {
        let mut accounts = Accounts::default();
        let quotas = quotas((10, u64::MAX), (3, u64::MAX));
        for name in ["a", "b", "c"] {
            accounts.reserve(&record(Some(name), 1), &quotas).unwrap();
        }
        let error = accounts.reserve(&record(Some("d"), 1), &quotas).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Overloaded);
        assert_eq!(accounts.total().references, 3);
    }

    #[test]
    fn nothing_is_left_of_an_owner_who_has_nothing() {
        let mut accounts = Accounts::default();
        let record = record(Some("alice"), 5);
        accounts.reserve(&record, &Quotas::default()).unwrap();
        accounts.subtract(&record);
        assert!(accounts.owners.is_empty());
        assert_eq!(accounts.total(), Usage::default());
    }
}
