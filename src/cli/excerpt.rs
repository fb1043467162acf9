//! The lines of a file a message is about.

use std::collections::HashMap;
use std::ops::Range;

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};

use crate::policy::Place;

/// Source texts by file name, read when first needed.
#[derive(Debug, Default)]
pub struct Sources {
    texts: HashMap<String, Option<String>>,
}

impl Sources {
    /// Makes a text known, so that the file is not read again (or cannot be: standard input).
    pub fn insert(&mut self, file: &str, text: &str) {
        self.texts.insert(file.to_owned(), Some(text.to_owned()));
    }

    /// The place's line with what starts there underlined; empty when the file cannot be read, or
    /// has no such line any more.
    pub fn excerpt(&mut self, place: &Place, label: &str) -> String {
        let read = || std::fs::read_to_string(&place.file).ok();
        let text = self.texts.entry(place.file.clone()).or_insert_with(read);
        match text {
            Some(text) => excerpt(text, place, label).unwrap_or_default(),
            None => String::new(),
        }
    }
}

fn excerpt(text: &str, place: &Place, label: &str) -> Option<String> {
    let line = text.lines().nth(place.line as usize - 1)?;
    let mut snippet = Snippet::source(line)
        .path(&*place.file)
        .line_start(place.line as usize);
    let mut annotation = AnnotationKind::Primary.span(underlined(line, place.column));
    if !label.is_empty() {
        annotation = annotation.label(label);
    }
    snippet = snippet.annotation(annotation);
    let group = Group::with_level(Level::ERROR).element(snippet);
    Some(Renderer::plain().render(&[group]))
}

/// From the column to the end of what is written there: the line's, without a comment.
fn underlined(line: &str, column: u32) -> Range<usize> {
    let start = line.char_indices().nth(column as usize - 1);
    let start = start.map_or(line.len(), |(start, _)| start);
    let rest = &line[start..];
    let rest = rest.find(" #").map_or(rest, |comment| &rest[..comment]);
    start..start + rest.trim_end().len().max(1).min(line.len() - start)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_starts_at_the_place_is_underlined() {
        let mut sources = Sources::default();
        sources.insert("p.yaml", "kind: x\n  port: eighty  # no\n");
        let place = |line, column| Place {
            file: "p.yaml".into(),
            line,
            column,
        };
        assert_eq!(
            sources.excerpt(&place(2, 9), ""),
            " --> p.yaml:2:9\n  |\n2 |   port: eighty  # no\n  |         ^^^^^^"
        );
        assert_eq!(sources.excerpt(&place(9, 1), ""), "");
        assert!(!sources.excerpt(&place(1, 99), "").is_empty());
        assert_eq!(
            sources.excerpt(
                &Place {
                    file: "/none".into(),
                    line: 1,
                    column: 1
                },
                ""
            ),
            ""
        );
    }
}
