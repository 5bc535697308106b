//! Makes a code generator request one that upstream's generator can serve.
//!
//! - Elements get the names that [`Naming`] chose.
//! - The structs of methods become ordinary structs, nested in their interface.
//! - `List(Capability)` becomes a list of an interface whose client is the
//!   untyped one.
//! - Interfaces lose their methods and what they extend: what upstream would
//!   generate for those is not wanted. This comes last, and in a copy.

use std::collections::HashSet;

use capnp::message::{Builder, HeapAllocator, ReaderOptions};
use capnp::schema_capnp::{annotation, brand, code_generator_request, field, node, type_};
use capnp::serialize::OwnedSegments;

use crate::error::Result;
use crate::naming::{NAME_ANNOTATION, Naming, Nodes};

/// The interface that stands for `Capability` in lists. Drawn at random.
pub(crate) const ANY_CAPABILITY: u64 = 0xf2c8_66a5_0f3d_97b1;

/// A request as it is read, or as it is passed on.
pub(crate) type Message = capnp::message::Reader<OwnedSegments>;

/// Reads a request. It comes from a program that the user runs, so it may be as
/// large as it likes.
pub(crate) fn read(bytes: &[u8]) -> Result<Message> {
    let mut options = ReaderOptions::new();
    options.traversal_limit_in_words(None).nesting_limit(1 << 12);
    Ok(capnp::serialize::read_message(bytes, options)?)
}

/// The nodes of a request by their ids.
pub(crate) fn nodes(request: code_generator_request::Reader<'_>) -> Result<Nodes<'_>> {
    Ok(request.get_nodes()?.iter().map(|node| (node.get_id(), node)).collect())
}

/// A request whose elements have other names and places.
pub(crate) fn prepared(request: code_generator_request::Reader<'_>) -> Result<Vec<u8>> {
    let nodes = nodes(request)?;
    let naming = Naming::new(&nodes)?;
    let annotation_missing = !nodes.contains_key(&NAME_ANNOTATION);

    let mut message = Builder::new_default();
    let target = message.init_root::<code_generator_request::Builder<'_>>();
    let added = 1 + u32::from(annotation_missing);
    let (mut copies, first_added) = copy(request, target, added, true)?;
    for index in 0..first_added {
        Editor { naming: &naming, nodes: &nodes }.node(copies.reborrow().get(index))?;
    }
    add_any_capability(copies.reborrow().get(first_added));
    if annotation_missing {
        add_name_annotation(copies.get(first_added + 1));
    }
    Ok(written(&message))
}

/// A request as it is, except for what only newer schema compilers write, so
/// that the generated code is the same for all of them.
pub(crate) fn levelled(request: code_generator_request::Reader<'_>) -> Result<Vec<u8>> {
    let mut message = Builder::new_default();
    copy(request, message.init_root(), 0, false)?;
    Ok(written(&message))
}

/// Copies a request, with room for more nodes behind those that it has. Structs
/// are cut off at the size that this library knows.
fn copy<'t>(
    request: code_generator_request::Reader<'_>,
    mut target: code_generator_request::Builder<'t>,
    room: u32,
    import_more: bool,
) -> Result<(capnp::struct_list::Builder<'t, node::Owned>, u32)> {
    target.set_capnp_version(request.get_capnp_version()?)?;
    target.set_source_info(request.get_source_info()?)?;
    let more = if import_more { unlisted(request)? } else { Vec::new() };
    copy_files(request, &mut target, &more)?;
    let nodes = request.get_nodes()?;
    let mut copies = target.init_nodes(nodes.len() + room);
    for (index, node) in (0..).zip(nodes) {
        copies.set_with_caveats(index, node)?;
    }
    Ok((copies, nodes.len()))
}

/// The same request without methods.
pub(crate) fn without_methods(request: code_generator_request::Reader<'_>) -> Result<Vec<u8>> {
    let mut message = Builder::new_default();
    message.set_root(request)?;
    let root = message.get_root::<code_generator_request::Builder<'_>>()?;
    let mut nodes = root.get_nodes()?;
    for index in 0..nodes.len() {
        if let node::Interface(mut interface) = nodes.reborrow().get(index).which()? {
            interface.reborrow().init_methods(0);
            interface.init_superclasses(0);
        }
    }
    Ok(written(&message))
}

fn written(message: &Builder<HeapAllocator>) -> Vec<u8> {
    capnp::serialize::write_message_to_words(message)
}

fn copy_files(
    request: code_generator_request::Reader<'_>,
    target: &mut code_generator_request::Builder<'_>,
    more: &[(u64, String)],
) -> Result<()> {
    let files = request.get_requested_files()?;
    let mut copies = target.reborrow().init_requested_files(files.len());
    for (index, file) in (0..).zip(files) {
        let mut copy = copies.reborrow().get(index);
        copy.set_id(file.get_id());
        copy.set_filename(file.get_filename()?);
        let imports = file.get_imports()?;
        let count = u32::try_from(more.len()).unwrap_or(u32::MAX);
        let mut copied = copy.init_imports(imports.len() + count);
        for (index, import) in (0..).zip(imports) {
            copied.set_with_caveats(index, import)?;
        }
        for (index, (id, name)) in (imports.len()..).zip(more) {
            let mut added = copied.reborrow().get(index);
            added.set_id(*id);
            added.set_name(name);
        }
    }
    Ok(())
}

/// What the requested files have to import, so that everything in the request
/// has a place: the files that are imported by what they import, whose
/// declarations they may know through an alias or an interface that they extend;
/// and `Capability`.
fn unlisted(request: code_generator_request::Reader<'_>) -> Result<Vec<(u64, String)>> {
    let mut listed = HashSet::new();
    for file in request.get_requested_files()? {
        listed.insert(file.get_id());
        for import in file.get_imports()? {
            listed.insert(import.get_id());
        }
    }
    let mut unlisted = vec![(ANY_CAPABILITY, "capability.capnp".to_owned())];
    for node in request.get_nodes()? {
        if let node::File(()) = node.which()?
            && !listed.contains(&node.get_id())
        {
            unlisted.push((node.get_id(), node.get_display_name()?.to_str()?.to_owned()));
        }
    }
    Ok(unlisted)
}

fn add_any_capability(mut node: node::Builder<'_>) {
    node.set_id(ANY_CAPABILITY);
    node.set_display_name("Capability");
    let mut annotation = node.reborrow().init_annotations(1).get(0);
    annotation.set_id(NAME_ANNOTATION);
    annotation.init_value().set_text("capability");
    node.init_interface();
}

fn add_name_annotation(mut node: node::Builder<'_>) {
    node.set_id(NAME_ANNOTATION);
    node.set_display_name("rust.capnp:name");
    node.init_annotation().init_type().set_text(());
}

struct Editor<'a, 'b> {
    naming: &'b Naming,
    nodes: &'b Nodes<'a>,
}

impl Editor<'_, '_> {
    fn node(&self, mut node: node::Builder<'_>) -> Result<()> {
        let id = node.reborrow().get_id();
        if let Some(name) = self.naming.nodes.get(&id) {
            rename_if_annotated(node.reborrow().get_annotations()?, name);
        }
        self.parameters(id, node.reborrow())?;
        self.nested(id, node.reborrow())?;
        if let Some(&interface) = self.naming.homes.get(&id) {
            node.set_scope_id(interface);
        }
        match node.which()? {
            node::Struct(data) => self.fields(id, data.get_fields()?)?,
            node::Enum(data) => {
                let mut enumerants = data.get_enumerants()?;
                for index in 0..enumerants.len() {
                    if let Some(name) = self.naming.enumerants.get(&(id, index)) {
                        let mut enumerant = enumerants.reborrow().get(index);
                        let annotations = named(enumerant.reborrow().get_annotations()?, name)?;
                        enumerant.set_annotations(annotations.get_root_as_reader()?)?;
                    }
                }
            }
            node::Const(data) => edit_type(data.get_type()?)?,
            node::Annotation(data) => edit_type(data.get_type()?)?,
            node::File(()) | node::Interface(_) => {}
        }
        Ok(())
    }

    fn parameters(&self, id: u64, node: node::Builder<'_>) -> Result<()> {
        let mut parameters = node.get_parameters()?;
        for index in 0..parameters.len() {
            if let Some(name) = self.naming.parameters.get(&(id, index)) {
                parameters.reborrow().get(index).set_name(name);
            }
        }
        Ok(())
    }

    fn nested(&self, id: u64, mut node: node::Builder<'_>) -> Result<()> {
        let declared: Vec<(u64, String)> = match self.nodes.get(&id) {
            Some(node) => node
                .get_nested_nodes()?
                .iter()
                .map(|nested| Ok((nested.get_id(), nested.get_name()?.to_str()?.to_owned())))
                .collect::<Result<_>>()?,
            None => Vec::new(),
        };
        let none = Vec::new();
        let of_methods = self.naming.method_structs.get(&id).unwrap_or(&none);
        let all = declared.iter().chain(of_methods);
        let count = u32::try_from(declared.len() + of_methods.len()).unwrap_or(u32::MAX);
        let mut list = node.reborrow().init_nested_nodes(count);
        for (index, (id, name)) in (0..).zip(all) {
            let mut nested = list.reborrow().get(index);
            nested.set_id(*id);
            nested.set_name(self.naming.nodes.get(id).unwrap_or(name));
        }
        Ok(())
    }

    fn fields(
        &self,
        id: u64,
        mut fields: capnp::struct_list::Builder<'_, field::Owned>,
    ) -> Result<()> {
        for index in 0..fields.len() {
            let mut field = fields.reborrow().get(index);
            if let Some(name) = self.naming.fields.get(&(id, index)) {
                let annotations = named(field.reborrow().get_annotations()?, name)?;
                field.set_annotations(annotations.get_root_as_reader()?)?;
            }
            if let field::Slot(slot) = field.which()? {
                edit_type(slot.get_type()?)?;
            }
        }
        Ok(())
    }
}

/// Changes the name that an annotation gives, if there is one.
fn rename_if_annotated(
    mut annotations: capnp::struct_list::Builder<'_, annotation::Owned>,
    name: &str,
) {
    for index in 0..annotations.len() {
        let mut annotation = annotations.reborrow().get(index);
        if annotation.reborrow().get_id() == NAME_ANNOTATION {
            annotation.init_value().set_text(name);
        }
    }
}

/// A list of annotations in a message of its own, in which this name is given.
fn named(
    annotations: capnp::struct_list::Builder<'_, annotation::Owned>,
    name: &str,
) -> Result<Builder<HeapAllocator>> {
    let others = annotations.into_reader().iter().filter(|other| other.get_id() != NAME_ANNOTATION);
    let others: Vec<_> = others.collect();
    let count = u32::try_from(others.len()).unwrap_or(u32::MAX);
    let mut message = Builder::new_default();
    let mut list =
        message.initn_root::<capnp::struct_list::Builder<'_, annotation::Owned>>(count + 1);
    for (index, other) in (0..).zip(others) {
        list.set_with_caveats(index, other)?;
    }
    let mut added = list.get(count);
    added.set_id(NAME_ANNOTATION);
    added.init_value().set_text(name);
    Ok(message)
}

/// Replaces `List(Capability)` wherever it occurs in a type.
fn edit_type(ty: type_::Builder<'_>) -> Result<()> {
    match ty.which()? {
        type_::List(list) => {
            let element = list.get_element_type()?;
            if is_capability(element.reborrow_as_reader())? {
                element.init_interface().set_type_id(ANY_CAPABILITY);
            } else {
                edit_type(element)?;
            }
        }
        type_::Enum(of) => edit_brand(of.get_brand()?)?,
        type_::Struct(of) => edit_brand(of.get_brand()?)?,
        type_::Interface(of) => edit_brand(of.get_brand()?)?,
        _ => {}
    }
    Ok(())
}

/// Whether a type is `Capability`.
pub(crate) fn is_capability(ty: type_::Reader<'_>) -> Result<bool> {
    let type_::AnyPointer(pointer) = ty.which()? else { return Ok(false) };
    let type_::any_pointer::Unconstrained(kind) = pointer.which()? else { return Ok(false) };
    Ok(matches!(kind.which()?, type_::any_pointer::unconstrained::Capability(())))
}

fn edit_brand(brand: brand::Builder<'_>) -> Result<()> {
    if !brand.has_scopes() {
        return Ok(());
    }
    let mut scopes = brand.get_scopes()?;
    for index in 0..scopes.len() {
        if let brand::scope::Bind(bindings) = scopes.reborrow().get(index).which()? {
            let mut bindings = bindings?;
            for index in 0..bindings.len() {
                if let brand::binding::Type(ty) = bindings.reborrow().get(index).which()? {
                    edit_type(ty?)?;
                }
            }
        }
    }
    Ok(())
}
