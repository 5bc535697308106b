//! The JSON is what the C++ implementation writes and reads, and the content what
//! generated code does.

#![allow(clippy::unwrap_used)]

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use capnp::any_pointer;
use capnp::message::{Builder, HeapAllocator, ReaderOptions};
use rpc_schema::test_capnp::test_all_types;
use rpc_schema::test_values_capnp;
use serde_json::{Map, Value, json};

use super::*;
use crate::failure::{Failure, Result};
use crate::schema::{Brand, Named, Place, Schema, Type};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/schema")
}

/// The schema compiler reads the schemas and is what the JSON is compared with. Without
/// it there is nothing to test.
fn installed() -> bool {
    let found = Command::new("capnp").arg("--version").stdout(Stdio::null()).status().is_ok();
    let required = std::env::var_os("REQUIRE_PEERS").is_some_and(|value| value == "1");
    assert!(found || !required, "REQUIRE_PEERS=1, but capnp is not installed");
    if !found {
        eprintln!("skipped: capnp is not installed");
    }
    found
}

fn load(file: &Path) -> Schema {
    let schemas = Path::new(env!("CARGO_MANIFEST_DIR")).join("../schema");
    Schema::load(&[file.to_owned()], &[schemas]).unwrap()
}

fn named(schema: &Schema, name: &str) -> Named {
    Named::plain(schema.id_of(name).unwrap())
}

fn written(schema: &Schema, of: &Named, json: &Value) -> Result<Builder<HeapAllocator>> {
    let mut message = Builder::new_default();
    let lookup = |name: &str, _: &Named| Err(Failure::command(format_args!("no {name}")));
    write(schema, &lookup, of, json, message.get_root::<any_pointer::Builder<'_>>()?)?;
    Ok(message)
}

fn text_of(schema: &Schema, of: &Named, from: any_pointer::Reader<'_>) -> String {
    let mut out = Out::new(schema, 64 << 20, &|_, _| "null".to_owned());
    read(&mut out, of, &[], from).unwrap();
    out.into_text()
}

/// Values for types, by chance: the state of a generator of random numbers.
struct Chance(u64);

impl Chance {
    fn new(seed: u8) -> Self {
        Chance(seed.into())
    }

    /// The algorithm `SplitMix64`.
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end as u64).unwrap()
    }

    fn bits(&mut self) -> u64 {
        // Small, large and negative ones.
        match self.below(3) {
            0 => self.next() % 100,
            1 => self.next(),
            _ => (self.next() % 100).wrapping_neg(),
        }
    }

    #[expect(clippy::cast_possible_truncation, clippy::cast_possible_wrap, reason = "any bits")]
    fn value(&mut self, schema: &Schema, of: &Type, depth: usize) -> Option<Value> {
        let bits = self.bits();
        Some(match of {
            Type::Void => Value::Null,
            Type::Bool => json!(bits.is_multiple_of(2)),
            Type::Int8 => json!(bits as i8),
            Type::Int16 => json!(bits as i16),
            Type::Int32 => json!(bits as i32),
            Type::Int64 => json!((bits as i64).to_string()),
            Type::UInt8 => json!(bits as u8),
            Type::UInt16 => json!(bits as u16),
            Type::UInt32 => json!(bits as u32),
            Type::UInt64 => json!(bits.to_string()),
            Type::Float32 => self.float(f64::from(f32::from_bits(bits as u32))),
            Type::Float64 => self.float(f64::from_bits(bits)),
            Type::Text => self.text(),
            Type::Data => (0..self.below(5)).map(|_| json!(self.next() as u8)).collect(),
            Type::Enum(id) => {
                let names = schema.enumerants(*id).unwrap();
                match names.get(self.below(names.len() + 1)) {
                    Some(name) => json!(name),
                    None => json!(77),
                }
            }
            Type::Struct(named) => self.structure(schema, named.id, &named.brand, depth)?,
            Type::List(element) => {
                let count = if depth > 4 { 0 } else { self.below(4) };
                let items = (0..count).filter_map(|_| self.value(schema, element, depth + 1));
                items.collect()
            }
            Type::Interface(_) | Type::AnyPointer => return None,
        })
    }

    fn float(&mut self, number: f64) -> Value {
        match self.below(8) {
            0 => json!("NaN"),
            1 => json!("-Infinity"),
            2 => json!("Infinity"),
            3 => json!(self.below(1000)),
            _ if number.is_finite() => json!(number),
            _ => json!(-0.5),
        }
    }

    fn text(&mut self) -> Value {
        let parts = ["a", "é", "\"", "\\", "\n", "{", " ", "\u{1F600}", "</x>", "\u{7f}"];
        (0..self.below(6)).map(|_| parts[self.below(parts.len())]).collect::<String>().into()
    }

    fn structure(
        &mut self,
        schema: &Schema,
        id: u64,
        brand: &Brand,
        depth: usize,
    ) -> Option<Value> {
        if depth > 4 {
            return None;
        }
        let fields = schema.structure(id).unwrap().fields().unwrap();
        let of_union = fields.iter().filter(|field| field.discriminant.is_some()).count();
        let set = self.below(of_union.max(1));
        let mut members = Map::new();
        for field in fields {
            if field.discriminant.is_some_and(|number| usize::from(number) != set) {
                continue;
            }
            // The deeper the fewer.
            if self.below(10) < 3 + depth {
                continue;
            }
            let value = match field.place(brand).unwrap() {
                Place::Slot(of, _, _) => self.value(schema, &of, depth + 1),
                Place::Group(group) => self.structure(schema, group, brand, depth),
            };
            members.extend(value.map(|value| (field.name.to_owned(), value)));
        }
        Some(Value::Object(members))
    }
}

/// Runs the program of the C++ implementation.
fn convert(formats: &str, input: Vec<u8>) -> Vec<u8> {
    let mut process = Command::new("capnp")
        // It complains of one that is not its own.
        .env_remove("PWD")
        .args(["convert", formats, "--short"])
        .arg(folder().join("values.capnp"))
        .arg("Values")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = process.stdin.take().unwrap();
    let writing = std::thread::spawn(move || stdin.write_all(&input).unwrap());
    let output = process.wait_with_output().unwrap();
    writing.join().unwrap();
    assert!(output.status.success());
    output.stdout
}

fn values(text: &str) -> Vec<Value> {
    serde_json::Deserializer::from_str(text).into_iter().map(Result::unwrap).collect()
}

/// Whether two values are the same; a number may be written with an exponent or without.
fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => {
            a.as_f64().map(f64::to_bits) == b.as_f64().map(f64::to_bits)
        }
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b))
        }
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(name, a)| b.get(name).is_some_and(|b| same(a, b)))
        }
        (a, b) => a == b,
    }
}

#[test]
fn json_is_what_the_other_implementation_writes_and_reads() {
    if !installed() {
        return;
    }
    let schema = load(&folder().join("values.capnp"));
    let of = named(&schema, "Values");
    let mut bytes = Vec::new();
    let mut texts = Vec::new();
    for seed in 0..=u8::MAX {
        let json = Chance::new(seed).structure(&schema, of.id, &of.brand, 0).unwrap();
        let message = written(&schema, &of, &json).unwrap();
        capnp::serialize::write_message(&mut bytes, &message).unwrap();
        let root = message.into_reader();
        texts.push(text_of(&schema, &of, root.get_root().unwrap()));
    }

    let theirs = values(&String::from_utf8(convert("binary:json", bytes)).unwrap());
    assert_eq!(theirs.len(), texts.len());
    for (text, theirs) in texts.iter().zip(&theirs) {
        let ours: Value = serde_json::from_str(text).unwrap();
        assert!(same(&ours, theirs), "{ours}\n{theirs}");
    }

    // It does not always find where one JSON ends and the next begins, and it does not read
    // characters that are written as numbers.
    for text in texts.iter().step_by(4) {
        let bytes = convert("json:binary", text.replace("\\u007f", "\u{7f}").into_bytes());
        let options = ReaderOptions::new();
        let message = capnp::serialize::read_message(&mut &bytes[..], options).unwrap();
        assert_eq!(text_of(&schema, &of, message.get_root().unwrap()), *text);
    }
}

#[test]
fn generated_code_reads_what_is_written_and_writes_what_is_read() {
    if !installed() {
        return;
    }
    let schemas = Path::new(env!("CARGO_MANIFEST_DIR")).join("../schema");
    let schema = load(&schemas.join("test.capnp"));
    let of = named(&schema, "TestAllTypes");
    let full = test_values_capnp::FULL_MESSAGE.get().unwrap();
    let mut message = Builder::new_default();
    message.set_root::<test_all_types::Owned>(full).unwrap();
    let original = message.into_reader();
    let text = text_of(&schema, &of, original.get_root().unwrap());
    assert!(text.contains(r#""uInt64Field": "12345678901234567890""#), "{text}");

    let copy = written(&schema, &of, &serde_json::from_str(&text).unwrap()).unwrap().into_reader();
    let read: test_all_types::Reader<'_> = copy.get_root().unwrap();
    assert_eq!(read.get_text_list().unwrap().get(1).unwrap(), "xyzzy");
    assert_eq!(original.canonicalize().unwrap(), copy.canonicalize().unwrap());
}

#[test]
fn what_does_not_fit_is_refused_with_the_place_and_what_would() {
    if !installed() {
        return;
    }
    let schema = load(&folder().join("values.capnp"));
    let of = named(&schema, "Values");
    for (json, complaint) in [
        (json!(3), "should be an object, and not 3"),
        (json!({"naem": 1}), "no field \"naem\" in values.capnp:Values; there is nothing, flag,"),
        (json!({"nested": {"place": {"x": 1}}}), "nested: place: no field \"x\""),
        (json!({"i8": 128}), "i8: should be an integer from -128 to 127, and not 128"),
        (json!({"u64": "-1"}), "u64: should be an integer of 64 bits without a sign"),
        (json!({"i16": 1.5}), "i16: should be an integer from -32768 to 32767, and not 1.5"),
        (json!({"i16s": [1, "x"]}), "i16s: [1]: should be an integer"),
        (json!({"f64": "much"}), "f64: should be a number, or \"NaN\""),
        (json!({"flag": 1}), "flag: should be true or false"),
        (json!({"text": 1}), "text: should be a text"),
        (json!({"data": "text"}), "data: should be a list of bytes"),
        (json!({"data": [256]}), "data: should be an integer from 0 to 255"),
        (json!({"color": "pink"}), "has no \"pink\"; it has red, green and deepBlue"),
        (json!({"name": "x", "unset": null}), "members of one union"),
        (json!({"nesteds": [{}, {"code": []}]}), "nesteds: [1]: code: should be an integer"),
        (json!({"nothing": 1}), "nothing: should be null"),
        (json!({"object": 1}), "object: should be a capability"),
        (json!({"object": "$x"}), "object: no $x"),
        (json!({"anything": 1}), "anything: should be null, because"),
    ] {
        let failure = written(&schema, &of, &json).map(|_| ()).unwrap_err().to_string();
        assert!(failure.contains(complaint), "{json}: {failure}");
    }
}

#[test]
fn null_leaves_a_pointer_null_and_integers_may_be_written_as_texts_or_with_exponents() {
    if !installed() {
        return;
    }
    let schema = load(&folder().join("values.capnp"));
    let of = named(&schema, "Values");
    let json = json!({"text": null, "object": null, "u8": "7", "i32": 1e3, "color": 2});
    let message = written(&schema, &of, &json).unwrap().into_reader();
    let text = text_of(&schema, &of, message.get_root().unwrap());
    for part in ["\"u8\": 7,", "\"i32\": 1000,", "\"color\": \"deepBlue\""] {
        assert!(text.contains(part), "{text}");
    }
    assert!(!text.contains("object") && !text.contains("\"text\""), "{text}");
}

#[test]
fn texts_cannot_steer_a_terminal() {
    if !installed() {
        return;
    }
    let schema = load(&folder().join("values.capnp"));
    let of = named(&schema, "Values");
    let text = "a\u{1b}[31m\n\u{7f}\u{9b}\u{202e}é\u{1F600}";
    let message = written(&schema, &of, &json!({ "text": text })).unwrap().into_reader();
    let json = text_of(&schema, &of, message.get_root().unwrap());
    let escaped = r#""text": "a\u001b[31m\n\u007f\u009b\u202eé\U0001F600""#;
    assert!(json.contains(&escaped.replace("\\U0001F600", "\u{1F600}")), "{json}");
    let read: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(read["text"], text);
}

#[test]
fn content_that_is_longer_than_allowed_or_garbled_is_an_error() {
    if !installed() {
        return;
    }
    let schema = load(&folder().join("values.capnp"));
    let of = named(&schema, "Values");
    let message = written(&schema, &of, &json!({"nothings": vec![(); 1000]})).unwrap();
    let root = message.into_reader();
    let mut out = Out::new(&schema, 1000, &|_, _| String::new());
    let failure = read(&mut out, &of, &[], root.get_root().unwrap()).unwrap_err();
    assert!(failure.to_string().contains("longer than 1000 bytes"), "{failure}");
    assert!(out.into_text().len() <= 1000);

    // Whatever is written into the words, reading ends, and with no panic.
    let mut chance = Chance::new(7);
    for seed in 0..=u8::MAX {
        let json = Chance::new(seed).structure(&schema, of.id, &of.brand, 0).unwrap();
        let message = written(&schema, &of, &json).unwrap();
        let mut bytes = capnp::serialize::write_message_to_words(&message);
        for _ in 0..=bytes.len() / 100 {
            // The table of segments stays as it is.
            let at = 8 + chance.below(bytes.len() - 8);
            bytes[at] = chance.next().to_le_bytes()[0];
        }
        let options = ReaderOptions::new();
        let Ok(message) = capnp::serialize::read_message(&mut &bytes[..], options) else {
            continue;
        };
        let mut out = Out::new(&schema, 1 << 20, &|_, _| String::new());
        if let Ok(root) = message.get_root() {
            let _ = read(&mut out, &of, &[], root);
        }
    }
}
