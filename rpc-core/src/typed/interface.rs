//! Descriptions of interfaces at run time.

use std::fmt;

use capnp::any_pointer;
use capnp::private::arena::GeneratedCodeArena;
use capnp::private::layout::PointerReader;
use capnp::schema_capnp::node;

use crate::cap::from_client::FromClient;
use crate::error::Result;

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
        Interface { id, name, methods, bases, node }
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
