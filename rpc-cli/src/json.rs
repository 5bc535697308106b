//! JSON for people.

/// The width up to which a list or an object stays on its line.
const WIDTH: usize = 80;

/// Breaks JSON that is written on one line into lines.
pub(crate) fn pretty(json: &str) -> String {
    let mut out = String::with_capacity(json.len() * 2);
    let mut depth = 0;
    let mut rest = json;
    while let Some(next) = rest.chars().next() {
        match next {
            '"' => {
                let end = string_end(rest);
                out.push_str(&rest[..end]);
                rest = &rest[end..];
                continue;
            }
            '{' | '[' => {
                if let Some(whole) = short(rest) {
                    out.push_str(whole);
                    rest = &rest[whole.len()..];
                    continue;
                }
                depth += 1;
                out.push(next);
                new_line(&mut out, depth);
            }
            '}' | ']' => {
                depth = depth.saturating_sub(1);
                new_line(&mut out, depth);
                out.push(next);
            }
            ',' => {
                out.push(next);
                new_line(&mut out, depth);
                rest = rest[1..].trim_start();
                continue;
            }
            next => out.push(next),
        }
        rest = &rest[next.len_utf8()..];
    }
    out
}

fn new_line(out: &mut String, depth: usize) {
    out.push('\n');
    out.extend(std::iter::repeat_n("  ", depth));
}

/// Where the string ends with which `json` begins.
fn string_end(json: &str) -> usize {
    let mut escaped = false;
    for (index, byte) in json.bytes().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return index + 1,
            _ => {}
        }
    }
    json.len()
}

/// The list or object with which `json` begins, if it is short.
fn short(json: &str) -> Option<&str> {
    let mut depth = 0_usize;
    let mut index = 0;
    while index < WIDTH {
        match json.as_bytes().get(index)? {
            b'"' => {
                index += string_end(&json[index..]);
                continue;
            }
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth -= 1,
            _ => {}
        }
        index += 1;
        if depth == 0 {
            return Some(&json[..index]);
        }
    }
    None
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_is_short_stays_on_its_line() {
        assert_eq!(pretty(r#"{"a": [1, 2], "b": "x, {"}"#), r#"{"a": [1, 2], "b": "x, {"}"#);
        let long = format!(r#"{{"a": [1, 2], "b": ["{}", "é\"]"]}}"#, "x".repeat(90));
        let lines = format!(
            "{{\n  \"a\": [1, 2],\n  \"b\": [\n    \"{}\",\n    \"é\\\"]\"\n  ]\n}}",
            "x".repeat(90)
        );
        assert_eq!(pretty(&long), lines);
    }

    proptest::proptest! {
        #[test]
        fn lines_change_nothing_in_the_values(
            texts in proptest::collection::vec(r#"[a{}\[\],:"\\é]{0,30}"#, 0..20),
        ) {
            let value = serde_json::json!([texts, {"a": texts, "b": 1.5, "c": {}}]);
            let lines = pretty(&value.to_string());
            proptest::prop_assert_eq!(serde_json::from_str::<serde_json::Value>(&lines).unwrap(), value);
        }
    }
}
