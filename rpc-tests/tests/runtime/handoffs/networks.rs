//! The networks that introduce their vats, made alike for tests.

use std::process;
use std::sync::atomic::{AtomicU64, Ordering};

use capnp_threads_core::network::VatNetwork;
use capnp_threads_endpoint::{EndpointNetwork, Parameters};
use capnp_threads_transport::introducing::Introduce;
use capnp_threads_transport::tls::{TlsNetwork, VatKey};
use capnp_threads_transport::{Address, SocketNetwork, SocketVat};

/// A kind of network, and how it identifies its vats.
pub(super) trait Kind {
    type Network: VatNetwork;

    /// A vat that others can reach.
    fn listening() -> Self::Network;

    /// A vat that only reaches others.
    fn calling() -> Self::Network;

    /// How others name a vat that they can reach.
    fn name(network: &Self::Network) -> <Self::Network as VatNetwork>::VatId;
}

/// Numbers what must have a name of its own.
pub(super) fn number() -> u64 {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    COUNT.fetch_add(1, Ordering::SeqCst)
}

pub(super) struct Tls;

impl Kind for Tls {
    type Network = TlsNetwork;

    fn listening() -> TlsNetwork {
        let key = VatKey::generate().unwrap();
        TlsNetwork::listening(&key, &"127.0.0.1:0".parse().unwrap()).unwrap()
    }

    fn calling() -> TlsNetwork {
        TlsNetwork::client(&VatKey::generate().unwrap()).unwrap()
    }

    fn name(network: &TlsNetwork) -> <TlsNetwork as VatNetwork>::VatId {
        network.this_vat()
    }
}

/// With keys or without.
pub(super) struct Endpoints<const KEYED: bool>;

impl<const KEYED: bool> Endpoints<KEYED> {
    fn identity() -> (String, Parameters) {
        let mut parameters = Parameters::default();
        if !KEYED {
            return (format!("vat-{}", number()), parameters);
        }
        let key = VatKey::generate().unwrap();
        let id = key.id().to_string();
        parameters.key = Some(key);
        (id, parameters)
    }
}

impl<const KEYED: bool> Kind for Endpoints<KEYED> {
    type Network = EndpointNetwork;

    fn listening() -> EndpointNetwork {
        let (id, parameters) = Self::identity();
        EndpointNetwork::listening(&id, "127.0.0.1", 0, parameters).unwrap()
    }

    fn calling() -> EndpointNetwork {
        let (id, parameters) = Self::identity();
        EndpointNetwork::outbound_only(&id, parameters).unwrap()
    }

    fn name(network: &EndpointNetwork) -> <EndpointNetwork as VatNetwork>::VatId {
        network.this_vat()
    }
}

/// Over TCP or Unix sockets.
pub(super) struct Sockets<const UNIX: bool>;

impl<const UNIX: bool> Kind for Sockets<UNIX> {
    type Network = SocketNetwork;

    fn listening() -> SocketNetwork {
        let address = if UNIX {
            format!("unix-abstract:handoffs-{}-{}", process::id(), number())
        } else {
            "127.0.0.1:0".to_owned()
        };
        let listener = address.parse::<Address>().unwrap().listen().unwrap();
        SocketNetwork::listening(listener).unwrap().introducing(Introduce::OnThisMachine)
    }

    fn calling() -> SocketNetwork {
        SocketNetwork::client().introducing(Introduce::OnThisMachine)
    }

    fn name(network: &SocketNetwork) -> SocketVat {
        SocketVat::At(network.local_address().unwrap().clone())
    }
}

/// Runs tests that are generic over the kind of network with each kind.
macro_rules! in_each_network {
    ($($test:ident)*) => {
        in_each_network! { @ tls: Tls; $($test)* }
        in_each_network! { @ endpoints: Endpoints<false>; $($test)* }
        in_each_network! { @ endpoints_with_keys: Endpoints<true>; $($test)* }
        in_each_network! { @ tcp: Sockets<false>; $($test)* }
        #[cfg(target_os = "linux")]
        in_each_network! { @ unix: Sockets<true>; $($test)* }
    };
    (@ $name:ident: $kind:ty; $($test:ident)*) => {
        mod $name {
            use super::networks::*;
            $(
                #[test]
                fn $test() {
                    super::$test::<$kind>();
                }
            )*
        }
    };
}

pub(super) use in_each_network;
