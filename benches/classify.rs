//! The compiled tree against the linear reference, on generated rule sets.
//!
//! `cargo bench --bench classify [-- FILTER…]` prints one row a rule set; FILTER keeps rows whose
//! name contains it. With `CLASSBENCH_DIR` naming a directory of ClassBench rule files
//! (`NAME.rules`) and their traces (`NAME.uniform.tsv`), each plain or `.xz`, these are measured
//! too, and every expected answer is checked.
//!
//! A rate is the median of several passes over all keys on one core, in CPU time (`best` is the
//! quickest pass at batch 64: on a machine with neighbours the two differ). The harness is our own
//! because a row relates figures of different kinds (rate, memory, build time, ratio to linear).

#[path = "classify/classbench.rs"]
mod classbench;

use std::hint::black_box;
use std::time::Duration;

use portcullis::classifier::linear::Linear;
use portcullis::classifier::synthetic::{self, Profile};
use portcullis::classifier::tree::{CompileError, Limits, Tree, compile};
use portcullis::classifier::{Classify, RuleIndex, RuleSet};
use portcullis::wire::{Family, FlowKey};
use rustix::time::{ClockId, clock_gettime};

/// One row: rules, keys and, when known from elsewhere, the answers.
struct Case {
    name: String,
    rules: RuleSet,
    keys: Vec<FlowKey>,
    expected: Option<Vec<Option<RuleIndex>>>,
}

/// How much is measured.
struct Effort {
    keys: usize,
    linear_keys: usize,
    passes: usize,
}

fn main() {
    // Cargo says `--bench` when measuring; under `cargo test` the rows are only made to work.
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let measuring = arguments.iter().any(|argument| argument == "--bench");
    let filters: Vec<&String> = arguments.iter().filter(|a| !a.starts_with("--")).collect();
    let effort = if measuring {
        Effort {
            keys: 100_000,
            linear_keys: 2_000,
            passes: 25,
        }
    } else {
        Effort {
            keys: 2_000,
            linear_keys: 200,
            passes: 1,
        }
    };
    let sizes: &[usize] = if measuring { &[1_000, 10_000] } else { &[300] };

    println!(
        "{:<17} {:>6} {:>6} {:>6} {:>6} {:>6} {:>6} {:>7} {:>6} {:>7} {:>6} {:>7} {:>5} {:>6} {:>5}",
        "rule set",
        "rules",
        "M/s b1",
        "b16",
        "b64",
        "best",
        "ns b64",
        "linear",
        "ratio",
        "B/rule",
        "build",
        "nodes",
        "depth",
        "tested",
        "wrong"
    );
    let wanted = |name: &str| filters.is_empty() || filters.iter().any(|f| name.contains(*f));
    for (name, make) in generated(sizes) {
        if wanted(&name) {
            run(&make(&name, &effort), &effort);
        }
    }
    if let Some(directory) = std::env::var_os("CLASSBENCH_DIR") {
        for case in classbench::cases(directory.as_ref(), &wanted) {
            run(&case, &effort);
        }
    }
}

type Make = Box<dyn Fn(&str, &Effort) -> Case>;

/// Names of the generated cases and how to make them.
fn generated(sizes: &[usize]) -> Vec<(String, Make)> {
    let mut cases: Vec<(String, Make)> = Vec::new();
    let families = [(Family::V4, "v4"), (Family::V6, "v6")];
    for &size in sizes {
        for (profile, profile_name) in [
            (Profile::AccessList, "acl"),
            (Profile::Firewall, "fw"),
            (Profile::Chain, "ipc"),
        ] {
            for (family, family_name) in families {
                let make = move |name: &str, effort: &Effort| {
                    let rules = synthetic::flat_rules(profile, size, family, 1);
                    case(name, rules, family, effort)
                };
                cases.push((
                    format!("{profile_name}-{size}-{family_name}"),
                    Box::new(make),
                ));
            }
        }
        for (family, family_name) in families {
            let make = move |name: &str, effort: &Effort| {
                let both = [Family::V4, Family::V6];
                let rules = synthetic::policy_rules(size, size / 10, &both, 1);
                case(name, rules, family, effort)
            };
            cases.push((format!("policy-{size}-{family_name}"), Box::new(make)));
        }
    }
    cases
}

fn case(name: &str, rules: RuleSet, family: Family, effort: &Effort) -> Case {
    let keys = synthetic::keys(&rules, family, effort.keys, 2);
    Case {
        name: name.to_owned(),
        rules,
        keys,
        expected: None,
    }
}

/// Measures a case and prints its row.
fn run(case: &Case, effort: &Effort) {
    let begin = cpu_time();
    let tree = match compile(&case.rules, &Limits::default()) {
        Ok(tree) => tree,
        Err(CompileError::LimitExceeded { .. }) => {
            println!("{:<18} {:>6} refused", case.name, case.rules.rules().len());
            return;
        }
    };
    let build = cpu_time() - begin;
    let linear = Linear::new(&case.rules);
    let linear_keys = &case.keys[..effort.linear_keys.min(case.keys.len())];
    let wrong = wrong_answers(case, &tree, &linear, linear_keys);

    let rates = [1, 16, 64].map(|batch| rate(&tree, &case.keys, batch, effort.passes));
    let (linear_rate, _) = rate(&linear, linear_keys, 1, 1);
    let (at_64, best) = rates[2];
    let statistics = tree.statistics();
    println!(
        "{:<17} {:>6} {:>6.2} {:>6.2} {:>6.2} {:>6.2} {:>6.1} {:>7.4} {:>6.0} {:>7.0} {:>6.2} \
         {:>7} {:>5} {:>6} {:>5}",
        case.name,
        statistics.rules,
        rates[0].0,
        rates[1].0,
        at_64,
        best,
        1_000.0 / at_64,
        linear_rate,
        at_64 / linear_rate,
        statistics.bytes as f64 / f64::from(statistics.rules),
        build.as_secs_f64(),
        statistics.nodes,
        statistics.depth_max,
        statistics.rules_tested_max,
        wrong
    );
}

/// Answers that differ from what is expected: of all keys where the answers are known, otherwise of
/// some keys against the linear reference.
fn wrong_answers(case: &Case, tree: &Tree, linear: &Linear, linear_keys: &[FlowKey]) -> usize {
    let mut decisions = vec![None; case.keys.len()];
    tree.classify_batch(&case.keys, &mut decisions);
    match &case.expected {
        Some(expected) => {
            let pairs = decisions.iter().zip(expected);
            pairs
                .filter(|(decision, expected)| decision != expected)
                .count()
        }
        None => {
            let pairs = decisions.iter().zip(linear_keys);
            pairs
                .filter(|(decision, key)| **decision != linear.classify(key))
                .count()
        }
    }
}

/// Million lookups a second: the median of the passes, and the best.
fn rate(classifier: &impl Classify, keys: &[FlowKey], batch: usize, passes: usize) -> (f64, f64) {
    let mut decisions = vec![None; batch];
    let mut times: Vec<Duration> = (0..passes)
        .map(|_| {
            let begin = cpu_time();
            for keys in keys.chunks_exact(batch) {
                if batch == 1 {
                    decisions[0] = classifier.classify(&keys[0]);
                } else {
                    classifier.classify_batch(black_box(keys), &mut decisions);
                }
                black_box(&decisions);
            }
            cpu_time() - begin
        })
        .collect();
    times.sort_unstable();
    let looked_up = keys.len() / batch * batch;
    let rate = |time: Duration| looked_up as f64 / time.as_secs_f64() / 1e6;
    (rate(times[times.len() / 2]), rate(times[0]))
}

/// CPU time of this thread.
fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}
