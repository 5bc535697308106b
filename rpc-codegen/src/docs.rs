//! Comments of schemas as documentation.

/// The lines of a comment in a form that rustdoc takes for prose. Comments in schemas are
/// not Markdown: what looks like code or a link in them is neither, except for the address
/// of a page.
pub(crate) fn lines(comment: &str) -> impl Iterator<Item = String> {
    let is_empty = comment.trim().is_empty();
    comment.trim_end().lines().filter(move |_| !is_empty).map(line)
}

fn line(line: &str) -> String {
    let mut clean = String::new();
    let mut rest = line.trim();
    while let Some((before, address, after)) = next_address(rest) {
        clean.push_str(&prose(before));
        clean.extend(["<", address, ">"]);
        rest = after;
    }
    clean.push_str(&prose(rest));
    // A rule, or the underlining of a heading.
    if !clean.is_empty() && clean.trim_matches(['-', '=', '+', '~', ' ']).is_empty() {
        clean.insert(0, '\\');
    }
    clean
}

/// Splits text at the first address of a page.
fn next_address(text: &str) -> Option<(&str, &str, &str)> {
    let start = ["http://", "https://"].iter().filter_map(|scheme| text.find(scheme)).min()?;
    let (before, rest) = text.split_at(start);
    let is_outside = |letter: char| letter.is_whitespace() || "<>[]()`\"\\".contains(letter);
    let address = &rest[..rest.find(is_outside).unwrap_or(rest.len())];
    let address = address.trim_end_matches(['.', ',', ';', ':', '!', '?', '\'']);
    Some((before, address, &rest[address.len()..]))
}

fn prose(text: &str) -> String {
    let mut prose = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '[' | ']' | '<' | '>' | '`' | '*' | '_' | '#' | '\\' => prose.extend(['\\', letter]),
            // Marks that reorder text. Compilers refuse comments with them.
            '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\r' => {}
            _ => prose.push(letter),
        }
    }
    prose
}

#[cfg(test)]
mod tests {
    fn lines(comment: &str) -> Vec<String> {
        super::lines(comment).collect()
    }

    #[test]
    fn code_and_links_become_prose() {
        assert_eq!(
            lines("See [here]:\n\n    let x: Vec<u8>;\n"),
            ["See \\[here\\]:", "", "let x: Vec\\<u8\\>;"]
        );
        assert!(lines("  \n").is_empty());
        assert_eq!(lines("title\n====="), ["title", "\\====="]);
        assert_eq!(lines("a\rb\u{202e}c"), ["abc"]);
    }

    #[test]
    fn addresses_of_pages_stay_such() {
        assert_eq!(
            lines("As (https://a.example/b_c#d), or http://e.example."),
            ["As (<https://a.example/b_c#d>), or <http://e.example>."]
        );
    }
}
