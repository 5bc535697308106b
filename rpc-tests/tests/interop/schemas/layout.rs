//! Layouts of a compiled schema, written down as text to compare.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;
use std::process::Command;

use capnp::message::ReaderOptions;
use capnp::schema_capnp::{code_generator_request, field, method, node, type_, value};

/// One field of a struct, wherever in its groups it is declared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Field {
    /// With the names of the groups that it is in.
    pub(crate) name: String,
    /// `b` and a bit offset in the data section, `p` and a pointer slot, or
    /// nothing where the field takes no room.
    pub(crate) place: String,
    pub(crate) kind: String,
    /// Empty where it is zero or null.
    pub(crate) default: String,
    /// The value of the union's tag that selects it.
    pub(crate) tag: Option<u16>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Struct {
    pub(crate) name: String,
    pub(crate) words: u16,
    pub(crate) pointers: u16,
    /// By ordinal.
    pub(crate) fields: BTreeMap<u16, Field>,
    /// The bit offsets of union tags, by the group's name.
    pub(crate) tags: Vec<(String, u32)>,
}

impl Struct {
    /// One line with everything that matters on the wire.
    pub(crate) fn line(&self, id: u64) -> String {
        let mut parts = Vec::new();
        for (ordinal, field) in &self.fields {
            let mut part = format!("{}@{ordinal}", field.name);
            if !field.place.is_empty() {
                write!(part, " {}", field.place).unwrap();
            }
            if !field.default.is_empty() {
                write!(part, " = {}", field.default).unwrap();
            }
            if let Some(tag) = field.tag {
                write!(part, " #{tag}").unwrap();
            }
            parts.push(part);
        }
        let mut line = format!("{} {id:016x} ({},{})", self.name, self.words, self.pointers);
        if !parts.is_empty() {
            write!(line, ": {}", parts.join(", ")).unwrap();
        }
        for (group, at) in &self.tags {
            let group = if group.is_empty() { "tag".to_owned() } else { format!("{group} tag") };
            write!(line, "; {group} b{at}").unwrap();
        }
        line
    }
}

/// What one schema file declares, by id.
#[derive(Debug, Default)]
pub(crate) struct Layouts {
    pub(crate) structs: BTreeMap<u64, Struct>,
    /// A line for each, as for structs.
    pub(crate) enums: BTreeMap<u64, String>,
    pub(crate) interfaces: BTreeMap<u64, String>,
    pub(crate) annotations: BTreeMap<u64, String>,
}

/// Compiles a schema file and reads what the compiler tells generators.
pub(crate) fn compile(compiler: &mut Command, file: &Path) -> Layouts {
    let output = compiler.args(["compile", "-o-"]).arg(file).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let message = capnp::serialize::read_message(&output.stdout[..], ReaderOptions::new()).unwrap();
    let request: code_generator_request::Reader<'_> = message.get_root().unwrap();
    let nodes: BTreeMap<u64, node::Reader<'_>> =
        request.get_nodes().unwrap().iter().map(|node| (node.get_id(), node)).collect();
    let requested = request.get_requested_files().unwrap().get(0).get_id();
    let reader = Nodes(nodes);
    let mut layouts = Layouts::default();
    for (&id, node) in &reader.0 {
        if reader.file_of(id) != requested {
            continue;
        }
        match node.which().unwrap() {
            node::Struct(body) if !body.get_is_group() => {
                layouts.structs.insert(id, reader.layout(id));
            }
            node::Enum(body) => {
                let names = body.get_enumerants().unwrap().iter();
                let names: Vec<_> =
                    names.map(|e| e.get_name().unwrap().to_string().unwrap()).collect();
                let line = format!("{} {id:016x}: {}", reader.name(id), names.join(", "));
                layouts.enums.insert(id, line);
            }
            node::Interface(_) => {
                layouts.interfaces.insert(id, reader.interface(id));
            }
            node::Annotation(_) => {
                layouts.annotations.insert(id, format!("{} {id:016x}", reader.name(id)));
            }
            _ => {}
        }
    }
    layouts
}

struct Nodes<'a>(BTreeMap<u64, node::Reader<'a>>);

impl Nodes<'_> {
    fn file_of(&self, id: u64) -> u64 {
        let mut id = id;
        while let Some(node) = self.0.get(&id).filter(|node| node.get_scope_id() != 0) {
            id = node.get_scope_id();
        }
        id
    }

    /// The name with those of the scopes that it is in.
    fn name(&self, id: u64) -> String {
        let name = self.0[&id].get_display_name().unwrap().to_str().unwrap();
        name.split_once(':').map_or(name, |(_, name)| name).to_owned()
    }

    fn layout(&self, id: u64) -> Struct {
        let node::Struct(body) = self.0[&id].which().unwrap() else {
            panic!("{id:x} is no struct")
        };
        let mut layout = Struct {
            name: self.name(id),
            words: body.get_data_word_count(),
            pointers: body.get_pointer_count(),
            fields: BTreeMap::new(),
            tags: Vec::new(),
        };
        self.collect(id, "", &mut layout);
        layout
    }

    fn collect(&self, id: u64, group: &str, layout: &mut Struct) {
        let node::Struct(body) = self.0[&id].which().unwrap() else {
            panic!("{id:x} is no struct")
        };
        if body.get_discriminant_count() > 0 {
            layout.tags.push((group.to_owned(), body.get_discriminant_offset() * 16));
        }
        for field in body.get_fields().unwrap() {
            let name = field.get_name().unwrap().to_str().unwrap();
            let name = if group.is_empty() { name.to_owned() } else { format!("{group}.{name}") };
            let slot = match field.which().unwrap() {
                field::Group(inner) => {
                    self.collect(inner.get_type_id(), &name, layout);
                    continue;
                }
                field::Slot(slot) => slot,
            };
            let field::ordinal::Explicit(ordinal) = field.get_ordinal().which().unwrap() else {
                panic!("{name} has no ordinal")
            };
            let tag = field.get_discriminant_value();
            let kind = slot.get_type().unwrap();
            let place = match bits(kind) {
                None => format!("p{}", slot.get_offset()),
                Some(0) => String::new(),
                Some(bits) => format!("b{}", slot.get_offset() * bits),
            };
            let field = Field {
                name,
                place,
                kind: self.kind(kind),
                default: default(slot.get_default_value().unwrap()),
                tag: (tag != field::NO_DISCRIMINANT).then_some(tag),
            };
            assert!(layout.fields.insert(ordinal, field).is_none(), "@{ordinal} twice");
        }
    }

    fn interface(&self, id: u64) -> String {
        let node::Interface(body) = self.0[&id].which().unwrap() else {
            panic!("{id:x} is no interface")
        };
        let mut line = format!("{} {id:016x}", self.name(id));
        let supers = body.get_superclasses().unwrap().iter();
        let supers: Vec<_> = supers.map(|superclass| self.name(superclass.get_id())).collect();
        if !supers.is_empty() {
            write!(line, " < {}", supers.join(", ")).unwrap();
        }
        let methods = body.get_methods().unwrap().iter().enumerate();
        let methods: Vec<_> = methods.map(|(n, method)| self.method(n, method)).collect();
        if !methods.is_empty() {
            write!(line, ": {}", methods.join("; ")).unwrap();
        }
        line
    }

    fn method(&self, ordinal: usize, method: method::Reader<'_>) -> String {
        format!(
            "{}@{ordinal} {} -> {}",
            method.get_name().unwrap().to_str().unwrap(),
            self.parameters(method.get_param_struct_type()),
            self.parameters(method.get_result_struct_type())
        )
    }

    /// A named struct by its name, one that was declared in place by its fields.
    fn parameters(&self, id: u64) -> String {
        if self.0[&id].get_scope_id() != 0 {
            return self.name(id);
        }
        let layout = self.layout(id);
        let fields: Vec<_> = layout
            .fields
            .values()
            .map(|field| {
                let Field { name, kind, default, .. } = field;
                let default =
                    if default.is_empty() { String::new() } else { format!(" = {default}") };
                format!("{name} :{kind}{default}")
            })
            .collect();
        format!("({})", fields.join(", "))
    }

    fn kind(&self, kind: type_::Reader<'_>) -> String {
        match kind.which().unwrap() {
            type_::Void(()) => "Void".into(),
            type_::Bool(()) => "Bool".into(),
            type_::Int8(()) => "Int8".into(),
            type_::Int16(()) => "Int16".into(),
            type_::Int32(()) => "Int32".into(),
            type_::Int64(()) => "Int64".into(),
            type_::Uint8(()) => "UInt8".into(),
            type_::Uint16(()) => "UInt16".into(),
            type_::Uint32(()) => "UInt32".into(),
            type_::Uint64(()) => "UInt64".into(),
            type_::Float32(()) => "Float32".into(),
            type_::Float64(()) => "Float64".into(),
            type_::Text(()) => "Text".into(),
            type_::Data(()) => "Data".into(),
            type_::List(list) => format!("List({})", self.kind(list.get_element_type().unwrap())),
            type_::Enum(of) => self.name(of.get_type_id()),
            type_::Struct(of) => self.name(of.get_type_id()),
            type_::Interface(of) => self.name(of.get_type_id()),
            type_::AnyPointer(any) => match any.which().unwrap() {
                type_::any_pointer::Unconstrained(unconstrained) => {
                    match unconstrained.which().unwrap() {
                        type_::any_pointer::unconstrained::Capability(()) => "Capability".into(),
                        _ => "AnyPointer".into(),
                    }
                }
                type_::any_pointer::Parameter(parameter) => {
                    format!("#{}", parameter.get_parameter_index())
                }
                type_::any_pointer::ImplicitMethodParameter(_) => "AnyPointer".into(),
            },
        }
    }
}

/// The bits of a value in the data section; none for a pointer.
fn bits(kind: type_::Reader<'_>) -> Option<u32> {
    match kind.which().unwrap() {
        type_::Void(()) => Some(0),
        type_::Bool(()) => Some(1),
        type_::Int8(()) | type_::Uint8(()) => Some(8),
        type_::Int16(()) | type_::Uint16(()) | type_::Enum(_) => Some(16),
        type_::Int32(()) | type_::Uint32(()) | type_::Float32(()) => Some(32),
        type_::Int64(()) | type_::Uint64(()) | type_::Float64(()) => Some(64),
        _ => None,
    }
}

/// A default that is not zero. These schemas have no others than of these types.
fn default(default: value::Reader<'_>) -> String {
    match default.which().unwrap() {
        value::Bool(true) => "true".into(),
        value::Uint8(n) if n != 0 => n.to_string(),
        value::Uint16(n) if n != 0 => n.to_string(),
        value::Uint32(n) if n != 0 => n.to_string(),
        value::Text(Ok(text)) if !text.is_empty() => format!("{:?}", text.to_str().unwrap()),
        _ => String::new(),
    }
}
