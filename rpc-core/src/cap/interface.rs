//! Descriptions of interfaces at run time.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};

use capnp::any_pointer;
use capnp::private::arena::GeneratedCodeArena;
use capnp::private::layout::PointerReader;
use capnp::schema_capnp::node;

use crate::cap::from_client::FromClient;
use crate::error::Result;

/// The interfaces that generated code has used so far, by their ids. The lock is a leaf.
static KNOWN: parking_lot::RwLock<Option<HashMap<u64, &'static Interface>>> =
    parking_lot::const_rwlock(None);

/// An interface as its schema declares it.
///
/// Every generated interface has a description: `INTERFACE` in its module, and
/// [`Described::interface`] of its client.
///
/// ```
/// use rpc_schema::greeter_capnp::greeter;
///
/// let interface = &greeter::INTERFACE;
/// assert_eq!(interface.name(), "greeter.capnp:Greeter");
/// assert_eq!(interface.id(), 0xc879_3007_1e95_c8b3);
/// assert_eq!(interface.methods(), ["greet", "greetGuest"]);
/// ```
pub struct Interface {
    id: u64,
    name: &'static str,
    methods: &'static [&'static str],
    bases: &'static [&'static Interface],
    node: &'static GeneratedCodeArena,
    /// Whether the interface is found by its id.
    known: AtomicBool,
}

impl Interface {
    /// For generated code only.
    #[doc(hidden)]
    pub const fn new(
        id: u64,
        name: &'static str,
        methods: &'static [&'static str],
        bases: &'static [&'static Interface],
        node: &'static GeneratedCodeArena,
    ) -> Self {
        Interface { id, name, methods, bases, node, known: AtomicBool::new(false) }
    }

    /// The id by which calls name the interface.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// The name with the file and the scopes that it is declared in:
    /// `file.capnp:Scope.Name`.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// The names of the methods that this interface itself declares, by their numbers.
    pub fn methods(&self) -> &'static [&'static str] {
        self.methods
    }

    /// The interfaces that this one extends directly.
    pub fn bases(&self) -> &'static [&'static Interface] {
        self.bases
    }

    /// The interface with this id, if it is this one or one that this one extends.
    pub fn find(&self, interface_id: u64) -> Option<&Interface> {
        if self.id == interface_id {
            return Some(self);
        }
        self.bases.iter().find_map(|base| base.find(interface_id))
    }

    /// Lets [`Method`] find the interface, and those that it extends, by their ids.
    #[inline]
    pub(crate) fn make_known(&'static self) {
        if !self.known.load(Ordering::SeqCst) {
            self.enter();
        }
    }

    #[cold]
    fn enter(&'static self) {
        self.bases.iter().for_each(|base| base.make_known());
        KNOWN.write().get_or_insert_default().entry(self.id).or_insert(self);
        self.known.store(true, Ordering::SeqCst);
    }

    /// Prints a method of this interface or of one that it extends, as
    /// `file.capnp:Name.method`; a method that does not exist there is printed by its
    /// numbers.
    pub fn method(&self, interface_id: u64, method_id: u16) -> impl fmt::Display {
        MethodName { interface: self.find(interface_id), interface_id, method_id }
    }

    /// The declaration in the form in which the schema compiler passes it to code
    /// generators. It does not contain the methods' types, which are separate
    /// declarations.
    ///
    /// # Errors
    /// The generated code was changed by hand.
    pub fn node(&self) -> Result<node::Reader<'static>> {
        let root = PointerReader::get_root_from_arena(self.node)?;
        Ok(any_pointer::Reader::new(root).get_as()?)
    }
}

impl fmt::Debug for Interface {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Interface")
            .field("name", &self.name)
            .field("id", &format_args!("{:#018x}", self.id))
            .finish_non_exhaustive()
    }
}

/// A method of some interface. Its names are known if generated code of this process has
/// called the interface, or has made an object of it callable.
#[derive(Clone, Copy)]
pub struct Method {
    interface_id: u64,
    method_id: u16,
    interface: Option<&'static Interface>,
}

impl Method {
    pub(crate) fn of(interface_id: u64, method_id: u16) -> Self {
        let known = KNOWN.read();
        let interface = known.as_ref().and_then(|known| known.get(&interface_id)).copied();
        Method { interface_id, method_id, interface }
    }

    /// The id of the interface that declares the method.
    pub fn interface_id(&self) -> u64 {
        self.interface_id
    }

    /// The method's ordinal in its interface.
    pub fn method_id(&self) -> u16 {
        self.method_id
    }

    /// The interface that declares the method, if it is known.
    pub fn interface(&self) -> Option<&'static Interface> {
        self.interface
    }

    /// The method's name in its interface, if it is known.
    pub fn name(&self) -> Option<&'static str> {
        self.interface?.methods.get(usize::from(self.method_id)).copied()
    }
}

/// Methods are equal when they have the same numbers.
impl PartialEq for Method {
    fn eq(&self, other: &Self) -> bool {
        (self.interface_id, self.method_id) == (other.interface_id, other.method_id)
    }
}

impl Eq for Method {}

/// `file.capnp:Name.method`, or the numbers if the interface is not known.
impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Method { interface_id, method_id, interface } = *self;
        MethodName { interface, interface_id, method_id }.fmt(f)
    }
}

impl fmt::Debug for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A method, printed by its name if the name is known.
struct MethodName<'i> {
    interface: Option<&'i Interface>,
    interface_id: u64,
    method_id: u16,
}

impl fmt::Display for MethodName<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let MethodName { interface, interface_id, method_id } = self;
        let Some(interface) = interface else {
            return write!(f, "method {method_id} of interface {interface_id:#018x}");
        };
        match interface.methods.get(usize::from(*method_id)) {
            Some(method) => write!(f, "{}.{method}", interface.name),
            None => write!(f, "method {method_id} of {}", interface.name),
        }
    }
}

/// Clients whose interface is known: the generated ones.
pub trait Described: FromClient {
    /// The interface that the client calls.
    fn interface() -> &'static Interface;
}
