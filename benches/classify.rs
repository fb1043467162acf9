//! The compiled classifier against the linear reference and against its earlier design.
//!
//! `cargo bench --bench classify [-- FILTER…] [--json]` prints a row for each rule set, trace and
//! strategy; FILTER keeps sets whose name contains it. With `CLASSBENCH_DIR` naming a directory of
//! ClassBench rule files (`NAME.rules`) and their traces (`NAME.uniform.tsv`, `NAME.mixed.tsv`),
//! each plain or `.xz`, these are measured too (with `--json`, instead), and every expected answer
//! is checked. `--json` prints one object a line for each set, trace and batch, of the strategy
//! that the compiler takes. `--plot` writes what was measured at batch 64 as pictures into docs/.
//!
//! A rate is the median of several passes over all keys on one core, in CPU time (`best` is the
//! quickest pass at batch 64: on a machine with neighbours the two differ). Strategies take turns
//! pass by pass, so that a neighbour disturbs them alike. The harness is our own because a row
//! relates figures of different kinds (rate, memory, build time, ratio to linear).

#[path = "classify/classbench.rs"]
mod classbench;
#[path = "classify/plot.rs"]
mod plot;

use std::hint::black_box;
use std::time::Duration;

use portcullis::classifier::bits::{Budget, Updatable};
use portcullis::classifier::linear::Linear;
use portcullis::classifier::synthetic::{self, Profile, Random};
use portcullis::classifier::tree::{Limits, Strategy, Tree, compile};
use portcullis::classifier::{Classify, RuleIndex, RuleSet};
use portcullis::wire::{Family, FlowKey};
use rustix::time::{ClockId, clock_gettime};

use self::plot::Bar;

/// Rules and what they are asked.
struct Case {
    name: String,
    rules: RuleSet,
    traces: Vec<Trace>,
}

/// Keys and, when known from elsewhere, the answers.
struct Trace {
    name: &'static str,
    keys: Vec<FlowKey>,
    expected: Option<Vec<Option<RuleIndex>>>,
}

/// How much is measured.
struct Effort {
    keys: usize,
    linear_keys: usize,
    passes: usize,
    updates: usize,
}

/// Keys asked at once.
const BATCHES: [usize; 4] = [1, 16, 64, 128];

fn main() {
    // Cargo says `--bench` when measuring; under `cargo test` the rows are only made to work.
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let given = |argument: &str| arguments.iter().any(|other| other == argument);
    let (measuring, json) = (given("--bench"), given("--json"));
    let filters: Vec<&String> = arguments.iter().filter(|a| !a.starts_with("--")).collect();
    let effort = if measuring {
        Effort {
            keys: 100_000,
            linear_keys: 2_000,
            passes: 15,
            updates: 500,
        }
    } else {
        Effort {
            keys: 2_000,
            linear_keys: 200,
            passes: 1,
            updates: 5,
        }
    };
    let sizes: &[usize] = if measuring { &[1_000, 10_000] } else { &[300] };
    if !json {
        println!(
            "{:<17} {:<8} {:<8} {:>6} {:>6} {:>6} {:>6} {:>6} {:>6} {:>6} {:>7} {:>6} {:>6} {:>6} {:>5}",
            "rule set",
            "trace",
            "strategy",
            "rules",
            "M/s b1",
            "b16",
            "b64",
            "b128",
            "best",
            "ns b64",
            "linear",
            "B/rule",
            "build",
            "update",
            "wrong"
        );
    }
    let wanted = |name: &str| filters.is_empty() || filters.iter().any(|f| name.contains(*f));
    let directory = std::env::var_os("CLASSBENCH_DIR");
    let mut bars = Vec::new();
    if !json || directory.is_none() {
        for (name, make) in generated(sizes) {
            if wanted(&name) {
                run(&make(&name, &effort), &effort, json, &mut bars);
            }
        }
    }
    if let Some(directory) = directory {
        for case in classbench::cases(directory.as_ref(), &wanted) {
            run(&case, &effort, json, &mut bars);
        }
    }
    if given("--plot") {
        let picture = plot::svg("Lookups in batches of 64, million a second", &bars);
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/classify.svg");
        std::fs::write(path, picture).expect("docs can be written");
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
    let trace = Trace {
        name: "uniform",
        keys,
        expected: None,
    };
    Case {
        name: name.to_owned(),
        rules,
        traces: vec![trace],
    }
}

/// A compiled set and what compiling it took.
struct Built {
    label: &'static str,
    tree: Option<Tree>,
    build: Duration,
}

/// Compiles by a strategy, or by what the compiler takes.
fn build(rules: &RuleSet, strategy: Option<Strategy>) -> Built {
    let limits = Limits {
        strategy,
        ..Limits::default()
    };
    let begin = cpu_time();
    let tree = compile(rules, &limits).ok();
    let build = cpu_time() - begin;
    let label = match tree.as_ref().map(|tree| tree.statistics().strategy) {
        None => "refused",
        Some(Strategy::Classes) => "classes",
        Some(Strategy::Bits) => "bits",
    };
    Built { label, tree, build }
}

/// Measures a case and prints its rows.
fn run(case: &Case, effort: &Effort, json: bool, bars: &mut Vec<Bar>) {
    let mut built = vec![build(&case.rules, None)];
    if !json && built[0].label == "bits" {
        built.push(build(&case.rules, Some(Strategy::Classes)));
    }
    let linear = Linear::new(&case.rules);
    let update = update_time(&case.rules, effort.updates);
    for trace in &case.traces {
        let linear_keys = &trace.keys[..effort.linear_keys.min(trace.keys.len())];
        let trees: Vec<&Tree> = built
            .iter()
            .filter_map(|built| built.tree.as_ref())
            .collect();
        let rates = BATCHES.map(|batch| rates(&trees, &trace.keys, batch, effort.passes));
        let linear_rate = rates_of_linear(&linear, linear_keys);
        let mut place = 0;
        let first_bar = bars.len();
        for built in &built {
            let Some(tree) = &built.tree else {
                println!("{:<17} {:<8} {:<8}", case.name, trace.name, built.label);
                continue;
            };
            let row = Row {
                case,
                trace,
                built,
                bytes: tree.statistics().bytes as f64 / case.rules.rules().len() as f64,
                rates: rates.each_ref().map(|rates| rates[place]),
                linear_rate,
                update,
                wrong: wrong_answers(trace, tree, &linear, linear_keys),
            };
            place += 1;
            if json {
                row.print_json();
            } else {
                row.print();
            }
            bars.push(row.bar(built.label, row.rates[2].0));
        }
        if let Some(set) = bars.get(first_bar).map(|bar| bar.set.clone()) {
            bars.push(Bar {
                set,
                way: "linear",
                rate: linear_rate,
            });
        }
    }
}

/// What is told of a set, a trace and a strategy.
struct Row<'a> {
    case: &'a Case,
    trace: &'a Trace,
    built: &'a Built,
    /// A rule.
    bytes: f64,
    /// Median and best, by batch.
    rates: [(f64, f64); BATCHES.len()],
    linear_rate: f64,
    /// `None` when the set is not for it.
    update: Option<Duration>,
    wrong: usize,
}

impl Row<'_> {
    fn bar(&self, way: &'static str, rate: f64) -> Bar {
        Bar {
            set: format!("{} {}", self.case.name, self.trace.name),
            way,
            rate,
        }
    }

    fn update_us(&self) -> Option<f64> {
        self.update.map(|update| update.as_secs_f64() * 1e6)
    }

    fn print(&self) {
        let [one, sixteen, sixty_four, more] = self.rates;
        println!(
            "{:<17} {:<8} {:<8} {:>6} {:>6.2} {:>6.2} {:>6.2} {:>6.2} {:>6.2} {:>6.1} {:>7.4} \
             {:>6.0} {:>6.2} {:>6.1} {:>5}",
            self.case.name,
            self.trace.name,
            self.built.label,
            self.case.rules.rules().len(),
            one.0,
            sixteen.0,
            sixty_four.0,
            more.0,
            sixty_four.1,
            1_000.0 / sixty_four.0,
            self.linear_rate,
            self.bytes,
            self.built.build.as_secs_f64(),
            self.update_us().unwrap_or(f64::NAN),
            self.wrong
        );
    }

    fn print_json(&self) {
        let family = match self.trace.keys.first().map(|key| key.family) {
            Some(Family::V6) => "ipv6",
            _ => "ipv4",
        };
        for (batch, (median, _)) in BATCHES.into_iter().zip(self.rates) {
            let object = serde_json::json!({
                "set": self.case.name,
                "trace": self.trace.name,
                "family": family,
                "batch": batch,
                "mlps": median,
                "bytes_per_rule": self.bytes,
                "build_s": self.built.build.as_secs_f64(),
                "update_us": self.update_us(),
                "mismatches": self.wrong,
            });
            println!("{object}");
        }
    }
}

/// Answers that differ from what is expected: of all keys where the answers are known, otherwise of
/// some keys against the linear reference.
fn wrong_answers(trace: &Trace, tree: &Tree, linear: &Linear, linear_keys: &[FlowKey]) -> usize {
    let mut decisions = vec![None; trace.keys.len()];
    tree.classify_batch(&trace.keys, &mut decisions);
    match &trace.expected {
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

/// Median time of removing a rule and adding it again, each counted for itself.
fn update_time(rules: &RuleSet, updates: usize) -> Option<Duration> {
    const GAP: u32 = 16;
    let count = rules.rules().len();
    let ranks: Vec<u32> = (0..count as u32).map(|position| position * GAP).collect();
    let budget = Budget {
        tries_max: 10,
        ..Budget::default()
    };
    let mut updatable = Updatable::new(rules, &ranks, &budget).ok()?;
    let mut random = Random(3);
    let mut times = Vec::with_capacity(2 * updates);
    for _ in 0..updates {
        let position = random.below(count);
        let begin = cpu_time();
        let removed = updatable.remove(ranks[position]);
        let middle = cpu_time();
        let added = updatable.add(ranks[position], rules, &rules.rules()[position]);
        let end = cpu_time();
        removed.and(added).ok()?;
        times.extend([middle - begin, end - middle]);
    }
    times.sort_unstable();
    times.get(times.len() / 2).copied()
}

/// Million lookups a second of each tree: the median of the passes, and the best. The trees take
/// turns.
fn rates(trees: &[&Tree], keys: &[FlowKey], batch: usize, passes: usize) -> Vec<(f64, f64)> {
    let mut times = vec![Vec::with_capacity(passes); trees.len()];
    for _ in 0..passes {
        for (tree, times) in trees.iter().zip(&mut times) {
            times.push(pass(*tree, keys, batch));
        }
    }
    let looked_up = keys.len() / batch * batch;
    let rate = |time: Duration| looked_up as f64 / time.as_secs_f64() / 1e6;
    times
        .into_iter()
        .map(|mut times| {
            times.sort_unstable();
            (rate(times[times.len() / 2]), rate(times[0]))
        })
        .collect()
}

fn rates_of_linear(linear: &Linear, keys: &[FlowKey]) -> f64 {
    keys.len() as f64 / pass(linear, keys, 1).as_secs_f64() / 1e6
}

/// Looks up all keys, but for an incomplete last batch.
fn pass(classifier: &impl Classify, keys: &[FlowKey], batch: usize) -> Duration {
    let mut decisions = vec![None; batch];
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
}

/// CPU time of this thread.
fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}
