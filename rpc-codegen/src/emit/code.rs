//! The text of a generated file.

use std::fmt::{Arguments, Write};

use crate::docs;

/// Lines of code, indented by the blocks that are open.
#[derive(Default)]
pub(crate) struct Code {
    text: String,
    depth: usize,
}

/// Adds a line to code, of which the arguments are those of `format!`.
macro_rules! line {
    ($code:expr, $($arguments:tt)*) => { $code.add(format_args!($($arguments)*)) };
}

/// Adds a line that opens a block.
macro_rules! open {
    ($code:expr, $($arguments:tt)*) => { $code.begin(format_args!($($arguments)*)) };
}

pub(crate) use {line, open};

impl Code {
    pub(crate) fn add(&mut self, line: Arguments<'_>) {
        if line.as_str() != Some("") {
            self.text.extend((0..self.depth).map(|_| "    "));
        }
        // Writing to a string does not fail.
        let _ = self.text.write_fmt(line);
        self.text.push('\n');
    }

    /// Adds a line that opens a block, by a brace or a bracket at its end.
    pub(crate) fn begin(&mut self, line: Arguments<'_>) {
        self.add(line);
        self.depth += 1;
    }

    /// Ends a block, as which `end` closes it.
    pub(crate) fn close(&mut self, end: &str) {
        self.depth -= 1;
        self.add(format_args!("{end}"));
    }

    /// Adds a doc comment: what the element is, and what the schema says of it.
    pub(crate) fn doc(&mut self, title: Arguments<'_>, comment: &str) {
        self.add(format_args!("/// {title}"));
        let mut first = true;
        for line in docs::lines(comment) {
            if first {
                self.add(format_args!("///"));
                first = false;
            }
            match line.as_str() {
                "" => self.add(format_args!("///")),
                line => self.add(format_args!("/// {line}")),
            }
        }
    }

    pub(crate) fn into_text(self) -> String {
        self.text
    }
}
