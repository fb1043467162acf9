//! Label selectors.

use super::document::Position;
use super::inventory::Labels;

/// Which labels are selected: all conditions must hold. Empty selects everything.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LabelSelector {
    /// `matchLabels`: key present with exactly this value.
    pub match_labels: Labels,
    /// `matchExpressions`.
    pub match_expressions: Vec<Requirement>,
    /// Where the selector is written; of a policy without one, where its `spec` is.
    pub position: Option<Position>,
}

/// One of `matchExpressions`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Requirement {
    /// `key`.
    pub key: String,
    /// `operator`.
    pub operator: Operator,
    /// `values`; empty for `Exists` and `DoesNotExist`.
    pub values: Vec<String>,
}

/// `operator` of a [`Requirement`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operator {
    /// The key is there and its value is one of the values.
    In,
    /// The key is not there, or its value is none of the values.
    NotIn,
    /// The key is there.
    Exists,
    /// The key is not there.
    DoesNotExist,
}

impl LabelSelector {
    /// The selector of these `matchLabels`.
    pub fn from_labels(match_labels: Labels) -> Self {
        LabelSelector {
            match_labels,
            ..LabelSelector::default()
        }
    }

    /// Does it select everything?
    pub fn is_empty(&self) -> bool {
        self.match_labels.is_empty() && self.match_expressions.is_empty()
    }

    /// Does it select these labels?
    pub fn matches(&self, labels: &Labels) -> bool {
        let equal = |(key, value): (&String, &String)| labels.get(key) == Some(value);
        self.match_labels.iter().all(equal)
            && self
                .match_expressions
                .iter()
                .all(|requirement| requirement.matches(labels))
    }
}

impl Requirement {
    fn matches(&self, labels: &Labels) -> bool {
        let value = labels.get(&self.key);
        let listed = value.is_some_and(|value| self.values.contains(value));
        match self.operator {
            Operator::In => listed,
            Operator::NotIn => !listed,
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
        }
    }
}

impl std::fmt::Display for LabelSelector {
    /// As `kubectl` writes it: `app=web,tier in (a,b),!canary`; `everything` if empty. Equal
    /// selectors give equal texts, however they were written.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let labels = self
            .match_labels
            .iter()
            .map(|(key, value)| format!("{key}={value}"));
        let expressions = self.match_expressions.iter().map(ToString::to_string);
        let mut parts: Vec<String> = labels.chain(expressions).collect();
        parts.sort();
        parts.dedup();
        match parts.is_empty() {
            true => f.write_str("everything"),
            false => f.write_str(&parts.join(",")),
        }
    }
}

impl std::fmt::Display for Requirement {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let key = &self.key;
        let mut values = self.values.clone();
        values.sort();
        values.dedup();
        let values = values.join(",");
        match self.operator {
            Operator::In => write!(f, "{key} in ({values})"),
            Operator::NotIn => write!(f, "{key} notin ({values})"),
            Operator::Exists => write!(f, "{key}"),
            Operator::DoesNotExist => write!(f, "!{key}"),
        }
    }
}
