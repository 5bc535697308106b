//! JSON to content.

use std::str::FromStr;

use capnp::private::layout::{
    ElementSize, ListBuilder, PointerBuilder, PrimitiveElement, StructBuilder, StructSize,
};
use capnp::schema_capnp::value;
use capnp::{any_pointer, any_pointer_list, struct_list};
use capnp_threads_core::Client;
use capnp_threads_core::typed::AnyPointerExt;
use serde_json::{Map, Number, Value};

use super::pointers::{self, AnyStruct};
use crate::failure::{Failure, Result};
use crate::schema::{Brand, Field, Named, Place, Schema, Structure, Type, list};

/// Finds the capability that a text in the place of one names, for an interface.
pub(crate) type Lookup<'a> = &'a dyn Fn(&str, &Named) -> Result<Client>;

/// What writing looks things up in.
#[derive(Clone, Copy)]
struct Context<'a> {
    schema: &'a Schema,
    lookup: Lookup<'a>,
}

/// Writes JSON as a struct. Capabilities are put into the table that `to` is imbued with.
///
/// # Errors
/// The JSON does not fit the schema. The error says where, and what would.
pub(crate) fn write(
    schema: &Schema,
    lookup: Lookup<'_>,
    of: &Named,
    json: &Value,
    to: any_pointer::Builder<'_>,
) -> Result<()> {
    let pointer = pointers::of_builder(to)?;
    new_struct(Context { schema, lookup }, of, json, pointer)
}

fn wrong(of: &Type, found: &Value) -> Failure {
    let mut text = found.to_string();
    if let Some((end, _)) = text.char_indices().nth(60) {
        text.truncate(end);
        text.push('…');
    }
    Failure::command(format_args!("should be {}, and not {text}", of.noun()))
}

fn new_struct(
    context: Context<'_>,
    of: &Named,
    json: &Value,
    to: PointerBuilder<'_>,
) -> Result<()> {
    let (data, pointers) = context.schema.structure(of.id)?.size();
    let mut to = to.init_struct(StructSize { data, pointers });
    structure(context, of.id, &of.brand, json, &mut to)
}

fn structure(
    context: Context<'_>,
    id: u64,
    brand: &Brand,
    json: &Value,
    to: &mut StructBuilder<'_>,
) -> Result<()> {
    let declared = context.schema.structure(id)?;
    let Value::Object(members) = json else {
        return Err(wrong(&Type::Struct(Named { id, brand: brand.clone() }), json));
    };
    let mut set: Option<&str> = None;
    for (name, json) in members {
        let field = declared.field(name)?.ok_or_else(|| unknown(&declared, name))?;
        if let (Some(number), Some(offset)) = (field.discriminant, declared.discriminant()) {
            if let Some(other) = set {
                return Err(Failure::command(format_args!(
                    "{other} and {name} are members of one union, of which one can be set"
                )));
            }
            set = Some(name);
            to.set_data_field::<u16>(offset as usize, number);
        }
        self::field(context, &field, brand, json, to).map_err(|failure| failure.at(name))?;
    }
    Ok(())
}

fn unknown(declared: &Structure<'_>, name: &str) -> Failure {
    let fields = match declared.fields() {
        Ok(fields) => fields,
        Err(failure) => return failure,
    };
    let names: Vec<_> = fields.iter().map(|field| field.name).collect();
    let of = declared.name();
    Failure::command(format_args!("no field {name:?} in {of}; there is {}", list(&names)))
}

fn field(
    context: Context<'_>,
    field: &Field<'_>,
    brand: &Brand,
    json: &Value,
    to: &mut StructBuilder<'_>,
) -> Result<()> {
    let (of, offset, default) = match field.place(brand)? {
        Place::Group(group) => return structure(context, group, brand, json, to),
        Place::Slot(of, offset, default) => (of, offset as usize, default.which()?),
    };
    match (&of, default) {
        (Type::Void, _) if json.is_null() => {}
        (Type::Bool, value::Bool(default)) => {
            to.set_bool_field(offset, boolean(json)? != default);
        }
        (Type::Int8, value::Int8(default)) => {
            to.set_data_field_mask(offset, integer::<i8>(&of, json)?, default);
        }
        (Type::Int16, value::Int16(default)) => {
            to.set_data_field_mask(offset, integer::<i16>(&of, json)?, default);
        }
        (Type::Int32, value::Int32(default)) => {
            to.set_data_field_mask(offset, integer::<i32>(&of, json)?, default);
        }
        (Type::Int64, value::Int64(default)) => {
            to.set_data_field_mask(offset, integer::<i64>(&of, json)?, default);
        }
        (Type::UInt8, value::Uint8(default)) => {
            to.set_data_field_mask(offset, integer::<u8>(&of, json)?, default);
        }
        (Type::UInt16, value::Uint16(default)) => {
            to.set_data_field_mask(offset, integer::<u16>(&of, json)?, default);
        }
        (Type::UInt32, value::Uint32(default)) => {
            to.set_data_field_mask(offset, integer::<u32>(&of, json)?, default);
        }
        (Type::UInt64, value::Uint64(default)) => {
            to.set_data_field_mask(offset, integer::<u64>(&of, json)?, default);
        }
        (Type::Float32, value::Float32(default)) => {
            to.set_data_field_mask(offset, narrow(float(json)?), default.to_bits());
        }
        (Type::Float64, value::Float64(default)) => {
            to.set_data_field_mask(offset, float(json)?, default.to_bits());
        }
        (Type::Enum(id), value::Enum(default)) => {
            to.set_data_field_mask(offset, enumerant(context.schema, *id, json)?, default);
        }
        _ if of.is_pointer() => {
            pointer(context, &of, json, to.reborrow().get_pointer_field(offset))?;
        }
        _ => return Err(wrong(&of, json)),
    }
    Ok(())
}

fn boolean(json: &Value) -> Result<bool> {
    json.as_bool().ok_or_else(|| wrong(&Type::Bool, json))
}

/// An integer, which may be a text, as integers of 64 bits have to be.
fn integer<T: TryFrom<i128>>(of: &Type, json: &Value) -> Result<T> {
    let number = match json {
        Value::Number(number) => whole(number),
        Value::String(text) => i128::from_str(text).ok(),
        _ => None,
    };
    number.and_then(|number| T::try_from(number).ok()).ok_or_else(|| wrong(of, json))
}

/// The number, if it has no fraction and is exact.
fn whole(number: &Number) -> Option<i128> {
    if let Some(number) = number.as_i64() {
        return Some(number.into());
    }
    if let Some(number) = number.as_u64() {
        return Some(number.into());
    }
    // Written as 1e3 or 1.0.
    let float = number.as_f64()?;
    #[expect(clippy::cast_possible_truncation, reason = "it has no fraction and is small")]
    (float.fract() == 0.0 && float.abs() < 9e15).then_some(float as i128)
}

fn float(json: &Value) -> Result<f64> {
    let number = match json {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => match text.as_str() {
            "NaN" => Some(f64::NAN),
            "Infinity" => Some(f64::INFINITY),
            "-Infinity" => Some(f64::NEG_INFINITY),
            text => text.parse().ok(),
        },
        _ => None,
    };
    number.ok_or_else(|| wrong(&Type::Float64, json))
}

#[expect(clippy::cast_possible_truncation, reason = "the schema has no more digits")]
fn narrow(number: f64) -> f32 {
    number as f32
}

fn enumerant(schema: &Schema, id: u64, json: &Value) -> Result<u16> {
    let Value::String(name) = json else {
        // What the schema has no name for is written as its number.
        return integer(&Type::Enum(id), json);
    };
    let names = schema.enumerants(id)?;
    let found = (0..).zip(&names).find(|(_, other)| *other == name);
    found.map(|(number, _)| number).ok_or_else(|| {
        let of = schema.label(id);
        Failure::command(format_args!("{of} has no {name:?}; it has {}", list(&names)))
    })
}

fn pointer(
    context: Context<'_>,
    of: &Type,
    json: &Value,
    mut to: PointerBuilder<'_>,
) -> Result<()> {
    match (of, json) {
        // Pointers are null to begin with.
        (_, Value::Null) => {}
        (Type::Text, Value::String(text)) => to.set_text(text.as_str().into()),
        (Type::Data, Value::Array(bytes)) => {
            let mut data = Vec::with_capacity(bytes.len());
            for byte in bytes {
                data.push(integer::<u8>(&Type::UInt8, byte)?);
            }
            to.set_data(&data);
        }
        (Type::Struct(named), Value::Object(_)) => new_struct(context, named, json, to)?,
        (Type::List(element), Value::Array(items)) => new_list(context, element, items, to)?,
        (Type::Interface(named), Value::String(name)) => {
            any_pointer::Builder::new(to).set_client((context.lookup)(name, named)?);
        }
        _ => return Err(wrong(of, json)),
    }
    Ok(())
}

fn new_list(
    context: Context<'_>,
    element: &Type,
    items: &[Value],
    to: PointerBuilder<'_>,
) -> Result<()> {
    let length = u32::try_from(items.len())
        .map_err(|_| Failure::command("a list has at most 536870911 elements"))?;
    macro_rules! numbers {
        ($size:ident, $item:expr) => {{
            let list = to.init_list(ElementSize::$size, length);
            primitives(&list, items, $item)
        }};
    }
    match element {
        Type::Void => numbers!(Void, |json| {
            if json.is_null() { Ok(()) } else { Err(wrong(element, json)) }
        }),
        Type::Bool => numbers!(Bit, boolean),
        Type::Int8 => numbers!(Byte, |json| integer::<i8>(element, json)),
        Type::Int16 => numbers!(TwoBytes, |json| integer::<i16>(element, json)),
        Type::Int32 => numbers!(FourBytes, |json| integer::<i32>(element, json)),
        Type::Int64 => numbers!(EightBytes, |json| integer::<i64>(element, json)),
        Type::UInt8 => numbers!(Byte, |json| integer::<u8>(element, json)),
        Type::UInt16 => numbers!(TwoBytes, |json| integer::<u16>(element, json)),
        Type::UInt32 => numbers!(FourBytes, |json| integer::<u32>(element, json)),
        Type::UInt64 => numbers!(EightBytes, |json| integer::<u64>(element, json)),
        Type::Float32 => numbers!(FourBytes, |json| float(json).map(narrow)),
        Type::Float64 => numbers!(EightBytes, float),
        Type::Enum(id) => numbers!(TwoBytes, |json| enumerant(context.schema, *id, json)),
        Type::Struct(named) => structs(context, named, items, length, to),
        _ => {
            let mut list: any_pointer_list::Builder<'_> =
                any_pointer::Builder::new(to).initn_as(length);
            each(items, |index, json| {
                let to = pointers::of_builder(list.reborrow().get(index))?;
                pointer(context, element, json, to)
            })
        }
    }
}

fn structs(
    context: Context<'_>,
    of: &Named,
    items: &[Value],
    length: u32,
    mut to: PointerBuilder<'_>,
) -> Result<()> {
    let (data, pointers) = context.schema.structure(of.id)?.size();
    to.reborrow().init_struct_list(length, StructSize { data, pointers });
    let mut list: struct_list::Builder<'_, AnyStruct> = any_pointer::Builder::new(to).get_as()?;
    each(items, |index, json| {
        structure(context, of.id, &of.brand, json, &mut list.reborrow().get(index).0)
    })
}

fn primitives<T: PrimitiveElement>(
    to: &ListBuilder<'_>,
    items: &[Value],
    item: impl Fn(&Value) -> Result<T>,
) -> Result<()> {
    each(items, |index, json| {
        T::set(to, index, item(json)?);
        Ok(())
    })
}

/// Goes through the elements of a list. Failures say which.
fn each(items: &[Value], mut item: impl FnMut(u32, &Value) -> Result<()>) -> Result<()> {
    for (index, json) in (0..).zip(items) {
        item(index, json).map_err(|failure| failure.at(format_args!("[{index}]")))?;
    }
    Ok(())
}

/// An object without members, which every struct can be written as.
pub(crate) fn empty() -> Value {
    Value::Object(Map::new())
}
