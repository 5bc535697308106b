//! Structs and groups.

use capnp::schema_capnp::{field, node};

use super::Emitter;
use super::accessors::Side;
use super::code::{line, open};
use super::layout::{Field, Struct};
use crate::error::Result;
use crate::types::Form;

impl Emitter<'_> {
    pub(super) fn structure(&mut self, id: u64, data: node::struct_::Reader<'_>) -> Result<()> {
        let schema = self.schema;
        let node = schema.node(id)?;
        let structure = Struct::new(schema, id, data)?;
        let label = schema.label(id)?;
        let kind = if data.get_is_group() { "group" } else { "struct" };
        self.open_module(id, format_args!("The {kind} `{label}`."));
        self.defaults(&structure)?;
        if structure.in_union().next().is_some() {
            self.union(&structure)?;
        }
        self.accessors(&structure, Side::Reader)?;
        self.accessors(&structure, Side::Builder)?;
        if !schema.settings.messages_only {
            self.pipeline(&structure)?;
        }
        self.structure_macro(&structure, node, data)?;
        for field in data.get_fields()? {
            if let field::Group(group) = field.which()? {
                self.declaration(group.get_type_id())?;
            }
        }
        self.nested(node)?;
        self.code.close("}");
        Ok(())
    }

    /// Values of fields that are not set, where these are not empty.
    fn defaults(&mut self, structure: &Struct<'_>) -> Result<()> {
        for field in &structure.fields {
            if let Some((name, value)) = field.default() {
                let words = self.value_words(value)?;
                self.words_static(&name, &words);
            }
        }
        Ok(())
    }

    /// What leads to the capabilities in fields.
    fn pipeline(&mut self, structure: &Struct<'_>) -> Result<()> {
        let mut getters = Vec::new();
        for field in structure.outside_union() {
            if let Some(call) = field.pipeline() {
                let ty = field.ty(self.schema, structure, Form::Pipeline)?;
                getters.push((field, ty, call));
            }
        }
        if getters.is_empty() {
            return Ok(());
        }
        let code = &mut self.code;
        let head = structure.implementation("Pipeline", None, "__rt::Pipelined");
        open!(code, "{head} {{");
        for (field, ty, call) in getters {
            line!(code, "/// What leads to `{}`.", field.name.schema);
            open!(code, "pub fn get_{}(&self) -> {ty} {{", field.name.accessor);
            line!(code, "{call}");
            code.close("}");
        }
        code.close("}");
        Ok(())
    }

    /// Everything that is the same for all structs.
    fn structure_macro(
        &mut self,
        structure: &Struct<'_>,
        node: node::Reader<'_>,
        data: node::struct_::Reader<'_>,
    ) -> Result<()> {
        let words = self.node_words(node)?;
        let mut types = Vec::new();
        for field in &structure.fields {
            let ty = field.ty(self.schema, structure, Form::Owned)?;
            types.push(if structure.parameters.contains(&ty) {
                format!("__rt::Argument<{ty}>")
            } else {
                ty
            });
        }
        let mut annotated = Vec::new();
        for field in data.get_fields()? {
            annotated.push(field.get_annotations()?);
        }
        let annotations = self.annotation_types(structure.id, annotated)?;

        let indices = |mut fields: Vec<&Field<'_>>, by_name: bool| {
            if by_name {
                fields.sort_by(|a, b| a.name.schema.cmp(&b.name.schema));
            } else {
                fields.sort_by_key(|field| field.discriminant);
            }
            let indices: Vec<String> = fields.iter().map(|field| field.index.to_string()).collect();
            indices.join(", ")
        };
        let outside = indices(structure.outside_union().collect(), false);
        let inside = indices(structure.in_union().collect(), false);
        let by_name = indices(structure.fields.iter().collect(), true);

        let (id, label) = (structure.id, self.schema.label(structure.id)?);
        let (data_words, pointers) = (data.get_data_word_count(), data.get_pointer_count());
        let code = &mut self.code;
        open!(code, "__rt::structure! {{");
        line!(
            code,
            "[{}] {label:?} {id:#x} data {data_words} pointers {pointers}",
            structure.parameters.join(", ")
        );
        line!(code, "node {words};");
        line!(code, "members [{outside}], [{inside}], [{by_name}];");
        line!(code, "types [{}]", types.join(", "));
        line!(code, "annotations [{annotations}]");
        code.close("}");
        Ok(())
    }
}
