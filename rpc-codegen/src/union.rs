//! Unions of generic structs in which an interface depends on the struct's type
//! parameters: upstream's generator forgets to declare the parameters.

use std::collections::HashSet;

use quote::quote;
use syn::{
    GenericArgument, Ident, ImplItem, Item, PathArguments, PathSegment, ReturnType, Type,
    parse_quote,
};

use crate::mentioned::Mentioned;

/// Declares the parameters in the module of a struct that has these.
pub(crate) fn mend(items: &mut [Item], parameters: &[Ident]) {
    let Some(missing) = items.iter_mut().find_map(|item| declare(item, parameters)) else {
        return;
    };
    for item in items {
        match item {
            // `type WhichReader<'a, T> = Which<…>`
            Item::Type(alias) if alias.ident == "WhichReader" || alias.ident == "WhichBuilder" => {
                let declared: HashSet<String> =
                    alias.generics.type_params().map(|known| known.ident.to_string()).collect();
                for parameter in &missing {
                    if !declared.contains(&parameter.to_string()) {
                        alias.generics.params.push(parse_quote!(#parameter));
                    }
                    if let Some(which) = last_segment(&mut alias.ty) {
                        add_argument(which, parameter);
                    }
                }
            }
            // `fn which(self) -> Result<WhichReader<'a, T>, NotInSchema>`
            Item::Impl(item) => {
                for item in &mut item.items {
                    if let ImplItem::Fn(function) = item
                        && function.sig.ident == "which"
                        && let ReturnType::Type(_, result) = &mut function.sig.output
                        && let Some(result) = last_segment(result)
                        && let PathArguments::AngleBracketed(arguments) = &mut result.arguments
                        && let Some(GenericArgument::Type(alias)) = arguments.args.first_mut()
                        && let Some(alias) = last_segment(alias)
                    {
                        for parameter in &missing {
                            add_argument(alias, parameter);
                        }
                    }
                }
            }
            _ => {}
        }
    }
}

/// Adds to `enum Which` the struct's parameters that its variants mention, and
/// returns them.
fn declare(item: &mut Item, parameters: &[Ident]) -> Option<Vec<Ident>> {
    let Item::Enum(which) = item else { return None };
    if which.ident != "Which" {
        return None;
    }
    let declared: HashSet<String> =
        which.generics.type_params().map(|known| known.ident.to_string()).collect();
    let missing: Vec<Ident> = Mentioned::by_enum(which, parameters)
        .into_iter()
        .filter(|of| !declared.contains(&of.to_string()))
        .collect();
    for parameter in &missing {
        which.generics.params.push(parse_quote!(#parameter));
    }
    (!missing.is_empty()).then_some(missing)
}

fn last_segment(ty: &mut Type) -> Option<&mut PathSegment> {
    match ty {
        Type::Path(path) => path.path.segments.last_mut(),
        _ => None,
    }
}

/// Adds a type argument unless it is there.
fn add_argument(segment: &mut PathSegment, parameter: &Ident) {
    let argument: GenericArgument = parse_quote!(#parameter);
    match &mut segment.arguments {
        PathArguments::AngleBracketed(arguments) => {
            let text = quote!(#argument).to_string();
            if !arguments.args.iter().any(|present| quote!(#present).to_string() == text) {
                arguments.args.push(argument);
            }
        }
        _ => segment.arguments = PathArguments::AngleBracketed(parse_quote!(<#argument>)),
    }
}
