//! What clients of all types have in common.

use super::client::Client;

/// Every kind of client: the generated ones, and the untyped [`Client`].
///
/// Nothing is checked when a client changes its type: if the object does not
/// implement the interface, calls to it fail as `unimplemented`.
pub trait FromClient: Clone + Send + Sync + 'static {
    /// The same capability with this type.
    fn from_client(client: Client) -> Self;

    /// The same capability without a type.
    fn into_client(self) -> Client;

    /// A look at the capability without its type.
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
