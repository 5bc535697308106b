//! Schemas that a grammar makes at random: each is compiled, generated, and built in one crate
//! that fills everything, reads it again, and calls every method.
//!
//! `SCHEMA_RUNS=500 cargo test -p capnp-threads-codegen --test generator random` makes so
//! many, and `SCHEMA_FROM` is the first seed.

use std::fmt::Write;
use std::fs;

use capnp_threads_codegen::Compiler;

use crate::compiled::Crate;
use crate::support;

/// Names that mean something in Rust, or in generated code.
const NAMES: [&str; 48] = [
    "type",
    "self",
    "super",
    "crate",
    "match",
    "move",
    "async",
    "await",
    "dyn",
    "loop",
    "yield",
    "try",
    "gen",
    "box",
    "ref",
    "static",
    "string",
    "option",
    "result",
    "ok",
    "err",
    "some",
    "none",
    "vec",
    "client",
    "server",
    "reader",
    "builder",
    "owned",
    "which",
    "params",
    "results",
    "get",
    "set",
    "init",
    "has",
    "new",
    "clone",
    "default",
    "into",
    "from",
    "call",
    "pipeline",
    "u8",
    "str",
    "bool",
    "a1B2",
    "hTTPServer",
];

/// Small, good enough, and the same everywhere: `SplitMix64`.
struct Random(u64);

impl Random {
    fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.draw() % end as u64).unwrap()
    }

    fn one_in(&mut self, count: usize) -> bool {
        self.below(count) == 0
    }

    fn id(&mut self) -> u64 {
        self.draw() | 1 << 63
    }

    /// So many different names.
    fn names(&mut self, count: usize) -> Vec<&'static str> {
        let mut names = NAMES.to_vec();
        (0..count).map(|_| names.swap_remove(self.below(names.len()))).collect()
    }
}

/// A type whose values the program makes and compares.
#[derive(Clone)]
enum Type {
    Void,
    Bool,
    /// How the schema and Rust call it.
    Number(&'static str, &'static str),
    Text,
    Data,
    /// The number of an enum or a struct of the schema.
    Enum(usize),
    Struct(usize),
    /// Of numbers, which Rust calls so.
    List(&'static str, &'static str),
    /// Is declared, and left alone.
    Other(String),
}

const NUMBERS: [(&str, &str); 10] = [
    ("Int8", "i8"),
    ("Int16", "i16"),
    ("Int32", "i32"),
    ("Int64", "i64"),
    ("UInt8", "u8"),
    ("UInt16", "u16"),
    ("UInt32", "u32"),
    ("UInt64", "u64"),
    ("Float32", "f32"),
    ("Float64", "f64"),
];

impl Type {
    fn name(&self) -> String {
        match self {
            Type::Void => "Void".into(),
            Type::Bool => "Bool".into(),
            Type::Number(name, _) => (*name).into(),
            Type::Text => "Text".into(),
            Type::Data => "Data".into(),
            Type::Enum(number) => format!("Enum{number}"),
            Type::Struct(number) => format!("Struct{number}"),
            Type::List(name, _) => format!("List({name})"),
            Type::Other(name) => name.clone(),
        }
    }

    /// A default for the schema, if it is to have one.
    fn default(&self, random: &mut Random) -> String {
        if !random.one_in(3) {
            return String::new();
        }
        match self {
            Type::Bool => " = true".into(),
            Type::Number("Float32" | "Float64", _) => " = -1.5e3".into(),
            Type::Number(..) => format!(" = {}", random.below(100)),
            Type::Text => " = \"dé\\\"f\"".into(),
            Type::Data => " = 0x\"00 ff\"".into(),
            Type::List(..) => " = [1, 2, 3]".into(),
            Type::Enum(_) => " = first".into(),
            Type::Void | Type::Struct(_) | Type::Other(_) => String::new(),
        }
    }

    /// Rust that fills a field of `to`, and Rust that requires it of `of`; none for what is
    /// left alone.
    fn code(&self, field: &str, salt: usize) -> Option<(String, String)> {
        let field = &snake(field);
        let value = salt % 100;
        Some(match self {
            Type::Void => (format!("to.set_{field}(());"), String::new()),
            Type::Bool => simple(field, &salt.is_multiple_of(2).to_string()),
            Type::Number(_, rust @ ("f32" | "f64")) => simple(field, &format!("{value}.5_{rust}")),
            Type::Number(_, rust) => simple(field, &format!("{value}_{rust}")),
            Type::Text => (
                format!("to.set_{field}(\"text {value}\");"),
                format!("assert_eq!(of.get_{field}().unwrap(), \"text {value}\");"),
            ),
            Type::Data => (
                format!("to.set_{field}(&[{value}, 0, 255]);"),
                format!("assert_eq!(of.get_{field}().unwrap(), &[{value}, 0, 255][..]);"),
            ),
            Type::Enum(number) => (
                format!("to.set_{field}(enum{number}::try_from(1).unwrap());"),
                format!("assert_eq!(of.get_{field}().unwrap() as u16, 1);"),
            ),
            Type::Struct(number) => (
                format!("fill_{number}(to.reborrow().init_{field}(), depth);"),
                format!("check_{number}(of.get_{field}().unwrap(), depth);"),
            ),
            Type::List(_, rust) => (
                format!("to.set_{field}(&[{value} as {rust}, 7 as {rust}][..]).unwrap();"),
                format!(
                    "assert_eq!(of.get_{field}().unwrap().iter().collect::<Vec<_>>(), \
                     [{value} as {rust}, 7 as {rust}]);"
                ),
            ),
            Type::Other(_) => return None,
        })
    }
}

fn simple(field: &str, value: &str) -> (String, String) {
    (format!("to.set_{field}({value});"), format!("assert_eq!(of.get_{field}(), {value});"))
}

/// As the generator names fields.
fn snake(name: &str) -> String {
    let mut snake = String::new();
    for letter in name.chars() {
        if letter.is_ascii_uppercase() {
            if !snake.is_empty() {
                snake.push('_');
            }
            snake.push(letter.to_ascii_lowercase());
        } else {
            snake.push(letter);
        }
    }
    snake
}

/// A schema, and the module of a program that uses it.
struct Made {
    schema: String,
    program: String,
}

struct Grammar {
    random: Random,
    enums: usize,
    structs: usize,
    interfaces: usize,
    made: Made,
}

fn make(seed: u64) -> Made {
    let mut random = Random(seed);
    let schema = format!("@{:#x};\n", random.id());
    let (enums, structs, interfaces) =
        (1 + random.below(2), 1 + random.below(4), 1 + random.below(3));
    let made = Made { schema, program: String::new() };
    let mut grammar = Grammar { random, enums, structs, interfaces, made };
    grammar.write();
    grammar.made
}

impl Grammar {
    fn write(&mut self) {
        for number in 0..self.enums {
            let count = self.random.below(5);
            let names = self.random.names(count);
            let mut text = format!("enum Enum{number} {{ first @0; second @1; ");
            for (ordinal, name) in (2..).zip(names) {
                write!(text, "{name} @{ordinal}; ").unwrap();
            }
            self.declare(&(text + "}\n"));
            writeln!(self.made.program, "type enum{number} = schema::Enum{number};").unwrap();
        }
        for number in 0..self.structs {
            self.structure(number);
        }
        for number in 0..self.interfaces {
            self.interface(number);
        }
        self.constants();
        self.made.program.push_str("pub fn run() {\n");
        for number in 0..self.structs {
            writeln!(
                self.made.program,
                "    let mut message = capnp_threads::capnp::message::Builder::new_default();\n    \
                 fill_{number}(message.init_root(), 0);\n    \
                 check_{number}(message.get_root_as_reader().unwrap(), 0);"
            )
            .unwrap();
        }
        for number in 0..self.interfaces {
            writeln!(self.made.program, "    call_{number}();").unwrap();
        }
        self.made.program.push_str("}\n");
    }

    fn declare(&mut self, text: &str) {
        self.made.schema.push_str(text);
    }

    fn some_type(&mut self) -> Type {
        let number = NUMBERS[self.random.below(NUMBERS.len())];
        match self.random.below(14) {
            0 => Type::Void,
            1 => Type::Bool,
            2..=4 => Type::Number(number.0, number.1),
            5 => Type::Text,
            6 => Type::Data,
            7 => Type::Enum(self.random.below(self.enums)),
            8 | 9 => Type::Struct(self.random.below(self.structs)),
            10 | 11 => Type::List(number.0, number.1),
            _ => {
                let others = [
                    "AnyPointer".to_owned(),
                    "Capability".to_owned(),
                    "AnyStruct".to_owned(),
                    "AnyList".to_owned(),
                    "List(Text)".to_owned(),
                    "List(List(Bool))".to_owned(),
                    format!("List(Struct{})", self.random.below(self.structs)),
                    format!("List(List(Enum{}))", self.random.below(self.enums)),
                    format!("Interface{}", self.random.below(self.interfaces)),
                    format!("List(Interface{})", self.random.below(self.interfaces)),
                ];
                Type::Other(others[self.random.below(others.len())].clone())
            }
        }
    }

    /// A struct with fields, perhaps a union, and perhaps a group and something inside.
    fn structure(&mut self, number: usize) {
        let count = self.random.below(7);
        let mut names = self.random.names(count + 8).into_iter();
        let mut text = format!("struct Struct{number} {{\n");
        let (mut fill, mut check) = (String::new(), String::new());
        let mut ordinal = 0;
        let mut field = |this: &mut Self, text: &mut String, name: &str| {
            let kind = this.some_type();
            let default = kind.default(&mut this.random);
            writeln!(text, "  {name} @{ordinal} :{}{default};", kind.name()).unwrap();
            ordinal += 1;
            (kind, ordinal)
        };
        for name in names.by_ref().take(count) {
            let (kind, salt) = field(self, &mut text, name);
            if let Some((set, get)) = kind.code(name, number * 31 + salt) {
                fill += &set;
                check += &get;
            }
        }
        if self.random.one_in(2) {
            let name = if self.random.one_in(2) { names.next().unwrap() } else { "" };
            writeln!(text, "  {name}{}union {{", if name.is_empty() { "" } else { " :" }).unwrap();
            for member in names.by_ref().take(2) {
                field(self, &mut text, member);
            }
            writeln!(text, "  }}").unwrap();
        }
        if self.random.one_in(2) {
            writeln!(text, "  {} :group {{", names.next().unwrap()).unwrap();
            field(self, &mut text, names.next().unwrap());
            writeln!(text, "  }}").unwrap();
        }
        if self.random.one_in(3) {
            writeln!(text, "  struct Inner{number}(T) {{ value @0 :T; }}").unwrap();
            writeln!(text, "  enum Kind {{ some @0; none @1; }}").unwrap();
        }
        self.declare(&(text + "}\n"));
        writeln!(
            self.made.program,
            "#[allow(unused_mut, unused_variables)]\n\
             fn fill_{number}(mut to: schema::struct{number}::Builder<'_>, depth: u32) {{\n    \
                 if depth == 2 {{ return; }}\n    let depth = depth + 1;\n    {fill}\n}}\n\
             #[allow(unused_variables)]\n\
             fn check_{number}(of: schema::struct{number}::Reader<'_>, depth: u32) {{\n    \
                 if depth == 2 {{ return; }}\n    let depth = depth + 1;\n    {check}\n    \
                 assert!(!format!(\"{{of:?}}\").is_empty());\n}}"
        )
        .unwrap();
    }

    /// An interface with methods that return what they are given, and others.
    fn interface(&mut self, number: usize) {
        let mut text = format!("interface Interface{number}");
        if number > 0 && self.random.one_in(2) {
            write!(text, " extends(Interface{})", number - 1).unwrap();
        }
        text += " {\n";
        let (mut methods, mut calls) = (String::new(), String::new());
        let count = 1 + self.random.below(3);
        for method in 0..count {
            let fields = self.random.below(4);
            let names = self.random.names(fields);
            let [mut schema, mut copy, mut fill, mut check] = [(); 4].map(|()| String::new());
            for (salt, name) in names.iter().enumerate() {
                let number = NUMBERS[self.random.below(NUMBERS.len())];
                let kind = match self.random.below(4) {
                    0 => Type::Bool,
                    1 => Type::Text,
                    _ => Type::Number(number.0, number.1),
                };
                if salt > 0 {
                    schema.push_str(", ");
                }
                write!(schema, "{name} :{}", kind.name()).unwrap();
                let (set, get) = kind.code(name, salt + method).unwrap();
                fill += &set;
                check += &get;
                let snake = snake(name);
                let may_fail = if matches!(kind, Type::Text) { "?" } else { "" };
                write!(copy, "to.set_{snake}(of.get_{snake}(){may_fail});").unwrap();
            }
            writeln!(text, "  m{method}x{number} @{method} ({schema}) -> ({schema});").unwrap();
            let name = format!("M{method}x{number}");
            write!(
                methods,
                "#[allow(unused_mut, unused_variables)]\n\
                 fn m{method}x{number}(&self, params: i::{name}Params, mut results: i::{name}Results) \
                 -> capnp_threads::Result<()> {{ \
                 let of = params.get()?; let mut to = results.get(); {copy} Ok(()) }}\n"
            )
            .unwrap();
            write!(
                calls,
                "let mut request = client.m{method}x{number}_request();\n\
                 {{ #[allow(unused_mut, unused_variables)] let mut to = request.get(); {fill} }}\n\
                 let response = request.call().unwrap();\n\
                 {{ #[allow(unused_variables)] let of = response.get().unwrap(); {check} }}\n"
            )
            .unwrap();
        }
        match self.random.below(4) {
            0 | 1 => writeln!(text, "  stream{number} @{count} (data :Data) -> stream;").unwrap(),
            2 => {
                writeln!(text, "  any{number} @{count} [T, U] (value :T) -> (value :U);").unwrap();
            }
            _ => {}
        }
        self.declare(&(text + "}\n"));
        // What is inherited is not carried out.
        let mut inherited = String::new();
        for base in 0..number {
            writeln!(inherited, "impl schema::interface{base}::Server for Own{number} {{}}")
                .unwrap();
        }
        let inherits = self.made.schema.contains(&format!("Interface{number} extends"));
        writeln!(
            self.made.program,
            "struct Own{number};\n{}\n\
             const _: () = {{ use schema::interface{number} as i; \
             impl i::Server for Own{number} {{ {methods} }} }};\n\
             fn call_{number}() {{\n    use schema::interface{number} as i;\n    \
             let client: i::Client = capnp_threads::typed::new_client(Own{number});\n    {calls}\n}}",
            if inherits { inherited } else { String::new() }
        )
        .unwrap();
    }

    fn constants(&mut self) {
        for (index, name) in self.random.names(3).into_iter().enumerate() {
            let value = ["Text = \"a\\nb\"", "List(Int16) = [1, -2]", "Float32 = inf"][index];
            self.declare(&format!("const {name} :{value};\n"));
        }
    }
}

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|value| value.parse().unwrap())
}

#[test]
fn what_random_schemas_describe_can_be_filled_read_and_called() {
    let test = "what_random_schemas_describe_can_be_filled_read_and_called";
    if !support::have_compiler(test) {
        return;
    }
    let from = setting("SCHEMA_FROM").unwrap_or(0);
    let seeds = from..from + setting("SCHEMA_RUNS").unwrap_or(8);
    let folder = tempfile::tempdir().unwrap();
    let mut compiler = Compiler::new();
    compiler.src_prefix(folder.path()).no_standard_import();
    compiler.import_path(support::workspace().join("schema"));
    let mut main = String::from("#![allow(non_camel_case_types)]\n");
    let mut runs = String::new();
    let crate_ = Crate::new("random");
    for seed in seeds {
        let Made { schema, program } = make(seed);
        let path = folder.path().join(format!("random{seed}.capnp"));
        fs::write(&path, &schema).unwrap();
        compiler.file(path);
        crate_.write(
            &format!("src/use{seed}.rs"),
            &format!(
                "// {}\nuse crate::random{seed}_capnp as schema;\n{program}",
                schema.replace('\n', "\n// ")
            ),
        );
        writeln!(main, "mod use{seed};").unwrap();
        writeln!(main, "mod random{seed}_capnp {{ include!(\"random{seed}_capnp.rs\"); }}")
            .unwrap();
        writeln!(runs, "    use{seed}::run();").unwrap();
    }
    for file in compiler.generate().unwrap() {
        file.write(&crate_.folder.join("src")).unwrap();
    }
    writeln!(main, "fn main() {{\n{runs}    println!(\"all\");\n}}").unwrap();
    crate_.write("src/main.rs", &main);
    assert_eq!(crate_.succeeds(&["run"]), "all\n");
}
