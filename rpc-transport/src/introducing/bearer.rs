//! Introductions by a secret, between vats of which nothing proves who they are.
//!
//! | token | from, to | content |
//! |---|---|---|
//! | contact | introducer, recipient | nonce, expiry, where the host is reached |
//! | awaited | introducer, host | digest, expiry |
//! | completion | recipient, host | nonce, expiry, name of the introducer |
//!
//! The nonce is random, and is the secret. The digest is the SHA-256 of a fixed text, the nonce
//! and the expiry, and is the key of what is provided, together with the name of the introducer
//! where the network has one. So the host keeps and
//! compares digests alone: how long a comparison takes tells nothing about the secret, and
//! nobody can put off the expiry. The secret is good for one use.
//!
//! Whoever reads the packets of any of the three connections before the recipient has come,
//! or listens at the address of the host, can come in the place of the recipient. That is for
//! [`Introduce`](super::Introduce) to prevent.

use std::fmt;
use std::time::Duration;

use capnp_threads_core::Result;
use capnp_threads_core::network::{Introduction, Token};
use sha2::{Digest as _, Sha256};

use super::{Expiry, Fields, Form, Nonce, Role};

/// How long a secret is good for.
const LIFETIME: Duration = Duration::from_secs(60 * 60);

/// What precedes the secret in what is digested, so that no digest of another protocol is
/// one of these.
const DOMAIN: &[u8] = b"capnp-threads introduction by bearer\0";

/// What a contact says.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Directions {
    /// Who the host is and where it is reached, as the network writes it, and as a stranger
    /// says.
    pub places: Vec<String>,
    /// What to show there.
    pub completion: Token,
}

/// A secret of one introduction.
struct Secret(Nonce);

/// Shows nothing of it.
impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

impl Secret {
    fn digest(&self, expiry: Expiry) -> [u8; 32] {
        let mut digest = Sha256::new();
        digest.update(DOMAIN);
        digest.update(self.0);
        digest.update(expiry.0.to_be_bytes());
        digest.finalize().into()
    }
}

/// Introduces somebody to a host that is reached at these places. `None` without any, or if
/// the system has no random bytes.
pub fn introduce(places: impl IntoIterator<Item = String>) -> Option<Introduction> {
    let places = super::fitting(places);
    if places.is_empty() {
        return None;
    }
    made(&places, Expiry::after(LIFETIME)).ok()
}

pub(super) fn made(places: &str, expiry: Expiry) -> Result<Introduction> {
    let secret = Secret(super::nonce()?);
    let until = expiry.0.to_be_bytes();
    let contact = [&secret.0[..], &until, places.as_bytes()];
    Ok(Introduction {
        contact: super::token(Form::Bearer, Role::Contact, &contact)?,
        awaited: super::token(Form::Bearer, Role::Awaited, &[&secret.digest(expiry), &until])?,
    })
}

/// Reads a contact. The introducer has a name that the host knows it by, or an empty one.
///
/// # Errors
/// It is none, or has expired.
pub fn directions(introducer: &str, contact: &Token) -> Result<Directions> {
    let (secret, expiry, text) = read(contact, Role::Contact)?;
    let places = text.places()?;
    let until = expiry.0.to_be_bytes();
    let shown = [&secret.0[..], &until, introducer.as_bytes()];
    Ok(Directions { places, completion: super::token(Form::Bearer, Role::Completion, &shown)? })
}

/// The key of what an introducer of this name provides.
///
/// # Errors
/// The token is none, or has expired.
pub fn provided(introducer: &str, awaited: &Token) -> Result<Vec<u8>> {
    let mut fields = Fields::of(awaited, Form::Bearer, Role::Awaited)?;
    let (digest, expiry): ([u8; 32], _) = (fields.array()?, fields.expiry()?);
    fields.end()?;
    expiry.check()?;
    Ok([&digest[..], introducer.as_bytes()].concat())
}

/// The name of the introducer of somebody who comes, and the key of what it comes for, which
/// is good [once](capnp_threads_core::network::Uses::Once).
///
/// # Errors
/// The token is none, or has expired.
pub fn shown(completion: &Token) -> Result<(String, Vec<u8>)> {
    let (secret, expiry, text) = read(completion, Role::Completion)?;
    let introducer = text.text()?;
    let key = [&secret.digest(expiry)[..], introducer.as_bytes()].concat();
    Ok((introducer, key))
}

/// Reads the fields of both tokens that hold the secret, up to the last one.
fn read(token: &Token, role: Role) -> Result<(Secret, Expiry, Fields)> {
    let mut fields = Fields::of(token, Form::Bearer, role)?;
    let (secret, expiry) = (Secret(fields.array()?), fields.expiry()?);
    expiry.check()?;
    Ok((secret, expiry, fields))
}
