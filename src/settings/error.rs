//! What can be wrong with a settings file, and how it is told.

use std::fmt;
use std::path::PathBuf;

/// Why a settings file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The file cannot be read.
    #[error("{}: cannot read settings: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The text has problems, in the order they appear in the file.
    #[error("{}", Lines(.0))]
    Invalid(Vec<Problem>),
}

/// One thing wrong with a settings file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The file, as it was named.
    pub file: PathBuf,
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// Path of the field, `port[0].queues`; empty for the file as a whole.
    pub field: String,
    /// What is wrong.
    pub kind: ProblemKind,
}

/// What is wrong at one place of a settings file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProblemKind {
    /// Not TOML.
    Syntax {
        /// The parser's message.
        message: String,
    },
    /// A key that means nothing here.
    UnknownKey {
        /// The known key that looks most like it, if one does.
        nearest: Option<String>,
        /// Every key known here.
        known: Vec<String>,
    },
    /// A key that must be there is not.
    Missing {
        /// What it may be set to.
        allowed: String,
    },
    /// A value that is not allowed.
    Value {
        /// What stands there.
        found: String,
        /// What may stand there.
        allowed: String,
    },
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Problem {
            file,
            line,
            column,
            field,
            kind,
        } = self;
        write!(f, "{}:{line}:{column}: ", file.display())?;
        match kind {
            ProblemKind::Syntax { message } => write!(f, "{message}"),
            ProblemKind::UnknownKey {
                nearest: Some(nearest),
                ..
            } => {
                write!(f, "unknown key `{field}`; did you mean `{nearest}`?")
            }
            ProblemKind::UnknownKey {
                nearest: None,
                known,
            } => {
                write!(f, "unknown key `{field}`; known here: {}", known.join(", "))
            }
            ProblemKind::Missing { allowed } => {
                write!(f, "`{field}` is missing; it must be {allowed}")
            }
            ProblemKind::Value { found, allowed } => {
                write!(f, "`{field}` is {found}; it must be {allowed}")
            }
        }
    }
}

struct Lines<'a>(&'a [Problem]);

impl fmt::Display for Lines<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}
