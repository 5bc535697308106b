//! Schemas that are read when the program runs.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use capnp::message::{Builder, Reader, ReaderOptions};
use capnp::schema_capnp::{code_generator_request, field, node};
use capnp::serialize::OwnedSegments;
use capnp_threads_codegen::Compiler;

use crate::failure::{Failure, Result};

mod sound;
#[cfg(test)]
mod sound_tests;
mod types;

pub(crate) use types::{Brand, Named, Type};

/// The declarations of some schema files, and of all that they import.
///
/// It keeps the schema compiler's request, and reads declarations where they lie.
pub(crate) struct Schema {
    request: Reader<OwnedSegments>,
    /// Where a declaration lies in the request's list.
    places: HashMap<u64, u32>,
    /// The files that were asked for; the others are imported.
    requested: Vec<u64>,
}

/// A method of an interface.
#[derive(Clone, Debug)]
pub(crate) struct Method {
    pub(crate) interface: u64,
    pub(crate) number: u16,
    pub(crate) name: String,
    pub(crate) params: Named,
    pub(crate) results: Named,
}

impl Schema {
    /// Has the schema compiler read some files. A file whose name does not end in
    /// `.capnp` is taken for what the compiler wrote before: `capnp compile -o- FILE`.
    pub(crate) fn load(files: &[PathBuf], import_paths: &[PathBuf]) -> Result<Self> {
        let is_text = |file: &&PathBuf| file.extension().is_some_and(|ending| ending == "capnp");
        if let [file] = files
            && !is_text(&file)
        {
            return Self::read_compiled(file);
        }
        if let Some(file) = files.iter().find(|file| !is_text(file)) {
            let file = file.display();
            return Err(Failure::command(format_args!(
                "{file}: a compiled schema cannot be used together with other schemas; name it alone"
            )));
        }
        let mut compiler = Compiler::new();
        for file in files {
            compiler.file(file);
        }
        for path in import_paths {
            compiler.import_path(path);
        }
        Self::read(&compiler.request().map_err(Failure::command)?)
    }

    /// As [`load`](Self::load); `None` of no files.
    pub(crate) fn load_any(files: &[PathBuf], import_paths: &[PathBuf]) -> Result<Option<Self>> {
        if files.is_empty() { Ok(None) } else { Self::load(files, import_paths).map(Some) }
    }

    fn read_compiled(file: &Path) -> Result<Self> {
        let failed = |error: &dyn std::fmt::Display| {
            Failure::command(format_args!(
                "{}: {error}; name a schema, FILE.capnp, or what `capnp compile -o- FILE.capnp` writes",
                file.display()
            ))
        };
        let bytes = std::fs::read(file).map_err(|error| failed(&error))?;
        Self::read(&bytes).map_err(|error| failed(&error))
    }

    /// Reads what a server says of itself, a serialized `CodeGeneratorRequest`.
    pub(crate) fn of_peer(bytes: &[u8]) -> Result<Self> {
        let mut options = ReaderOptions::new();
        // A copy is as large as what was read for it: lists of nothing may claim to be long.
        options.traversal_limit_in_words(Some(bytes.len() + (1 << 10)));
        let said = capnp::serialize::read_message(bytes, options)?;
        let mut copy = Builder::new_default();
        copy.set_root(said.get_root::<code_generator_request::Reader<'_>>()?)?;
        Self::read(&capnp::serialize::write_message_to_words(&copy))
    }

    /// Reads a serialized `CodeGeneratorRequest`.
    pub(crate) fn read(bytes: &[u8]) -> Result<Self> {
        let mut options = ReaderOptions::new();
        options.traversal_limit_in_words(None).nesting_limit(1 << 12);
        let request = capnp::serialize::read_message(bytes, options)?;
        let root = request.get_root::<code_generator_request::Reader<'_>>()?;
        let nodes = root.get_nodes()?;
        let places = (0..nodes.len()).map(|place| (nodes.get(place).get_id(), place)).collect();
        let requested = root.get_requested_files()?.iter();
        let requested = requested.map(code_generator_request::requested_file::Reader::get_id);
        let requested = requested.collect();
        sound::check(root, &places)?;
        Ok(Schema { request, places, requested })
    }

    /// A declaration.
    pub(crate) fn node(&self, id: u64) -> Result<node::Reader<'_>> {
        let root = self.request.get_root::<code_generator_request::Reader<'_>>()?;
        let nodes = root.get_nodes()?;
        match self.places.get(&id) {
            Some(place) => Ok(nodes.get(*place)),
            None => Err(Failure::command(format_args!("the schema does not contain {id:#018x}"))),
        }
    }

    /// A declaration that is a struct or a group.
    pub(crate) fn structure(&self, id: u64) -> Result<Structure<'_>> {
        let node = self.node(id)?;
        match node.which()? {
            node::Struct(layout) => Ok(Structure { node, layout }),
            _ => Err(Failure::command(format_args!("{} is no struct", self.label(id)))),
        }
    }

    /// What a declaration is called in messages to people: `file.capnp:Scope.Name`,
    /// without the folder.
    pub(crate) fn label(&self, id: u64) -> String {
        let name = self.node(id).ok().and_then(|node| {
            let name = node.get_display_name().ok()?.to_str().ok()?;
            let file_ends = name.rfind(':').unwrap_or(name.len());
            let folder_ends = name[..file_ends].rfind('/').map_or(0, |slash| slash + 1);
            Some(name[folder_ends..].to_owned())
        });
        name.unwrap_or_else(|| format!("{id:#018x}"))
    }

    /// What a declaration is called within its file: `Scope.Name`.
    pub(crate) fn name_in_file(&self, id: u64) -> String {
        let label = self.label(id);
        label.split_once(':').map(|(_, name)| name.to_owned()).unwrap_or(label)
    }

    /// All interfaces, each with its name within its file; first those of the files that
    /// were asked for.
    fn interfaces(&self) -> Vec<(String, u64)> {
        let mut found: Vec<_> = (self.places.keys())
            .filter(|id| {
                self.node(**id).is_ok_and(|node| matches!(node.which(), Ok(node::Interface(_))))
            })
            .map(|id| (!self.requested.contains(&self.file_of(*id)), self.name_in_file(*id), *id))
            .collect();
        found.sort();
        found.into_iter().map(|(_, name, id)| (name, id)).collect()
    }

    /// The declaration with this name within its file.
    #[cfg(test)]
    pub(crate) fn id_of(&self, name: &str) -> Option<u64> {
        self.places.keys().copied().find(|id| self.name_in_file(*id) == name)
    }

    fn file_of(&self, mut id: u64) -> u64 {
        // A scope that leads back to itself is no schema compiler's.
        for _ in 0..self.places.len() {
            match self.node(id).map(node::Reader::get_scope_id) {
                Ok(0) | Err(_) => break,
                Ok(scope) => id = scope,
            }
        }
        id
    }

    /// The interface that a path begins with, and how many of its parts name it. The
    /// longest name counts: `Calculator.Value.read` is about the nested interface.
    pub(crate) fn interface_at(&self, path: &[&str]) -> Result<(u64, usize)> {
        let interfaces = self.interfaces();
        for length in (1..=path.len()).rev() {
            let name = path[..length].join(".");
            if let Some((_, id)) = interfaces.iter().find(|(other, _)| *other == name) {
                return Ok((*id, length));
            }
        }
        let names: Vec<_> = interfaces.iter().map(|(name, _)| name.as_str()).collect();
        Err(Failure::command(format_args!(
            "no interface is called {}; the schema has {}",
            path.first().unwrap_or(&""),
            list(&names)
        )))
    }

    /// A method by its name, of an interface or of one that it extends.
    pub(crate) fn method(&self, interface: &Named, name: &str) -> Result<Method> {
        let methods = self.methods(interface)?;
        if let Some(method) = methods.iter().find(|method| method.name == name) {
            return Ok(method.clone());
        }
        let names: Vec<_> = methods.iter().map(|method| method.name.as_str()).collect();
        Err(Failure::command(format_args!(
            "{} has no method {name:?}; it has {}",
            self.label(interface.id),
            list(&names)
        )))
    }

    /// The methods of an interface, and of those that it extends.
    pub(crate) fn methods(&self, interface: &Named) -> Result<Vec<Method>> {
        let mut methods = Vec::new();
        let mut seen = Vec::new();
        let mut next = vec![interface.clone()];
        while let Some(interface) = next.pop() {
            if seen.contains(&interface.id) {
                continue;
            }
            seen.push(interface.id);
            let node::Interface(declared) = self.node(interface.id)?.which()? else {
                let label = self.label(interface.id);
                return Err(Failure::command(format_args!("{label} is no interface")));
            };
            for (number, method) in (0..).zip(declared.get_methods()?) {
                let of = |id, brand| -> Result<Named> {
                    Ok(Named { id, brand: Brand::read(brand, &interface.brand)? })
                };
                methods.push(Method {
                    interface: interface.id,
                    number,
                    name: method.get_name()?.to_str().map_err(capnp::Error::from)?.to_owned(),
                    params: of(method.get_param_struct_type(), method.get_param_brand()?)?,
                    results: of(method.get_result_struct_type(), method.get_result_brand()?)?,
                });
            }
            for base in declared.get_superclasses()?.iter().rev() {
                let brand = Brand::read(base.get_brand()?, &interface.brand)?;
                next.push(Named { id: base.get_id(), brand });
            }
        }
        Ok(methods)
    }

    /// A method by the numbers with which calls name it.
    pub(crate) fn method_by_number(&self, interface: u64, number: u16) -> Option<Method> {
        let methods = self.methods(&Named::plain(interface)).ok()?;
        methods.into_iter().find(|method| (method.interface, method.number) == (interface, number))
    }

    /// The name of an enumerant; `None` for a number that the schema does not know.
    pub(crate) fn enumerant(&self, id: u64, number: u16) -> Result<Option<&str>> {
        Ok(self.enumerants(id)?.into_iter().nth(usize::from(number)))
    }

    /// The names of an enum's values, by their numbers.
    pub(crate) fn enumerants(&self, id: u64) -> Result<Vec<&str>> {
        let node::Enum(declared) = self.node(id)?.which()? else {
            return Err(Failure::command(format_args!("{} is no enum", self.label(id))));
        };
        let mut names = Vec::new();
        for enumerant in declared.get_enumerants()? {
            names.push(enumerant.get_name()?.to_str().map_err(capnp::Error::from)?);
        }
        Ok(names)
    }
}

/// A struct or a group: its declaration.
#[derive(Clone, Copy)]
pub(crate) struct Structure<'s> {
    node: node::Reader<'s>,
    layout: node::struct_::Reader<'s>,
}

/// A field.
#[derive(Clone, Copy)]
pub(crate) struct Field<'s> {
    pub(crate) name: &'s str,
    /// Its number in its union, if it belongs to one.
    pub(crate) discriminant: Option<u16>,
    proto: field::Reader<'s>,
}

/// Where a field is.
pub(crate) enum Place<'s> {
    /// In the struct: which type, where, and the value that it has if nothing is written.
    Slot(Type, u32, capnp::schema_capnp::value::Reader<'s>),
    /// The field is a group of fields of the same struct.
    Group(u64),
}

impl<'s> Structure<'s> {
    /// Words of data, and pointers.
    pub(crate) fn size(&self) -> (u16, u16) {
        (self.layout.get_data_word_count(), self.layout.get_pointer_count())
    }

    /// Where the number is that says which field of the union is set, in units of 16 bits;
    /// `None` if there is no union.
    pub(crate) fn discriminant(&self) -> Option<u32> {
        (self.layout.get_discriminant_count() > 0).then(|| self.layout.get_discriminant_offset())
    }

    /// The fields, in the order in which the schema declares them.
    pub(crate) fn fields(&self) -> Result<Vec<Field<'s>>> {
        let mut fields: Vec<(u16, Field<'s>)> = Vec::new();
        for proto in self.layout.get_fields()? {
            let discriminant = proto.get_discriminant_value();
            let name = proto.get_name()?.to_str().map_err(capnp::Error::from)?;
            let discriminant = (discriminant != field::NO_DISCRIMINANT).then_some(discriminant);
            fields.push((proto.get_code_order(), Field { name, discriminant, proto }));
        }
        fields.sort_by_key(|(order, _)| *order);
        Ok(fields.into_iter().map(|(_, field)| field).collect())
    }

    /// A field by its name.
    pub(crate) fn field(&self, name: &str) -> Result<Option<Field<'s>>> {
        Ok(self.fields()?.into_iter().find(|field| field.name == name))
    }

    /// The struct's name for people.
    pub(crate) fn name(&self) -> String {
        let name = self.node.get_display_name().ok().and_then(|name| name.to_str().ok());
        let name = name.unwrap_or("a struct");
        let name = name.rsplit_once('/').map_or(name, |(_, name)| name);
        // The parameters and results of a method have names that nobody gave them.
        match name.rsplit_once('$') {
            Some((method, "Params")) => format!("the parameters of {method}"),
            Some((method, "Results")) => format!("the results of {method}"),
            _ => name.to_owned(),
        }
    }
}

impl<'s> Field<'s> {
    /// Where the field is, and its type within a brand of its struct.
    pub(crate) fn place(&self, brand: &Brand) -> Result<Place<'s>> {
        match self.proto.which()? {
            field::Slot(slot) => {
                let of = Type::read(slot.get_type()?, brand)?;
                Ok(Place::Slot(of, slot.get_offset(), slot.get_default_value()?))
            }
            field::Group(group) => Ok(Place::Group(group.get_type_id())),
        }
    }
}

/// `a, b and c`.
pub(crate) fn list(names: &[&str]) -> String {
    match names {
        [] => "none".to_owned(),
        [name] => (*name).to_owned(),
        [names @ .., last] => format!("{} and {last}", names.join(", ")),
    }
}
