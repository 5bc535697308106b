//! Comments of schemas as rustdoc.

/// The lines of a comment, such that rustdoc takes them for prose: schemas are
/// not written for it, and what looks like code or a link in them is none.
pub(crate) fn sanitized(comment: &str) -> Vec<String> {
    let mut lines = Vec::new();
    if comment.trim().is_empty() {
        return lines;
    }
    lines.push(String::new());
    for line in comment.trim_end().lines() {
        let mut clean = String::from(" ");
        for letter in line.trim().chars() {
            if matches!(letter, '[' | ']' | '<' | '>' | '`' | '*' | '_' | '#' | '\\') {
                clean.push('\\');
            }
            clean.push(letter);
        }
        lines.push(clean.trim_end().to_owned());
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::sanitized;

    #[test]
    fn code_and_links_become_prose() {
        assert_eq!(
            sanitized("See [here]:\n\n    let x: Vec<u8>;\n"),
            ["", " See \\[here\\]:", "", " let x: Vec\\<u8\\>;"]
        );
        assert!(sanitized("  \n").is_empty());
    }
}
