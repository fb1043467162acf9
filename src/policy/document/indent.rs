//! Quoted texts whose further lines stand too far to the left.
//!
//! YAML wants every line of a quoted text indented more than the block around it (YAML 1.2.2, rule
//! 69). kubectl's reader does not look, and manifests make use of that: the JSON in a
//! NetworkAttachmentDefinition usually ends with `}'` below its key. Blanks at the start of such a
//! line are no part of the text, so that adding some changes nothing else.

use granit_parser::{ErrorKind, Parser, StrInput};

/// Lines mended in one file at the most: each costs a reading of the file.
const LINES_MAX: usize = 1_000;

/// Deeper than any block of a manifest.
const BLANKS: &str = "                                                                ";

/// Is this why the text cannot be read?
pub fn is_misindented(kind: &ErrorKind) -> bool {
    matches!(kind, ErrorKind::InvalidQuotedScalarIndent)
}

/// The text with every such line indented, as far as it can be read for other reasons. Lines keep
/// their numbers.
pub fn mend(text: &str) -> String {
    let mut lines: Vec<String> = text.split_inclusive('\n').map(str::to_owned).collect();
    for _ in 0..LINES_MAX {
        let mended = lines.concat();
        let Some(line) = misindented_line(&mended) else {
            return mended;
        };
        match lines.get_mut(line - 1) {
            // The next document begins: the quote before was never closed.
            Some(line) if line.starts_with("---") || line.starts_with("...") => {
                return text.to_owned();
            }
            Some(line) if !line.starts_with(BLANKS) => line.insert_str(0, BLANKS),
            _ => return text.to_owned(),
        }
    }
    lines.concat()
}

/// Number of the first such line, from 1.
fn misindented_line(text: &str) -> Option<usize> {
    let mut parser: Parser<'_, StrInput<'_>> = Parser::new_from_str(text);
    let error = parser.find_map(Result::err)?;
    is_misindented(error.kind()).then(|| error.marker().line())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_a_quoted_text_may_stand_below_its_key() {
        let text = "a:\n  b: '{\n    \"x\": 1,\n  \"y\": 2\n  }'\n  c: 3\n";
        let mended = mend(text);
        assert_eq!(misindented_line(&mended), None);
        assert_eq!(mended.lines().count(), text.lines().count());
        assert!(mended.contains("  c: 3\n") && mended.contains("\n    \"x\": 1,\n"));
    }

    #[test]
    fn what_is_wrong_otherwise_stays_as_it_is() {
        for text in ["a: [\n", "a: 'b\n", "a: b\n", "", "a: 'b\n---\nc: d\n"] {
            assert_eq!(mend(text), text);
        }
    }
}
