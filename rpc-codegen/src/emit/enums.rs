//! Enums.

use capnp::schema_capnp::node;

use super::Emitter;
use super::code::{line, open};
use crate::error::Result;

impl Emitter<'_> {
    pub(super) fn enumeration(&mut self, id: u64, data: node::enum_::Reader<'_>) -> Result<()> {
        let schema = self.schema;
        let (item, label) = (schema.item(id), schema.label(id)?);
        let words = self.node_words(schema.node(id)?)?;
        let mut annotated = Vec::new();
        for enumerant in data.get_enumerants()? {
            annotated.push(enumerant.get_annotations()?);
        }
        let annotations = self.annotation_types(id, annotated)?;
        let enumerants = schema.naming.enumerants.get(&id).map_or(&[][..], Vec::as_slice);

        let code = &mut self.code;
        line!(code, "");
        code.doc(format_args!("The enum `{label}`."), schema.doc(id));
        // A member of a union beside the enum may have the name of a trait.
        let traits = ["Clone", "Copy", "Debug", "PartialEq", "Eq", "PartialOrd", "Ord", "Hash"];
        line!(code, "#[derive({})]", traits.map(|name| format!("__rt::{name}")).join(", "));
        if !enumerants.is_empty() {
            line!(code, "#[repr(u16)]");
        }
        open!(code, "pub enum {item} {{");
        let mut numbers = Vec::new();
        for (index, enumerant) in data.get_enumerants()?.iter().enumerate() {
            let name = &enumerants[index];
            let title = enumerant.get_name()?.to_str()?;
            code.doc(format_args!("`{title}`"), schema.member_doc(id, index));
            line!(code, "{name} = {index},");
            numbers.push(format!("{name} {index}"));
        }
        code.close("}");
        // The attributes of a file's items do not reach what a macro makes.
        open!(code, "const _: () = {{");
        open!(code, "__rt::enumeration! {{");
        line!(code, "{item} {id:#x} [{}]", numbers.join(", "));
        line!(code, "node {words};");
        line!(code, "annotations [{annotations}]");
        code.close("}");
        code.close("};");
        Ok(())
    }
}
