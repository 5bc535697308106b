//! What is called: `Interface.method({...}).field.method`.

use serde_json::Value;

use crate::failure::{Failure, Result};

/// A path, taken apart, but not understood yet.
#[derive(Debug, PartialEq)]
pub(super) struct Path {
    pub(super) steps: Vec<Step>,
}

/// What stands between two points.
#[derive(Debug, PartialEq)]
pub(super) struct Step {
    /// A name: of an interface, a method, a field, or, with a `$`, what `--let` named.
    pub(super) name: String,
    /// What stands in parentheses behind it, which only methods have.
    pub(super) params: Option<Value>,
}

/// Takes a path apart.
///
/// # Errors
/// It is none. The error says where, and how one is written.
pub(super) fn parse(text: &str) -> Result<Path> {
    let mut steps = Vec::new();
    let mut rest = text.trim();
    loop {
        let is_name = |c: char| c.is_alphanumeric() || c == '_' || c == '$';
        let end = rest.find(|c| !is_name(c)).unwrap_or(rest.len());
        if end == 0 {
            return Err(wrong(text, rest, "a name should stand there"));
        }
        let (name, after) = rest.split_at(end);
        let (params, after) = match after.strip_prefix('(') {
            None => (None, after),
            Some(after) => {
                let (params, after) = parentheses(text, after)?;
                (Some(params), after)
            }
        };
        steps.push(Step { name: name.to_owned(), params });
        rest = match after.strip_prefix('.') {
            Some(after) => after,
            None if after.is_empty() => return Ok(Path { steps }),
            None => return Err(wrong(text, after, "a point should stand there")),
        };
    }
}

/// The JSON that a parenthesis was opened before, and what follows the closed one.
fn parentheses<'t>(text: &str, after: &'t str) -> Result<(Value, &'t str)> {
    if let Some(after) = after.trim_start().strip_prefix(')') {
        return Ok((crate::dynamic::empty(), after));
    }
    // The JSON itself shows where it ends.
    let mut values = serde_json::Deserializer::from_str(after).into_iter::<Value>();
    let value = values.next().unwrap_or_else(|| Ok(crate::dynamic::empty()));
    let value = value.map_err(|error| {
        Failure::command(format_args!("{text}: what is in parentheses is not JSON: {error}"))
    })?;
    let rest = after.get(values.byte_offset()..).unwrap_or_default().trim_start();
    match rest.strip_prefix(')') {
        Some(after) => Ok((value, after)),
        None => Err(wrong(text, rest, "a closing parenthesis should stand there")),
    }
}

fn wrong(text: &str, rest: &str, what: &str) -> Failure {
    let place = text.len() - rest.len();
    let place = if rest.is_empty() {
        "at the end".to_owned()
    } else {
        format!("before {:?}", &text[place..])
    };
    Failure::command(format_args!(
        "{text:?} cannot be called: {what}, {place}; write Interface.method, or \
         Interface.method({{...}}).field.method to go on from a result"
    ))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::*;

    fn step(name: &str, params: Option<Value>) -> Step {
        Step { name: name.to_owned(), params }
    }

    #[test]
    fn paths_are_names_with_points_between_and_json_in_parentheses() {
        for (text, steps) in [
            ("A.b", vec![step("A", None), step("b", None)]),
            (
                r#"A.b({"x": ")."}).c( ).d"#,
                vec![
                    step("A", None),
                    step("b", Some(json!({"x": ")."}))),
                    step("c", Some(json!({}))),
                    step("d", None),
                ],
            ),
            ("$two.read()", vec![step("$two", None), step("read", Some(json!({})))]),
        ] {
            assert_eq!(parse(text).unwrap(), Path { steps });
        }
    }

    #[test]
    fn what_is_no_path_is_refused_with_the_place() {
        for (text, problem) in [
            ("", "a name should stand there, at the end"),
            ("A.", "a name should stand there, at the end"),
            ("A..b", "a name should stand there, before \".b\""),
            ("A b", "a point should stand there, before \" b\""),
            ("A.b({}", "a closing parenthesis should stand there, at the end"),
            ("A.b({} {})", "a closing parenthesis should stand there, before \"{})\""),
            ("A.b({x: 1})", "what is in parentheses is not JSON"),
            ("A.b(", "a closing parenthesis should stand there"),
        ] {
            let failure = parse(text).unwrap_err().to_string();
            assert!(failure.contains(problem), "{failure}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in r#"[A-b.$(){}":é, 0\\\[\]]{0,40}"#) {
            let _ = parse(&text);
        }
    }
}
