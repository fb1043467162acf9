//! What a large set of manifests costs: to load and compile, and to change by one object.
//!
//! `cargo bench --bench policies [-- PODS… --unshared]` prints one row a size; with `--unshared`
//! each shard divides large address sets on its own, to see what sharing them brings. The manifests
//! are generated: in each namespace 500 pods of ten applications and 50 NetworkPolicies with
//! selectors, blocks and named ports; SecurityGroups that allow blocks and one another, each pod
//! bound to one. Times are those of one thread's processor, medians of five changes; `ns` is a
//! first packet between any two pods, asked of every step in batches of 64. What the figures mean
//! is in docs/performance.md.

#[path = "policies/generate.rs"]
mod generate;

use std::time::Duration;

use portcullis::classifier::Classify;
use portcullis::classifier::tree::Limits;
use portcullis::control::policy::{Prepared, Preparer, activate};
use portcullis::control::rule_slots::{RuleSlots, RuleTotals};
use portcullis::dataplane::snapshot::{PolicySnapshot, RuleSlot};
use portcullis::policy::{Compatibility, SourceFile};
use rustix::time::{ClockId, clock_gettime};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const CHANGES: usize = 5;
const BATCH: usize = 64;

/// Changes one object, another time each time.
type Change = fn(&mut [SourceFile], usize);

/// Changes of one object, by what they change.
const KINDS: [(&str, Change); 4] = [
    ("policy", generate::change_policy),
    ("policy + line", generate::lengthen_policy),
    ("group", generate::change_group),
    ("pod", generate::change_pod),
];

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let measuring = arguments.iter().any(|argument| argument == "--bench");
    let given = arguments.iter().filter_map(|text| text.parse().ok());
    let mut sizes: Vec<usize> = given.collect();
    if sizes.is_empty() {
        let all = if measuring {
            &[1_000, 10_000, 100_000][..]
        } else {
            &[1_000]
        };
        sizes = all.to_vec();
    }
    println!("processor time in ms; a change is read, compiled and made a snapshot");
    print!(
        "{:>8} {:>9} {:>7} {:>10}",
        "pods", "policies", "groups", "load"
    );
    for (name, _) in KINDS {
        print!(" {name:>14}");
    }
    println!(" {:>6} {:>12} {:>10}", "ns", "trees, MB", "peak, MB");
    let mut limits = Limits::default();
    if arguments.iter().any(|argument| argument == "--unshared") {
        limits.shared_ranges_min = u32::MAX;
    }
    let limits = &limits;
    sizes
        .into_iter()
        .for_each(|pods| row(pods, limits, measuring));
}

fn row(pods: usize, limits: &Limits, measuring: bool) {
    let mut files = generate::files(pods);
    let mut world = World {
        preparer: Preparer::new(Compatibility::default(), limits.clone()),
        slots: RuleSlots::new(1 << 20),
        generation: 0,
        in_force: None,
    };
    let load = timed(|| world.load(&files));
    let (policies, groups, bytes) = world.sizes();
    print!(
        "{pods:>8} {policies:>9} {groups:>7} {:>10.1}",
        milliseconds(load)
    );
    for (_, change) in KINDS {
        let changes = if measuring { CHANGES } else { 1 };
        let mut times: Vec<_> = (0..changes)
            .map(|number| {
                change(&mut files, number);
                timed(|| world.load(&files))
            })
            .collect();
        times.sort_unstable();
        print!(" {:>14.1}", milliseconds(times[times.len() / 2]));
    }
    println!(
        " {:>6.0} {:>12.1} {:>10}",
        world.lookup_ns(pods, measuring),
        bytes as f64 / 1e6,
        peak_bytes() / 1_000_000
    );
}

/// What a supervisor keeps from one set to the next.
struct World {
    preparer: Preparer,
    slots: RuleSlots,
    generation: u32,
    in_force: Option<(std::sync::Arc<Prepared>, PolicySnapshot)>,
}

impl World {
    fn load(&mut self, files: &[SourceFile]) {
        let prepared = self.preparer.prepare(files);
        let prepared = prepared.unwrap_or_else(|refused| panic!("{:?}", refused.lines()));
        self.generation += 1;
        let before = self.in_force.as_ref();
        let before = before.map(|(prepared, snapshot)| (&**prepared, snapshot));
        let unused = |_: RuleSlot| RuleTotals::default();
        let snapshot = activate(
            &prepared,
            self.generation,
            &mut self.slots,
            unused,
            &[],
            before,
        );
        let snapshot = snapshot.expect("fewer rules than slots");
        self.in_force = Some((prepared, snapshot));
    }

    /// One packet between any two pods asked of every step.
    fn lookup_ns(&self, pods: usize, measuring: bool) -> f64 {
        let (prepared, _) = self.in_force.as_ref().expect("loaded");
        let trees = prepared.decider.trees();
        let keys = generate::keys(pods, if measuring { 1 << 16 } else { 1 << 10 });
        let mut decisions = vec![None; BATCH];
        let mut ask = || {
            let batches = keys.chunks_exact(BATCH);
            batches.for_each(|keys| {
                trees
                    .iter()
                    .for_each(|trees| trees.classify_batch(keys, &mut decisions))
            });
        };
        ask();
        let mut times: Vec<_> = (0..CHANGES).map(|_| timed(&mut ask)).collect();
        times.sort_unstable();
        times[times.len() / 2].as_nanos() as f64 / keys.len() as f64
    }

    /// Policies, security groups, and the memory of the trees.
    fn sizes(&self) -> (usize, usize, u64) {
        let (prepared, _) = self.in_force.as_ref().expect("loaded");
        let policies = &prepared.decider.policy().policies;
        let trees = prepared.decider.trees().iter();
        let groups = policies.security_groups.len();
        (
            policies.len() - groups,
            groups,
            trees.map(|trees| trees.bytes()).sum(),
        )
    }
}

fn timed(work: impl FnOnce()) -> Duration {
    let now = || {
        let now = clock_gettime(ClockId::ThreadCPUTime);
        Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
    };
    let start = now();
    work();
    now() - start
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// Most memory the process has had so far.
fn peak_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kibibytes = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse().ok());
    1024 * kibibytes.unwrap_or(0_u64)
}
