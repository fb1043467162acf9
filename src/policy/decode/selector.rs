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
}

fn requirement(reader: &mut Reader, node: &Node, path: &Path) -> Option<Requirement> {
    let owner = "LabelSelectorRequirement";
    let fields = reader.mapping(node, path, "LabelSelector", "v1.LabelSelectorRequirement")?;
    let wrong_types = reader.wrong_types;
    let absent = || Text {
        text: "",
        position: node.position,
    };
    let (mut key, mut operator) = (absent(), absent());
    let mut values = Vec::new();
    let mut values_position = node.position;
    for field in fields {
        let child = path.field(&field.key);
        let position = field.node.position;
        match &*field.key {
            "key" => {
                let text = reader
                    .string(&field.node, &child, owner, "string")
                    .unwrap_or_default();
                key = Text { text, position };
            }
            "operator" => {
                let wanted = "v1.LabelSelectorOperator";
                let text = reader
                    .string(&field.node, &child, owner, wanted)
                    .unwrap_or_default();
                operator = Text { text, position };
            }
            "values" => {
                values_position = position;
                for item in reader.sequence(&field.node, &child, owner, "[]string") {
                    let index = child.index(values.len());
                    let text = reader
                        .string(item, &index, owner, "string")
                        .unwrap_or_default();
                    let position = item.position;
                    values.push(Text { text, position });
                }
            }
            _ => {
                let known = ["key", "operator", "values"];
                reader.unknown_field(Severity::Error, field, path, &known);
            }
        }
    }
    if reader.wrong_types > wrong_types {
        // A field of the wrong type would only be reported a second time, as missing.
        return None;
    }
    let operator = check_requirement(reader, path, &key, &operator, &values, values_position)?;
    Some(Requirement {
        key: key.text.to_owned(),
        operator,
        values: values.iter().map(|value| value.text.to_owned()).collect(),
    })
}

/// `ValidateLabelSelectorRequirement`.
fn check_requirement(
    reader: &mut Reader,
    path: &Path,
    key: &Text,
    operator: &Text,
    values: &[Text],
    values_position: Position,
) -> Option<Operator> {
    let values_path = path.field("values");
    let found = match operator.text {
        "In" => Some(Operator::In),
        "NotIn" => Some(Operator::NotIn),
        "Exists" => Some(Operator::Exists),
        "DoesNotExist" => Some(Operator::DoesNotExist),
        _ => None,
    };
    match found {
        Some(Operator::In | Operator::NotIn) if values.is_empty() => {
            let detail = "must be specified when `operator` is 'In' or 'NotIn'";
            reader.required(values_position, &values_path, detail);
        }
        Some(Operator::Exists | Operator::DoesNotExist) if !values.is_empty() => {
            let detail = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'";
            reader.forbidden(values_position, &values_path, detail);
        }
        Some(_) => {}
        None => {
            let detail = "not a valid selector operator";
            reader.invalid_text(
                operator.position,
                &path.field("operator"),
                operator.text,
                detail,
            );
        }
    }
    for problem in words::label_key_problems(key.text) {
        reader.invalid_text(key.position, &path.field("key"), key.text, &problem);
    }
    for (index, value) in values.iter().enumerate() {
        for problem in words::label_value_problems(value.text) {
            let path = values_path.index(index);
            reader.invalid_text(value.position, &path, value.text, &problem);
        }
    }
    found
}
