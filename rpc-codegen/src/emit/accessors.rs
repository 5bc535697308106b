//! The functions that fields are read and built with.

use capnp::schema_capnp::{field, node, type_};

use super::Emitter;
use super::code::{line, open};
use super::layout::{Content, Field, Struct, Target};
use crate::error::Result;
use crate::types::Form;

/// Whether a message is read or built.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Reader,
    Builder,
}

impl Side {
    pub(super) fn ty(self) -> &'static str {
        match self {
            Side::Reader => "Reader",
            Side::Builder => "Builder",
        }
    }

    /// What a value of the type wraps.
    pub(super) fn inner(self) -> &'static str {
        match self {
            Side::Reader => "self.reader",
            Side::Builder => "self.builder",
        }
    }

    fn form(self) -> Form {
        match self {
            Side::Reader => Form::Reader("'a"),
            Side::Builder => Form::Builder("'a"),
        }
    }

    /// The function of the runtime library that follows a pointer.
    fn verb(self) -> &'static str {
        match self {
            Side::Reader => "read",
            Side::Builder => "get",
        }
    }
}

impl Emitter<'_> {
    pub(super) fn accessors(&mut self, structure: &Struct<'_>, side: Side) -> Result<()> {
        if structure.fields.is_empty() {
            return Ok(());
        }
        let head = structure.implementation(side.ty(), Some("'a"), "__rt::Owned + 'static");
        open!(self.code, "{head} {{");
        for field in &structure.fields {
            if field.discriminant.is_none() {
                self.getter(structure, field, side)?;
            }
            if side == Side::Builder {
                let has_setter = self.setter(structure, field)?;
                self.initializer(structure, field, has_setter)?;
            }
            self.presence(structure, field, side);
        }
        if structure.in_union().next().is_some() {
            self.which(structure, side)?;
        }
        self.code.close("}");
        Ok(())
    }

    /// What a field is read as, and how. The expression consumes `self`.
    pub(super) fn value(
        &self,
        structure: &Struct<'_>,
        field: &Field<'_>,
        side: Side,
    ) -> Result<(String, String)> {
        let (inner, verb) = (side.inner(), side.verb());
        let ty = field.ty(self.schema, structure, side.form())?;
        Ok(match &field.content {
            Content::Group(_) => (ty, format!("::core::convert::From::from({inner})")),
            Content::Void => (ty, "()".to_owned()),
            Content::Bool { offset, default: false } => {
                (ty, format!("{inner}.get_bool_field({offset})"))
            }
            Content::Bool { offset, default: true } => {
                (ty, format!("{inner}.get_bool_field_mask({offset}, true)"))
            }
            Content::Number { offset, ty: number, default } => {
                (ty, number_getter(inner, number, *offset, default.as_deref()))
            }
            Content::Enum { offset, default, .. } => {
                let default = (*default != 0).then(|| default.to_string());
                let number = number_getter(inner, "u16", *offset, default.as_deref());
                (
                    format!("::core::result::Result<{ty}, __rt::NotInSchema>"),
                    format!("__rt::enumerant({number})"),
                )
            }
            Content::Pointer { offset, target: Target::Any, optional, .. } => {
                if *optional {
                    let ty = format!("::core::option::Option<{ty}>");
                    (ty, format!("__rt::{verb}_any_option({inner}, {offset})"))
                } else {
                    (ty, format!("__rt::{verb}_any({inner}, {offset})"))
                }
            }
            Content::Pointer { offset, optional: true, .. } => (
                format!("__rt::ReadResult<::core::option::Option<{ty}>>"),
                format!("__rt::{verb}_option({inner}, {offset})"),
            ),
            Content::Pointer { offset, default, .. } => {
                let call = if default.is_some() {
                    let default = field.default_name();
                    format!("__rt::{verb}_or({inner}, {offset}, {default})")
                } else {
                    format!("__rt::{verb}({inner}, {offset})")
                };
                (format!("__rt::ReadResult<{ty}>"), call)
            }
        })
    }

    fn getter(&mut self, structure: &Struct<'_>, field: &Field<'_>, side: Side) -> Result<()> {
        let (ty, expression) = self.value(structure, field, side)?;
        let comment = match side {
            Side::Reader => self.schema.member_doc(structure.id, field.index),
            Side::Builder => "",
        };
        let code = &mut self.code;
        code.doc(format_args!("Gets `{}`.", field.name.schema), comment);
        line!(code, "#[inline]");
        open!(code, "pub fn get_{}(self) -> {ty} {{", field.name.accessor);
        line!(code, "{expression}");
        code.close("}");
        Ok(())
    }

    /// Prints what a field is set with, if a value can be set at once.
    fn setter(&mut self, structure: &Struct<'_>, field: &Field<'_>) -> Result<bool> {
        let builder = "self.builder.reborrow()";
        let owned = || field.ty(self.schema, structure, Form::Owned);
        let (ty, call, is_fallible) = match &field.content {
            Content::Group(_) | Content::Pointer { target: Target::Any, .. } => return Ok(false),
            Content::Void => ("()".to_owned(), String::new(), false),
            Content::Bool { offset, default } => {
                let call = match default {
                    false => format!("self.builder.set_bool_field({offset}, value);"),
                    true => format!("self.builder.set_bool_field_mask({offset}, value, true);"),
                };
                ("bool".to_owned(), call, false)
            }
            Content::Number { offset, ty, default } => {
                let call = match default {
                    None => format!("self.builder.set_data_field::<{ty}>({offset}, value);"),
                    Some(bits) => {
                        format!(
                            "self.builder.set_data_field_mask::<{ty}>({offset}, value, {bits});"
                        )
                    }
                };
                ((*ty).to_owned(), call, false)
            }
            Content::Enum { offset, default, .. } => {
                let call = format!("__rt::set_enum(&self.builder, {offset}, value, {default});");
                (owned()?, call, false)
            }
            Content::Pointer { offset, target, .. } => match target {
                Target::Text => (
                    "impl __rt::SetterInput<__rt::text::Owned>".to_owned(),
                    format!("__rt::set_text({builder}, {offset}, value);"),
                    false,
                ),
                Target::Data => (
                    "__rt::data::Reader<'_>".to_owned(),
                    format!("__rt::set_data({builder}, {offset}, value);"),
                    false,
                ),
                Target::Capability => (
                    field.ty(self.schema, structure, Form::Reader("'_"))?,
                    format!("__rt::set_client({builder}, {offset}, value);"),
                    false,
                ),
                Target::SimpleList | Target::Parameter => (
                    format!("impl __rt::SetterInput<{}>", owned()?),
                    format!("__rt::set({builder}, {offset}, value)"),
                    true,
                ),
                Target::List | Target::Struct | Target::Any => (
                    field.ty(self.schema, structure, Form::Reader("'_"))?,
                    format!("__rt::set({builder}, {offset}, value)"),
                    true,
                ),
            },
        };
        let comment = self.schema.member_doc(structure.id, field.index);
        let (code, accessor) = (&mut self.code, &field.name.accessor);
        code.doc(format_args!("Sets `{}`.", field.name.schema), comment);
        line!(code, "#[inline]");
        let result = if is_fallible { " -> __rt::ReadResult<()>" } else { "" };
        let value = if call.is_empty() { "_value" } else { "value" };
        open!(code, "pub fn set_{accessor}(&mut self, {value}: {ty}){result} {{");
        self.choose(structure, field);
        if !call.is_empty() {
            line!(self.code, "{call}");
        }
        self.code.close("}");
        Ok(true)
    }

    /// Prints what a field is made new with, to be filled in.
    fn initializer(
        &mut self,
        structure: &Struct<'_>,
        field: &Field<'_>,
        has_setter: bool,
    ) -> Result<()> {
        let builder = "self.builder";
        let (parameter, call) = match &field.content {
            Content::Group(id) => return self.group_initializer(structure, field, *id),
            Content::Pointer { offset, target, .. } => match target {
                Target::Text | Target::Data | Target::SimpleList | Target::List => {
                    (", size: u32", format!("__rt::init({builder}, {offset}, size)"))
                }
                Target::Struct | Target::Parameter => {
                    ("", format!("__rt::init({builder}, {offset}, 0)"))
                }
                Target::Any => ("", format!("__rt::init_any({builder}, {offset})")),
                Target::Capability => return Ok(()),
            },
            _ => return Ok(()),
        };
        let ty = field.ty(self.schema, structure, Form::Builder("'a"))?;
        let comment =
            if has_setter { "" } else { self.schema.member_doc(structure.id, field.index) };
        let (code, name) = (&mut self.code, field.name);
        let (schema, accessor) = (&name.schema, &name.accessor);
        code.doc(format_args!("Makes `{schema}` new, to be filled in."), comment);
        line!(code, "#[inline]");
        open!(code, "pub fn init_{accessor}(self{parameter}) -> {ty} {{");
        self.choose(structure, field);
        line!(self.code, "{call}");
        self.code.close("}");

        if let Content::Pointer { offset, target: Target::Parameter, .. } = field.content {
            let code = &mut self.code;
            code.doc(
                format_args!("Makes `{schema}` new with this many elements, if it has any."),
                "",
            );
            line!(code, "#[inline]");
            open!(code, "pub fn initn_{accessor}(self, length: u32) -> {ty} {{");
            self.choose(structure, field);
            line!(self.code, "__rt::init({builder}, {offset}, length)");
            self.code.close("}");
        }
        Ok(())
    }

    fn group_initializer(
        &mut self,
        structure: &Struct<'_>,
        field: &Field<'_>,
        group: u64,
    ) -> Result<()> {
        let ty = field.ty(self.schema, structure, Form::Builder("'a"))?;
        let mut zeroes = Vec::new();
        self.zeroes(group, &mut zeroes)?;
        let has_pointers = zeroes.iter().any(|statement| statement.contains("reborrow"));
        let receiver = if has_pointers { "mut self" } else { "self" };
        let comment = self.schema.member_doc(structure.id, field.index);
        let (code, name) = (&mut self.code, field.name);
        let (schema, accessor) = (&name.schema, &name.accessor);
        code.doc(format_args!("Makes `{schema}` new, to be filled in."), comment);
        line!(code, "#[inline]");
        open!(code, "pub fn init_{accessor}({receiver}) -> {ty} {{");
        self.choose(structure, field);
        for statement in zeroes {
            line!(self.code, "{statement}");
        }
        line!(self.code, "::core::convert::From::from(self.builder)");
        self.code.close("}");
        Ok(())
    }

    /// Statements that make everything in a group zero.
    fn zeroes(&self, group: u64, statements: &mut Vec<String>) -> Result<()> {
        let node::Struct(data) = self.schema.node(group)?.which()? else {
            return super::malformed(self.schema, group, "it is used as a group, but it is none");
        };
        let mut add = |statement: String| {
            // Members of a union share their places.
            if !statements.contains(&statement) {
                statements.push(statement);
            }
        };
        if data.get_discriminant_count() > 0 {
            let offset = data.get_discriminant_offset();
            add(format!("self.builder.set_data_field::<u16>({offset}, 0);"));
        }
        let mut groups = Vec::new();
        for field in data.get_fields()? {
            let slot = match field.which()? {
                field::Group(group) => {
                    groups.push(group.get_type_id());
                    continue;
                }
                field::Slot(slot) => slot,
            };
            let offset = slot.get_offset();
            let number = match slot.get_type()?.which()? {
                type_::Void(()) => continue,
                type_::Bool(()) => {
                    add(format!("self.builder.set_bool_field({offset}, false);"));
                    continue;
                }
                type_::Int8(()) | type_::Uint8(()) => "u8",
                type_::Int16(()) | type_::Uint16(()) | type_::Enum(_) => "u16",
                type_::Int32(()) | type_::Uint32(()) | type_::Float32(()) => "u32",
                type_::Int64(()) | type_::Uint64(()) | type_::Float64(()) => "u64",
                _ => {
                    add(format!("__rt::clear(self.builder.reborrow(), {offset});"));
                    continue;
                }
            };
            add(format!("self.builder.set_data_field::<{number}>({offset}, 0);"));
        }
        for group in groups {
            self.zeroes(group, statements)?;
        }
        Ok(())
    }

    /// A statement that makes a member the one that the union has.
    fn choose(&mut self, structure: &Struct<'_>, field: &Field<'_>) {
        if let Some(value) = field.discriminant {
            let offset = structure.discriminant;
            line!(self.code, "self.builder.set_data_field::<u16>({offset}, {value});");
        }
    }

    /// Prints what tells whether a field is set, if that can be told.
    fn presence(&mut self, structure: &Struct<'_>, field: &Field<'_>, side: Side) {
        let Content::Pointer { offset, .. } = field.content else { return };
        let (code, name) = (&mut self.code, field.name);
        let (schema, accessor) = (&name.schema, &name.accessor);
        let inner = side.inner();
        code.doc(format_args!("Whether `{schema}` is set."), "");
        line!(code, "#[inline]");
        open!(code, "pub fn has_{accessor}(&self) -> bool {{");
        let is_set = format!("!{inner}.is_pointer_field_null({offset})");
        match field.discriminant {
            Some(value) => {
                let discriminant = structure.discriminant;
                line!(code, "{inner}.get_data_field::<u16>({discriminant}) == {value} && {is_set}");
            }
            None => line!(code, "{is_set}"),
        }
        code.close("}");
    }
}

fn number_getter(inner: &str, ty: &str, offset: u32, default: Option<&str>) -> String {
    match default {
        None => format!("{inner}.get_data_field::<{ty}>({offset})"),
        Some(bits) => format!("{inner}.get_data_field_mask::<{ty}>({offset}, {bits})"),
    }
}
