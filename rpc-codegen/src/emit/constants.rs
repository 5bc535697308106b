//! Constants.

use capnp::schema_capnp::{node, type_, value};

use super::Emitter;
use super::code::{line, open};
use super::malformed;
use crate::error::Result;
use crate::types::{Bindings, Form};

impl Emitter<'_> {
    pub(super) fn constant(&mut self, id: u64, constant: node::const_::Reader<'_>) -> Result<()> {
        let schema = self.schema;
        let (ty, value) = (constant.get_type()?, constant.get_value()?);
        // Type parameters around a constant are not bound to anything.
        let owned = schema.ty(ty, Form::Owned, &Bindings::default())?;
        let (name, label) = (schema.item(id), schema.label(id)?);
        let (ty, expression) = match (ty.which()?, value.which()?) {
            (type_::Void(()), value::Void(())) => (owned, "()".to_owned()),
            (type_::Bool(()), value::Bool(value)) => (owned, value.to_string()),
            (type_::Int8(()), value::Int8(value)) => (owned, value.to_string()),
            (type_::Int16(()), value::Int16(value)) => (owned, value.to_string()),
            (type_::Int32(()), value::Int32(value)) => (owned, value.to_string()),
            (type_::Int64(()), value::Int64(value)) => (owned, value.to_string()),
            (type_::Uint8(()), value::Uint8(value)) => (owned, value.to_string()),
            (type_::Uint16(()), value::Uint16(value)) => (owned, value.to_string()),
            (type_::Uint32(()), value::Uint32(value)) => (owned, value.to_string()),
            (type_::Uint64(()), value::Uint64(value)) => (owned, value.to_string()),
            (type_::Float32(()), value::Float32(value)) => (owned, float(value, "f32")),
            (type_::Float64(()), value::Float64(value)) => (owned, float(value, "f64")),
            (type_::Enum(of), value::Enum(number)) => {
                let Some(enumerant) = schema
                    .naming
                    .enumerants
                    .get(&of.get_type_id())
                    .and_then(|enumerants| enumerants.get(usize::from(number)))
                else {
                    return malformed(schema, id, "its value is no enumerant");
                };
                let expression = format!("{owned}::{enumerant}");
                (owned, expression)
            }
            (type_::Text(()), value::Text(value)) => match value?.to_str() {
                Ok(value) => ("&str".to_owned(), self.text(value)),
                Err(_) => {
                    return schema.refuse(
                        id,
                        "",
                        "it is not UTF-8, as text has to be in Rust; \
                                                  make it `Data`",
                    );
                }
            },
            (type_::Data(()), value::Data(value)) => ("&[u8]".to_owned(), self.bytes(value?)),
            (type_::List(_), value::List(value))
            | (type_::Struct(_), value::Struct(value))
            | (type_::AnyPointer(_), value::AnyPointer(value)) => {
                let words = self.value_words(value)?;
                self.pointer_constant(id, &owned, &words)?;
                return Ok(());
            }
            (type_::Interface(_), value::Interface(())) => {
                return schema.refuse(id, "", "there are no constants of capabilities in Rust");
            }
            _ => return malformed(schema, id, "its value is not of its type"),
        };
        self.code.doc(format_args!("The constant `{label}`."), schema.doc(id));
        line!(self.code, "pub const {name}: {ty} = {expression};");
        Ok(())
    }

    fn pointer_constant(&mut self, id: u64, owned: &str, words: &str) -> Result<()> {
        let (name, label) = (self.schema.item(id), self.schema.label(id)?);
        self.code.doc(format_args!("The constant `{label}`."), self.schema.doc(id));
        open!(self.code, "pub static {name}: __rt::constant::Reader<{owned}> = {{");
        self.words_static("WORDS", words);
        let code = &mut self.code;
        line!(code, "static ARENA: __rt::Arena = __rt::Arena::new(WORDS);");
        line!(code, "__rt::constant::Reader::new(&ARENA)");
        code.close("};");
        Ok(())
    }
}

/// A literal of this type.
fn float(value: impl Into<f64> + std::fmt::LowerExp, ty: &str) -> String {
    let exact = format!("{value:e}");
    let value: f64 = value.into();
    if value.is_nan() {
        format!("{ty}::NAN")
    } else if value == f64::INFINITY {
        format!("{ty}::INFINITY")
    } else if value == f64::NEG_INFINITY {
        format!("{ty}::NEG_INFINITY")
    } else {
        exact
    }
}
