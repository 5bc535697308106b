//! The documents whose code is compiled, and run where that makes sense, as doc
//! tests of this crate.

#[cfg(test)]
mod circles;
#[cfg(test)]
mod clocks;
#[cfg(test)]
mod figures;
#[cfg(test)]
mod layers;
#[cfg(test)]
mod names;
#[cfg(test)]
mod orders;
#[cfg(test)]
mod shown;
#[cfg(test)]
mod threads;
#[cfg(test)]
mod ways;

macro_rules! chapters {
    ($($name:ident $path:literal)*) => {
        $(#[doc = include_str!(concat!("../../../", $path))] mod $name {})*
    };
}

chapters! {
    getting_started "docs/getting-started.md"
    cookbook "docs/cookbook.md"
    promises "docs/promises.md"
    order "docs/order.md"
    servers "docs/servers.md"
    running "docs/running.md"
    connected "docs/connected.md"
    streams "docs/streams.md"
    errors "docs/errors.md"
    capabilities "docs/capabilities.md"
    interceptors "docs/interceptors.md"
    observing "docs/observing.md"
    membranes "docs/membranes.md"
    limits "docs/limits.md"
    networks "docs/networks.md"
    three_vats "docs/three-vats.md"
    equality "docs/equality.md"
    persistence "docs/persistence.md"
    shutdown "docs/shutdown.md"
}
