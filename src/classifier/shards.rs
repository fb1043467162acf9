//! Rule sets about the addresses of different groups, asked as one.
//!
//! Where every rule of a set protects the pods of one namespace, a key is decided by the rules of
//! the namespace its protected address belongs to, and the rules of all others need not be looked
//! at. Each such *shard* is compiled on its own: together they take less room than one tree over
//! all rules (the address sets of a namespace divide only its own tree into classes), and when one
//! changes the others stay what they are.
//!
//! ```text
//! key ─▶ common rules, asked first ─▶ group of the protected address ─▶ tree of the group
//! ```
//!
//! Rules are numbered through: those of the first shard first.

use std::sync::Arc;

use super::tree::interval_index::IntervalIndex;
use super::tree::{self, CompileError, Limits, SharedSets, Tree};
use super::{AddressMatch, Classify, Rule, RuleIndex, RuleSet};
use crate::wire::{Address, Family, FlowKey};

/// Keys of a batch looked up together.
const LANES: usize = 64;

/// Which end of a key the shards divide.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The source address.
    Source,
    /// The destination address.
    Destination,
}

/// The groups that addresses belong to, by number.
#[derive(Debug, Clone)]
pub struct AddressGroups {
    v4: IntervalIndex<u32>,
    v6: IntervalIndex<u128>,
    /// Groups by class. An address that stands for several things, on networks of their own, may be
    /// in several groups.
    members: Vec<Vec<u32>>,
}

impl AddressGroups {
    /// From every address with a group it belongs to, in any order.
    pub fn new(addresses: impl IntoIterator<Item = (Family, Address, u32)>) -> Self {
        let mut all: Vec<_> = addresses.into_iter().collect();
        all.sort_unstable();
        all.dedup();
        let mut members: Vec<Vec<u32>> = vec![Vec::new()];
        let mut numbers = std::collections::HashMap::from([(Vec::new(), 0)]);
        let mut class_of = |groups: Vec<u32>| -> u32 {
            let next = members.len() as u32;
            *numbers.entry(groups).or_insert_with_key(|groups| {
                members.push(groups.clone());
                next
            })
        };
        // Where the class changes, by family: the first stretch is nobody's.
        let (mut v4, mut v6) = (vec![(0, 0)], vec![(0, 0)]);
        for of_address in all.chunk_by(|one, other| (one.0, one.1) == (other.0, other.1)) {
            let (family, address, _) = of_address[0];
            let class = class_of(of_address.iter().map(|(.., group)| *group).collect());
            let stretches = match family {
                Family::V4 => &mut v4,
                Family::V6 => &mut v6,
            };
            let bits = address.to_bits();
            if stretches.last() == Some(&(bits, 0)) {
                stretches.pop();
            }
            if stretches.last().is_none_or(|&(_, before)| before != class) {
                stretches.push((bits, class));
            }
            if address < family.last_address() {
                stretches.push((bits + 1, 0));
            }
        }
        AddressGroups {
            v4: IntervalIndex::new(&v4),
            v6: IntervalIndex::new(&v6),
            members,
        }
    }

    /// The groups of an address.
    #[inline]
    pub fn of(&self, family: Family, address: Address) -> &[u32] {
        let class = match family {
            Family::V4 => self.v4.class(address.to_bits() as u32),
            Family::V6 => self.v6.class(address.to_bits()),
        };
        &self.members[class as usize]
    }

    fn bytes(&self) -> u64 {
        let members = self.members.iter().map(|groups| 24 + 4 * groups.len());
        self.v4.bytes() + self.v6.bytes() + members.sum::<usize>() as u64
    }
}

/// Rules to be compiled as one shard.
#[derive(Clone, Copy)]
pub struct ShardRules<'r> {
    /// Of the keys whose address belongs to this group; `None` is every key, and these rules are
    /// stronger than all of groups.
    pub group: Option<u32>,
    /// The rules. Those of a group match no key whose address is not of the group.
    pub rules: &'r RuleSet,
}

/// Compiled shards: immutable, shared between workers, replaced by one pointer swap.
#[derive(Debug, Clone)]
pub struct Shards {
    side: Side,
    groups: Arc<AddressGroups>,
    /// The large address sets the trees speak of.
    sets: Option<Arc<SharedSets>>,
    /// Everything in one tree, where that is small.
    whole: Option<Arc<Tree>>,
    /// By position; none where all are one tree made of several shards.
    shards: Vec<Shard>,
    /// Positions of the shards for every key.
    common: Vec<u32>,
    /// Position of a group's shard; [`NO_SHARD`] where a group has none.
    by_group: Vec<u32>,
}

#[derive(Debug, Clone)]
struct Shard {
    /// Number of its first rule.
    first: u32,
    tree: Arc<Tree>,
}

const NO_SHARD: u32 = u32::MAX;

impl Shards {
    /// Compiles what `known` does not know already: the tree of a shard, by its position, as it was
    /// compiled before from the very same rules. `sets` are the [`Shards::sets`] of then; sets that
    /// have come since are not among them, which is right but slower.
    ///
    /// # Errors
    /// [`CompileError`] when a shard would exceed a limit, or all together the number of rules.
    pub fn compile(
        shards: &[ShardRules],
        side: Side,
        groups: &Arc<AddressGroups>,
        limits: &Limits,
        known: impl Fn(usize) -> Option<Arc<Tree>>,
        sets: Option<Arc<SharedSets>>,
    ) -> Result<Self, CompileError> {
        let count: usize = shards.iter().map(|shard| shard.rules.rules().len()).sum();
        limits.check_count(count as u64)?;
        // Shards are rules about lists of addresses, which trees of bits would copy; not even to
        // try them makes a change quick.
        let limits = &Limits {
            strategy: limits.strategy.or(Some(tree::Strategy::Classes)),
            ..limits.clone()
        };
        let mut compiled = Shards {
            side,
            groups: groups.clone(),
            sets: None,
            whole: None,
            shards: Vec::new(),
            common: Vec::new(),
            by_group: Vec::new(),
        };
        let is_small = count <= limits.joined_rules_max as usize;
        if shards.len() != 1 && is_small {
            compiled.whole = Some(Arc::new(tree::compile(&joined(shards), limits)?));
            return Ok(compiled);
        }
        if !is_small {
            let all = shards.iter().map(|shard| shard.rules);
            compiled.sets = sets.or_else(|| Some(Arc::new(SharedSets::of(all, limits))));
        }
        let sets = compiled.sets.clone();
        let mut first = 0;
        for (position, ShardRules { group, rules }) in shards.iter().enumerate() {
            let tree = match known(position) {
                Some(tree) => tree,
                None => {
                    let tree = tree::compile_with(rules, limits, sets.as_deref());
                    Arc::new(tree.map_err(|error| error.behind(first))?)
                }
            };
            compiled.place(*group);
            compiled.shards.push(Shard { first, tree });
            first += rules.rules().len() as u32;
        }
        if let [Shard { tree, .. }] = &compiled.shards[..] {
            compiled.whole = Some(tree.clone());
        }
        Ok(compiled)
    }

    /// Every tree.
    pub fn trees(&self) -> impl Iterator<Item = &Arc<Tree>> {
        let shards = match self.whole {
            Some(_) => &[],
            None => &self.shards[..],
        };
        self.whole
            .iter()
            .chain(shards.iter().map(|shard| &shard.tree))
    }

    /// The tree of the shard at a position; `None` where several are compiled as one.
    pub fn tree(&self, position: usize) -> Option<&Arc<Tree>> {
        self.shards.get(position).map(|shard| &shard.tree)
    }

    /// The large address sets the trees speak of.
    pub fn sets(&self) -> Option<&Arc<SharedSets>> {
        self.sets.as_ref()
    }

    /// Nodes of all trees.
    pub fn nodes(&self) -> u64 {
        let nodes = |tree: &Arc<Tree>| u64::from(tree.statistics().nodes);
        self.trees().map(nodes).sum()
    }

    /// Memory of all trees, and of what finds the right one.
    pub fn bytes(&self) -> u64 {
        let trees: u64 = self.trees().map(|tree| tree.statistics().bytes).sum();
        let trees = trees + self.sets.as_ref().map_or(0, |sets| sets.bytes());
        match self.whole {
            Some(_) => trees,
            None => trees + self.groups.bytes() + 4 * self.by_group.len() as u64,
        }
    }

    /// Notes whose the next shard is.
    fn place(&mut self, group: Option<u32>) {
        let position = self.shards.len() as u32;
        let Some(group) = group else {
            return self.common.push(position);
        };
        let group = group as usize;
        if self.by_group.len() <= group {
            self.by_group.resize(group + 1, NO_SHARD);
        }
        self.by_group[group] = position;
    }

    /// Positions of the shards to ask about the key's address.
    #[inline]
    fn of(&self, key: &FlowKey) -> impl Iterator<Item = u32> {
        let address = match self.side {
            Side::Source => key.source,
            Side::Destination => key.destination,
        };
        let groups = self.groups.of(key.family, address).iter();
        let position = |group: &u32| self.by_group.get(*group as usize).copied();
        groups
            .filter_map(position)
            .filter(|position| *position != NO_SHARD)
    }

    /// The rules of a shard for up to [`LANES`] undecided keys, those of `lanes`.
    fn ask(
        &self,
        position: u32,
        lanes: &[u8],
        keys: &[FlowKey],
        decisions: &mut [Option<RuleIndex>],
    ) {
        let Shard { first, tree } = &self.shards[position as usize];
        let mut own = [keys[0]; LANES];
        let mut found = [None; LANES];
        for (own, lane) in own.iter_mut().zip(lanes) {
            *own = keys[usize::from(*lane)];
        }
        tree.classify_batch(&own[..lanes.len()], &mut found[..lanes.len()]);
        for (found, lane) in found.iter().zip(lanes) {
            if let Some(RuleIndex(rule)) = found {
                decisions[usize::from(*lane)] = Some(RuleIndex(first + rule));
            }
        }
    }

    /// Up to [`LANES`] keys.
    fn classify_lanes(&self, keys: &[FlowKey], decisions: &mut [Option<RuleIndex>]) {
        let mut lanes = [0; LANES];
        for &position in &self.common {
            let count = undecided(&mut lanes, decisions);
            self.ask(position, &lanes[..count], keys, decisions);
        }
        let count = undecided(&mut lanes, decisions);
        // The shard each lane is to ask next. An address is of one group, but for those that stand
        // for several things: these are asked one by one.
        let mut positions = [NO_SHARD; LANES];
        for &lane in &lanes[..count] {
            let lane = usize::from(lane);
            let mut shards = self.of(&keys[lane]);
            positions[lane] = shards.next().unwrap_or(NO_SHARD);
            if shards.next().is_some() {
                decisions[lane] = self.classify_among_groups(&keys[lane]);
                positions[lane] = NO_SHARD;
            }
        }
        for start in 0..count {
            let position = positions[usize::from(lanes[start])];
            if position == NO_SHARD {
                continue;
            }
            let mut alike = [0; LANES];
            let mut found = 0;
            for &lane in &lanes[start..count] {
                if positions[usize::from(lane)] == position {
                    positions[usize::from(lane)] = NO_SHARD;
                    alike[found] = lane;
                    found += 1;
                }
            }
            self.ask(position, &alike[..found], keys, decisions);
        }
    }

    fn classify_among_groups(&self, key: &FlowKey) -> Option<RuleIndex> {
        self.of(key)
            .find_map(|position| self.classify_in(position, key))
    }

    fn classify_in(&self, position: u32, key: &FlowKey) -> Option<RuleIndex> {
        let Shard { first, tree } = &self.shards[position as usize];
        tree.classify(key)
            .map(|RuleIndex(rule)| RuleIndex(first + rule))
    }
}

impl Classify for Shards {
    fn classify(&self, key: &FlowKey) -> Option<RuleIndex> {
        if let Some(whole) = &self.whole {
            return whole.classify(key);
        }
        let mut common = self.common.iter();
        common
            .find_map(|position| self.classify_in(*position, key))
            .or_else(|| self.classify_among_groups(key))
    }

    fn classify_batch(&self, keys: &[FlowKey], decisions: &mut [Option<RuleIndex>]) {
        assert_eq!(keys.len(), decisions.len());
        if let Some(whole) = &self.whole {
            return whole.classify_batch(keys, decisions);
        }
        decisions.fill(None);
        for (keys, decisions) in keys.chunks(LANES).zip(decisions.chunks_mut(LANES)) {
            self.classify_lanes(keys, decisions);
        }
    }
}

/// Writes down the lanes without a decision; gives their number.
fn undecided(lanes: &mut [u8; LANES], decisions: &[Option<RuleIndex>]) -> usize {
    let mut count = 0;
    for (lane, decision) in decisions.iter().enumerate() {
        if decision.is_none() {
            lanes[count] = lane as u8;
            count += 1;
        }
    }
    count
}

/// The rules of all shards as one set, numbered as they are numbered through.
fn joined(shards: &[ShardRules]) -> RuleSet {
    let mut all = RuleSet::new();
    for ShardRules { rules, .. } in shards {
        for rule in rules.rules() {
            let mut end = |end: AddressMatch| match end {
                AddressMatch::Any => AddressMatch::Any,
                AddressMatch::Set(id) => {
                    AddressMatch::Set(all.intern(rules.address_set(id).clone()))
                }
            };
            let (source, destination) = (end(rule.source), end(rule.destination));
            all.push(Rule {
                // Rules of different groups match no key in common, so that any order is right.
                priority: all.rules().len() as u32,
                source,
                destination,
                ..rule.clone()
            });
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::classifier::linear::Linear;
    use crate::classifier::{AddressSet, OriginId, PortRange, ProtocolMatch, RuleId, RuleVerdict};
    use proptest::prelude::*;

    /// An address of 198.18.0.0/15 or 2001:db8::/32; which groups have it is told by the number.
    fn address(family: Family, number: u32) -> Address {
        match family {
            Family::V4 => Address::from_bits(u128::from(0xc612_0000 + number)),
            Family::V6 => Address::from_bits((0x2001_0db8 << 96) + u128::from(number)),
        }
    }

    #[derive(Debug, Clone)]
    struct Wanted {
        group: Option<u32>,
        own: Vec<u32>,
        port: u16,
        zone: Option<u16>,
        priority: u32,
    }

    const FAMILIES: [Family; 2] = [Family::V4, Family::V6];

    /// Address `n` is of group `n % 5` on network 0, and `n` a multiple of 4 of group 5 on network
    /// 1 too.
    fn groups() -> Arc<AddressGroups> {
        let of = |n: u32| {
            let other = (n.is_multiple_of(4)).then_some(5);
            FAMILIES.into_iter().flat_map(move |family| {
                let group = |group| (family, address(family, n), group);
                std::iter::once(group(n % 5)).chain(other.map(group))
            })
        };
        Arc::new(AddressGroups::new((0..40).flat_map(of)))
    }

    fn rule(set: &mut RuleSet, side: Side, wanted: &Wanted) -> Rule {
        let own = wanted.own.iter().filter(|n| match wanted.group {
            None => true,
            Some(5) => n.is_multiple_of(4),
            Some(group) => **n % 5 == group,
        });
        let ranges = own.flat_map(|n| FAMILIES.map(|f| (f, address(f, *n), address(f, *n))));
        let own = AddressMatch::Set(set.intern(AddressSet::from_ranges(ranges)));
        let (source, destination) = match side {
            Side::Source => (own, AddressMatch::Any),
            Side::Destination => (AddressMatch::Any, own),
        };
        Rule {
            id: RuleId(0),
            priority: wanted.priority,
            source,
            destination,
            protocol: ProtocolMatch::Any,
            source_ports: PortRange::ANY,
            destination_ports: PortRange {
                first: wanted.port,
                last: wanted.port + 1,
            },
            zone: match wanted.group {
                None => wanted.zone,
                Some(group) => Some(u16::from(group == 5)),
            },
            verdict: RuleVerdict::Deny,
            origin: OriginId(0),
        }
    }

    fn wanted() -> impl Strategy<Value = Wanted> {
        let own = proptest::collection::vec(0..40_u32, 1..8);
        let group = proptest::option::weighted(0.9, 0..6_u32);
        (
            group,
            own,
            0..4_u16,
            proptest::option::of(0..2_u16),
            0..3_u32,
        )
            .prop_map(|(group, own, port, zone, priority)| Wanted {
                group,
                own,
                port,
                zone,
                priority,
            })
    }

    proptest! {
        #[test]
        fn shards_decide_as_all_their_rules_read_in_turn(
            rules in proptest::collection::vec(wanted(), 0..60),
            repeated in prop_oneof![Just(1), Just(40)],
            source in any::<bool>(),
        ) {
            let side = if source { Side::Source } else { Side::Destination };
            let groups = groups();
            let order = [None].into_iter().chain((0..6).map(Some));
            let sets: Vec<(Option<u32>, RuleSet)> = order.map(|group| {
                let mut set = RuleSet::new();
                for wanted in rules.iter().filter(|wanted| wanted.group == group) {
                    let rule = rule(&mut set, side, wanted);
                    // Enough of them are not compiled as one.
                    (0..repeated).for_each(|_| set.push(rule.clone()));
                }
                (group, set)
            }).collect();
            let shards: Vec<_> = sets
                .iter()
                .map(|(group, rules)| ShardRules { group: *group, rules })
                .collect();
            let limits = Limits {
                shared_ranges_min: 0,
                ..Limits::default()
            };
            let compiled = Shards::compile(&shards, side, &groups, &limits, |_| None, None);
            let compiled = compiled.unwrap();
            let linear = Linear::new(&joined(&shards));
            let keys: Vec<FlowKey> = (0..42)
                .flat_map(|n| FAMILIES.map(|family| (n, family)))
                .flat_map(|(n, family)| (0..2).map(move |zone| (n, family, zone)))
                .flat_map(|(n, family, zone)| (0..5).map(move |port| FlowKey {
                    source: address(family, n),
                    destination: address(family, n),
                    source_port: 1,
                    destination_port: port,
                    zone,
                    protocol: 6,
                    family,
                }))
                .collect();
            let mut batch = vec![None; keys.len()];
            compiled.classify_batch(&keys, &mut batch);
            for (key, batch) in keys.iter().zip(batch) {
                let expected = linear.classify(key);
                prop_assert_eq!(compiled.classify(key), expected, "{:?}", key);
                prop_assert_eq!(batch, expected, "{:?}", key);
            }
        }
    }

    #[test]
    fn an_address_has_its_groups_and_its_neighbours_have_theirs() {
        let groups = groups();
        for family in FAMILIES {
            assert_eq!(groups.of(family, address(family, 3)), [3]);
            assert_eq!(groups.of(family, address(family, 4)), [4, 5]);
            assert!(groups.of(family, address(family, 40)).is_empty());
            assert!(groups.of(family, Address::ZERO).is_empty());
            assert!(groups.of(family, family.last_address()).is_empty());
        }
    }
}
