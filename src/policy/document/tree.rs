//! What a document is read into.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::policy::Place;

/// A place within a file whose name is kept elsewhere; both count from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// Line.
    pub line: u32,
    /// Column in characters.
    pub column: u32,
}

/// A value and where it starts.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// First character of the value; of the key, when the value is left out.
    pub position: Position,
    /// The value.
    pub value: Value,
}

/// What a node holds.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// `null`, `~` or nothing.
    Null,
    /// `true`, `yes`, `on`, `y` or one of their opposites.
    Boolean(bool),
    /// A number, as it is written: `80`, `0x50`, `0b1010000`, `8e1`, `1_000`.
    Number(Box<str>),
    /// Any other scalar.
    String(Box<str>),
    /// A list.
    Sequence(Vec<Node>),
    /// Keys and values in the order they are written.
    Mapping(Vec<Field>),
}

/// One entry of a mapping.
#[derive(Debug, Clone, PartialEq)]
pub struct Field {
    /// The key's text.
    pub key: Box<str>,
    /// Where the key starts.
    pub key_position: Position,
    /// The value.
    pub node: Node,
}

/// One document of a file.
#[derive(Debug, Clone, PartialEq)]
pub struct Document {
    /// Where it stands.
    pub stand: Arc<Stand>,
    /// Its content.
    pub root: Node,
}

impl Document {
    /// A place in this document's file.
    pub fn place(&self, position: Position) -> Place {
        self.stand.place(position)
    }
}

/// Where a document stands in its file.
///
/// What is read of a document outlives changes of those before it, which move it: its lines are
/// counted from its own beginning, and only here it is known which line of the file that is now.
#[derive(Debug)]
pub struct Stand {
    file: Arc<str>,
    number: AtomicU32,
    lines_before: AtomicU32,
}

impl Stand {
    /// Number `number` (from 1; empty documents count) of the file, with so many lines before those
    /// it is counted from.
    pub fn new(file: &Arc<str>, number: u32, lines_before: u32) -> Self {
        Stand {
            file: file.clone(),
            number: AtomicU32::new(number),
            lines_before: AtomicU32::new(lines_before),
        }
    }

    /// [`SourceFile::name`].
    pub fn file(&self) -> &Arc<str> {
        &self.file
    }

    /// Number of the document in its file, from 1.
    pub fn number(&self) -> u32 {
        self.number.load(Ordering::Relaxed)
    }

    /// The place in the file of a position in the document.
    pub fn place(&self, position: Position) -> Place {
        let lines_before = self.lines_before.load(Ordering::Relaxed);
        let position = Position {
            line: position.line + lines_before,
            ..position
        };
        Place::new(&self.file, position)
    }

    /// Notes that the documents before it have become more or fewer lines.
    pub fn move_to(&self, number: u32, lines_before: u32) {
        self.number.store(number, Ordering::Relaxed);
        self.lines_before.store(lines_before, Ordering::Relaxed);
    }
}

impl PartialEq for Stand {
    fn eq(&self, other: &Stand) -> bool {
        let first = |stand: &Stand| stand.place(Position { line: 1, column: 1 });
        self.number() == other.number() && first(self) == first(other)
    }
}

impl Eq for Stand {}

impl Node {
    /// The fields, if this is a mapping.
    pub fn as_mapping(&self) -> Option<&[Field]> {
        match &self.value {
            Value::Mapping(fields) => Some(fields),
            _ => None,
        }
    }

    /// The items, if this is a list.
    pub fn as_sequence(&self) -> Option<&[Node]> {
        match &self.value {
            Value::Sequence(items) => Some(items),
            _ => None,
        }
    }

    /// The text, if this is a string.
    pub fn as_str(&self) -> Option<&str> {
        match &self.value {
            Value::String(text) => Some(text),
            _ => None,
        }
    }

    /// The value of a key, if this is a mapping that has it.
    pub fn get(&self, key: &str) -> Option<&Node> {
        let field = |field: &&Field| &*field.key == key;
        Some(&self.as_mapping()?.iter().find(field)?.node)
    }

    /// JSON's name of the type: `object`, `array`, `string`, `number`, `bool` or `null`.
    pub fn type_name(&self) -> &'static str {
        match &self.value {
            Value::Null => "null",
            Value::Boolean(_) => "bool",
            Value::Number(_) => "number",
            Value::String(_) => "string",
            Value::Sequence(_) => "array",
            Value::Mapping(_) => "object",
        }
    }

    /// How many nodes it is, with all in it.
    pub(super) fn count(&self) -> usize {
        1 + match &self.value {
            Value::Sequence(items) => items.iter().map(Node::count).sum(),
            Value::Mapping(fields) => fields.iter().map(|field| field.node.count()).sum(),
            _ => 0,
        }
    }
}
