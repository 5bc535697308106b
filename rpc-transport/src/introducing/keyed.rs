//! Introductions between vats that have keys, over connections that prove them.
//!
//! The tokens hold no secret: each names who is not at the other end of its own connection,
//! and all three hold one nonce of the introducer's and the time when it expires.
//!
//! | token | from, to | content |
//! |---|---|---|
//! | contact | introducer, recipient | host, introducer, nonce, expiry, where the host is reached |
//! | awaited | introducer, host | recipient, nonce, expiry |
//! | completion | recipient, host | introducer, nonce, expiry |
//!
//! What is provided has introducer, recipient, nonce and expiry as its key. The host takes the
//! introducer from the connection over which the Provide came, and the recipient from the one
//! over which the Accept came. So a token is of no use to anybody but the vat that it was made
//! for, nobody can provide anything in the name of another vat, and nobody can put off the
//! expiry.

use std::time::Duration;

use capnp_threads_core::network::{Introduction, Token};
use capnp_threads_core::transport::VatId;
use capnp_threads_core::{Error, Result};

use super::{Expiry, Fields, Form, Nonce, Role};

/// How long an introduction is good for. Long, because clocks differ and capabilities may be
/// kept for long before they are used.
const LIFETIME: Duration = Duration::from_secs(24 * 60 * 60);

/// What a contact says.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Directions {
    /// The vat to connect to.
    pub host: VatId,
    /// Where it may be found, as a stranger says.
    pub hints: Vec<String>,
    /// What to show there.
    pub completion: Token,
}

/// Introduces a recipient to a host. Without any hint of where the host is reached, it is
/// `None`: nobody else could reach it.
pub fn introduce(
    introducer: VatId,
    recipient: VatId,
    host: VatId,
    hints: impl IntoIterator<Item = String>,
) -> Option<Introduction> {
    let hints = super::fitting(hints);
    if hints.is_empty() {
        return None;
    }
    made(introducer, recipient, host, Expiry::after(LIFETIME), &hints).ok()
}

pub(super) fn made(
    introducer: VatId,
    recipient: VatId,
    host: VatId,
    expiry: Expiry,
    hints: &str,
) -> Result<Introduction> {
    let nonce = super::nonce()?;
    let [host, by, to] = [&host, &introducer, &recipient].map(|vat| &vat.public_key()[..]);
    let expiry = expiry.0.to_be_bytes();
    let contact = [host, by, &nonce, &expiry, hints.as_bytes()];
    Ok(Introduction {
        contact: super::token(Form::Keyed, Role::Contact, &contact)?,
        awaited: super::token(Form::Keyed, Role::Awaited, &[to, &nonce, &expiry])?,
    })
}

/// Reads the contact that an introducer has sent to a vat.
///
/// # Errors
/// It is none, has expired, was made by somebody else, or leads to one of the two.
pub fn directions(own: VatId, introducer: VatId, contact: &Token) -> Result<Directions> {
    let mut fields = Fields::of(contact, Form::Keyed, Role::Contact)?;
    let (host, by) = (vat(&mut fields)?, vat(&mut fields)?);
    let (nonce, expiry): (Nonce, _) = (fields.array()?, fields.expiry()?);
    let hints = fields.places()?;
    expiry.check()?;
    if by != introducer {
        return Err(Error::failed("this contact was made by another vat"));
    }
    if host == own || host == introducer {
        return Err(Error::failed("the host is one of those who talk about it"));
    }
    let shown = [&by.public_key()[..], &nonce, &expiry.0.to_be_bytes()];
    Ok(Directions { host, hints, completion: super::token(Form::Keyed, Role::Completion, &shown)? })
}

/// The key of what an introducer provides.
///
/// # Errors
/// The token is none, or has expired.
pub fn provided(introducer: VatId, awaited: &Token) -> Result<Vec<u8>> {
    let (recipient, nonce, expiry) = read(awaited, Role::Awaited)?;
    Ok(key(introducer, recipient, nonce, expiry))
}

/// The introducer of a recipient that comes, and the key of what it comes for.
///
/// # Errors
/// The token is none, or has expired.
pub fn shown(recipient: VatId, completion: &Token) -> Result<(VatId, Vec<u8>)> {
    let (introducer, nonce, expiry) = read(completion, Role::Completion)?;
    Ok((introducer, key(introducer, recipient, nonce, expiry)))
}

fn read(token: &Token, role: Role) -> Result<(VatId, Nonce, Expiry)> {
    let mut fields = Fields::of(token, Form::Keyed, role)?;
    let read = (vat(&mut fields)?, fields.array()?, fields.expiry()?);
    fields.end()?;
    read.2.check()?;
    Ok(read)
}

fn vat(fields: &mut Fields) -> Result<VatId> {
    fields.array().map(VatId::from_public_key)
}

fn key(introducer: VatId, recipient: VatId, nonce: Nonce, expiry: Expiry) -> Vec<u8> {
    let (by, to) = (introducer.public_key(), recipient.public_key());
    [&by[..], to, &nonce, &expiry.0.to_be_bytes()].concat()
}
