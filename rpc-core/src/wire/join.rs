//! What a Join holds beside its target.

use super::Token;
use super::rpc_twoparty_capnp::join_key_part;
use crate::error::Error;

/// A number that whoever compares capabilities has made up for this one comparison.
pub(crate) type Nonce = [u8; 32];

/// What the receiver of a Join is asked: see Note [join].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum JoinKey {
    /// To name the object in a way that holds for this nonce.
    Nonce(Nonce),
    /// To compare what several Joins are for: the `JoinKeyPart` of a network of two parties.
    Part(JoinPart),
}

/// One of several Joins that belong together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct JoinPart {
    pub(crate) join: u32,
    /// The number of parts, at least one.
    pub(crate) count: u16,
    /// The number of this part, less than `count`.
    pub(crate) number: u16,
}

impl JoinKey {
    pub(crate) fn token(&self) -> Result<Token, Error> {
        match self {
            JoinKey::Nonce(nonce) => Token::of_bytes(nonce),
            JoinKey::Part(part) => Token::build(|root| {
                let mut key = root.init_as::<join_key_part::Builder<'_>>();
                key.set_join_id(part.join);
                key.set_part_count(part.count);
                key.set_part_num(part.number);
                Ok(())
            }),
        }
    }

    /// Reads what came from a peer.
    ///
    /// # Errors
    /// It is neither of the two.
    pub(crate) fn read(token: &Token) -> Result<Self, Error> {
        if let Some(bytes) = token.bytes()
            && let Ok(nonce) = Nonce::try_from(&*bytes)
        {
            return Ok(JoinKey::Nonce(nonce));
        }
        let part = token.read(|root| {
            let key = root.get_as::<join_key_part::Reader<'_>>()?;
            Ok(JoinPart {
                join: key.get_join_id(),
                count: key.get_part_count(),
                number: key.get_part_num(),
            })
        })?;
        if part.number >= part.count {
            return Err(Error::failed(format!(
                "part {} of a join of {} parts",
                part.number, part.count
            )));
        }
        Ok(JoinKey::Part(part))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn both_kinds_are_told_apart() {
        let part = JoinPart { join: 7, count: 3, number: 2 };
        for key in [JoinKey::Nonce([9; 32]), JoinKey::Part(part)] {
            assert_eq!(JoinKey::read(&key.token().unwrap()), Ok(key));
        }
    }

    #[test]
    fn anything_else_is_refused() {
        let part = |count, number| JoinKey::Part(JoinPart { join: 0, count, number });
        let tokens = [
            part(0, 0).token(),
            part(2, 2).token(),
            Token::of_bytes(b"short"),
            Token::of_bytes(&[0; 33]),
            Token::build(|_| Ok(())),
            Token::build(|mut root| root.set_as::<capnp::text::Owned>("text")),
        ];
        for token in tokens {
            assert!(JoinKey::read(&token.unwrap()).is_err());
        }
    }
}
