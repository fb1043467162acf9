//! A text taken apart at its document markers, without reading the documents.

use std::ops::Range;

/// A piece of a text that is one document, or what stands before the first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// Its bytes in the text.
    pub bytes: Range<usize>,
    /// Lines of the text before it.
    pub lines_before: u32,
    /// Documents of the text before it.
    pub documents_before: u32,
}

/// The pieces of a text, in order, together all of it. `None` where only a parser can tell:
/// directives, explicit document ends, other line breaks than `\n` and `\r\n`.
///
/// A line that starts with `---` starts a document wherever it stands, but for texts that are
/// broken (YAML 1.2.2 §9.1.2); and every such line starts one, an empty one too.
pub fn split(text: &str) -> Option<Vec<Piece>> {
    let mut pieces = Vec::new();
    let mut piece = Piece {
        bytes: 0..0,
        lines_before: 0,
        documents_before: 0,
    };
    // Blanks and comments in front of a document belong to it.
    let mut has_document = false;
    let (mut begin, mut lines) = (0, 0);
    while begin < text.len() {
        let rest = &text.as_bytes()[begin..];
        let length = memchr::memchr(b'\n', rest).map_or(rest.len(), |at| at + 1);
        let line = rest[..length].trim_ascii_end();
        let unlike = line.first() == Some(&b'%') || is_marker(line, b"...");
        if unlike || memchr::memchr(b'\r', line).is_some() {
            return None;
        }
        if is_marker(line, b"---") {
            if has_document {
                piece.bytes.end = begin;
                pieces.push(piece.clone());
                piece = Piece {
                    bytes: begin..begin,
                    lines_before: lines,
                    documents_before: piece.documents_before + 1,
                };
            }
            has_document = true;
        }
        has_document |= !matches!(line.trim_ascii_start().first(), None | Some(b'#'));
        begin += length;
        lines += 1;
    }
    piece.bytes.end = text.len();
    pieces.push(piece);
    Some(pieces)
}

/// Does the line consist of the marker, or start with it and a blank?
fn is_marker(line: &[u8], marker: &[u8]) -> bool {
    let rest = line.strip_prefix(marker);
    rest.is_some_and(|rest| matches!(rest.first(), None | Some(b' ' | b'\t')))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::document::{Document, Part, parse, parse_part};
    use crate::policy::finding::id;
    use crate::policy::{Finding, SourceFile};
    use proptest::prelude::*;

    fn pieces(text: &str) -> Vec<(&str, u32, u32)> {
        let pieces = split(text).unwrap();
        let piece = |one: &Piece| {
            (
                &text[one.bytes.clone()],
                one.lines_before,
                one.documents_before,
            )
        };
        pieces.iter().map(piece).collect()
    }

    #[test]
    fn every_marker_starts_a_document_and_comments_belong_to_the_next() {
        assert_eq!(pieces("a: 1\n"), [("a: 1\n", 0, 0)]);
        assert_eq!(
            pieces("# c\n---\na: 1\n--- # d\n---\nb"),
            [
                ("# c\n---\na: 1\n", 0, 0),
                ("--- # d\n", 3, 1),
                ("---\nb", 4, 2)
            ]
        );
        assert_eq!(
            pieces("a: 1\r\n---\r\nb: |\r\n ---\r\n ----\r\n"),
            [
                ("a: 1\r\n", 0, 0),
                ("---\r\nb: |\r\n ---\r\n ----\r\n", 1, 1)
            ]
        );
    }

    #[test]
    fn what_only_a_parser_can_tell_is_left_to_it() {
        for text in ["%YAML 1.2\n---\na\n", "a: 1\n...\n---\nb", "a: 1\rb: 2\n"] {
            assert_eq!(split(text), None, "{text:?}");
        }
    }

    /// Lines that a text of several documents is made of, some of them broken.
    fn line() -> impl Strategy<Value = &'static str> {
        proptest::sample::select(vec![
            "---",
            "--- ",
            "--- {a: 1}",
            "--- # b",
            "----",
            "-- -",
            "",
            "  ",
            "# c",
            "a: 1",
            "b: [1, 2]",
            "c: |",
            "  ---",
            "  text",
            "d: \"e",
            "  f\"",
            "- 1",
            "g: &h 1",
            "i: *h",
            "j: {k: [",
            "]}",
        ])
    }

    proptest! {
        #[test]
        fn pieces_read_one_by_one_are_the_text_read_as_a_whole(
            lines in proptest::collection::vec(line(), 0..20),
            carriage_returns in any::<bool>(),
        ) {
            let text = lines.join(if carriage_returns { "\r\n" } else { "\n" });
            let file = SourceFile { name: "f.yaml".into(), text: text.clone().into() };
            let whole = parse(&file);
            let mut one_by_one = (Vec::new(), Vec::new());
            for piece in split(&text).unwrap() {
                let parsed = parse_part(&Part {
                    file: "f.yaml".into(),
                    documents_before: piece.documents_before,
                    lines_before: piece.lines_before,
                    text: &text[piece.bytes.clone()],
                });
                one_by_one.0.extend(parsed.documents);
                one_by_one.1.extend(parsed.findings);
            }
            let broken = |findings: &[Finding]| {
                findings.iter().any(|finding| finding.id == id::SYNTAX)
            };
            // A broken text is read as a whole.
            prop_assert_eq!(broken(&whole.1), broken(&one_by_one.1));
            if !broken(&whole.1) {
                let places = |documents: &[Document]| -> Vec<_> {
                    let place = |one: &Document| (one.stand.number(), one.place(one.root.position));
                    documents.iter().map(place).collect()
                };
                prop_assert_eq!(places(&whole.0), places(&one_by_one.0));
                prop_assert_eq!(whole.1, one_by_one.1);
            }
        }
    }
}
