//! Names in Rust for names in schemas.

/// Words that upstream's generator does not let modules be called.
const AVOIDED: &[&str] = &[
    "abstract", "alignof", "as", "be", "become", "box", "break", "const", "continue", "crate",
    "do", "else", "enum", "extern", "false", "final", "fn", "for", "if", "impl", "in", "let",
    "loop", "macro", "match", "mod", "move", "mut", "offsetof", "once", "override", "priv", "proc",
    "pub", "pure", "ref", "return", "self", "sizeof", "static", "struct", "super", "trait", "true",
    "type", "typeof", "unsafe", "unsized", "use", "virtual", "where", "while", "yield",
];

/// Keywords that it does not know of.
const FORGOTTEN: &[&str] = &["async", "await", "dyn", "gen", "try"];

/// Names that the generated code itself uses and that a module of the same name
/// would hide from it.
const USED: &[&str] = &[
    "bool", "char", "core", "f32", "f64", "i16", "i32", "i64", "i8", "isize", "str", "u16", "u32",
    "u64", "u8", "usize",
];

/// What a type parameter cannot be called, for the same reason.
pub(crate) const USED_TYPES: &[&str] = &[
    "Box",
    "Builder",
    "Client",
    "Clone",
    "Copy",
    "Err",
    "None",
    "Ok",
    "Option",
    "Other",
    "Owned",
    "Pipeline",
    "Reader",
    "Result",
    "Self",
    "Server",
    "ServerDispatch",
    "ServerImpl",
    "Some",
    "Which",
    "WhichBuilder",
    "WhichReader",
];

/// `fooBar` and `FooBar` as `foo_bar`.
pub(crate) fn snake(name: &str) -> String {
    let mut snake = String::with_capacity(name.len() + 4);
    for (index, letter) in name.chars().enumerate() {
        if letter.is_uppercase() && index > 0 {
            snake.push('_');
        }
        snake.push(letter.to_ascii_lowercase());
    }
    snake
}

/// `fooBar` as `FooBar`.
pub(crate) fn capitalized(name: &str) -> String {
    let mut letters = name.chars();
    match letters.next() {
        Some(first) => first.to_ascii_uppercase().to_string() + letters.as_str(),
        None => String::new(),
    }
}

/// The module that upstream's generator makes for a declaration or a group.
pub(crate) fn module(name: &str) -> String {
    let mut module = snake(name);
    if AVOIDED.contains(&module.as_str()) {
        module.push('_');
    }
    module
}

/// Whether a module can have this name.
pub(crate) fn is_module(name: &str) -> bool {
    !FORGOTTEN.contains(&name) && !USED.contains(&name)
}

/// The Rust method for a method of a schema.
pub(crate) fn method(name: &str) -> String {
    let mut method = module(name);
    if FORGOTTEN.contains(&method.as_str()) {
        method.push('_');
    }
    method
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_change_case() {
        assert_eq!(snake("getHTTPCode"), "get_h_t_t_p_code");
        assert_eq!(snake("Foo_"), "foo_");
        assert_eq!(capitalized("fooBar"), "FooBar");
        assert_eq!(method("async"), "async_");
        assert_eq!(method("typeOf"), "type_of");
    }
}
