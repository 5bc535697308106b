//! The trait of clients of all types.

use super::client::Client;

/// Every kind of client: the generated ones, and the untyped [`Client`].
///
/// Nothing is checked when a client changes its type: if the object does not implement
/// the interface, calls on it fail with `unimplemented`.
pub trait FromClient: Clone + Send + Sync + 'static {
    /// The same capability with this type.
    fn from_client(client: Client) -> Self;

    /// The same capability without a type.
    fn into_client(self) -> Client;

    /// The capability without its type, by reference.
    fn as_client(&self) -> &Client;
}

impl FromClient for Client {
    fn from_client(client: Client) -> Self {
        client
    }

    fn into_client(self) -> Client {
        self
    }

    fn as_client(&self) -> &Client {
        self
    }
}
