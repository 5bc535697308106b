//! Makes upstream's output this library's: the modules of interfaces are
//! replaced, and what data types say about capabilities is adapted.

use capnp::schema_capnp::node::nested_node;
use capnp::schema_capnp::{field, node};
use quote::format_ident;
use syn::visit_mut::{self, VisitMut};
use syn::{Expr, Ident, Item, Member, Path, Type, parse_quote};

use crate::error::{Error, Result};
use crate::interface;
use crate::schema::Schema;
use crate::settings::Settings;
use crate::union;

/// A crate that does not exist: upstream's generator is told that the client of
/// `Capability` comes from it.
pub(crate) const PLACEHOLDER_CRATE: &str = "rpc_codegen_placeholder";

/// Rewrites the code of one schema file.
pub(crate) fn rewrite(
    code: &mut syn::File,
    schema: &Schema<'_>,
    settings: &Settings,
    file: u64,
) -> Result<()> {
    scope(&mut code.items, schema, settings, file)?;
    let facade = path(schema, file, &schema.facade)?;
    Capabilities { facade }.visit_file_mut(code);
    for item in &mut code.items {
        quieten(item);
    }
    Ok(())
}

/// Replaces the interfaces among what is nested in a declaration.
fn scope(items: &mut Vec<Item>, schema: &Schema<'_>, settings: &Settings, id: u64) -> Result<()> {
    let node = schema.node(id)?;
    if let node::Interface(_) = node.which()? {
        items.retain(|item| !is_upstreams(item));
        let mut ours = interface::items(schema, settings, id)?;
        ours.append(items);
        *items = ours;
    }
    if let node::Struct(_) = node.which()? {
        let parameters: Vec<Ident> =
            schema.parameters(id)?.iter().map(|name| format_ident!("{name}")).collect();
        union::mend(items, &parameters);
        if !parameters.is_empty() {
            let runtime = path(schema, id, &settings.runtime)?;
            let mut arguments = TypeArguments { parameters, runtime };
            for item in items.iter_mut() {
                arguments.visit_item_mut(item);
            }
        }
    }
    let mut nested: Vec<u64> =
        node.get_nested_nodes()?.iter().map(nested_node::Reader::get_id).collect();
    if let node::Struct(data) = node.which()? {
        for field in data.get_fields()? {
            if let field::Group(group) = field.which()? {
                nested.push(group.get_type_id());
            }
        }
    }
    for id in nested {
        if let Some(content) = schema.module(id).and_then(|name| module(items, name)) {
            scope(content, schema, settings, id)?;
        }
    }
    Ok(())
}

fn path(schema: &Schema<'_>, id: u64, text: &str) -> Result<Path> {
    syn::parse_str(text).map_err(|error| Error::Internal {
        file: schema.label(id),
        problem: format!("`{text}`: {error}"),
    })
}

fn module<'i>(items: &'i mut [Item], name: &str) -> Option<&'i mut Vec<Item>> {
    items.iter_mut().find_map(|item| match item {
        Item::Mod(module) if module.ident == name => {
            module.content.as_mut().map(|content| &mut content.1)
        }
        _ => None,
    })
}

/// Whether an item of an interface's module is what upstream makes of the
/// interface itself, rather than of something nested in it.
fn is_upstreams(item: &Item) -> bool {
    let ours = ["Client", "Owned", "Server", "ServerDispatch"];
    match item {
        Item::Type(_) | Item::Trait(_) => true,
        Item::Struct(item) => ours.iter().any(|name| item.ident == name),
        Item::Impl(item) => match &*item.self_ty {
            Type::Path(of) => of
                .path
                .segments
                .last()
                .is_some_and(|last| ours.iter().any(|name| last.ident == name)),
            _ => false,
        },
        Item::Mod(item) => item.ident == "_private",
        _ => false,
    }
}

/// Generated code is for compilers; lints are for people.
fn quieten(item: &mut Item) {
    let attributes = match item {
        Item::Mod(item) => &mut item.attrs,
        Item::Enum(item) => &mut item.attrs,
        Item::Impl(item) => &mut item.attrs,
        Item::Const(item) => &mut item.attrs,
        Item::Static(item) => &mut item.attrs,
        _ => return,
    };
    attributes.insert(0, parse_quote!(#[allow(warnings, clippy::all, clippy::pedantic)]));
}

/// Adapts how data types handle capabilities.
struct Capabilities {
    facade: Path,
}

impl Capabilities {
    fn is_capability_function(&self, function: &Expr, name: &str) -> bool {
        let Expr::Path(function) = function else { return false };
        let names: Vec<String> =
            function.path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        let mut expected: Vec<String> =
            self.facade.segments.iter().map(|segment| segment.ident.to_string()).collect();
        expected.extend(["capability", name, "new"].map(str::to_owned));
        names == expected
    }
}

impl VisitMut for Capabilities {
    fn visit_expr_mut(&mut self, expression: &mut Expr) {
        visit_mut::visit_expr_mut(self, expression);
        let facade = &self.facade;
        // Setters take the hook out of the client's fields.
        if let Expr::Field(outer) = &*expression
            && let (Expr::Field(inner), Member::Named(hook)) = (&*outer.base, &outer.member)
            && let Member::Named(client) = &inner.member
            && hook == "hook"
            && client == "client"
        {
            let value = &inner.base;
            *expression =
                parse_quote!(#facade::capability::FromClientHook::into_client_hook(#value));
            return;
        }
        // Pipelines make a hook of their end, and a client of the hook.
        if let Expr::Call(call) = &*expression
            && self.is_capability_function(&call.func, "FromClientHook")
            && let Some(Expr::MethodCall(end)) = call.args.first()
            && end.method == "as_cap"
        {
            let pipeline = &end.receiver;
            *expression = parse_quote!(#facade::capability::FromTypelessPipeline::new(#pipeline));
        }
    }

    fn visit_path_mut(&mut self, path: &mut Path) {
        visit_mut::visit_path_mut(self, path);
        if path.segments.first().is_some_and(|first| first.ident == PLACEHOLDER_CRATE) {
            let rest = path.segments.iter().skip(1).cloned();
            let mut segments = self.facade.segments.clone();
            segments.extend(rest);
            path.leading_colon = self.facade.leading_colon;
            path.segments = segments;
        }
    }
}

/// Adapts what a generic struct says of the types of its fields at run time.
/// Where a type argument is an interface, the schema's default value is still
/// that of a pointer of unknown type, which the capnp crate takes for a
/// contradiction when it prints the struct.
struct TypeArguments {
    parameters: Vec<Ident>,
    runtime: Path,
}

impl VisitMut for TypeArguments {
    fn visit_expr_mut(&mut self, expression: &mut Expr) {
        visit_mut::visit_expr_mut(self, expression);
        if let Expr::Call(call) = &*expression
            && let Expr::Path(function) = &*call.func
            && let Some(of) = &function.qself
            && let Type::Path(of) = &*of.ty
            && let Some(parameter) = of.path.get_ident()
            && self.parameters.contains(parameter)
            && function.path.segments.last().is_some_and(|last| last.ident == "introspect")
        {
            let runtime = &self.runtime;
            *expression = parse_quote!(#runtime::typed::generated::type_argument(#call));
        }
    }
}
