//! What can be chosen about the generated code.

use std::collections::HashMap;

/// What the generated code looks like.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// Where the generated modules lie in their crate.
    pub(crate) parent_module: Vec<String>,
    /// Which crates have the code of which files.
    pub(crate) crates: HashMap<u64, String>,
    /// The path of the crate `capnp-threads`, or of what stands for it.
    pub(crate) runtime: String,
    /// Upstream's output as it is.
    pub(crate) data_only: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            parent_module: Vec::new(),
            crates: HashMap::new(),
            runtime: "::capnp_threads".to_owned(),
            data_only: false,
        }
    }
}

impl Settings {
    /// The path of the capnp crate as generated code sees it.
    pub(crate) fn facade(&self) -> String {
        if self.data_only { "::capnp".to_owned() } else { format!("{}::capnp", self.runtime) }
    }
}
