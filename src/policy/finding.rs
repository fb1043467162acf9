//! What loading or checking manifests has to say, and where.

use serde::{Deserialize, Serialize};

use super::document::Position;

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// Loads, with a meaning that may surprise, or without effect.
    Warning,
    /// The whole set is refused.
    Error,
}

/// A place in a source file; line and column count from 1.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Place {
    /// [`super::SourceFile::name`].
    pub file: String,
    /// Line, from 1.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
}

impl Place {
    /// A place in a file.
    pub fn new(file: &str, position: Position) -> Self {
        Place {
            file: file.to_owned(),
            line: position.line,
            column: position.column,
        }
    }
}

impl std::fmt::Display for Place {
    /// `file:line:column`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}:{}", self.file, self.line, self.column)
    }
}

/// One finding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Does it refuse the set?
    pub severity: Severity,
    /// Stable kebab-case id, documented in `docs/lint.md`.
    pub id: &'static str,
    /// Where in the files.
    pub place: Place,
    /// Number of the document in the file, from 1.
    pub document: u32,
    /// The object, `kind/namespace/name`; empty when the document could not be read that far.
    pub object: String,
    /// Field path in the apiserver's style, `spec.ingress[0].from[1].ipBlock.cidr`; may be empty.
    pub path: String,
    /// The reason in the apiserver's words: `Invalid value: "x": must be …`.
    pub message: String,
}

impl std::fmt::Display for Finding {
    /// `file:line:column: error: kind/ns/name: path: message [id]`, with `document N: ` before the
    /// object from the second document of a file on.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let severity = match self.severity {
            Severity::Warning => "warning",
            Severity::Error => "error",
        };
        write!(f, "{}: {severity}: ", self.place)?;
        if self.document > 1 {
            write!(f, "document {}: ", self.document)?;
        }
        for part in [&self.object, &self.path] {
            if !part.is_empty() {
                write!(f, "{part}: ")?;
            }
        }
        write!(f, "{} [{}]", self.message, self.id)
    }
}
