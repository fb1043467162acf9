//! AdminOutputRules that log and that match only so often: the list read from the top for every
//! connection, with a bucket of tokens for each rule and source.

use std::collections::HashMap;

use proptest::prelude::*;

use super::*;

const OUTSIDE: [u8; 4] = [203, 0, 113, 9];
const ROUTER: [u8; 6] = [2, 0, 0, 0, 1, 254];

/// One rule of the list, and what it is to the twin.
#[derive(Debug, Clone)]
struct Rule {
    action: &'static str,
    /// Ranges of destination ports, which may overlap; none is all.
    ports: Vec<(u16, u16)>,
    /// Only the pod with this last byte.
    from: Option<u8>,
    log: bool,
    /// Connections per second, and burst.
    limit: Option<(u32, u32)>,
}

impl Rule {
    fn new(action: &'static str) -> Self {
        Rule {
            action,
            ports: Vec::new(),
            from: None,
            log: false,
            limit: None,
        }
    }

    fn yaml(&self, number: usize) -> String {
        let mut text = format!("{{name: r{number}, action: {}", self.action);
        if let Some(last) = self.from {
            text += &format!(", from: [198.18.0.{last}/32]");
        }
        if !self.ports.is_empty() {
            let range = |(first, last): &(u16, u16)| format!("{{port: {first}, endPort: {last}}}");
            let ports: Vec<_> = self.ports.iter().map(range).collect();
            text += &format!(", protocol: TCP, ports: [{}]", ports.join(", "));
        }
        if let Some((rate, burst)) = self.limit {
            text += &format!(", rate_limit: {{connections_per_second: {rate}, burst: {burst}}}");
        }
        text + &format!(", log: {}}}", self.log)
    }
}

/// Two pods of port 0; everything else is outside.
fn manifests(rules: &[Rule]) -> String {
    let rules: Vec<_> = rules
        .iter()
        .enumerate()
        .map(|(n, rule)| rule.yaml(n))
        .collect();
    format!(
        "{{kind: Pod, apiVersion: v1, metadata: {{namespace: a, name: p}}, \
         status: {{podIP: 198.18.0.2}}}}\n---\n\
         {{kind: Pod, apiVersion: v1, metadata: {{namespace: a, name: q}}, \
         status: {{podIP: 198.18.0.3}}}}\n---\n\
         {{apiVersion: portcullis.io/v1alpha1, kind: AdminOutputRules, metadata: {{name: out}}, \
         spec: {{rules: [{}]}}}}\n",
        rules.join(", ")
    )
}

fn wire(rules: &[Rule]) -> Wire {
    let mut wire = Wire::routed(vec![PortSegment::default(); 2]);
    wire.enforce(&prepared(&manifests(rules), &switches(&[])));
    wire
}

/// A connection of pod `last`.
fn opens(last: u8, ports: [u16; 2], flags: u8) -> (u8, Vec<u8>) {
    let macs = [mac(0, last), mac(0, 1)];
    (0, tcp(macs, [[198, 18, 0, last], OUTSIDE], ports, flags))
}

/// What the chain does, read from the top.
#[derive(Default)]
struct Twin {
    /// Millionths of a token, and when; by rule and pod.
    buckets: HashMap<(usize, u8), (u64, u64)>,
    told: Vec<usize>,
}

impl Twin {
    /// Is a new connection let through?
    fn lets(&mut self, rules: &[Rule], now_us: u64, last: u8, port: u16) -> bool {
        for (number, rule) in rules.iter().enumerate() {
            let within = |&(first, last): &(u16, u16)| (first..=last).contains(&port);
            let fits = rule.ports.is_empty() || rule.ports.iter().any(within);
            if !fits || rule.from.is_some_and(|from| from != last) {
                continue;
            }
            // A rule that continues without a word is as good as none.
            if rule.action == "continue" && !rule.log {
                continue;
            }
            if let Some((rate, burst)) = rule.limit {
                let full = u64::from(burst) * 1_000_000;
                let bucket = self.buckets.entry((number, last)).or_insert((full, now_us));
                let come = (now_us - bucket.1) * u64::from(rate);
                *bucket = (full.min(bucket.0 + come), now_us);
                if bucket.0 < 1_000_000 {
                    continue;
                }
                bucket.0 -= 1_000_000;
            }
            if rule.log {
                self.told.push(number);
            }
            match rule.action {
                "drop" => return false,
                "accept" => return true,
                _ => {}
            }
        }
        true
    }
}

fn rules() -> impl Strategy<Value = Vec<Rule>> {
    let range = (80..84u16, 0..3u16).prop_map(|(first, more)| (first, first + more));
    let rule = (
        prop::sample::select(vec!["drop", "accept", "continue"]),
        prop::collection::vec(range, 0..3),
        prop::option::of(2..4u8),
        any::<bool>(),
        prop::option::of((1..4u32, 1..4u32)),
    );
    let rule = rule.prop_map(|(action, ports, from, log, limit)| Rule {
        action,
        ports,
        from,
        log,
        limit,
    });
    prop::collection::vec(rule, 1..7)
}

/// Time since the last connection, pod, and port.
type Step = (u64, u8, u16);

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn every_connection_ends_as_in_the_list_read_from_the_top(
        rules in rules(),
        steps in prop::collection::vec((0..500_000u64, 2..4u8, 80..86u16), 1..80),
        together in 1..4usize,
    ) {
        let mut wire = wire(&rules);
        let mut twin = Twin::default();
        let steps: Vec<Step> = steps;
        for (round, steps) in steps.chunks(together).enumerate() {
            wire.now_us += steps[0].0;
            let frames: Vec<_> = steps
                .iter()
                .enumerate()
                .map(|(i, &(_, last, port))| {
                    let source_port = 10_000 + (round * together + i) as u16;
                    opens(last, [source_port, port], SYN)
                })
                .collect();
            let passed: Vec<_> = wire.batch(&frames).into_iter().map(Fate::passes).collect();
            let lets = |&(_, last, port): &Step| twin.lets(&rules, wire.now_us, last, port);
            let expected: Vec<_> = steps.iter().map(lets).collect();
            prop_assert_eq!(passed, expected);
        }
        let told = std::mem::take(&mut twin.told);
        let told: Vec<_> = told.iter().map(|number| format!("AdminOutputRules/out#{number}")).collect();
        prop_assert_eq!(wire.logged(), told);
    }
}

fn accept_five_then_drop() -> Vec<Rule> {
    let five = Rule {
        limit: Some((1, 5)),
        log: true,
        ..Rule::new("accept")
    };
    vec![five, Rule::new("drop")]
}

#[test]
fn packets_of_one_connection_count_once() {
    let mut wire = wire(&accept_five_then_drop());
    // The same segment again and again, in one batch and in others.
    for _ in 0..3 {
        let again = vec![opens(2, [10_000, 80], SYN); 8];
        assert!(wire.batch(&again).into_iter().all(Fate::passes));
    }
    assert_eq!(wire.logged(), ["AdminOutputRules/out#0"]);
    let passed = (0..8).filter(|n| {
        let (port, frame) = opens(2, [10_001 + n, 80], SYN);
        wire.one(port, frame).passes()
    });
    assert_eq!(passed.count(), 4);
    assert_eq!(wire.counters.connections_over_rate.get(), 4);
    let (port, frame) = opens(3, [10_000, 80], SYN);
    assert!(wire.one(port, frame).passes(), "another source");
    assert_eq!(wire.logged().len(), 5);
    assert_eq!(wire.counters.rules_logged.get(), 6);
}

#[test]
fn a_connection_that_is_open_is_neither_counted_again_nor_cut_by_a_change() {
    let rules = accept_five_then_drop();
    let mut wire = wire(&rules);
    for n in 0..5 {
        let (port, frame) = opens(2, [10_000 + n, 80], SYN);
        assert!(wire.one(port, frame).passes());
        let answer = tcp(
            [ROUTER, mac(1, 1)],
            [OUTSIDE, [198, 18, 0, 2]],
            [80, 10_000 + n],
            SYN | ACK,
        );
        assert!(wire.one(1, answer).passes());
    }
    assert_eq!(wire.logged().len(), 5);
    wire.enforce(&prepared(&manifests(&rules), &switches(&[])));
    for n in 0..5 {
        let (port, frame) = opens(2, [10_000 + n, 80], ACK);
        assert!(wire.one(port, frame).passes());
    }
    assert!(wire.logged().is_empty());
    // The bucket has outlived the change.
    let (port, frame) = opens(2, [10_009, 80], SYN);
    let fate = wire.one(port, frame);
    assert_eq!(fate.dropped_for(), Some(DropReason::Policy));
    assert_eq!(fate.family, Some("AdminOutput"));
    wire.now_us += 1_000_000;
    let (port, frame) = opens(2, [10_010, 80], SYN);
    assert!(wire.one(port, frame).passes());
}
