//! Reading mappings strictly: every key is taken once, and what nobody took is an error.

use std::fmt::Display;
use std::str::FromStr;

use crate::policy::document::{Document, Field, Node, Position, Value};
use crate::policy::{Finding, Severity};

/// Collects what is wrong with one document of a case file.
pub(super) struct Reader<'d> {
    pub(super) document: &'d Document,
    /// Name of the case, for messages.
    pub(super) case: String,
    pub(super) findings: Vec<Finding>,
}

/// The fields of one mapping that nobody took yet.
pub(super) struct Fields<'d> {
    path: String,
    position: Position,
    left: Vec<&'d Field>,
}

impl<'d> Reader<'d> {
    pub(super) fn error(
        &mut self,
        id: &'static str,
        position: Position,
        path: &str,
        message: impl Into<String>,
    ) {
        self.findings.push(Finding {
            severity: Severity::Error,
            id,
            place: self.document.place(position),
            document: 1,
            object: self.case.clone(),
            path: path.to_owned(),
            message: message.into(),
        });
    }

    /// A value that is none, or none that is allowed.
    pub(super) fn bad_value(&mut self, node: &Node, path: &str, message: impl Into<String>) {
        self.error("case-value", node.position, path, message);
    }

    /// Something the format has and this program has not.
    pub(super) fn unsupported(&mut self, node: &Node, path: &str, what: impl Display) {
        let message = format!("{what} is not supported yet");
        self.error("case-unsupported", node.position, path, message);
    }

    /// The fields of a node that must be a mapping.
    pub(super) fn fields(&mut self, node: &'d Node, path: &str) -> Option<Fields<'d>> {
        let Some(fields) = node.as_mapping() else {
            let message = format!("must be a mapping, found {}", described(node));
            self.bad_value(node, path, message);
            return None;
        };
        Some(Fields {
            path: path.to_owned(),
            position: node.position,
            left: fields.iter().collect(),
        })
    }

    /// The items of a node that must be a list.
    pub(super) fn items(&mut self, node: &'d Node, path: &str) -> &'d [Node] {
        node.as_sequence().unwrap_or_else(|| {
            let message = format!("must be a list, found {}", described(node));
            self.bad_value(node, path, message);
            &[]
        })
    }

    /// Reports the keys nobody took.
    pub(super) fn finish(&mut self, fields: Fields<'d>, known: &[&str]) {
        for field in fields.left {
            let key = &*field.key;
            let closest = known
                .iter()
                .map(|known| (edits(key, known), known))
                .min()
                .filter(|&(edits, _)| edits <= 2);
            let message = match closest {
                Some((_, known)) => format!("unknown key {key:?}; did you mean {known:?}?"),
                None => format!("unknown key {key:?}; known are {}", known.join(", ")),
            };
            let path = joined(&fields.path, key);
            self.error("case-unknown-key", field.key_position, &path, message);
        }
    }

    /// A scalar's text: `12` is as good an id as `"12"`.
    pub(super) fn text(&mut self, (node, path): (&'d Node, String)) -> Option<String> {
        match &node.value {
            Value::String(text) | Value::Number(text) => Some(text.to_string()),
            Value::Boolean(value) => Some(value.to_string()),
            _ => {
                let message = format!("must be a text, found {}", described(node));
                self.bad_value(node, &path, message);
                None
            }
        }
    }

    /// A scalar that one of the types of a probe reads.
    pub(super) fn parsed<T>(&mut self, (node, path): (&'d Node, String)) -> Option<T>
    where
        T: FromStr<Err: Display>,
    {
        let text = self.text((node, path.clone()))?;
        match text.parse() {
            Ok(value) => Some(value),
            Err(error) => {
                self.bad_value(node, &path, error.to_string());
                None
            }
        }
    }

    /// A number from 0 to `last`.
    pub(super) fn number(&mut self, (node, path): (&'d Node, String), last: u16) -> Option<u16> {
        let number = match &node.value {
            Value::Number(text) => text.parse().ok().filter(|&number| number <= last),
            _ => None,
        };
        if number.is_none() {
            let message = format!(
                "must be a number from 0 to {last}, found {}",
                described(node)
            );
            self.bad_value(node, &path, message);
        }
        number
    }

    /// One of a few words.
    pub(super) fn word<'w>(
        &mut self,
        (node, path): (&'d Node, String),
        words: &[&'w str],
    ) -> Option<&'w str> {
        let found = node.as_str().unwrap_or_default();
        let word = words.iter().find(|word| **word == found).copied();
        if word.is_none() {
            let message = format!(
                "must be one of {}, found {}",
                words.join(", "),
                described(node)
            );
            self.bad_value(node, &path, message);
        }
        word
    }
}

impl<'d> Fields<'d> {
    /// The value of a key with its path; none when the key is absent or its value is null.
    ///
    /// A key that is there twice is reported already, by the parser.
    pub(super) fn take(&mut self, key: &str) -> Option<(&'d Node, String)> {
        let node = &self.left.iter().find(|field| &*field.key == key)?.node;
        self.left.retain(|field| &*field.key != key);
        (node.value != Value::Null).then(|| (node, joined(&self.path, key)))
    }

    /// As [`Fields::take`], and an error when there is none.
    pub(super) fn require(
        &mut self,
        reader: &mut Reader<'d>,
        key: &str,
    ) -> Option<(&'d Node, String)> {
        let found = self.take(key);
        if found.is_none() {
            let message = format!("{key:?} is required");
            reader.error("case-value", self.position, &self.path, message);
        }
        found
    }
}

pub(super) fn joined(path: &str, key: &str) -> String {
    if path.is_empty() {
        key.to_owned()
    } else {
        format!("{path}.{key}")
    }
}

/// What was found, in a message: the scalar itself, or the kind of anything larger.
pub(super) fn described(node: &Node) -> String {
    match &node.value {
        Value::String(text) => format!("{text:?}"),
        Value::Number(text) => text.to_string(),
        Value::Boolean(value) => value.to_string(),
        Value::Null => "nothing".into(),
        Value::Sequence(_) => "a list".into(),
        Value::Mapping(_) => "a mapping".into(),
    }
}

/// Levenshtein distance, in bytes.
fn edits(one: &str, other: &str) -> usize {
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (i, a) in one.bytes().enumerate() {
        let mut diagonal = i;
        row[0] = i + 1;
        for (j, b) in other.bytes().enumerate() {
            let replaced = diagonal + usize::from(a != b);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[other.len()]
}

#[cfg(test)]
mod tests {
    use super::edits;

    #[test]
    fn edits_are_counted() {
        let count = |one, other| edits(one, other);
        assert_eq!(count("port", "port"), 0);
        assert_eq!(count("prot", "proto"), 1);
        assert_eq!(count("", "abc"), 3);
        assert_eq!(count("kitten", "sitting"), 3);
    }
}
