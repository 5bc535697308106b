//! Annotations: where they are declared, and where they are used.

use capnp::schema_capnp::node;

use super::Emitter;
use super::code::{line, open};
use crate::error::Result;
use crate::request::Annotations;
use crate::types::{Bindings, Form};

impl Emitter<'_> {
    /// The declaration of an annotation.
    pub(super) fn annotation(
        &mut self,
        id: u64,
        annotation: node::annotation::Reader<'_>,
    ) -> Result<()> {
        let schema = self.schema;
        // What type parameters around it stand for is not known here.
        let ty = schema.ty(annotation.get_type()?, Form::Owned, &Bindings::default())?;
        if schema.settings.messages_only {
            return Ok(());
        }
        let name = schema.label(id)?;
        self.open_module(id, format_args!("The annotation `{name}`."));
        let code = &mut self.code;
        line!(code, "/// The id by which uses of the annotation name it.");
        line!(code, "pub const ID: u64 = {id:#x};");
        line!(code, "/// The type of its values.");
        open!(code, "pub fn get_type() -> __rt::Type {{");
        line!(code, "<{ty} as __rt::Introspect>::introspect()");
        code.close("}");
        code.close("}");
        Ok(())
    }

    /// The types of the annotations at a declaration and at its members, as the macros
    /// take them.
    pub(super) fn annotation_types(
        &self,
        id: u64,
        members: Vec<Annotations<'_>>,
    ) -> Result<String> {
        let schema = self.schema;
        let context = schema.inside(id)?;
        let mut types = Vec::new();
        let mut add = |member: usize, annotations: Annotations<'_>| -> Result<()> {
            for (index, annotation) in annotations.iter().enumerate() {
                let (id, brand) = (annotation.get_id(), annotation.get_brand()?);
                let ty = schema.annotation_type(id, brand, &context)?;
                types.push(format!("{member} {index} {ty}"));
            }
            Ok(())
        };
        add(0, schema.node(id)?.get_annotations()?)?;
        for (index, annotations) in members.into_iter().enumerate() {
            add(index + 1, annotations)?;
        }
        Ok(types.join(", "))
    }
}
