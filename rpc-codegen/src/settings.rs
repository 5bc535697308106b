//! What can be chosen about the generated code.

use std::collections::HashMap;

/// Where generated code finds the runtime library, unless it is told otherwise.
const RUNTIME: &str = "::capnp_threads";

#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// The modules around the generated ones in their crate.
    pub(crate) parent_module: Vec<String>,
    /// Which crates have the code of which files.
    pub(crate) crates: HashMap<u64, String>,
    /// The path of the crate `capnp-threads`, or of what stands for it.
    pub(crate) runtime: String,
    /// Leaves out interfaces and pipelines, without which messages can be used. This is for
    /// the lowest part of the runtime library, which the types of these are made of.
    pub(crate) messages_only: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            parent_module: Vec::new(),
            crates: HashMap::new(),
            runtime: RUNTIME.to_owned(),
            messages_only: false,
        }
    }
}

impl Settings {
    /// The module that generated code finds everything in.
    pub(crate) fn support(&self) -> String {
        let module = if self.messages_only { "data" } else { "generated" };
        format!("{}::{module}", self.runtime)
    }
}
