//! What is asked about calls on their way, and told how they end.

mod deciding;
mod delaying;
mod endings;
mod hostile;
mod limits;
mod order;

use std::sync::mpsc::{Receiver, Sender, channel};

use capnp_threads_core::Result;
use capnp_threads_core::interceptors::{
    InterceptedCall, Interceptor, Interceptors, Release, Verdict, delay, intercept,
};
use capnp_threads_core::typed::{FromServer, ObjectConfig};
use rpc_tests::support::{Pair, Wire};

/// Where an interceptor stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Site {
    /// In front of the server's object.
    Object,
    /// In front of the client's reference.
    Reference,
    /// At the server's end of the connection.
    Incoming,
    /// At the client's end of it.
    Outgoing,
}

impl Site {
    const ALL: [Site; 4] = [Site::Object, Site::Reference, Site::Incoming, Site::Outgoing];
    /// Those where a call is delayed without a thread.
    const DELAYING: [Site; 3] = [Site::Object, Site::Reference, Site::Incoming];

    /// Two vats, one of which offers an object, and the client's reference to it.
    fn pair<C, S>(self, interceptor: impl Interceptor, server: S) -> (Pair, C)
    where
        C: FromServer<S>,
        S: Send + Sync + 'static,
    {
        let mut interceptor = Some(interceptor);
        let mut at = |site| if self == site { interceptor.take() } else { None };
        let (object, reference) = (at(Site::Object), at(Site::Reference));
        let (incoming, outgoing) = (at(Site::Incoming), at(Site::Outgoing));
        let pair = Pair::configured(
            |vat| {
                let config = ObjectConfig::new();
                let client: C = match object {
                    Some(interceptor) => {
                        vat.export_configured(server, config.interceptor(interceptor))
                    }
                    None => vat.export(server),
                };
                client.into_client()
            },
            Wire::Memory,
            |config| match outgoing {
                Some(interceptor) => config.interceptors(Interceptors::new().outgoing(interceptor)),
                None => config,
            },
            |config| match incoming {
                Some(interceptor) => config.interceptors(Interceptors::new().incoming(interceptor)),
                None => config,
            },
        );
        let client: C = pair.bootstrap();
        let client = match reference {
            Some(interceptor) => intercept(&client, interceptor),
            None => client,
        };
        (pair, client)
    }
}

/// Delays every call whose method has a certain name, and gives out what releases it.
fn gate(method: &'static str) -> (impl Interceptor, Receiver<Release>) {
    let (give, take): (Sender<Release>, _) = channel();
    let gate = move |call: &InterceptedCall<'_>| -> Result<Verdict> {
        if call.method().name() != Some(method) {
            return Ok(Verdict::Pass);
        }
        let (delay, release) = delay();
        give.send(release).unwrap();
        Ok(Verdict::Delay(delay))
    };
    (gate, take)
}
