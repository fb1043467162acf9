//! Names that rules are written with, and the addresses they have at one moment.
//!
//! ```text
//! Resolver ─▶ poll, as each system does ─▶ Names ─▶ load ─▶ rules
//! (answers over time)                      (addresses now)
//! ```
//!
//! What a rule matches is not what a name stands for, but what its system last heard: answers are
//! asked again when their time is over, and a failure leaves the addresses that were there.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::compatibility::EgressGeneration;

/// Who asks for names, each in its own rhythm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NameUser {
    /// EgressNetworkPolicy of OpenShift.
    EgressNetworkPolicy,
    /// EgressFirewall of OVN-Kubernetes.
    EgressFirewall,
    /// The administrator's tiers: what an answer said holds until its time is over (npep-133).
    Tiers,
}

/// Addresses by name, for each system that asks for names. A name without an entry is one that
/// was never resolved.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Names {
    tables: [BTreeMap<String, BTreeSet<IpAddr>>; 3],
}

/// One answer to a question for the addresses of a name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Answer {
    /// A records.
    pub a: Vec<Ipv4Addr>,
    /// AAAA records.
    pub aaaa: Vec<Ipv6Addr>,
    /// Smallest time to live of the records; `None` where it could not be read.
    pub ttl_s: Option<u32>,
}

/// Answers questions for names.
pub trait Resolver {
    /// The answer at a second; `None` where the question fails.
    fn ask(&self, name: &str, at_s: u32) -> Option<Answer>;

    /// The names worth asking for, in [`canonical`] form.
    fn names(&self) -> BTreeSet<String>;
}

/// Answers from a table that changes at known seconds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StaticTable {
    /// Sorted by second; what an entry does not name stays as it was.
    changes: Vec<(u32, Change)>,
}

/// What happens to a [`StaticTable`] at a second.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// These names have these answers from now on, and questions are answered (again).
    Records(BTreeMap<String, Answer>),
    /// No question is answered until records are given again.
    Fail,
}

/// The form in which names are compared: lower case, without the dot at the end.
pub fn canonical(name: &str) -> String {
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()
}

impl Names {
    /// What every system knows at a second, having started at second 0.
    pub fn at(resolver: &impl Resolver, generation: EgressGeneration, at_s: u32) -> Self {
        let mut names = Names::default();
        let users = [
            (NameUser::EgressNetworkPolicy, Some(generation)),
            (NameUser::EgressFirewall, None),
            (NameUser::Tiers, None),
        ];
        for name in resolver.names() {
            for (user, generation) in users {
                let Some((addresses, until_s)) = poll(resolver, &name, generation, at_s) else {
                    continue;
                };
                if user != NameUser::Tiers || at_s < until_s {
                    names.insert(user, &name, addresses);
                }
            }
        }
        names
    }

    /// Sets the addresses of a name.
    pub fn insert(&mut self, user: NameUser, name: &str, addresses: BTreeSet<IpAddr>) {
        self.tables[user as usize].insert(canonical(name), addresses);
    }

    /// The addresses of a name, however it is written; `None` where it was never resolved.
    pub fn addresses(&self, user: NameUser, name: &str) -> Option<&BTreeSet<IpAddr>> {
        self.tables[user as usize].get(&canonical(name))
    }

    /// Every resolved name with its addresses.
    pub fn iter(&self, user: NameUser) -> impl Iterator<Item = (&str, &BTreeSet<IpAddr>)> {
        let table = self.tables[user as usize].iter();
        table.map(|(name, addresses)| (name.as_str(), addresses))
    }

    /// The names one label longer than `parent`: what `*.parent` matches, which is neither
    /// `parent` itself nor a name two labels longer.
    pub fn one_label_below<'n>(
        &'n self,
        user: NameUser,
        parent: &str,
    ) -> impl Iterator<Item = &'n BTreeSet<IpAddr>> + use<'n> {
        let parent = canonical(parent);
        let below = move |name: &str| {
            let label = name.strip_suffix(parent.as_str())?.strip_suffix('.')?;
            (!label.is_empty() && !label.contains('.')).then_some(())
        };
        self.iter(user)
            .filter(move |(name, _)| below(name).is_some())
            .map(|(_, addresses)| addresses)
    }
}

impl StaticTable {
    /// A table that never changes.
    pub fn constant(records: BTreeMap<String, Answer>) -> Self {
        let mut table = StaticTable::default();
        table.change(0, Change::Records(records));
        table
    }

    /// Adds a change, behind those of the same second.
    pub fn change(&mut self, at_s: u32, change: Change) {
        let change = match change {
            Change::Records(records) => {
                let records = records.into_iter();
                Change::Records(records.map(|(name, to)| (canonical(&name), to)).collect())
            }
            Change::Fail => Change::Fail,
        };
        let behind = self.changes.partition_point(|(other, _)| *other <= at_s);
        self.changes.insert(behind, (at_s, change));
    }
}

impl Resolver for StaticTable {
    fn ask(&self, name: &str, at_s: u32) -> Option<Answer> {
        let name = canonical(name);
        let mut answer = None;
        let mut fails = false;
        for (_, change) in self.changes.iter().take_while(|(at, _)| *at <= at_s) {
            fails = *change == Change::Fail;
            if let Change::Records(records) = change {
                answer = records.get(&name).or(answer);
            }
        }
        answer.filter(|_| !fails).cloned()
    }

    fn names(&self) -> BTreeSet<String> {
        let records = self.changes.iter().filter_map(|(_, change)| match change {
            Change::Records(records) => Some(records.keys().cloned()),
            Change::Fail => None,
        });
        records.flatten().collect()
    }
}

/// Asks for a name from second 0 on as a system does, and gives what it holds at `at_s`: of
/// EgressNetworkPolicy by its generation, of EgressFirewall where there is none. With the second at
/// which the time of the last answer is over.
fn poll(
    resolver: &impl Resolver,
    name: &str,
    generation: Option<EgressGeneration>,
    at_s: u32,
) -> Option<(BTreeSet<IpAddr>, u32)> {
    let mut held = None;
    let mut wait_s = match generation {
        Some(EgressGeneration::Three) => THIRTY_MINUTES_S,
        Some(EgressGeneration::Four) => 30,
        None => FIREWALL_SHORTEST_S,
    };
    let mut failures = 0;
    let mut now_s = 0_u32;
    while now_s <= at_s {
        let answer = resolver.ask(name, now_s).and_then(|answer| {
            let addresses = addresses(&answer, generation);
            (!addresses.is_empty()).then_some((addresses, answer.ttl_s))
        });
        match answer {
            Some((addresses, ttl_s)) => {
                wait_s = until_next(ttl_s, generation);
                held = Some((addresses, now_s.saturating_add(wait_s)));
                failures = 0;
            }
            // The addresses stay, and the next question waits as long as the last.
            None if generation.is_some() => {}
            None => {
                wait_s = (FIREWALL_SHORTEST_S << failures.min(5)).min(FIREWALL_LONGEST_FAILURE_S);
                failures += 1;
            }
        }
        now_s = now_s.saturating_add(wait_s.max(1));
        if now_s == u32::MAX {
            break;
        }
    }
    held
}

const THIRTY_MINUTES_S: u32 = 30 * 60;
const FIREWALL_SHORTEST_S: u32 = 5;
const FIREWALL_LONGEST_FAILURE_S: u32 = 2 * 60;

/// OpenShift 3.x asks for A records alone.
fn addresses(answer: &Answer, generation: Option<EgressGeneration>) -> BTreeSet<IpAddr> {
    let a = answer.a.iter().copied().map(IpAddr::V4);
    let aaaa = answer.aaaa.iter().copied().map(IpAddr::V6);
    match generation {
        Some(EgressGeneration::Three) => a.collect(),
        _ => a.chain(aaaa).collect(),
    }
}

/// Seconds until a name is asked for again.
fn until_next(ttl_s: Option<u32>, generation: Option<EgressGeneration>) -> u32 {
    match (generation, ttl_s) {
        (Some(EgressGeneration::Three), None) => THIRTY_MINUTES_S,
        (Some(EgressGeneration::Three), Some(ttl_s)) => ttl_s,
        (Some(EgressGeneration::Four), None | Some(0)) => 30,
        (Some(EgressGeneration::Four), Some(ttl_s)) => match ttl_s {
            0..30 => ttl_s,
            30..THIRTY_MINUTES_S => 30,
            _ => THIRTY_MINUTES_S,
        },
        (None, None | Some(0)) => FIREWALL_SHORTEST_S,
        (None, Some(ttl_s)) => ttl_s.min(THIRTY_MINUTES_S),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(addresses: &[&str], ttl_s: Option<u32>) -> Answer {
        let mut answer = Answer {
            ttl_s,
            ..Answer::default()
        };
        for address in addresses {
            match address.parse().unwrap() {
                IpAddr::V4(address) => answer.a.push(address),
                IpAddr::V6(address) => answer.aaaa.push(address),
            }
        }
        answer
    }

    fn records(name: &str, addresses: &[&str], ttl_s: Option<u32>) -> Change {
        let record = (name.to_owned(), answer(addresses, ttl_s));
        Change::Records([record].into())
    }

    fn table(changes: Vec<(u32, Change)>) -> StaticTable {
        let mut table = StaticTable::default();
        for (at_s, change) in changes {
            table.change(at_s, change);
        }
        table
    }

    fn held(
        table: &StaticTable,
        user: NameUser,
        generation: EgressGeneration,
        at_s: u32,
    ) -> String {
        let names = Names::at(table, generation, at_s);
        let texts = names.addresses(user, "N.example.").map(|addresses| {
            let texts: Vec<_> = addresses.iter().map(ToString::to_string).collect();
            texts.join(" ")
        });
        texts.unwrap_or("none".into())
    }

    use EgressGeneration::{Four, Three};
    use NameUser::{EgressFirewall, EgressNetworkPolicy};

    #[test]
    fn names_are_compared_without_case_and_final_dot() {
        assert_eq!(canonical("WWW.Foo.com."), "www.foo.com");
        let table =
            StaticTable::constant([("N.Example.".into(), answer(&["192.0.2.1"], None))].into());
        assert_eq!(held(&table, EgressNetworkPolicy, Three, 0), "192.0.2.1");
    }

    #[test]
    fn a_wildcard_is_exactly_one_label() {
        let mut names = Names::default();
        for (name, address) in [
            ("example.com", "192.0.2.1"),
            ("a.example.com", "192.0.2.2"),
            ("b.a.example.com", "192.0.2.3"),
            ("aexample.com", "192.0.2.4"),
        ] {
            names.insert(EgressFirewall, name, [address.parse().unwrap()].into());
        }
        let found: Vec<_> = names
            .one_label_below(EgressFirewall, "Example.com.")
            .collect();
        assert_eq!(found, [&[IpAddr::from([192, 0, 2, 2])].into()]);
    }

    #[test]
    fn a_moved_name_is_noticed_when_the_time_to_live_is_over() {
        let moves = |ttl_s| {
            table(vec![
                (0, records("n.example", &["10.11.12.13"], ttl_s)),
                (1, records("n.example", &["20.21.22.23"], ttl_s)),
            ])
        };
        // Time to live, generation, the second it is asked again.
        for (ttl_s, generation, again_s) in [
            (Some(60), Three, 60),
            (Some(600), Three, 600),
            (Some(7200), Three, 7200),
            (None, Three, 1800),
            (Some(0), Three, 1),
            (Some(0), Four, 30),
            (None, Four, 30),
            (Some(10), Four, 10),
            (Some(29), Four, 29),
            (Some(30), Four, 30),
            (Some(200), Four, 30),
            (Some(1799), Four, 30),
            (Some(1800), Four, 1800),
            (Some(7200), Four, 1800),
        ] {
            let table = moves(ttl_s);
            let held = |at_s| held(&table, EgressNetworkPolicy, generation, at_s);
            assert_eq!(held(again_s - 1), "10.11.12.13", "{ttl_s:?} {generation:?}");
            assert_eq!(held(again_s), "20.21.22.23", "{ttl_s:?} {generation:?}");
        }
        for (ttl_s, again_s) in [(Some(0), 5), (Some(60), 60), (Some(7200), 1800)] {
            let table = moves(ttl_s);
            let held = |at_s| held(&table, EgressFirewall, Three, at_s);
            assert_eq!(held(again_s - 1), "10.11.12.13", "{ttl_s:?}");
            assert_eq!(held(again_s), "20.21.22.23", "{ttl_s:?}");
        }
    }

    #[test]
    fn a_failed_refresh_keeps_the_addresses() {
        let table = table(vec![
            (0, records("n.example", &["192.0.2.1"], Some(20))),
            (30, Change::Fail),
            (100, records("n.example", &["192.0.2.2"], Some(20))),
        ]);
        for generation in [Three, Four] {
            for (at_s, expected) in [(40, "192.0.2.1"), (99, "192.0.2.1"), (100, "192.0.2.2")] {
                let held = held(&table, EgressNetworkPolicy, generation, at_s);
                assert_eq!(held, expected, "{at_s}");
            }
        }
        // Asked at 0, 20, 40, then 5, 10, 20 and 40 seconds later.
        assert_eq!(held(&table, EgressFirewall, Three, 114), "192.0.2.1");
        assert_eq!(held(&table, EgressFirewall, Three, 115), "192.0.2.2");
    }

    #[test]
    fn a_name_without_an_answer_is_not_there_and_an_empty_answer_is_a_failure() {
        let table = table(vec![
            (0, Change::Fail),
            (10, records("n.example", &["192.0.2.1"], Some(20))),
            (2000, records("n.example", &[], Some(20))),
        ]);
        assert_eq!(held(&table, EgressNetworkPolicy, Three, 1799), "none");
        assert_eq!(held(&table, EgressNetworkPolicy, Three, 1800), "192.0.2.1");
        assert_eq!(held(&table, EgressNetworkPolicy, Four, 29), "none");
        assert_eq!(held(&table, EgressNetworkPolicy, Four, 30), "192.0.2.1");
        assert_eq!(held(&table, EgressNetworkPolicy, Four, 9999), "192.0.2.1");
    }

    #[test]
    fn the_third_generation_asks_for_a_records_alone() {
        let table = table(vec![(
            0,
            records("n.example", &["2001:db8::1", "192.0.2.1"], Some(20)),
        )]);
        assert_eq!(held(&table, EgressNetworkPolicy, Three, 0), "192.0.2.1");
        let both = "192.0.2.1 2001:db8::1";
        assert_eq!(held(&table, EgressNetworkPolicy, Four, 0), both);
        assert_eq!(held(&table, EgressFirewall, Three, 0), both);
    }
}
