//! Two sets of manifests: what passes with the one and not with the other.
//!
//! Not by sampling: addresses and ports are divided into classes that no compiled step of either
//! set tells apart, and one packet of each combination of classes that a changed rule is about is
//! decided by both. What no changed rule matches cannot fare differently.

mod classes;
mod partition;
mod services;
mod tell;

use std::collections::{BTreeMap, BTreeSet, HashSet};

use serde::Serialize;

use self::classes::{Changed, Classes};
pub use self::services::{ServiceChange, services};
use super::decide::Decider;
use crate::classifier::RuleSet;
use crate::policy::{PolicyKey, StageKind};
use crate::wire::{Address, Family, FlowKey};

/// Combinations of classes looked at, at the most.
const COMBINATIONS_MAX: u64 = 50_000_000;

/// What becomes of packets, and by which rule.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Fate {
    /// `allow` or `deny`.
    pub verdict: &'static str,
    /// Family of the step that decided; `none` where no step had an opinion.
    pub family: &'static str,
    /// Label of the deciding rule.
    pub rule: Option<String>,
}

/// Packets whose verdict changes, from whom to whom.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Change {
    /// With the first set.
    pub before: Fate,
    /// With the second.
    pub after: Fate,
    /// Who sends: pods by name, other addresses as ranges.
    pub from: Vec<String>,
    /// Who receives.
    pub to: Vec<String>,
    /// Protocols and ports.
    pub services: Vec<String>,
    /// One such packet of each family, for `explain`.
    pub witnesses: Vec<String>,
}

/// There are too many combinations to look at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the changed rules are about {combinations} combinations of addresses and ports; at most \
     {COMBINATIONS_MAX} are compared: change fewer policies at a time"
)]
pub struct TooManyCombinations {
    /// How many.
    pub combinations: u64,
}

/// A combination of classes whose verdict changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Point {
    source: u32,
    destination: u32,
    protocol: u8,
    source_port: u32,
    destination_port: u32,
    zone: u16,
}

/// What a [`Point`] was and is decided by.
type Fates = (Fate, Fate);

/// Everything that changes, grouped by what decides.
///
/// # Errors
/// Too much changes at once.
pub fn differences(before: &Decider, after: &Decider) -> Result<Vec<Change>, TooManyCombinations> {
    let changed = changed_rules(before, after);
    let mut changes: BTreeMap<_, Vec<String>> = BTreeMap::new();
    for family in [Family::V4, Family::V6] {
        let classes = Classes::new(family, [before, after]);
        let points = points(&classes, &changed, before, after)?;
        for change in tell::changes(&classes, points, before, after) {
            let Change {
                before,
                after,
                from,
                to,
                services,
                witnesses,
            } = change;
            let same = changes
                .entry((before, after, from, to, services))
                .or_default();
            same.extend(witnesses);
        }
    }
    let change = |((before, after, from, to, services), witnesses)| Change {
        before,
        after,
        from,
        to,
        services,
        witnesses,
    };
    Ok(changes.into_iter().map(change).collect())
}

/// Rules that only one of the two sets has, or that stand elsewhere in their step.
fn changed_rules(before: &Decider, after: &Decider) -> Vec<Changed> {
    let of = |decider: &Decider, kind: StageKind| -> BTreeSet<Changed> {
        let stages = decider.policy().stages.iter();
        let shards = stages
            .filter(|stage| stage.kind == kind)
            .flat_map(|stage| stage.shards());
        shards.flat_map(|shard| all_of(&shard.rules)).collect()
    };
    let mut changed = Vec::new();
    for kind in StageKind::ALL {
        let (old, new) = (of(before, kind), of(after, kind));
        changed.extend(old.symmetric_difference(&new).cloned());
    }
    changed
}

fn all_of(rules: &RuleSet) -> impl Iterator<Item = Changed> + '_ {
    rules.rules().iter().map(|rule| Changed::new(rules, rule))
}

/// Decides one packet of every combination of classes that a changed rule is about.
fn points(
    classes: &Classes,
    changed: &[Changed],
    before: &Decider,
    after: &Decider,
) -> Result<BTreeMap<Point, Fates>, TooManyCombinations> {
    let boxes: Vec<_> = changed.iter().map(|rule| classes.about(rule)).collect();
    let combinations = boxes.iter().map(classes::Box::combinations).sum();
    if combinations > COMBINATIONS_MAX {
        return Err(TooManyCombinations { combinations });
    }
    let mut seen = HashSet::new();
    let mut points = BTreeMap::new();
    for one in &boxes {
        for point in one.points() {
            if !seen.insert(point) {
                continue;
            }
            let Some(key) = classes.witness(&point) else {
                continue;
            };
            let packet = packet(key, point.zone);
            let (old, new) = (before.decide(packet), after.decide(packet));
            if old.allow != new.allow {
                points.insert(point, (fate(before, &old), fate(after, &new)));
            }
        }
    }
    Ok(points)
}

fn packet(key: FlowKey, zone: u16) -> PolicyKey {
    PolicyKey {
        source_network: zone,
        destination_network: zone,
        ..PolicyKey::from(key)
    }
}

fn fate(decider: &Decider, decision: &super::decide::Decision) -> Fate {
    let deciding = decision.deciding();
    Fate {
        verdict: if decision.allow { "allow" } else { "deny" },
        family: deciding.map_or("none", |opinion| opinion.family()),
        rule: deciding
            .and_then(|opinion| decider.origin(opinion))
            .map(|origin| origin.label.clone()),
    }
}

/// The address of a number.
fn address(bits: u128) -> Address {
    Address::from_bits(bits)
}

#[cfg(test)]
mod tests;
