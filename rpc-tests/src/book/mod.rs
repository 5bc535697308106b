//! The documents whose code is compiled, and run where that makes sense, as doc
//! tests of this crate.

#[cfg(test)]
mod circles;
#[cfg(test)]
mod layers;
#[cfg(test)]
mod names;
#[cfg(test)]
mod ways;

macro_rules! chapters {
    ($($name:ident $path:literal)*) => {
        $(#[doc = include_str!(concat!("../../../", $path))] mod $name {})*
    };
}

chapters! {
    getting_started "docs/getting-started.md"
    promises "docs/promises.md"
    servers "docs/servers.md"
    streams "docs/streams.md"
    errors "docs/errors.md"
    capabilities "docs/capabilities.md"
    membranes "docs/membranes.md"
    limits "docs/limits.md"
    networks "docs/networks.md"
    persistence "docs/persistence.md"
    shutdown "docs/shutdown.md"
}
