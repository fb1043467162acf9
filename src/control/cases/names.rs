//! The names of a case: constant answers, and how they change.

use std::collections::BTreeMap;

use super::fields::{Fields, Reader, described};
use crate::policy::document::{Node, Value};
use crate::policy::names::{Answer, Change, StaticTable};

/// Largest second a case may speak of.
const SECONDS_MAX: u32 = 1_000_000;

/// `dns` and `dns_timeline`.
pub(super) fn table<'d>(reader: &mut Reader<'d>, fields: &mut Fields<'d>) -> StaticTable {
    let mut table = StaticTable::default();
    if let Some((node, path)) = fields.take("dns") {
        table.change(0, Change::Records(records(reader, node, &path)));
    }
    let Some((list, path)) = fields.take("dns_timeline") else {
        return table;
    };
    for (number, item) in reader.items(list, &path).iter().enumerate() {
        let path = format!("{path}[{number}]");
        let Some(mut entry) = reader.fields(item, &path) else {
            continue;
        };
        let at_s = entry
            .require(reader, "at")
            .and_then(|at| second(reader, at));
        let (given, fail) = (entry.take("records"), entry.take("fail"));
        reader.finish(entry, &["at", "fail", "records"]);
        let change = match (given, fail) {
            (Some((node, path)), None) => Change::Records(records(reader, node, &path)),
            (None, Some((node, _))) if node.value == Value::Boolean(true) => Change::Fail,
            _ => {
                let message = "must have either records or fail: true";
                reader.bad_value(item, &path, message);
                continue;
            }
        };
        if let Some(at_s) = at_s {
            table.change(at_s, change);
        }
    }
    table
}

/// Seconds after load.
pub(super) fn second<'d>(reader: &mut Reader<'d>, (node, path): (&'d Node, String)) -> Option<u32> {
    number(reader, node, &path, SECONDS_MAX)
}

fn number(reader: &mut Reader, node: &Node, path: &str, last: u32) -> Option<u32> {
    let found = match &node.value {
        Value::Number(text) => text.parse().ok().filter(|&number| number <= last),
        _ => None,
    };
    if found.is_none() {
        let found = described(node);
        let message = format!("must be a number from 0 to {last}, found {found}");
        reader.bad_value(node, path, message);
    }
    found
}

fn records<'d>(reader: &mut Reader<'d>, node: &'d Node, path: &str) -> BTreeMap<String, Answer> {
    let mut records = BTreeMap::new();
    let Some(names) = node.as_mapping() else {
        let message = format!("must be a mapping of names, found {}", described(node));
        reader.bad_value(node, path, message);
        return records;
    };
    for field in names {
        let path = format!("{path}.{}", field.key);
        if let Some(answer) = answer(reader, &field.node, &path) {
            records.insert(field.key.to_string(), answer);
        }
    }
    records
}

fn answer<'d>(reader: &mut Reader<'d>, node: &'d Node, path: &str) -> Option<Answer> {
    let mut fields = reader.fields(node, path)?;
    let ttl = fields.take("ttl");
    let answer = Answer {
        a: addresses(reader, fields.take("a"), "IPv4"),
        aaaa: addresses(reader, fields.take("aaaa"), "IPv6"),
        ttl_s: ttl.and_then(|(node, path)| number(reader, node, &path, i32::MAX as u32)),
    };
    reader.finish(fields, &["a", "aaaa", "ttl"]);
    Some(answer)
}

fn addresses<'d, T: std::str::FromStr>(
    reader: &mut Reader<'d>,
    list: Option<(&'d Node, String)>,
    family: &str,
) -> Vec<T> {
    let Some((list, path)) = list else {
        return Vec::new();
    };
    let mut addresses = Vec::new();
    for (number, item) in reader.items(list, &path).iter().enumerate() {
        match item.as_str().and_then(|text| text.parse().ok()) {
            Some(address) => addresses.push(address),
            None => {
                let found = described(item);
                let message = format!("must be an {family} address, found {found}");
                reader.bad_value(item, &format!("{path}[{number}]"), message);
            }
        }
    }
    addresses
}
