//! Types of fields, with the parameters of generic ones filled in.

use std::collections::HashMap;
use std::sync::Arc;

use capnp::schema_capnp::{brand, type_};

use crate::failure::Result;

/// The type of a field or an element.
#[derive(Clone, Debug)]
pub(crate) enum Type {
    Void,
    Bool,
    Int8,
    Int16,
    Int32,
    Int64,
    UInt8,
    UInt16,
    UInt32,
    UInt64,
    Float32,
    Float64,
    Text,
    Data,
    List(Arc<Type>),
    Enum(u64),
    Struct(Named),
    Interface(Named),
    AnyPointer,
}

/// A struct or an interface, and what its parameters are.
#[derive(Clone, Debug)]
pub(crate) struct Named {
    pub(crate) id: u64,
    pub(crate) brand: Brand,
}

impl Named {
    /// One without parameters, or whose parameters are not known: a pointer of such a
    /// type can be anything.
    pub(crate) fn plain(id: u64) -> Self {
        Named { id, brand: Brand::default() }
    }
}

/// What the type parameters of some scopes are.
#[derive(Clone, Debug, Default)]
pub(crate) struct Brand(Arc<HashMap<u64, Vec<Type>>>);

impl Brand {
    /// Reads a brand that is written where `around` is known.
    pub(crate) fn read(brand: brand::Reader<'_>, around: &Brand) -> Result<Self> {
        let mut scopes = HashMap::new();
        for scope in brand.get_scopes()? {
            let id = scope.get_scope_id();
            let types = match scope.which()? {
                brand::scope::Bind(bindings) => {
                    let mut types = Vec::new();
                    for binding in bindings? {
                        types.push(match binding.which()? {
                            brand::binding::Unbound(()) => Type::AnyPointer,
                            brand::binding::Type(of) => Type::read(of?, around)?,
                        });
                    }
                    types
                }
                brand::scope::Inherit(()) => around.0.get(&id).cloned().unwrap_or_default(),
            };
            scopes.insert(id, types);
        }
        Ok(Brand(Arc::new(scopes)))
    }

    fn parameter(&self, scope: u64, index: u16) -> Type {
        let types = self.0.get(&scope);
        types.and_then(|types| types.get(usize::from(index))).cloned().unwrap_or(Type::AnyPointer)
    }
}

impl Type {
    /// Reads a type that is written where `around` is known.
    pub(crate) fn read(of: type_::Reader<'_>, around: &Brand) -> Result<Self> {
        let named = |id, brand: brand::Reader<'_>| -> Result<Named> {
            Ok(Named { id, brand: Brand::read(brand, around)? })
        };
        Ok(match of.which()? {
            type_::Void(()) => Type::Void,
            type_::Bool(()) => Type::Bool,
            type_::Int8(()) => Type::Int8,
            type_::Int16(()) => Type::Int16,
            type_::Int32(()) => Type::Int32,
            type_::Int64(()) => Type::Int64,
            type_::Uint8(()) => Type::UInt8,
            type_::Uint16(()) => Type::UInt16,
            type_::Uint32(()) => Type::UInt32,
            type_::Uint64(()) => Type::UInt64,
            type_::Float32(()) => Type::Float32,
            type_::Float64(()) => Type::Float64,
            type_::Text(()) => Type::Text,
            type_::Data(()) => Type::Data,
            type_::List(list) => {
                Type::List(Arc::new(Type::read(list.get_element_type()?, around)?))
            }
            type_::Enum(of) => Type::Enum(of.get_type_id()),
            type_::Struct(of) => Type::Struct(named(of.get_type_id(), of.get_brand()?)?),
            type_::Interface(of) => Type::Interface(named(of.get_type_id(), of.get_brand()?)?),
            type_::AnyPointer(pointer) => match pointer.which()? {
                type_::any_pointer::Parameter(parameter) => {
                    around.parameter(parameter.get_scope_id(), parameter.get_parameter_index())
                }
                _ => Type::AnyPointer,
            },
        })
    }

    /// What values of this type are called in messages to people.
    pub(crate) fn noun(&self) -> &'static str {
        match self {
            Type::Void => "null",
            Type::Bool => "true or false",
            Type::Int8 => "an integer from -128 to 127",
            Type::Int16 => "an integer from -32768 to 32767",
            Type::Int32 => "an integer of 32 bits",
            Type::Int64 => "an integer of 64 bits",
            Type::UInt8 => "an integer from 0 to 255",
            Type::UInt16 => "an integer from 0 to 65535",
            Type::UInt32 => "an integer of 32 bits without a sign",
            Type::UInt64 => "an integer of 64 bits without a sign",
            Type::Float32 | Type::Float64 => "a number, or \"NaN\", \"Infinity\" or \"-Infinity\"",
            Type::Text => "a text",
            Type::Data => "a list of bytes, each from 0 to 255",
            Type::List(_) => "a list",
            Type::Enum(_) => "the name of an enumerant",
            Type::Struct(_) => "an object",
            Type::Interface(_) => "a capability: \"$name\" of one that --let made, or null",
            Type::AnyPointer => "null, because the schema leaves the type open",
        }
    }

    /// Whether values of this type lie behind a pointer.
    pub(crate) fn is_pointer(&self) -> bool {
        matches!(
            self,
            Type::Text
                | Type::Data
                | Type::List(_)
                | Type::Struct(_)
                | Type::Interface(_)
                | Type::AnyPointer
        )
    }
}
