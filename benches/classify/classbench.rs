//! Reads ClassBench rule files and traces.
//!
//! A rule line is `@source/length destination/length low : high low : high protocol/mask …`; first
//! match wins. A trace line is source, destination, source port, destination port, protocol and the
//! number of the deciding rule (-1 for none), in decimal; IPv6 addresses are written as text.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use portcullis::classifier::{
    AddressMatch, AddressSet, OriginId, PortRange, ProtocolMatch, Rule, RuleId, RuleIndex, RuleSet,
    RuleVerdict,
};
use portcullis::wire::{Address, Family, FlowKey};

use crate::{Case, Trace};

/// The cases of a directory whose name is wanted, by name.
pub fn cases<'a>(
    directory: &'a Path,
    wanted: &'a dyn Fn(&str) -> bool,
) -> impl Iterator<Item = Case> + 'a {
    let mut names: Vec<String> = fs::read_dir(directory)
        .expect("CLASSBENCH_DIR is a directory")
        .filter_map(|entry| {
            let name = entry.ok()?.file_name().into_string().ok()?;
            let name = name.strip_suffix(".xz").unwrap_or(&name);
            name.strip_suffix(".rules").map(str::to_owned)
        })
        .filter(|name| wanted(name))
        .collect();
    names.sort_unstable();
    names.into_iter().map(|name| case(directory, name))
}

fn case(directory: &Path, name: String) -> Case {
    let rules = read(directory.join(format!("{name}.rules"))).expect("rules are there");
    let traces = ["uniform", "mixed"].into_iter().filter_map(|trace| {
        let text = read(directory.join(format!("{name}.{trace}.tsv")))?;
        let (keys, expected) = text.lines().map(key).unzip();
        Some(Trace {
            name: trace,
            keys,
            expected: Some(expected),
        })
    });
    let traces: Vec<Trace> = traces.collect();
    assert!(!traces.is_empty(), "{name} has no trace");
    let mut set = RuleSet::new();
    for line in rules.lines() {
        let rule = rule(&mut set, line);
        set.push(rule);
    }
    Case {
        name,
        rules: set,
        traces,
    }
}

/// The file's text, or that of the file with `.xz` behind its name; `None` when neither is there.
fn read(path: PathBuf) -> Option<String> {
    if let Ok(text) = fs::read_to_string(&path) {
        return Some(text);
    }
    let packed = path.with_added_extension("xz");
    if !packed.exists() {
        return None;
    }
    let output = Command::new("xz").arg("-dc").arg(&packed).output();
    let output = output.expect("the program xz unpacks rule files");
    assert!(
        output.status.success(),
        "cannot unpack {}",
        packed.display()
    );
    Some(String::from_utf8(output.stdout).expect("rule files are text"))
}

fn rule(set: &mut RuleSet, line: &str) -> Rule {
    let mut fields = line.trim_start_matches('@').split_whitespace();
    let mut next = || fields.next().expect("a rule has all its fields");
    let source = prefix(set, next());
    let destination = prefix(set, next());
    let mut ports = || {
        let first = next().parse().expect("a port");
        assert_eq!(next(), ":");
        let last = next().parse().expect("a port");
        PortRange { first, last }
    };
    let (source_ports, destination_ports) = (ports(), ports());
    let (number, mask) = next().split_once('/').expect("protocol and mask");
    let hexadecimal = |text: &str| {
        u8::from_str_radix(text.trim_start_matches("0x"), 16).expect("a number in hexadecimal")
    };
    Rule {
        id: RuleId(set.rules().len() as u64),
        priority: 0,
        source,
        destination,
        protocol: match hexadecimal(mask) {
            0 => ProtocolMatch::Any,
            _ => ProtocolMatch::Number(hexadecimal(number)),
        },
        source_ports,
        destination_ports,
        zone: None,
        verdict: RuleVerdict::Deny,
        origin: OriginId(0),
    }
}

fn prefix(set: &mut RuleSet, text: &str) -> AddressMatch {
    let (address, length) = text.split_once('/').expect("a prefix has a length");
    let (family, address) = Address::from_ip(address.parse().expect("an address"));
    let host_bits = u32::from(family.bits()) - length.parse::<u32>().expect("a length");
    let hosts = match host_bits {
        0 => 0,
        bits => u128::MAX >> (128 - bits),
    };
    let first = address.to_bits() & !hosts;
    let range = (
        family,
        Address::from_bits(first),
        Address::from_bits(first | hosts),
    );
    AddressMatch::Set(set.intern(AddressSet::from_ranges([range])))
}

fn key(line: &str) -> (FlowKey, Option<RuleIndex>) {
    let fields: Vec<&str> = line.split('\t').map(str::trim).collect();
    let number = |field: usize| -> i64 { fields[field].parse().expect("a number") };
    // IPv4 addresses stand as numbers, IPv6 addresses as text.
    let address = |field: usize| match fields[field].parse::<u32>() {
        Ok(bits) => (Family::V4, Address::from_bits(bits.into())),
        Err(_) => Address::from_ip(fields[field].parse().expect("an address")),
    };
    let ((family, source), (_, destination)) = (address(0), address(1));
    let key = FlowKey {
        source,
        destination,
        source_port: number(2) as u16,
        destination_port: number(3) as u16,
        zone: 0,
        protocol: number(4) as u8,
        family,
    };
    (key, u32::try_from(number(5)).ok().map(RuleIndex))
}
