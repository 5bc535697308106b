//! Structs, groups and their fields: what the generator knows of them.

use capnp::any_pointer;
use capnp::schema_capnp::{field, node, type_, value};

use super::malformed;
use crate::error::Result;
use crate::naming::FieldName;
use crate::request::is_optional;
use crate::schema::Schema;
use crate::types::{Bindings, Form};

/// A struct or a group.
pub(super) struct Struct<'s> {
    pub(super) id: u64,
    /// The type parameters of its types.
    pub(super) parameters: Vec<String>,
    /// What they stand for: themselves.
    pub(super) context: Bindings,
    /// Where the union's discriminant is, in units of 16 bits.
    pub(super) discriminant: u32,
    pub(super) fields: Vec<Field<'s>>,
}

impl<'s> Struct<'s> {
    pub(super) fn new(
        schema: &'s Schema<'s>,
        id: u64,
        data: node::struct_::Reader<'s>,
    ) -> Result<Self> {
        let fields = data.get_fields()?.iter().enumerate();
        let fields = fields.map(|(index, field)| Field::new(schema, id, index, field));
        Ok(Struct {
            id,
            parameters: schema.parameters(id)?,
            context: schema.inside(id)?,
            discriminant: data.get_discriminant_offset(),
            fields: fields.collect::<Result<_>>()?,
        })
    }

    /// The head of an implementation for a type of the struct.
    pub(super) fn implementation(&self, leaf: &str, lifetime: Option<&str>, bound: &str) -> String {
        let lifetime = || lifetime.map(str::to_owned).into_iter();
        let bounded = self.parameters.iter().map(|parameter| format!("{parameter}: {bound}"));
        let declared: Vec<String> = lifetime().chain(bounded).collect();
        let used: Vec<String> = lifetime().chain(self.parameters.iter().cloned()).collect();
        if used.is_empty() {
            return format!("impl {leaf}");
        }
        format!("impl<{}> {leaf}<{}>", declared.join(", "), used.join(", "))
    }

    pub(super) fn in_union(&self) -> impl Iterator<Item = &Field<'s>> {
        self.fields.iter().filter(|field| field.discriminant.is_some())
    }

    pub(super) fn outside_union(&self) -> impl Iterator<Item = &Field<'s>> {
        self.fields.iter().filter(|field| field.discriminant.is_none())
    }
}

/// A field of a struct or group.
pub(super) struct Field<'s> {
    /// Its position among the fields.
    pub(super) index: usize,
    pub(super) name: &'s FieldName,
    /// The value of the union's discriminant, for a member of the union.
    pub(super) discriminant: Option<u16>,
    pub(super) content: Content<'s>,
}

/// What a field holds. Offsets are in units of the content's own size.
pub(super) enum Content<'s> {
    /// More fields of the same struct. The group's id.
    Group(u64),
    Void,
    Bool {
        offset: u32,
        default: bool,
    },
    Number {
        offset: u32,
        ty: &'static str,
        /// The bits that the number is combined with, where they are not zero.
        default: Option<String>,
    },
    Enum {
        offset: u32,
        ty: type_::Reader<'s>,
        default: u16,
    },
    Pointer {
        offset: u32,
        ty: type_::Reader<'s>,
        target: Target,
        /// What is read where the pointer is null, if the schema says so.
        default: Option<any_pointer::Reader<'s>>,
        /// Whether it is read as an `Option`.
        optional: bool,
    },
}

/// What a pointer leads to.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Target {
    Text,
    Data,
    /// A list that slices can be copied to.
    SimpleList,
    List,
    Struct,
    Capability,
    /// Something that the schema leaves open.
    Any,
    /// What the argument for a type parameter says.
    Parameter,
}

impl<'s> Field<'s> {
    fn new(
        schema: &'s Schema<'s>,
        id: u64,
        index: usize,
        field: field::Reader<'s>,
    ) -> Result<Self> {
        let name = &schema.naming.fields[&id][index];
        let discriminant = field.get_discriminant_value();
        let discriminant = (discriminant != field::NO_DISCRIMINANT).then_some(discriminant);
        let optional = is_optional(field.get_annotations()?);
        let content = match field.which()? {
            field::Group(group) => Content::Group(group.get_type_id()),
            field::Slot(slot) => match Content::new(slot, optional)? {
                Some(content) => content,
                None => return malformed(schema, id, "a field's default is not of its type"),
            },
        };
        if optional && !matches!(content, Content::Pointer { .. }) {
            return schema.refuse(
                id,
                &name.schema,
                "`$Rust.option` is for fields that can be null: text, data, lists, structs, \
                 interfaces and `AnyPointer`",
            );
        }
        Ok(Field { index, name, discriminant, content })
    }

    /// The field's type, as the struct sees it.
    pub(super) fn ty(
        &self,
        schema: &Schema<'_>,
        structure: &Struct<'_>,
        form: Form,
    ) -> Result<String> {
        match &self.content {
            Content::Group(id) => Ok(form.of(&schema.path(*id)?, &structure.parameters)),
            Content::Void => Ok("()".to_owned()),
            Content::Bool { .. } => Ok("bool".to_owned()),
            Content::Number { ty, .. } => Ok((*ty).to_owned()),
            Content::Enum { ty, .. } | Content::Pointer { ty, .. } => {
                schema.ty(*ty, form, &structure.context)
            }
        }
    }

    /// The static in which the field's default lies, and the value.
    pub(super) fn default(&self) -> Option<(String, any_pointer::Reader<'s>)> {
        match self.content {
            Content::Pointer { default: Some(value), .. } => Some((self.default_name(), value)),
            _ => None,
        }
    }

    pub(super) fn default_name(&self) -> String {
        format!("__DEFAULT_{}", self.name.accessor.to_ascii_uppercase())
    }

    /// The call that leads to the field in results that are still to come, if anything
    /// can be done with it there.
    pub(super) fn pipeline(&self) -> Option<String> {
        match self.content {
            Content::Group(_) => Some("__rt::group_pipeline(&self.typeless)".to_owned()),
            Content::Pointer {
                offset,
                target: Target::Struct | Target::Capability | Target::Any | Target::Parameter,
                ..
            } => Some(format!("__rt::pipeline(&self.typeless, {offset})")),
            _ => None,
        }
    }
}

impl<'s> Content<'s> {
    /// `None` if the default is not of the field's type.
    fn new(slot: field::slot::Reader<'s>, optional: bool) -> Result<Option<Self>> {
        let (offset, ty) = (slot.get_offset(), slot.get_type()?);
        let value = slot.get_default_value()?;
        let explicit = slot.get_had_explicit_default();
        let pointer = |target, default: Option<any_pointer::Reader<'s>>| {
            let default = default.filter(|_| explicit);
            Content::Pointer { offset, ty, target, default, optional }
        };
        // The pointer of text and data as such, which a value gives the others as.
        let blob = || capnp::raw::get_struct_pointer_section(value).get(0);
        let number = |ty, is_zero: bool, default: String| Content::Number {
            offset,
            ty,
            default: (!is_zero).then_some(default),
        };
        Ok(Some(match (ty.which()?, value.which()?) {
            (type_::Void(()), value::Void(())) => Content::Void,
            (type_::Bool(()), value::Bool(default)) => Content::Bool { offset, default },
            (type_::Int8(()), value::Int8(bits)) => number("i8", bits == 0, bits.to_string()),
            (type_::Int16(()), value::Int16(bits)) => number("i16", bits == 0, bits.to_string()),
            (type_::Int32(()), value::Int32(bits)) => number("i32", bits == 0, bits.to_string()),
            (type_::Int64(()), value::Int64(bits)) => number("i64", bits == 0, bits.to_string()),
            (type_::Uint8(()), value::Uint8(bits)) => number("u8", bits == 0, bits.to_string()),
            (type_::Uint16(()), value::Uint16(bits)) => number("u16", bits == 0, bits.to_string()),
            (type_::Uint32(()), value::Uint32(bits)) => number("u32", bits == 0, bits.to_string()),
            (type_::Uint64(()), value::Uint64(bits)) => number("u64", bits == 0, bits.to_string()),
            (type_::Float32(()), value::Float32(default)) => {
                number("f32", default.to_bits() == 0, format!("{:#x}", default.to_bits()))
            }
            (type_::Float64(()), value::Float64(default)) => {
                number("f64", default.to_bits() == 0, format!("{:#x}", default.to_bits()))
            }
            (type_::Enum(_), value::Enum(default)) => Content::Enum { offset, ty, default },
            (type_::Text(()), value::Text(_)) => pointer(Target::Text, Some(blob())),
            (type_::Data(()), value::Data(_)) => pointer(Target::Data, Some(blob())),
            (type_::List(of), value::List(default)) => {
                let target = match of.get_element_type()?.which()? {
                    type_::Data(())
                    | type_::List(_)
                    | type_::Struct(_)
                    | type_::Interface(_)
                    | type_::AnyPointer(_) => Target::List,
                    _ => Target::SimpleList,
                };
                pointer(target, Some(default))
            }
            (type_::Struct(_), value::Struct(default)) => pointer(Target::Struct, Some(default)),
            (type_::Interface(_), value::Interface(())) => pointer(Target::Capability, None),
            (type_::AnyPointer(of), value::AnyPointer(_)) => match of.which()? {
                type_::any_pointer::Unconstrained(_) => pointer(Target::Any, None),
                _ => pointer(Target::Parameter, None),
            },
            _ => return Ok(None),
        }))
    }
}
