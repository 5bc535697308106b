//! Marks by which the owner of an object recognises it.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

/// A mark that only its owner can put on objects. Nothing but the mark itself equals
/// it, so the owner who finds it on an object knows that the object is one of its own.
/// Copies are the same mark.
///
/// ```
/// use capnp_threads_core::untyped::Brand;
///
/// let mine = Brand::new();
/// assert!(mine == mine.clone());
/// assert!(mine != Brand::new());
/// ```
#[derive(Clone)]
pub struct Brand(Arc<Identity>);

/// Not of size zero, so that each has an address of its own.
struct Identity {
    _identity: u8,
}

impl Brand {
    /// A mark that equals no other.
    pub fn new() -> Self {
        Brand(Arc::new(Identity { _identity: 0 }))
    }

    fn address(&self) -> *const () {
        Arc::as_ptr(&self.0).cast()
    }
}

impl Default for Brand {
    fn default() -> Self {
        Brand::new()
    }
}

impl PartialEq for Brand {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Brand {}

impl Hash for Brand {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.address().hash(state);
    }
}

impl fmt::Debug for Brand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Brand({:p})", self.address())
    }
}
