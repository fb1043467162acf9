//! What the schema of a custom resource is checked for, in the words of the apiserver
//! (`k8s.io/apiextensions-apiserver/pkg/apiserver/validation`).

use super::super::document::{Field, Node, Position, Value};
use super::super::finding::id;
use super::{Path, Reader};

/// The fields that are there: a null is pruned before anything is checked.
pub fn given(fields: &[Field]) -> impl Iterator<Item = &Field> {
    fields
        .iter()
        .filter(|field| field.node.value != Value::Null)
}

impl Reader<'_> {
    /// `minItems: 1` and `maxItems`.
    pub(super) fn check_item_count(&mut self, node: &Node, path: &Path, found: usize, most: usize) {
        if found == 0 {
            let detail = format!("{path} in body should have at least 1 items");
            self.invalid(node.position, path, 0, &detail);
        }
        self.check_items_max(node, path, found, most);
    }

    /// `maxItems`.
    pub(super) fn check_items_max(&mut self, node: &Node, path: &Path, found: usize, most: usize) {
        if found > most {
            let message = format!("Too many: {found}: must have at most {most} items");
            self.error(id::INVALID_VALUE, node.position, path, message);
        }
    }

    /// `minProperties: 1`; false when there is none.
    pub(super) fn check_any_property(&mut self, node: &Node, path: &Path, found: usize) -> bool {
        if found == 0 {
            let detail = format!("{path} in body should have at least 1 properties");
            self.invalid(node.position, path, 0, &detail);
        }
        found > 0
    }

    /// `minProperties: 1` and `maxProperties: 1`.
    pub(super) fn check_one_property(&mut self, node: &Node, path: &Path, found: usize) -> bool {
        if found > 1 {
            let message = format!("Too many: {found}: must have at most 1 items");
            self.error(id::INVALID_VALUE, node.position, path, message);
        }
        self.check_any_property(node, path, found) && found == 1
    }

    /// `maxLength`, in characters.
    pub(super) fn check_length(
        &mut self,
        position: Position,
        path: &Path,
        text: &str,
        most: usize,
    ) {
        if text.chars().count() > most {
            let message = format!("Too long: may not be more than {most} bytes");
            self.error(id::TOO_LONG, position, path, message);
        }
    }

    /// `minimum` and `maximum`: the number, where it is within.
    pub(super) fn bounded(
        &mut self,
        node: &Node,
        path: &Path,
        owner: &str,
        (least, most): (u16, u16),
    ) -> Option<u16> {
        let found = self.integer(node, path, owner)?;
        let bound = match found {
            _ if found < i32::from(least) => format!("greater than or equal to {least}"),
            _ if found > i32::from(most) => format!("less than or equal to {most}"),
            _ => return u16::try_from(found).ok(),
        };
        let detail = format!("{path} in body should be {bound}");
        self.invalid(node.position, path, found, &detail);
        None
    }

    /// `enum`: which of the values it is.
    pub(super) fn one_of(
        &mut self,
        node: &Node,
        path: &Path,
        owner: &str,
        values: &[&str],
    ) -> Option<usize> {
        let text = self.string(node, path, owner, "string")?;
        let found = values.iter().position(|value| *value == text);
        if found.is_none() {
            self.unsupported(node.position, path, text, values);
        }
        found
    }
}
