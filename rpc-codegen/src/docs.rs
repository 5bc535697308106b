//! Comments of schemas as documentation.

/// The lines of a comment in a form that rustdoc takes for prose: schemas are not
/// written for it, and what looks like code or a link in them is none.
pub(crate) fn lines(comment: &str) -> impl Iterator<Item = String> {
    let is_empty = comment.trim().is_empty();
    comment.trim_end().lines().filter(move |_| !is_empty).map(line)
}

fn line(line: &str) -> String {
    let mut clean = String::new();
    for letter in line.trim().chars() {
        match letter {
            '[' | ']' | '<' | '>' | '`' | '*' | '_' | '#' | '\\' => clean.extend(['\\', letter]),
            // Compilers refuse comments that could show something else than they say.
            '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\r' => {}
            _ => clean.push(letter),
        }
    }
    // A rule, or the underlining of a heading.
    if !clean.is_empty() && clean.trim_matches(['-', '=', '+', '~', ' ']).is_empty() {
        clean.insert(0, '\\');
    }
    clean
}

#[cfg(test)]
mod tests {
    use super::lines;

    #[test]
    fn code_and_links_become_prose() {
        let lines = |comment| lines(comment).collect::<Vec<_>>();
        assert_eq!(
            lines("See [here]:\n\n    let x: Vec<u8>;\n"),
            ["See \\[here\\]:", "", "let x: Vec\\<u8\\>;"]
        );
        assert!(lines("  \n").is_empty());
        assert_eq!(lines("title\n====="), ["title", "\\====="]);
        assert_eq!(lines("a\rb\u{202e}c"), ["abc"]);
    }
}
