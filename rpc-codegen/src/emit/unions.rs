//! Unions: an enum of their members, and what tells which member is set.

use super::Emitter;
use super::accessors::Side;
use super::code::{line, open};
use super::layout::{Content, Field, Struct};
use crate::error::Result;
use crate::types::{angled, mentioned};

impl Emitter<'_> {
    /// Prints the enum. Its parameters are the types that differ between messages that
    /// are read and those that are built.
    pub(super) fn union(&mut self, structure: &Struct<'_>) -> Result<()> {
        let label = self.schema.label(structure.id)?;
        let mut variants = Vec::new();
        let mut parameters = Vec::new();
        for field in structure.in_union() {
            let ty = if is_parameter(field) {
                parameters.push(format!("A{}", parameters.len()));
                parameters[parameters.len() - 1].clone()
            } else {
                self.value(structure, field, Side::Reader)?.0
            };
            variants.push((field, ty));
        }
        let generics = angled(parameters.iter().map(String::as_str));

        let names: Vec<&str> = variants.iter().map(|(field, _)| &*field.name.variant).collect();
        line!(self.code, "pub use self::Which::{{{}}};", names.join(", "));
        self.code.doc(format_args!("The members of the union in `{label}`."), "");
        line!(self.code, "#[derive(__rt::Clone, __rt::Copy, __rt::Debug)]");
        open!(self.code, "pub enum Which{generics} {{");
        for (field, ty) in variants {
            let comment = self.schema.member_doc(structure.id, field.index);
            self.code.doc(format_args!("`{}`", field.name.schema), comment);
            line!(self.code, "{}({ty}),", field.name.variant);
        }
        self.code.close("}");
        for (side, verb) in [(Side::Reader, "is read"), (Side::Builder, "is being built")] {
            let mut arguments = Vec::new();
            for field in structure.in_union().filter(|field| is_parameter(field)) {
                arguments.push(self.value(structure, field, side)?.0);
            }
            let arguments = angled(arguments.iter().map(String::as_str));
            let alias = alias(structure, side, &arguments);
            self.code.doc(format_args!("The member that {verb}."), "");
            line!(self.code, "pub type {alias} = Which{arguments};");
        }
        Ok(())
    }

    /// Prints what tells which member is set.
    pub(super) fn which(&mut self, structure: &Struct<'_>, side: Side) -> Result<()> {
        let mut arguments = String::new();
        let mut arms = Vec::new();
        for field in structure.in_union() {
            let (ty, value) = self.value(structure, field, side)?;
            if is_parameter(field) {
                arguments += &ty;
                arguments.push(' ');
            }
            let number = field.discriminant.unwrap_or_default();
            arms.push(format!("{number} => Which::{}({value}),", field.name.variant));
        }
        let alias = alias(structure, side, &arguments);
        let code = &mut self.code;
        code.doc(format_args!("The member of the union that is set."), "");
        line!(code, "///");
        line!(code, "/// # Errors");
        line!(code, "/// It is one that this version of the schema does not have.");
        line!(code, "#[inline]");
        open!(code, "pub fn which(self) -> ::core::result::Result<{alias}, __rt::NotInSchema> {{");
        let (inner, offset) = (side.inner(), structure.discriminant);
        open!(code, "::core::result::Result::Ok(match {inner}.get_data_field::<u16>({offset}) {{");
        for arm in arms {
            line!(code, "{arm}");
        }
        line!(code, "other => return ::core::result::Result::Err(__rt::NotInSchema(other)),");
        code.close("})");
        code.close("}");
        Ok(())
    }
}

/// Whether a member's type is a parameter of the enum.
fn is_parameter(field: &Field<'_>) -> bool {
    matches!(field.content, Content::Group(_) | Content::Pointer { .. })
}

/// The alias of the enum for one side. Aliases may not have parameters that their types
/// do not mention.
fn alias(structure: &Struct<'_>, side: Side, arguments: &str) -> String {
    let lifetime = arguments.contains("'a").then_some("'a");
    let parameters = mentioned(arguments, &structure.parameters);
    format!("Which{}{}", side.ty(), angled(lifetime.into_iter().chain(parameters)))
}
