//! Rule sets and traces in the format of ClassBench (Taylor and Turner, 2007), as its filter and
//! trace generators write them.
//!
//! A rule line is `@source/length destination/length low : high low : high protocol/mask …`; the
//! first match wins, what follows the protocol is ignored. A trace line is source, destination,
//! source port, destination port, protocol and the number of the deciding rule (-1 for none), in
//! decimal; IPv6 addresses are written as text.

use super::{
    AddressMatch, AddressSet, OriginId, PortRange, ProtocolMatch, Rule, RuleId, RuleIndex, RuleSet,
    RuleVerdict,
};
use crate::wire::{Address, Family, FlowKey};

/// Where a text is not what it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{line}:{column}: {found:?} found, {allowed} allowed")]
pub struct ParseError {
    /// From 1 on.
    pub line: usize,
    /// In bytes, from 1 on.
    pub column: usize,
    /// What is there; empty at the end of a line.
    pub found: String,
    /// What may be there.
    pub allowed: &'static str,
}

/// The words of a line.
struct Words<'a> {
    line: usize,
    text: &'a str,
    /// What is left of the text.
    rest: &'a str,
}

impl<'a> Words<'a> {
    fn next<T>(
        &mut self,
        allowed: &'static str,
        parse: impl FnOnce(&'a str) -> Option<T>,
    ) -> Result<T, ParseError> {
        let rest = self.rest.trim_start();
        let length = rest.find(char::is_whitespace).unwrap_or(rest.len());
        let (word, after) = rest.split_at(length);
        let column = self.text.len() - rest.len() + 1;
        self.rest = after;
        parse(word).ok_or_else(|| ParseError {
            line: self.line,
            column,
            found: word.to_owned(),
            allowed,
        })
    }
}

/// The rules of a text; their verdict is to deny.
///
/// # Errors
/// At the first line that is no rule. Empty lines are no error.
pub fn rules(text: &str) -> Result<RuleSet, ParseError> {
    let mut set = RuleSet::new();
    for (line, text) in (1..)
        .zip(text.lines())
        .filter(|(_, text)| !text.trim().is_empty())
    {
        let rest = text;
        let rule = rule(&mut set, &mut Words { line, text, rest })?;
        set.push(rule);
    }
    Ok(set)
}

/// The keys of a trace, with the rules that decide them.
///
/// # Errors
/// At the first line that is no key.
pub fn trace(text: &str) -> Result<Vec<(FlowKey, Option<RuleIndex>)>, ParseError> {
    let lines = (1..)
        .zip(text.lines())
        .filter(|(_, text)| !text.trim().is_empty());
    lines
        .map(|(line, text)| {
            let rest = text;
            key(&mut Words { line, text, rest })
        })
        .collect()
}

fn rule(set: &mut RuleSet, words: &mut Words) -> Result<Rule, ParseError> {
    let mut side = || {
        let (family, first, last) = words.next("@address/length", |word| {
            prefix(word.strip_prefix('@').unwrap_or(word))
        })?;
        let range = [(family, Address::from_bits(first), Address::from_bits(last))];
        Ok(AddressMatch::Set(
            set.intern(AddressSet::from_ranges(range)),
        ))
    };
    let (source, destination) = (side()?, side()?);
    let mut ports = || {
        let first = words.next("a port", |word| word.parse().ok())?;
        words.next(":", |word| (word == ":").then_some(()))?;
        let last = words.next("a port", |word| word.parse().ok())?;
        Ok(PortRange { first, last })
    };
    let (source_ports, destination_ports) = (ports()?, ports()?);
    let protocol = words.next("protocol/mask, in hexadecimal", |word| {
        let hexadecimal = |text: &str| u8::from_str_radix(text.trim_start_matches("0x"), 16).ok();
        let (number, mask) = word.split_once('/')?;
        Some(match hexadecimal(mask)? {
            0 => ProtocolMatch::Any,
            _ => ProtocolMatch::Number(hexadecimal(number)?),
        })
    })?;
    Ok(Rule {
        id: RuleId(set.rules().len() as u64),
        priority: 0,
        source,
        destination,
        protocol,
        source_ports,
        destination_ports,
        zone: None,
        verdict: RuleVerdict::Deny,
        origin: OriginId(0),
    })
}

/// Family, first and last address.
fn prefix(text: &str) -> Option<(Family, u128, u128)> {
    let (address, length) = text.split_once('/')?;
    let (family, address) = Address::from_ip(address.parse().ok()?);
    let free = u32::from(family.bits()).checked_sub(length.parse().ok()?)?;
    let hosts = match free {
        0 => 0,
        bits => u128::MAX >> (128 - bits),
    };
    let first = address.to_bits() & !hosts;
    Some((family, first, first | hosts))
}

fn key(words: &mut Words) -> Result<(FlowKey, Option<RuleIndex>), ParseError> {
    // IPv4 addresses stand as numbers, IPv6 addresses as text.
    let address = |word: &str| match word.parse::<u32>() {
        Ok(bits) => Some((Family::V4, Address::from_bits(bits.into()))),
        Err(_) => Some(Address::from_ip(word.parse().ok()?)),
    };
    let (family, source) = words.next("an address", address)?;
    let (_, destination) = words.next("an address of the same family", |word| {
        address(word).filter(|(other, _)| *other == family)
    })?;
    let key = FlowKey {
        source,
        destination,
        source_port: words.next("a port", |word| word.parse().ok())?,
        destination_port: words.next("a port", |word| word.parse().ok())?,
        zone: 0,
        protocol: words.next("a protocol number", |word| word.parse().ok())?,
        family,
    };
    let decision = words.next("the number of a rule, or -1", |word| {
        word.parse::<i64>().ok()
    })?;
    Ok((key, u32::try_from(decision).ok().map(RuleIndex)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::classifier::Classify;
    use crate::classifier::linear::Linear;

    const RULES: &str = "@192.0.2.0/24\t198.51.100.7/32\t0 : 65535\t80 : 443\t0x06/0xFF\t0/0\n\
                         @2001:db8::/32\t::/0\t0 : 65535\t0 : 65535\t0x00/0x00\n";

    #[test]
    fn rules_and_traces_are_read() {
        let rules = rules(RULES).unwrap();
        let (first, second) = (&rules.rules()[0], &rules.rules()[1]);
        assert_eq!(
            first.destination_ports,
            PortRange {
                first: 80,
                last: 443
            }
        );
        assert_eq!(first.protocol, ProtocolMatch::Number(6));
        assert_eq!(second.protocol, ProtocolMatch::Any);
        let keys = trace(
            "3221225985\t3325256711\t9\t100\t6\t0\n3221225985\t3325256711\t9\t79\t6\t-1\n\
             2001:db8::1\t2001:db8::2\t1\t2\t17\t1\n",
        )
        .unwrap();
        let linear = Linear::new(&rules);
        assert_eq!(keys.len(), 3);
        for (key, expected) in keys {
            assert_eq!(linear.classify(&key), expected);
        }
    }

    #[test]
    fn an_error_names_its_place() {
        let error = rules("\n@192.0.2.0/24 198.51.100.7/33 0 : 1 2 : 3 0x06/0xFF").unwrap_err();
        assert_eq!((error.line, error.column), (2, 15));
        assert_eq!(error.found, "198.51.100.7/33");
        let error = rules("@192.0.2.0/24 ::/0 0 - 1").unwrap_err();
        assert_eq!((error.found.as_str(), error.allowed), ("-", ":"));
        let error = trace("1 2 3").unwrap_err();
        assert_eq!((error.found.as_str(), error.allowed), ("", "a port"));
    }
}
