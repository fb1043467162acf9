//! What each step of a compilation makes of small rule sets, held against files.
//!
//! `pcap-tests/compile/<case>/rules` is the input, one rule or set a line, strongest first:
//!
//! ```text
//! # comment
//! set web 198.18.0.1 198.18.0.8/29 198.18.1.5-198.18.1.9 2001:db8::/64
//! allow source web destination any protocol 6 source_port 1024-65535 destination_port 80 zone 3
//! ```
//!
//! The other files are what the steps of those names print. With `PORTCULLIS_BLESS` set they are
//! written instead of compared; read the difference before committing it.

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::{env, fs};

use super::*;
use crate::classifier::bits;
use crate::classifier::linear::Linear;
use crate::classifier::{
    AddressMatch, AddressSet, OriginId, PortRange, ProtocolMatch, Rule, RuleId, RuleVerdict,
};
use crate::wire::Address;

fn cases() -> Vec<PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("pcap-tests/compile");
    let mut cases: Vec<PathBuf> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_dir())
        .collect();
    cases.sort();
    cases
}

#[test]
fn every_step_prints_what_its_file_says() {
    let bless = env::var_os("PORTCULLIS_BLESS").is_some();
    let mut differing = Vec::new();
    for case in cases() {
        let rules = parse(&fs::read_to_string(case.join("rules")).unwrap());
        let compilation = Compilation::run(&rules, &super::tests::classes_only()).unwrap();
        let classes = Step::ALL.map(|step| (step.to_string(), compilation.dump(step)));
        // What is declined has no steps.
        let bits = bits::compile(&rules, &bits::Budget::default()).ok();
        let bits = bits.iter().flat_map(|bits| {
            bits::Step::ALL.map(|step| (step.to_string(), bits.dump(&rules, step)))
        });
        for (step, text) in classes.into_iter().chain(bits) {
            let path = case.join(step);
            if bless {
                fs::write(&path, &text).unwrap();
            } else if fs::read_to_string(&path).ok().as_ref() != Some(&text) {
                differing.push(format!("{}\n{text}", path.display()));
            }
        }
    }
    assert!(
        differing.is_empty(),
        "these files say something else (PORTCULLIS_BLESS=1 rewrites them):\n{}",
        differing.join("\n")
    );
}

/// The files show how, this shows that the answers are right.
#[test]
fn golden_rule_sets_equal_linear() {
    assert!(cases().len() >= 5);
    for case in cases() {
        let rules = parse(&fs::read_to_string(case.join("rules")).unwrap());
        let tree = compile(&rules, &Limits::default()).unwrap();
        let linear = Linear::new(&rules);
        for key in super::tests::edge_keys(&rules, 1, 5_000) {
            assert_eq!(
                tree.classify(&key),
                linear.classify(&key),
                "{case:?} {key:?}"
            );
        }
    }
}

fn parse(text: &str) -> RuleSet {
    let mut rules = RuleSet::new();
    let mut sets = HashMap::from([("any", AddressMatch::Any)]);
    for line in text.lines() {
        let mut words = line.split_whitespace();
        match words.next() {
            None => {}
            Some(word) if word.starts_with('#') => {}
            Some("set") => {
                let name = words.next().unwrap();
                let set = AddressSet::from_ranges(words.map(range));
                sets.insert(name, AddressMatch::Set(rules.intern(set)));
            }
            Some(verdict) => {
                let rule = parse_rule(verdict, words, &sets, rules.rules().len());
                rules.push(rule);
            }
        }
    }
    rules
}

fn parse_rule<'a>(
    verdict: &str,
    mut words: impl Iterator<Item = &'a str>,
    sets: &HashMap<&str, AddressMatch>,
    position: usize,
) -> Rule {
    let mut rule = Rule {
        id: RuleId(position as u64),
        priority: 0,
        source: AddressMatch::Any,
        destination: AddressMatch::Any,
        protocol: ProtocolMatch::Any,
        source_ports: PortRange::ANY,
        destination_ports: PortRange::ANY,
        zone: None,
        verdict: match verdict {
            "allow" => RuleVerdict::Allow,
            "deny" => RuleVerdict::Deny,
            "pass" => RuleVerdict::Pass,
            other => panic!("{other} is neither set nor verdict"),
        },
        origin: OriginId(0),
    };
    while let Some(condition) = words.next() {
        let value = words.next().unwrap();
        match condition {
            "source" => rule.source = sets[value],
            "destination" => rule.destination = sets[value],
            "protocol" => rule.protocol = ProtocolMatch::Number(value.parse().unwrap()),
            "source_port" => rule.source_ports = ports(value),
            "destination_port" => rule.destination_ports = ports(value),
            "zone" => rule.zone = Some(value.parse().unwrap()),
            other => panic!("{other} is no condition"),
        }
    }
    rule
}

fn ports(text: &str) -> PortRange {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    PortRange {
        first: first.parse().unwrap(),
        last: last.parse().unwrap(),
    }
}

fn range(text: &str) -> (Family, Address, Address) {
    let address = |text: &str| Address::from_ip(text.parse::<IpAddr>().unwrap());
    if let Some((first, last)) = text.split_once('-') {
        return (address(first).0, address(first).1, address(last).1);
    }
    let (prefix, length) = text.split_once('/').unwrap_or((text, ""));
    let (family, first) = address(prefix);
    let bits = u32::from(family.bits());
    let free = bits - length.parse().unwrap_or(bits);
    let hosts = u128::MAX.checked_shr(128 - free).unwrap_or(0);
    let last = Address::from_bits(first.to_bits() | hosts);
    (family, first, last)
}
