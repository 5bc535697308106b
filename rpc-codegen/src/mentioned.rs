//! Which type parameters occur in some code.

use syn::visit::{self, Visit};
use syn::{Ident, ItemEnum, Path, Type};

/// Collects them, each once.
pub(crate) struct Mentioned<'p> {
    parameters: &'p [Ident],
    found: Vec<Ident>,
}

impl<'p> Mentioned<'p> {
    /// Those of `parameters` that occur in a type, in their own order.
    pub(crate) fn by_type(ty: &Type, parameters: &'p [Ident]) -> Vec<Ident> {
        let mut mentioned = Mentioned { parameters, found: Vec::new() };
        mentioned.visit_type(ty);
        mentioned.in_order()
    }

    /// Those that occur in an enum.
    pub(crate) fn by_enum(item: &ItemEnum, parameters: &'p [Ident]) -> Vec<Ident> {
        let mut mentioned = Mentioned { parameters, found: Vec::new() };
        mentioned.visit_item_enum(item);
        mentioned.in_order()
    }

    fn in_order(self) -> Vec<Ident> {
        let Mentioned { parameters, found } = self;
        parameters.iter().filter(|parameter| found.contains(parameter)).cloned().collect()
    }
}

impl<'ast> Visit<'ast> for Mentioned<'_> {
    fn visit_path(&mut self, path: &'ast Path) {
        // A parameter is a path by itself; in a longer one, it is something else
        // of the same name.
        if let Some(ident) = path.get_ident()
            && self.parameters.contains(ident)
        {
            self.found.push(ident.clone());
        }
        visit::visit_path(self, path);
    }
}
