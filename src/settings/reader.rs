//! Reading a TOML document table by table, gathering every problem on the way.
//!
//! A reader asks its [`Section`] for each key it knows; what is left when the section is dropped
//! are unknown keys. Each key asked for is also recorded, which lets a test hold the documentation
//! against the code.

use std::cell::RefCell;
use std::ops::Range;
use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::choice::Choice;
use super::error::{Problem, ProblemKind};
use super::kind::{Kind, Wrong, describe, one_word_of};
use super::nearest::nearest;

/// A document being read.
pub(super) struct Document<'t> {
    name: &'t Path,
    text: &'t str,
    notes: RefCell<Notes>,
}

#[derive(Default)]
struct Notes {
    problems: Vec<Problem>,
    fields: Vec<Field>,
}

/// A key some reader asked for.
#[derive(Debug, Clone)]
#[cfg_attr(
    not(test),
    expect(dead_code, reason = "read by the test of appliance.toml")
)]
pub(super) struct Field {
    /// Its path without indices: `port.queues`.
    pub path: String,
    /// What it may be set to; empty for a table.
    pub allowed: String,
    /// Where its value stands, if it was set.
    pub span: Option<Range<usize>>,
}

/// One table of a document.
pub(super) struct Section<'d, 't> {
    document: &'d Document<'t>,
    /// Path with indices: `port[0]`; empty for the root.
    path: String,
    /// Path without indices.
    pattern: String,
    span: Range<usize>,
    entries: Vec<Entry<'t>>,
    known: Vec<&'static str>,
}

struct Entry<'t> {
    key: String,
    key_span: Range<usize>,
    /// Taken by the reader that knows the key.
    value: Option<Spanned<DeValue<'t>>>,
    value_span: Range<usize>,
}

/// Reads `text` by `read`; every problem found, in the order of the text, when there is one.
pub(super) fn read_document<T>(
    name: &Path,
    text: &str,
    read: impl FnOnce(&mut Section<'_, '_>) -> T,
) -> Result<(T, Vec<Field>), Vec<Problem>> {
    let document = Document {
        name,
        text,
        notes: RefCell::default(),
    };
    let (table, errors) = DeTable::parse_recoverable(text);
    for error in &errors {
        let message = error.message().to_owned();
        let span = error.span().unwrap_or(0..0);
        document.problem(span, "", ProblemKind::Syntax { message });
    }
    if !errors.is_empty() {
        return Err(document.into_problems());
    }
    let mut root = Section::new(&document, String::new(), String::new(), 0..0);
    root.fill(table.into_inner());
    let value = read(&mut root);
    drop(root);
    if document.notes.borrow().problems.is_empty() {
        return Ok((value, document.notes.into_inner().fields));
    }
    Err(document.into_problems())
}

/// What `read` makes of an empty table: the defaults.
pub(super) fn defaults<T>(read: impl FnOnce(&mut Section<'_, '_>) -> T) -> T {
    let (value, _) = read_document(Path::new(""), "", read).expect("defaults are valid");
    value
}

impl Document<'_> {
    fn problem(&self, span: Range<usize>, field: &str, kind: ProblemKind) {
        let (line, column) = self.position(span.start);
        self.notes.borrow_mut().problems.push(Problem {
            file: self.name.to_owned(),
            line,
            column,
            field: field.to_owned(),
            kind,
        });
    }

    /// Line and column of a byte, both from 1, the column in characters.
    fn position(&self, offset: usize) -> (usize, usize) {
        let before = &self.text[..self.text.floor_char_boundary(offset)];
        let line = before.bytes().filter(|&byte| byte == b'\n').count() + 1;
        let start = before.rfind('\n').map_or(0, |newline| newline + 1);
        (line, before[start..].chars().count() + 1)
    }

    fn into_problems(self) -> Vec<Problem> {
        let mut problems = self.notes.into_inner().problems;
        problems.sort_by_key(|problem| (problem.line, problem.column));
        problems
    }
}

impl<'d, 't> Section<'d, 't> {
    fn new(document: &'d Document<'t>, path: String, pattern: String, span: Range<usize>) -> Self {
        Section {
            document,
            path,
            pattern,
            span,
            entries: Vec::new(),
            known: Vec::new(),
        }
    }

    fn fill(&mut self, table: DeTable<'t>) {
        self.entries = table
            .into_iter()
            .map(|(key, value)| Entry {
                key: key.get_ref().to_string(),
                key_span: key.span(),
                value_span: value.span(),
                value: Some(value),
            })
            .collect();
    }

    /// The value of `key`, or `default` when it is not set or not allowed.
    pub fn optional<K: Kind>(&mut self, key: &'static str, default: K::Value, kind: K) -> K::Value {
        self.maybe(key, kind).unwrap_or(default)
    }

    /// The value of `key`; `None` and a problem when it is not set or not allowed.
    pub fn required<K: Kind>(&mut self, key: &'static str, kind: K) -> Option<K::Value> {
        let allowed = kind.allowed();
        let value = self.maybe(key, kind);
        if self.span_of(key).is_none() {
            let kind = ProblemKind::Missing { allowed };
            self.document
                .problem(self.span.clone(), &self.path_of(key), kind);
        }
        value
    }

    /// The value of `key`; `None` when it is not set, and `None` and a problem when not allowed.
    pub fn maybe<K: Kind>(&mut self, key: &'static str, kind: K) -> Option<K::Value> {
        let value = self.take(key, kind.allowed())?;
        match kind.read(&value) {
            Ok(value) => Some(value),
            Err(wrongs) => {
                for wrong in wrongs {
                    self.wrong(key, wrong);
                }
                None
            }
        }
    }

    /// The word of `key`; the first of its words when it is not set or not allowed.
    pub fn choice<T: Choice>(&mut self, key: &'static str) -> T {
        self.optional(key, T::ALL[0].1, one_word_of())
    }

    /// The table `key`; an empty one when it is not set.
    pub fn table(&mut self, key: &'static str) -> Section<'d, 't> {
        let (path, pattern) = (self.path_of(key), self.pattern_of(key));
        let span = self.span_of(key).unwrap_or(self.span.clone());
        let mut section = Section::new(self.document, path, pattern, span);
        match self.take(key, String::new()).map(Spanned::into_inner) {
            None => {}
            Some(DeValue::Table(table)) => section.fill(table),
            Some(other) => self.wrong(key, self.not_a(key, &other, "a table")),
        }
        section
    }

    /// The array of tables `key`; an empty one when it is not set.
    pub fn tables(&mut self, key: &'static str) -> Vec<Section<'d, 't>> {
        let allowed = "an array of tables";
        let elements = match self.take(key, String::new()).map(Spanned::into_inner) {
            None => return Vec::new(),
            Some(DeValue::Array(array)) => array,
            Some(other) => {
                self.wrong(key, self.not_a(key, &other, allowed));
                return Vec::new();
            }
        };
        let mut sections = Vec::new();
        for (index, element) in elements.into_iter().enumerate() {
            let path = format!("{}[{index}]", self.path_of(key));
            let span = element.span();
            let mut section = Section::new(self.document, path, self.pattern_of(key), span);
            match element.into_inner() {
                DeValue::Table(table) => section.fill(table),
                other => {
                    let wrong = self.not_a(key, &other, "a table");
                    let span = section.span.clone();
                    self.wrong(key, Wrong { span, ..wrong });
                    continue;
                }
            }
            sections.push(section);
        }
        sections
    }

    /// Reports `key` (or the section's head, when it is not set): found this, allowed is that.
    pub fn reject(&self, key: &str, found: impl Into<String>, allowed: impl Into<String>) {
        self.wrong(
            key,
            Wrong {
                span: self.span_of(key).unwrap_or(self.span.clone()),
                suffix: String::new(),
                found: found.into(),
                allowed: allowed.into(),
            },
        );
    }

    /// Reports that the table `key` must be there.
    pub fn missing(&self, key: &str, allowed: &str) {
        let allowed = allowed.to_owned();
        let field = self.path_of(key);
        let kind = ProblemKind::Missing { allowed };
        self.document.problem(self.span.clone(), &field, kind);
    }

    fn wrong(&self, key: &str, wrong: Wrong) {
        let field = format!("{}{}", self.path_of(key), wrong.suffix);
        let (found, allowed) = (wrong.found, wrong.allowed);
        let kind = ProblemKind::Value { found, allowed };
        self.document.problem(wrong.span, &field, kind);
    }

    fn not_a(&self, key: &str, found: &DeValue<'_>, allowed: &str) -> Wrong {
        Wrong {
            span: self.span_of(key).unwrap_or(self.span.clone()),
            suffix: String::new(),
            found: describe(found),
            allowed: allowed.to_owned(),
        }
    }

    fn take(&mut self, key: &'static str, allowed: String) -> Option<Spanned<DeValue<'t>>> {
        self.known.push(key);
        self.document.notes.borrow_mut().fields.push(Field {
            path: self.pattern_of(key),
            allowed,
            span: self.span_of(key),
        });
        let entry = self.entries.iter_mut().find(|entry| entry.key == key)?;
        entry.value.take()
    }

    fn span_of(&self, key: &str) -> Option<Range<usize>> {
        let entry = self.entries.iter().find(|entry| entry.key == key)?;
        Some(entry.value_span.clone())
    }

    fn path_of(&self, key: &str) -> String {
        join(&self.path, key)
    }

    fn pattern_of(&self, key: &str) -> String {
        join(&self.pattern, key)
    }
}

impl Drop for Section<'_, '_> {
    /// Whatever no reader has asked for is unknown.
    fn drop(&mut self) {
        let unknown = self.entries.iter().filter(|entry| entry.value.is_some());
        for entry in unknown {
            let kind = ProblemKind::UnknownKey {
                nearest: nearest(&entry.key, &self.known).map(str::to_owned),
                known: self.known.iter().map(|&key| key.to_owned()).collect(),
            };
            let field = self.path_of(&entry.key);
            self.document.problem(entry.key_span.clone(), &field, kind);
        }
    }
}

fn join(path: &str, key: &str) -> String {
    match path {
        "" => key.to_owned(),
        path => format!("{path}.{key}"),
    }
}
