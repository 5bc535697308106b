//! Names in Rust for names in schemas.

/// The keywords of all editions.
const KEYWORDS: &[&str] = &[
    "Self", "abstract", "as", "async", "await", "become", "box", "break", "const", "continue",
    "crate", "do", "dyn", "else", "enum", "extern", "false", "final", "fn", "for", "gen", "if",
    "impl", "in", "let", "loop", "macro", "match", "mod", "move", "mut", "override", "priv", "pub",
    "ref", "return", "self", "static", "struct", "super", "trait", "true", "try", "type", "typeof",
    "unsafe", "unsized", "use", "virtual", "where", "while", "yield",
];

/// Former keywords. Upstream's generator of data types avoids them in modules and
/// functions, and names should be the same with both.
const AVOIDED: &[&str] = &["alignof", "be", "offsetof", "once", "proc", "pure", "sizeof"];

/// Types that generated code names without a path: a module or a type parameter of the
/// same name would hide them.
const PRIMITIVE: &[&str] = &[
    "bool", "char", "f32", "f64", "i16", "i32", "i64", "i8", "isize", "str", "u16", "u32", "u64",
    "u8", "usize",
];

/// A crate that users' code may name without a path.
const CRATES: &[&str] = &["core"];

/// Items that the code of a struct or interface names without a path. A type parameter
/// of the same name would hide them.
const USED: &[&str] = &[
    "Builder",
    "Client",
    "Other",
    "Owned",
    "Pipeline",
    "Reader",
    "Server",
    "ServerImpl",
    "Which",
    "WhichBuilder",
    "WhichReader",
];

/// Items in the module of every struct.
pub(crate) const STRUCT_ITEMS: &[&str] =
    &["Builder", "Owned", "Pipeline", "Reader", "Which", "WhichBuilder", "WhichReader"];

/// Items in the module of every interface, but for those that are called after methods.
pub(crate) const INTERFACE_ITEMS: &[&str] = &["Client", "INTERFACE", "Owned", "Server"];

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

/// `fooBar` as `FOO_BAR`.
pub(crate) fn screaming(name: &str) -> String {
    snake(name).to_ascii_uppercase()
}

/// The module of a schema file, from the file's path. An underscore stands for the
/// characters that no name has, however many there are in a row.
pub(crate) fn file_module(path: &str) -> String {
    let stem = std::path::Path::new(path).file_stem().unwrap_or_default().to_string_lossy();
    let parts = stem.split(|letter: char| !letter.is_alphanumeric() && letter != '_');
    let parts: Vec<&str> = parts.filter(|part| !part.is_empty()).collect();
    let module = parts.join("_");
    let underscore = if module.starts_with(char::is_numeric) { "_" } else { "" };
    format!("{underscore}{module}_capnp")
}

/// Whether an item can have this name.
pub(crate) fn is_item(name: &str) -> bool {
    is_identifier(name) && !KEYWORDS.contains(&name)
}

/// Whether a function can.
pub(crate) fn is_function(name: &str) -> bool {
    is_item(name) && !AVOIDED.contains(&name)
}

/// Whether a module can.
pub(crate) fn is_module(name: &str) -> bool {
    is_function(name) && !PRIMITIVE.contains(&name) && !CRATES.contains(&name)
}

/// Whether a type parameter can. Aliases called after methods end as those here do.
pub(crate) fn is_parameter(name: &str) -> bool {
    is_item(name)
        && !PRIMITIVE.contains(&name)
        && !USED.contains(&name)
        && !name.ends_with("Params")
        && !name.ends_with("Results")
}

/// Whether this is a name at all. Those that begin with two underscores are the
/// generator's own.
pub(crate) fn is_identifier(name: &str) -> bool {
    let mut letters = name.chars();
    letters.next().is_some_and(|first| first.is_alphabetic() || first == '_')
        && letters.all(|letter| letter.is_alphanumeric() || letter == '_')
        && name != "_"
        && !name.starts_with("__")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_change_case() {
        assert_eq!(snake("getHTTPCode"), "get_h_t_t_p_code");
        assert_eq!(snake("Foo_"), "foo_");
        assert_eq!(capitalized("fooBar"), "FooBar");
        assert_eq!(screaming("fooBar"), "FOO_BAR");
    }

    #[test]
    fn files_have_modules_whatever_they_are_called() {
        assert_eq!(file_module("a/b/dash-name.capnp"), "dash_name_capnp");
        assert_eq!(file_module("wire.v1.capnp"), "wire_v1_capnp");
        assert_eq!(file_module("2fa.capnp"), "_2fa_capnp");
        assert_eq!(file_module("c++ish.capnp"), "c_ish_capnp");
        assert_eq!(file_module("c++.capnp"), "c_capnp");
    }

    #[test]
    fn keywords_are_no_names() {
        for name in ["async", "Self", "1st", "a b", "", "_", "__rt"] {
            assert!(!is_item(name), "{name}");
        }
        assert!(is_item("u8") && !is_module("u8"));
        assert!(is_item("Reader") && !is_parameter("Reader"));
    }
}
