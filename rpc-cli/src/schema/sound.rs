//! Checks of a schema, which may come from anybody.
//!
//! Content is written by the places that a schema gives its fields, without another look at
//! the size of the struct. So no field may lie outside, and groups, which are parts of
//! their struct, may not contain each other. Names are printed, so they may not steer a
//! terminal.

use std::collections::HashMap;

use capnp::schema_capnp::{code_generator_request, field, node, type_, value};
use capnp::{struct_list, text};

use crate::failure::{Failure, Result, steers};

/// The most scopes that are around a declaration.
const DEEPEST: usize = 64;

/// Passes schemas in which everything is where it belongs.
pub(super) fn check(
    root: code_generator_request::Reader<'_>,
    places: &HashMap<u64, u32>,
) -> Result<()> {
    let nodes = root.get_nodes()?;
    for node in nodes {
        Check { nodes, places, node }.node().map_err(|failure| {
            let name = node.get_display_name().and_then(harmless);
            failure.at(name.unwrap_or("a declaration"))
        })?;
    }
    Ok(())
}

fn harmless(name: text::Reader<'_>) -> capnp::Result<&str> {
    let name = name.to_str()?;
    if name.contains(steers) {
        return Err(capnp::Error::failed("a name has characters that no name has".to_owned()));
    }
    Ok(name)
}

/// One declaration, and those around it.
struct Check<'a> {
    nodes: struct_list::Reader<'a, node::Owned>,
    places: &'a HashMap<u64, u32>,
    node: node::Reader<'a>,
}

impl Check<'_> {
    fn node(&self) -> Result<()> {
        harmless(self.node.get_display_name()?)?;
        self.scopes()?;
        match self.node.which()? {
            node::Struct(layout) => self.structure(layout),
            node::Interface(interface) => {
                for method in interface.get_methods()? {
                    harmless(method.get_name()?)?;
                }
                Ok(())
            }
            node::Enum(declared) => {
                for enumerant in declared.get_enumerants()? {
                    harmless(enumerant.get_name()?)?;
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn find(&self, id: u64) -> Option<node::Reader<'_>> {
        self.places.get(&id).map(|place| self.nodes.get(*place))
    }

    fn scopes(&self) -> Result<()> {
        let mut scope = self.node.get_scope_id();
        for _ in 0..DEEPEST {
            match self.find(scope) {
                None => return Ok(()),
                Some(around) => scope = around.get_scope_id(),
            }
        }
        Err(unsound("it is declared within itself"))
    }

    fn structure(&self, layout: node::struct_::Reader<'_>) -> Result<()> {
        let data_bits = u64::from(layout.get_data_word_count()) * 64;
        let pointers = u64::from(layout.get_pointer_count());
        let tag = u64::from(layout.get_discriminant_offset());
        if layout.get_discriminant_count() > 0 && (tag + 1) * 16 > data_bits {
            return Err(outside());
        }
        for field in layout.get_fields()? {
            let name = harmless(field.get_name()?)?;
            let checked = match field.which()? {
                field::Slot(slot) => {
                    let (of, default) = (slot.get_type()?.which()?, slot.get_default_value()?);
                    let offset = u64::from(slot.get_offset());
                    match bits(&of, &default.which()?) {
                        None => Err(unsound("its default is of another type")),
                        Some(Size::Pointer) if offset >= pointers => Err(outside()),
                        Some(Size::Bits(bits)) if (offset + 1) * bits > data_bits => Err(outside()),
                        Some(_) => Ok(()),
                    }
                }
                field::Group(group) => self.group(group.get_type_id(), layout),
            };
            checked.map_err(|failure| failure.at(name))?;
        }
        Ok(())
    }

    /// Passes groups that are declared in this struct and have its size.
    fn group(&self, id: u64, around: node::struct_::Reader<'_>) -> Result<()> {
        let group = self.find(id).filter(|group| group.get_scope_id() == self.node.get_id());
        let Some(node::Struct(layout)) = group.map(node::Reader::which).transpose()? else {
            return Err(unsound("it is no group of its struct"));
        };
        let size =
            |of: node::struct_::Reader<'_>| (of.get_data_word_count(), of.get_pointer_count());
        if size(layout) == size(around) { Ok(()) } else { Err(outside()) }
    }
}

/// What a field takes of its struct.
enum Size {
    Bits(u64),
    Pointer,
}

/// The size of a type, if the value is one of it.
fn bits(of: &type_::WhichReader<'_>, value: &value::WhichReader<'_>) -> Option<Size> {
    Some(match (of, value) {
        (type_::Void(()), value::Void(())) => Size::Bits(0),
        (type_::Bool(()), value::Bool(_)) => Size::Bits(1),
        (type_::Int8(()), value::Int8(_)) | (type_::Uint8(()), value::Uint8(_)) => Size::Bits(8),
        (type_::Int16(()), value::Int16(_))
        | (type_::Uint16(()), value::Uint16(_))
        | (type_::Enum(_), value::Enum(_)) => Size::Bits(16),
        (type_::Int32(()), value::Int32(_))
        | (type_::Uint32(()), value::Uint32(_))
        | (type_::Float32(()), value::Float32(_)) => Size::Bits(32),
        (type_::Int64(()), value::Int64(_))
        | (type_::Uint64(()), value::Uint64(_))
        | (type_::Float64(()), value::Float64(_)) => Size::Bits(64),
        (type_::Text(()), value::Text(_))
        | (type_::Data(()), value::Data(_))
        | (type_::List(_), value::List(_))
        | (type_::Struct(_), value::Struct(_))
        | (type_::Interface(_), value::Interface(()))
        | (type_::AnyPointer(_), value::AnyPointer(_)) => Size::Pointer,
        _ => return None,
    })
}

fn outside() -> Failure {
    unsound("it does not lie within its struct")
}

fn unsound(what: &str) -> Failure {
    Failure::call(format_args!("the schema is malformed: {what}"))
}
