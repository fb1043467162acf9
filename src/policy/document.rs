//! Text into trees that know the place of every key and value.
//!
//! Scalars mean what they mean to `kubectl`, whose parser mixes YAML 1.1 and 1.2: `yes`, `on` and
//! `y` are booleans, `0b11` and `1_000` numbers, but `12:30` is a string. JSON is part of it.
//! Anchors, aliases and merge keys (`<<`) are resolved here, within a budget. A document that is
//! broken does not hide the findings of the others.

mod indent;
mod scalar;
pub mod split;
mod tree;

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use granit_parser::{Event, Parser, ScalarStyle, ScanError, Span, StrInput, Tag};

pub use self::tree::{Document, Field, Node, Position, Stand, Value};

use self::scalar::{block_header, resolve_plain};
use super::finding::id;
use super::{Finding, Severity, SourceFile};

/// Most nodes aliases and merge keys may add to one file: more is an attack ("billion laughs").
pub const ALIASED_NODES_MAX: usize = 1_000_000;

/// Splits a file into documents.
///
/// Empty documents and documents of comments alone are left out. Findings: `syntax`,
/// `duplicate-field`; all are errors.
pub fn parse(file: &SourceFile) -> (Vec<Document>, Vec<Finding>) {
    let part = Part {
        file: Arc::from(&*file.name),
        documents_before: 0,
        lines_before: 0,
        // A byte order mark is no character of the text; columns count from behind it.
        text: file.text.strip_prefix('\u{feff}').unwrap_or(&file.text),
    };
    let parsed = parse_part(&part);
    (parsed.documents, parsed.findings)
}

/// Some documents of a file.
#[derive(Debug, Clone)]
pub struct Part<'t> {
    /// [`SourceFile::name`].
    pub file: Arc<str>,
    /// Documents of the file before these.
    pub documents_before: u32,
    /// Lines of the file before these.
    pub lines_before: u32,
    /// Their text.
    pub text: &'t str,
}

/// What a part of a file holds.
#[derive(Debug)]
pub struct Parsed {
    /// Its documents.
    pub documents: Vec<Document>,
    /// What is wrong with it.
    pub findings: Vec<Finding>,
    /// Nodes that aliases and merge keys have added.
    pub aliased: usize,
}

/// As [`parse`], of a part of a file.
pub fn parse_part(part: &Part) -> Parsed {
    let (parsed, misindented) = read(part, part.text);
    if misindented {
        let (mended, _) = read(part, &indent::mend(part.text));
        if mended.findings.len() < parsed.findings.len() {
            return mended;
        }
    }
    parsed
}

/// As [`parse_part`]; and do lines of a quoted text stand too far to the left?
fn read(part: &Part, text: &str) -> (Parsed, bool) {
    let mut options = granit_parser::Options::default();
    options.set_emit_comments(false);
    let mut builder = Builder {
        parser: Parser::new_from_str_with_options(text, options),
        text,
        lines: None,
        file: part.file.clone(),
        number: part.documents_before,
        lines_before: part.lines_before,
        path: String::new(),
        anchors: HashMap::new(),
        aliased: 0,
        findings: Vec::new(),
        misindented: false,
    };
    let parsed = Parsed {
        documents: builder.documents(),
        findings: builder.findings,
        aliased: builder.aliased,
    };
    (parsed, builder.misindented)
}

struct Builder<'t> {
    parser: Parser<'t, StrInput<'t>>,
    text: &'t str,
    /// Its lines; split when first asked for.
    lines: Option<Vec<&'t str>>,
    file: Arc<str>,
    number: u32,
    lines_before: u32,
    path: String,
    anchors: HashMap<usize, Node>,
    aliased: usize,
    findings: Vec<Finding>,
    misindented: bool,
}

impl<'t> Builder<'t> {
    /// Where the document being read stands.
    fn stand(&self) -> Stand {
        Stand::new(&self.file, self.number, self.lines_before)
    }

    fn documents(&mut self) -> Vec<Document> {
        let mut documents = Vec::new();
        loop {
            match self.document() {
                Ok(Some(root)) if root.value == Value::Null => {}
                Ok(Some(root)) => documents.push(Document {
                    stand: Arc::new(self.stand()),
                    root,
                }),
                Ok(None) => return documents,
                Err(error) => {
                    let marker = error.marker();
                    self.misindented |= indent::is_misindented(error.kind());
                    self.error(id::SYNTAX, position(marker), error.info());
                    // The next `---` starts afresh; without one there is nothing left to read.
                    if !matches!(self.parser.proceed_next_document(), Ok(true)) {
                        return documents;
                    }
                }
            }
        }
    }

    fn document(&mut self) -> Result<Option<Node>, ScanError> {
        while let Some((event, _)) = self.next()? {
            if let Event::DocumentStart(..) = event {
                self.number += 1;
                self.anchors.clear();
                self.path.clear();
                if let Some((event, span)) = self.next()? {
                    return self.node(event, span, None).map(Some);
                }
            }
        }
        Ok(None)
    }

    fn next(&mut self) -> Result<Option<(Event<'t>, Span)>, ScanError> {
        self.parser.next_event().transpose()
    }

    /// Builds the node that starts with this event. A value left out has no place of its own and
    /// takes `place_of_absent`.
    fn node(
        &mut self,
        event: Event<'t>,
        span: Span,
        place_of_absent: Option<Position>,
    ) -> Result<Node, ScanError> {
        let start = position(&span.start);
        let (node, anchor) = match event {
            Event::Alias(id) => return Ok(self.alias(id, start)),
            Event::Scalar(text, style, anchor, tag) => {
                let place = match style {
                    ScalarStyle::Plain if span.is_empty() => place_of_absent,
                    ScalarStyle::Literal | ScalarStyle::Folded => self.block_header(start),
                    _ => None,
                };
                let value = self.scalar(text, style, tag.as_deref(), start);
                let position = place.unwrap_or(start);
                (Node { position, value }, anchor)
            }
            Event::SequenceStart(_, anchor, tag) => {
                self.check_tag(tag.as_deref(), "seq", start);
                let value = Value::Sequence(self.items()?);
                (
                    Node {
                        position: start,
                        value,
                    },
                    anchor,
                )
            }
            Event::MappingStart(_, anchor, tag) => {
                self.check_tag(tag.as_deref(), "map", start);
                let value = Value::Mapping(self.fields()?);
                (
                    Node {
                        position: start,
                        value,
                    },
                    anchor,
                )
            }
            // The parser opens nodes with nothing else.
            _ => (
                Node {
                    position: start,
                    value: Value::Null,
                },
                0,
            ),
        };
        if anchor != 0 && self.spend(&node, start) {
            self.anchors.insert(anchor, node.clone());
        }
        Ok(node)
    }

    fn block_header(&mut self, content: Position) -> Option<Position> {
        let text = self.text;
        let lines = self.lines.get_or_insert_with(|| text.lines().collect());
        block_header(lines, content)
    }

    fn items(&mut self) -> Result<Vec<Node>, ScanError> {
        let mut items = Vec::new();
        let parent = self.path.len();
        while let Some((event, span)) = self.next()? {
            if event == Event::SequenceEnd {
                break;
            }
            self.path.push_str(&format!("[{}]", items.len()));
            let item = self.node(event, span, None);
            self.path.truncate(parent);
            items.push(item?);
        }
        Ok(items)
    }

    fn fields(&mut self) -> Result<Vec<Field>, ScanError> {
        let mut fields: Vec<Field> = Vec::new();
        let mut merged: Vec<Node> = Vec::new();
        let parent = self.path.len();
        while let Some((event, span)) = self.next()? {
            if event == Event::MappingEnd {
                break;
            }
            let plain = matches!(event, Event::Scalar(_, ScalarStyle::Plain, ..));
            let key_position = position(&span.start);
            let key = match self.node(event, span, None)?.value {
                Value::String(text) | Value::Number(text) => text,
                Value::Boolean(value) => value.to_string().into(),
                Value::Null => "null".into(),
                Value::Sequence(_) | Value::Mapping(_) => {
                    let message = "a key must be a string, found a list or a mapping";
                    self.error(id::SYNTAX, key_position, message.into());
                    "".into()
                }
            };
            let Some((event, span)) = self.next()? else {
                break;
            };
            if parent > 0 {
                self.path.push('.');
            }
            self.path.push_str(&key);
            let node = self.node(event, span, Some(key_position));
            self.path.truncate(parent);
            let node = node?;
            if plain && &*key == "<<" {
                merged.push(node);
            } else {
                fields.push(Field {
                    key,
                    key_position,
                    node,
                });
            }
        }
        self.report_duplicates(&fields);
        for node in merged {
            self.merge(&mut fields, node);
        }
        Ok(fields)
    }

    fn report_duplicates(&mut self, fields: &[Field]) {
        let mut seen = HashSet::with_capacity(fields.len());
        for field in fields {
            if !seen.insert(&*field.key) {
                let dot = if self.path.is_empty() { "" } else { "." };
                let path = format!("{}{dot}{}", self.path, field.key);
                let message = format!("duplicate field \"{path}\"");
                self.error(id::DUPLICATE_FIELD, field.key_position, message);
                if let Some(finding) = self.findings.last_mut() {
                    finding.path = path;
                }
            }
        }
    }

    /// `<<: *base` and `<<: [*one, *other]`: adds the fields that are not there yet.
    fn merge(&mut self, fields: &mut Vec<Field>, source: Node) {
        match source.value {
            Value::Mapping(more) => {
                let mut seen: HashSet<Box<str>> =
                    fields.iter().map(|field| field.key.clone()).collect();
                let new = more
                    .into_iter()
                    .filter(|field| seen.insert(field.key.clone()));
                fields.extend(new);
            }
            Value::Sequence(sources) if sources.iter().all(|one| one.as_mapping().is_some()) => {
                for source in sources {
                    self.merge(fields, source);
                }
            }
            _ => {
                let message = "map merge requires map or sequence of maps as the value";
                self.error(id::SYNTAX, source.position, message.into());
            }
        }
    }

    fn alias(&mut self, id: usize, start: Position) -> Node {
        let absent = Node {
            position: start,
            value: Value::Null,
        };
        if self.aliased > ALIASED_NODES_MAX {
            return absent;
        }
        let Some(node) = self.anchors.get(&id) else {
            let message = "the alias refers to a node that contains it";
            self.error(id::SYNTAX, start, message.into());
            return absent;
        };
        let node = node.clone();
        if self.spend(&node, start) {
            node
        } else {
            absent
        }
    }

    /// Takes the nodes of a copy from the budget; false, and an error the first time, when it is
    /// spent.
    fn spend(&mut self, node: &Node, start: Position) -> bool {
        if self.aliased > ALIASED_NODES_MAX {
            return false;
        }
        self.aliased += node.count();
        if self.aliased > ALIASED_NODES_MAX {
            let message = format!("aliases add more than {ALIASED_NODES_MAX} nodes to this file");
            self.error(id::SYNTAX, start, message);
            return false;
        }
        true
    }

    fn scalar(
        &mut self,
        text: Cow<'t, str>,
        style: ScalarStyle,
        tag: Option<&Tag>,
        start: Position,
    ) -> Value {
        let Some(tag) = tag else {
            return match style {
                ScalarStyle::Plain => resolve_plain(text),
                _ => Value::String(text.into()),
            };
        };
        let resolved = resolve_plain(text.clone());
        match (tag.core_suffix(), &resolved) {
            (Some("str"), _) => Value::String(text.into()),
            (None, _) if tag.original() == "!" => Value::String(text.into()),
            (Some("null"), Value::Null) | (Some("bool"), Value::Boolean(_)) => resolved,
            (Some("int" | "float"), Value::Number(_)) => resolved,
            _ => {
                let message = format!("cannot read \"{text}\" as {}", tag.original());
                self.error(id::SYNTAX, start, message);
                Value::Null
            }
        }
    }

    fn check_tag(&mut self, tag: Option<&Tag>, expected: &str, start: Position) {
        if let Some(tag) = tag.filter(|tag| tag.core_suffix() != Some(expected)) {
            let message = format!("cannot read a list or mapping as {}", tag.original());
            self.error(id::SYNTAX, start, message);
        }
    }

    fn error(&mut self, id: &'static str, position: Position, message: String) {
        self.findings.push(Finding {
            severity: Severity::Error,
            id,
            place: self.stand().place(position),
            document: self.number.max(1),
            object: String::new(),
            path: String::new(),
            message,
        });
    }
}

fn position(marker: &granit_parser::Marker) -> Position {
    let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    Position {
        line: count(marker.line()),
        column: count(marker.col()).saturating_add(1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> SourceFile {
        SourceFile {
            name: "f.yaml".into(),
            text: text.into(),
        }
    }

    /// Renders a tree with the place of every value: `{a@1:1: 1@1:4}`.
    fn render(node: &Node) -> String {
        let Position { line, column } = node.position;
        let text = match &node.value {
            Value::Null => "null".into(),
            Value::Boolean(value) => value.to_string(),
            Value::Number(text) => text.to_string(),
            Value::String(text) => format!("{text:?}"),
            Value::Sequence(items) => {
                format!(
                    "[{}]",
                    items.iter().map(render).collect::<Vec<_>>().join(", ")
                )
            }
            Value::Mapping(fields) => {
                let field = |field: &Field| {
                    let Position { line, column } = field.key_position;
                    format!("{}@{line}:{column}: {}", field.key, render(&field.node))
                };
                format!(
                    "{{{}}}",
                    fields.iter().map(field).collect::<Vec<_>>().join(", ")
                )
            }
        };
        format!("{text}@{line}:{column}")
    }

    fn rendered(text: &str) -> Vec<String> {
        let (documents, findings) = parse(&file(text));
        assert_eq!(findings, [], "{text}");
        documents
            .iter()
            .map(|document| render(&document.root))
            .collect()
    }

    fn errors(text: &str) -> Vec<String> {
        parse(&file(text))
            .1
            .iter()
            .map(ToString::to_string)
            .collect()
    }

    #[test]
    fn every_value_knows_its_place() {
        assert_eq!(
            rendered("a: 1\nb:\n  - x\n  - {c: [true, ~]}\nd:\n"),
            [
                "{a@1:1: 1@1:4, b@2:1: [\"x\"@3:5, {c@4:6: [true@4:10, null@4:16]@4:9}@4:5]@3:3, \
              d@5:1: null@5:1}@1:1"
            ]
        );
    }

    #[test]
    fn a_block_scalar_stands_where_its_indicator_does() {
        let text =
            "a: |\n  b | c\n  d > e\n\nk:\n- >-  # > a comment\n\n\n  x\n- !!str |2+\n   y\nz: |\n";
        assert_eq!(
            rendered(text),
            [
                "{a@1:1: \"b | c\\nd > e\\n\"@1:4, k@5:1: [\"\\n\\nx\"@6:3, \" y\\n\"@10:9]@6:3, \
              z@12:1: \"\"@12:4}@1:1"
            ]
        );
    }

    #[test]
    fn json_is_read_with_its_tabs_escapes_and_long_lines() {
        let padding = "x".repeat(5000);
        let text = format!(
            "{{\n\t\"a\": \"\\u0041\\/\",\n\t\"b\":[1,2.5e3 ,{{}}],\"c\":\"{padding}\"\n}}\n"
        );
        assert_eq!(
            rendered(&text),
            [format!(
                "{{a@2:2: \"A/\"@2:7, b@3:2: [1@3:7, 2.5e3@3:9, {{}}@3:16]@3:6, \
                 c@3:20: \"{padding}\"@3:24}}@1:1"
            )]
        );
    }

    #[test]
    fn documents_are_counted_and_empty_ones_left_out() {
        let (documents, findings) =
            parse(&file("# only a comment\n---\na: 1\n---\n---\nb: 2\n...\n"));
        assert_eq!(findings, []);
        let numbers: Vec<_> = documents
            .iter()
            .map(|document| document.stand.number())
            .collect();
        let lines: Vec<_> = documents
            .iter()
            .map(|document| document.root.position.line)
            .collect();
        assert_eq!((numbers, lines), (vec![1, 3], vec![3, 6]));
        assert_eq!(rendered("").len(), 0);
        assert_eq!(rendered("# nothing\n\n").len(), 0);
        assert_eq!(rendered("---\n").len(), 0);
    }

    #[test]
    fn a_byte_order_mark_and_carriage_returns_do_not_move_columns() {
        assert_eq!(
            rendered("\u{feff}a: 1\r\nb: 2\r\n"),
            ["{a@1:1: 1@1:4, b@2:1: 2@2:4}@1:1"]
        );
        assert_eq!(rendered("é: ü\n"), ["{é@1:1: \"ü\"@1:4}@1:1"]);
    }

    #[test]
    fn scalars_are_those_of_kubectl() {
        let booleans = "[true, True, yes, Yes, YES, on, On, no, No, off, OFF]";
        let (documents, _) = parse(&file(booleans));
        let items = documents[0].root.as_sequence().unwrap();
        for (index, item) in items.iter().enumerate() {
            assert_eq!(item.value, Value::Boolean(index < 7), "{index}");
        }
        let (documents, _) = parse(&file("[y, Y, n, N]"));
        let items = documents[0].root.as_sequence().unwrap();
        assert!(items.iter().all(|item| item.as_str().is_some()));
        let strings = "[yEs, oN, yess, 10.0.0.1, _1, 12:30, 2020-01-01, +, ., 0x, 0b2, \
                       0o8, \"80\", \
                       '1', 1e, 'yes', \"on\", __]";
        let (documents, _) = parse(&file(strings));
        let items = documents[0].root.as_sequence().unwrap();
        assert!(
            items.iter().all(|item| item.as_str().is_some()),
            "{items:?}"
        );
        let numbers = "[1, -1, +1, 010, 0x1f, 0o17, 1., .5, 1.5, 1e3, -1.5E-3, .inf, -.Inf, .nan, \
                       0b11, -0b1, 0X1F, 1_000, 1_0.5, 0x_ff]";
        let (documents, _) = parse(&file(numbers));
        let items = documents[0].root.as_sequence().unwrap();
        assert!(
            items.iter().all(|item| item.type_name() == "number"),
            "{items:?}"
        );
    }

    #[test]
    fn tags_choose_the_type() {
        assert_eq!(
            rendered("[!!str 80, !!int \"80\", ! 80]"),
            ["[\"80\"@1:8, 80@1:18, \"80\"@1:26]@1:1"]
        );
        assert_eq!(
            errors("a: !!binary aGk=\nb: !!int x\nc: !own {}\n"),
            [
                "f.yaml:1:13: error: cannot read \"aGk=\" as !!binary [syntax]",
                "f.yaml:2:10: error: cannot read \"x\" as !!int [syntax]",
                "f.yaml:3:9: error: cannot read a list or mapping as !own [syntax]",
            ]
        );
    }

    #[test]
    fn aliases_and_merge_keys_are_resolved_in_place() {
        assert_eq!(
            rendered("a: &x {k: 1}\nb: *x\nc:\n  <<: *x\n  l: 2\nd:\n  k: 3\n  <<: [*x]\n"),
            ["{a@1:1: {k@1:8: 1@1:11}@1:7, b@2:1: {k@1:8: 1@1:11}@1:7, \
              c@3:1: {l@5:3: 2@5:6, k@1:8: 1@1:11}@4:3, d@6:1: {k@7:3: 3@7:6}@7:3}@1:1"]
        );
    }

    #[test]
    fn aliases_are_bounded() {
        let mut text = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
        for level in 1..12 {
            let below = vec![format!("*a{}", level - 1); 10].join(", ");
            text.push_str(&format!("a{level}: &a{level} [{below}]\n"));
        }
        let errors = errors(&text);
        assert_eq!(errors.len(), 1, "{errors:?}");
        assert!(
            errors[0].contains("aliases add more than 1000000 nodes"),
            "{errors:?}"
        );
        assert!(super::tests::errors("a: &a [*a]")[0].contains("contains it"));
        assert!(super::tests::errors("a: *b")[0].contains("f.yaml:1:4"));
    }

    #[test]
    fn duplicate_keys_are_errors_at_the_second_key() {
        assert_eq!(
            errors("spec:\n  ingress: []\n  egress: []\n  ingress:\n  - x: 1\n    x: 2\n"),
            [
                "f.yaml:6:5: error: spec.ingress[0].x: duplicate field \"spec.ingress[0].x\" \
                 [duplicate-field]",
                "f.yaml:4:3: error: spec.ingress: duplicate field \"spec.ingress\" \
                 [duplicate-field]",
            ]
        );
    }

    #[test]
    fn a_broken_document_does_not_hide_the_next() {
        let (documents, findings) = parse(&file("a: [1\n---\nb: 2\n---\nc: }\n---\nd: 4\n"));
        let numbers: Vec<_> = documents
            .iter()
            .map(|document| document.stand.number())
            .collect();
        assert_eq!(numbers, [2, 4]);
        assert_eq!(findings.len(), 2, "{findings:?}");
        assert_eq!(findings[1].document, 3);
    }

    #[test]
    fn no_text_panics() {
        let pieces = [
            "a: ",
            "- ",
            "\n",
            "  ",
            "---\n",
            "{",
            "}",
            "[",
            "]",
            "&a ",
            "*a",
            "<<: ",
            "\"",
            "'",
            "| ",
            "!!int ",
            "? ",
            ": ",
            "#",
            "\t",
            "é",
            "\u{feff}",
            "%YAML 1.2\n",
            "...\n",
        ];
        let mut state = 1u64;
        for _ in 0..3000 {
            let mut text = String::new();
            for _ in 0..12 {
                state = state
                    .wrapping_mul(6364136223846793005)
                    .wrapping_add(1442695040888963407);
                text.push_str(pieces[(state >> 33) as usize % pieces.len()]);
            }
            parse(&file(&text));
        }
    }
}
