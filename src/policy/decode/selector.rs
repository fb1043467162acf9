//! LabelSelector: decoding and `ValidateLabelSelector`.

use super::super::document::{Node, Position};
use super::super::selector::{LabelSelector, Operator, Requirement};
use super::{Path, Reader, Severity, words};

/// Decodes a selector that is written; `null` is the empty one, which selects everything.
pub fn decode(reader: &mut Reader, node: &Node, path: &Path, owner: &str) -> LabelSelector {
    let mut selector = LabelSelector {
        position: Some(node.position),
        ..LabelSelector::default()
    };
    let fields = reader.mapping(node, path, owner, "v1.LabelSelector");
    let known = ["matchExpressions", "matchLabels"];
    for field in fields.unwrap_or_default() {
        let child = path.field(&field.key);
        match &*field.key {
            "matchLabels" => {
                selector.match_labels = reader.labels(&field.node, &child, "LabelSelector");
                reader.check_labels(&field.node, &child);
            }
            "matchExpressions" => {
                let wanted = "[]v1.LabelSelectorRequirement";
                let items = reader.sequence(&field.node, &child, "LabelSelector", wanted);
                for (index, item) in items.iter().enumerate() {
                    let requirement = requirement(reader, item, &child.index(index));
                    selector.match_expressions.extend(requirement);
                }
            }
            _ => reader.unknown_field(Severity::Error, field, path, &known),
        }
    }
    selector
}

/// A string field: its text, empty if absent, and where findings about it belong.
struct Text<'n> {
    text: &'n str,
    position: Position,
    /// It has another type, which is reported: neither there nor missing.
    wrong_type: bool,
}

impl<'n> Text<'n> {
    fn absent(position: Position) -> Self {
        Text {
            text: "",
            position,
            wrong_type: false,
        }
    }

    fn read(reader: &mut Reader, node: &'n Node, path: &Path, wanted: &str) -> Self {
        let wrong_types = reader.wrong_types;
        let text = reader.string(node, path, "LabelSelectorRequirement", wanted);
        Text {
            text: text.unwrap_or_default(),
            position: node.position,
            wrong_type: reader.wrong_types > wrong_types,
        }
    }
}

/// The fields of one of `matchExpressions`, before they are checked.
struct Fields<'n> {
    key: Text<'n>,
    operator: Text<'n>,
    values: Vec<Text<'n>>,
    /// The list itself; its text is not used.
    list: Text<'n>,
}

fn requirement(reader: &mut Reader, node: &Node, path: &Path) -> Option<Requirement> {
    let owner = "LabelSelectorRequirement";
    let fields = reader.mapping(node, path, "LabelSelector", "v1.LabelSelectorRequirement")?;
    let mut found = Fields {
        key: Text::absent(node.position),
        operator: Text::absent(node.position),
        values: Vec::new(),
        list: Text::absent(node.position),
    };
    for field in fields {
        let child = path.field(&field.key);
        let node = &field.node;
        match &*field.key {
            "key" => found.key = Text::read(reader, node, &child, "string"),
            "operator" => {
                found.operator = Text::read(reader, node, &child, "v1.LabelSelectorOperator");
            }
            "values" => {
                let wrong_types = reader.wrong_types;
                let items = reader.sequence(node, &child, owner, "[]string");
                found.list.position = node.position;
                found.list.wrong_type = reader.wrong_types > wrong_types;
                for (index, item) in items.iter().enumerate() {
                    let value = Text::read(reader, item, &child.index(index), "string");
                    found.values.push(value);
                }
            }
            _ => {
                let known = ["key", "operator", "values"];
                reader.unknown_field(Severity::Error, field, path, &known);
            }
        }
    }
    let operator = check_requirement(reader, path, &found)?;
    Some(Requirement {
        key: found.key.text.to_owned(),
        operator,
        values: found
            .values
            .iter()
            .map(|value| value.text.to_owned())
            .collect(),
    })
}

/// `ValidateLabelSelectorRequirement`.
fn check_requirement(reader: &mut Reader, path: &Path, found: &Fields) -> Option<Operator> {
    let Fields {
        key,
        operator,
        values,
        list,
    } = found;
    let values_path = path.field("values");
    let which = match operator.text {
        "In" => Some(Operator::In),
        "NotIn" => Some(Operator::NotIn),
        "Exists" => Some(Operator::Exists),
        "DoesNotExist" => Some(Operator::DoesNotExist),
        _ => None,
    };
    match which {
        Some(Operator::In | Operator::NotIn) if values.is_empty() && !list.wrong_type => {
            let detail = "must be specified when `operator` is 'In' or 'NotIn'";
            reader.required(list.position, &values_path, detail);
        }
        Some(Operator::Exists | Operator::DoesNotExist) if !values.is_empty() => {
            let detail = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'";
            reader.forbidden(list.position, &values_path, detail);
        }
        None if !operator.wrong_type => {
            let detail = "not a valid selector operator";
            reader.invalid_text(
                operator.position,
                &path.field("operator"),
                operator.text,
                detail,
            );
        }
        _ => {}
    }
    if !key.wrong_type {
        for problem in words::label_key_problems(key.text) {
            reader.invalid_text(key.position, &path.field("key"), key.text, &problem);
        }
    }
    for (index, value) in values.iter().enumerate() {
        for problem in words::label_value_problems(value.text) {
            let path = values_path.index(index);
            reader.invalid_text(value.position, &path, value.text, &problem);
        }
    }
    which
}
