//! Content to JSON.

use capnp::private::layout::{
    ElementSize, ListReader, PointerReader, PrimitiveElement, StructReader,
};
use capnp::schema_capnp::value;
use capnp::{any_pointer, any_pointer_list, struct_list};
use capnp_threads_core::Client;

use super::pointers::{self, AnyStruct};
use crate::failure::{Failure, Result, steers};
use crate::schema::{Brand, Field, Named, Place, Schema, Type};

/// JSON that is being written, up to a length.
pub(crate) struct Out<'a> {
    schema: &'a Schema,
    /// The JSON for a capability, whose interface has this id.
    capability: &'a dyn Fn(&Client, u64) -> String,
    text: String,
    limit: usize,
}

impl<'a> Out<'a> {
    /// At most `limit` bytes are written.
    pub(crate) fn new(
        schema: &'a Schema,
        limit: usize,
        capability: &'a dyn Fn(&Client, u64) -> String,
    ) -> Self {
        Out { schema, capability, text: String::new(), limit }
    }

    /// What was written, up to the place of the failure if there was one.
    pub(crate) fn into_text(self) -> String {
        self.text
    }

    fn put(&mut self, text: &str) -> Result<()> {
        if self.text.len() + text.len() > self.limit {
            return Err(Failure::call(format_args!(
                "the content is longer than {} bytes of JSON",
                self.limit
            )));
        }
        self.text.push_str(text);
        Ok(())
    }

    fn string(&mut self, text: &str) -> Result<()> {
        // What does not fit anyway is not escaped first.
        if text.len() > self.limit {
            return self.put(text);
        }
        let json = serde_json::Value::from(text).to_string();
        if !json.contains(steers) {
            return self.put(&json);
        }
        // JSON allows them as they are, but the peer's text goes to a terminal.
        let escaped = json
            .chars()
            .map(|c| if steers(c) { format!("\\u{:04x}", u32::from(c)) } else { c.to_string() });
        self.put(&escaped.collect::<String>())
    }

    fn float(&mut self, number: f64) -> Result<()> {
        if number.is_nan() {
            self.put("\"NaN\"")
        } else if number.is_infinite() {
            self.put(if number > 0.0 { "\"Infinity\"" } else { "\"-Infinity\"" })
        } else {
            let text = format!("{number:?}");
            self.put(text.strip_suffix(".0").unwrap_or(&text))
        }
    }

    fn quoted(&mut self, number: impl std::fmt::Display) -> Result<()> {
        self.put(&format!("\"{number}\""))
    }

    fn enumerant(&mut self, id: u64, number: u16) -> Result<()> {
        match self.schema.enumerant(id, number)? {
            Some(name) => self.put(&format!("\"{name}\"")),
            None => self.put(&number.to_string()),
        }
    }

    fn items<T>(
        &mut self,
        brackets: [&str; 2],
        items: impl Iterator<Item = T>,
        mut item: impl FnMut(&mut Self, T) -> Result<()>,
    ) -> Result<()> {
        self.put(brackets[0])?;
        for (index, element) in items.enumerate() {
            if index > 0 {
                self.put(", ")?;
            }
            item(self, element)?;
        }
        self.put(brackets[1])
    }
}

/// Writes a struct that a pointer leads to, or what some fields in it lead to.
/// Capabilities are looked up in the table that the pointer is imbued with.
pub(crate) fn read(
    out: &mut Out<'_>,
    of: &Named,
    fields: &[String],
    from: any_pointer::Reader<'_>,
) -> Result<()> {
    let pointer = pointers::of_reader(from)?;
    at_fields(out, of.id, &of.brand, fields, &pointer.get_struct(None)?)
}

fn at_fields(
    out: &mut Out<'_>,
    id: u64,
    brand: &Brand,
    fields: &[String],
    from: &StructReader<'_>,
) -> Result<()> {
    let Some((name, fields)) = fields.split_first() else {
        return structure(out, id, brand, from);
    };
    let declared = out.schema.structure(id)?;
    let missing = || Failure::call(format_args!("no field {name:?}"));
    let field = declared.field(name)?.ok_or_else(missing)?;
    let set = declared.discriminant().map(|offset| from.get_data_field::<u16>(offset as usize));
    if field.discriminant.is_some() && field.discriminant != set {
        return Err(Failure::call(format_args!("{name} is not what is set in its union")));
    }
    match field.place(brand)? {
        Place::Group(group) => at_fields(out, group, brand, fields, from),
        Place::Slot(Type::Struct(named), offset, _) if !fields.is_empty() => {
            let from = from.get_pointer_field(offset as usize).get_struct(None)?;
            at_fields(out, named.id, &named.brand, fields, &from)
        }
        Place::Slot(of, offset, default) => slot(out, &of, offset, default, from),
    }
    .map_err(|failure| failure.at(name))
}

fn structure(out: &mut Out<'_>, id: u64, brand: &Brand, from: &StructReader<'_>) -> Result<()> {
    let declared = out.schema.structure(id)?;
    let set = declared.discriminant().map(|offset| from.get_data_field::<u16>(offset as usize));
    let mut present = Vec::new();
    for field in declared.fields()? {
        let place = field.place(brand)?;
        if is_present(&field, &place, set, from) {
            present.push((field, place));
        }
    }
    out.items(["{", "}"], present.into_iter(), |out, (field, place)| {
        out.string(field.name)?;
        out.put(": ")?;
        match place {
            Place::Group(group) => structure(out, group, brand, from),
            Place::Slot(of, offset, default) => slot(out, &of, offset, default, from),
        }
        .map_err(|failure| failure.at(field.name))
    })
}

/// Whether a field is written: fields of unions if they are set, and pointers if they are
/// not null. The field of a union is written even then, because otherwise it could not be
/// seen that it is set; except for the first, which is what is set in an empty struct.
fn is_present(
    field: &Field<'_>,
    place: &Place<'_>,
    set: Option<u16>,
    from: &StructReader<'_>,
) -> bool {
    if field.discriminant.is_some() && field.discriminant != set {
        return false;
    }
    let pointer = match place {
        Place::Slot(of, offset, _) if of.is_pointer() => *offset as usize,
        _ => return true,
    };
    field.discriminant.is_some_and(|number| number != 0) || !from.is_pointer_field_null(pointer)
}

fn slot(
    out: &mut Out<'_>,
    of: &Type,
    offset: u32,
    default: value::Reader<'_>,
    from: &StructReader<'_>,
) -> Result<()> {
    let at = offset as usize;
    match (of, default.which()?) {
        (Type::Void, _) => out.put("null"),
        (Type::Bool, value::Bool(default)) => {
            out.put(if from.get_bool_field_mask(at, default) { "true" } else { "false" })
        }
        (Type::Int8, value::Int8(default)) => {
            out.put(&from.get_data_field_mask::<i8>(at, default).to_string())
        }
        (Type::Int16, value::Int16(default)) => {
            out.put(&from.get_data_field_mask::<i16>(at, default).to_string())
        }
        (Type::Int32, value::Int32(default)) => {
            out.put(&from.get_data_field_mask::<i32>(at, default).to_string())
        }
        (Type::Int64, value::Int64(default)) => {
            out.quoted(from.get_data_field_mask::<i64>(at, default))
        }
        (Type::UInt8, value::Uint8(default)) => {
            out.put(&from.get_data_field_mask::<u8>(at, default).to_string())
        }
        (Type::UInt16, value::Uint16(default)) => {
            out.put(&from.get_data_field_mask::<u16>(at, default).to_string())
        }
        (Type::UInt32, value::Uint32(default)) => {
            out.put(&from.get_data_field_mask::<u32>(at, default).to_string())
        }
        (Type::UInt64, value::Uint64(default)) => {
            out.quoted(from.get_data_field_mask::<u64>(at, default))
        }
        (Type::Float32, value::Float32(default)) => {
            out.float(from.get_data_field_mask::<f32>(at, default.to_bits()).into())
        }
        (Type::Float64, value::Float64(default)) => {
            out.float(from.get_data_field_mask::<f64>(at, default.to_bits()))
        }
        (Type::Enum(id), value::Enum(default)) => {
            out.enumerant(*id, from.get_data_field_mask::<u16>(at, default))
        }
        (_, default) => {
            let pointer = from.get_pointer_field(at);
            let instead = if pointer.is_null() { default_pointer(default)? } else { None };
            match instead {
                Some(Instead::Text(text)) => out.string(text),
                Some(Instead::Data(data)) => {
                    out.items(["[", "]"], data.iter(), |out, byte| out.put(&byte.to_string()))
                }
                Some(Instead::Pointer(pointer)) => self::pointer(out, of, &pointer),
                None => self::pointer(out, of, &pointer),
            }
        }
    }
}

/// What stands in the place of a null pointer.
enum Instead<'a> {
    Text(&'a str),
    Data(&'a [u8]),
    Pointer(PointerReader<'a>),
}

fn default_pointer(default: value::WhichReader<'_>) -> Result<Option<Instead<'_>>> {
    Ok(match default {
        value::Text(text) => Some(Instead::Text(text?.to_str().map_err(capnp::Error::from)?)),
        value::Data(data) => Some(Instead::Data(data?)),
        value::Struct(pointer) | value::List(pointer) | value::AnyPointer(pointer) => {
            Some(Instead::Pointer(pointers::of_reader(pointer)?))
        }
        _ => None,
    })
}

fn pointer(out: &mut Out<'_>, of: &Type, from: &PointerReader<'_>) -> Result<()> {
    match of {
        Type::Text => {
            let text = from.get_text(None)?.to_str().map_err(capnp::Error::from)?;
            out.string(text)
        }
        Type::Data => {
            let data = from.get_data(None)?;
            out.items(["[", "]"], data.iter(), |out, byte| out.put(&byte.to_string()))
        }
        Type::Struct(named) => structure(out, named.id, &named.brand, &from.get_struct(None)?),
        Type::List(element) => list(out, element, from),
        Type::Interface(named) => {
            if from.is_null() {
                return out.put("null");
            }
            let client: Client = any_pointer::Reader::new(*from).get_as_capability()?;
            let text = (out.capability)(&client, named.id);
            out.put(&text)
        }
        _ => {
            let size = from.total_size()?;
            if from.is_null() {
                out.put("null")
            } else {
                out.put(&format!("{{\"$anyPointer\": \"{} words\"}}", size.word_count))
            }
        }
    }
}

fn list(out: &mut Out<'_>, element: &Type, from: &PointerReader<'_>) -> Result<()> {
    macro_rules! numbers {
        ($number:ty, $size:ident, $put:expr) => {{
            let list = from.get_list(ElementSize::$size, None)?;
            let put: fn(&mut Out<'_>, $number) -> Result<()> = $put;
            primitives::<$number>(out, &list, put)
        }};
    }
    match element {
        Type::Void => numbers!((), Void, |out, ()| out.put("null")),
        Type::Bool => numbers!(bool, Bit, |out, bit| out.put(if bit { "true" } else { "false" })),
        Type::Int8 => numbers!(i8, Byte, |out, number| out.put(&number.to_string())),
        Type::Int16 => numbers!(i16, TwoBytes, |out, number| out.put(&number.to_string())),
        Type::Int32 => numbers!(i32, FourBytes, |out, number| out.put(&number.to_string())),
        Type::Int64 => numbers!(i64, EightBytes, |out, number| out.quoted(number)),
        Type::UInt8 => numbers!(u8, Byte, |out, number| out.put(&number.to_string())),
        Type::UInt16 => numbers!(u16, TwoBytes, |out, number| out.put(&number.to_string())),
        Type::UInt32 => numbers!(u32, FourBytes, |out, number| out.put(&number.to_string())),
        Type::UInt64 => numbers!(u64, EightBytes, |out, number| out.quoted(number)),
        Type::Float32 => numbers!(f32, FourBytes, |out, number| out.float(number.into())),
        Type::Float64 => numbers!(f64, EightBytes, |out, number| out.float(number)),
        Type::Enum(id) => {
            let list = from.get_list(ElementSize::TwoBytes, None)?;
            primitives::<u16>(out, &list, |out, number| out.enumerant(*id, number))
        }
        Type::Struct(named) => {
            let list: struct_list::Reader<'_, AnyStruct> =
                any_pointer::Reader::new(*from).get_as()?;
            out.items(["[", "]"], list.iter(), |out, element| {
                structure(out, named.id, &named.brand, &element.0)
            })
        }
        _ => {
            let list: any_pointer_list::Reader<'_> = any_pointer::Reader::new(*from).get_as()?;
            out.items(["[", "]"], 0..list.len(), |out, index| {
                pointer(out, element, &pointers::of_reader(list.get(index))?)
            })
        }
    }
}

fn primitives<T: PrimitiveElement>(
    out: &mut Out<'_>,
    list: &ListReader<'_>,
    put: impl Fn(&mut Out<'_>, T) -> Result<()>,
) -> Result<()> {
    out.items(["[", "]"], 0..list.len(), |out, index| put(out, T::get(list, index)))
}
