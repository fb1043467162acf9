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
    pub fn line(&mut self, place: &Place, label: &str) -> String {
        self.excerpt(place, label, 1)
    }

    /// As [`Sources::line`], with the lines of the same block below it.
    pub fn block(&mut self, place: &Place, label: &str) -> String {
        self.excerpt(place, label, BLOCK_LINES_MAX)
    }

    fn excerpt(&mut self, place: &Place, label: &str, lines_max: usize) -> String {
        let read = || std::fs::read_to_string(&place.file).ok();
        let text = self.texts.entry(place.file.clone()).or_insert_with(read);
        match text {
            Some(text) => excerpt(text, place, label, lines_max).unwrap_or_default(),
            None => String::new(),
        }
    }
}

/// Most lines of a block that are shown.
const BLOCK_LINES_MAX: usize = 16;

fn excerpt(text: &str, place: &Place, label: &str, lines_max: usize) -> Option<String> {
    let mut lines = text.lines().skip(place.line as usize - 1);
    let first = lines.next()?;
    let mut block = first.to_owned();
    for line in lines
        .take(lines_max - 1)
        .take_while(|line| belongs(line, place.column))
    {
        block.push('\n');
        block.push_str(line);
    }
    let mut annotation = AnnotationKind::Primary.span(underlined(first, place.column));
    if !label.is_empty() {
        annotation = annotation.label(label);
    }
    let snippet = Snippet::source(block)
        .path(&*place.file)
        .line_start(place.line as usize)
        .fold(false)
        .annotation(annotation);
    let group = Group::with_level(Level::ERROR).element(snippet);
    Some(Renderer::plain().render(&[group]))
}

/// Does the line continue the block that starts in this column? YAML tells by the indentation, and
/// where a document ends.
fn belongs(line: &str, column: u32) -> bool {
    if line.starts_with("---") {
        return false;
    }
    let indentation = line
        .chars()
        .take_while(|character| *character == ' ')
        .count();
    indentation + 1 >= column as usize && indentation < line.chars().count()
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
            sources.line(&place(2, 9), ""),
            " --> p.yaml:2:9\n  |\n2 |   port: eighty  # no\n  |         ^^^^^^"
        );
        assert_eq!(sources.line(&place(9, 1), ""), "");
        assert!(!sources.line(&place(1, 99), "").is_empty());
        assert_eq!(
            sources.line(
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

    #[test]
    fn a_block_ends_where_its_indentation_does() {
        let mut sources = Sources::default();
        sources.insert("p.yaml", "in:\n- from:\n  - a: b\n  ports: []\n- from: c\n");
        let place = Place {
            file: "p.yaml".into(),
            line: 2,
            column: 3,
        };
        let block = sources.block(&place, "in[0]");
        assert!(block.contains("2 | - from:\n  |   ^^^^^ in[0]\n3 |   - a: b\n4 |   ports: []"));
        assert!(!block.contains("from: c"), "{block}");
        sources.insert("p.yaml", "kind: a\nnetid: 1\n---\nkind: b\n");
        let place = Place {
            file: "p.yaml".into(),
            line: 1,
            column: 1,
        };
        let block = sources.block(&place, "netid");
        assert!(
            block.contains("netid: 1") && !block.contains("kind: b"),
            "{block}"
        );
    }
}
