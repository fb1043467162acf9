//! What each step of a compilation to trees of bits made, as text for people and golden files.

use std::fmt::{self, Write as _};

use super::choose::Question;
use super::codes::{Codes, PortCode};
use super::expand::{FlatRule, Prefix, expand};
use super::frozen::{Frozen, Leaf, Parts};
use super::group::{Group, LANES, NO_RANK};
use super::key::{PORT_WORD, WORDS_V4};
use super::{Bits, Parameters, Visits};
use crate::classifier::{PortRange, ProtocolMatch, RuleSet};
use crate::wire::{Address, Family};

/// A step of the compilation, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Step {
    /// Rules of one family and one prefix a side.
    Expand,
    /// Codes of ports and zones, and the bits of a digest.
    CodePorts,
    /// What nodes ask.
    ChooseBits,
    /// Where answers lead.
    BuildTrees,
    /// Rules side by side.
    PackLeaves,
    /// The parameters all of it was built with, and what lookups cost by the model.
    Tune,
}

impl Step {
    /// Every step, in order.
    pub const ALL: [Step; 6] = [
        Step::Expand,
        Step::CodePorts,
        Step::ChooseBits,
        Step::BuildTrees,
        Step::PackLeaves,
        Step::Tune,
    ];
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Step::Expand => "expand",
            Step::CodePorts => "code-ports",
            Step::ChooseBits => "choose-bits",
            Step::BuildTrees => "build-trees",
            Step::PackLeaves => "pack-leaves",
            Step::Tune => "tune",
        })
    }
}

impl Bits {
    /// What the step made of `rules`, of which these are the trees; equal for equal rules. Its form
    /// is for readers and may change.
    pub fn dump(&self, rules: &RuleSet, step: Step) -> String {
        let mut text = String::new();
        let written = match step {
            Step::Expand => dump_rules(&mut text, rules),
            Step::Tune => (0..2).try_for_each(|family| self.dump_tune(&mut text, family)),
            _ => dump_frozen(&mut text, &self.v4, Family::V4, step)
                .and_then(|()| dump_frozen(&mut text, &self.v6, Family::V6, step)),
        };
        written.expect("writing to a string cannot fail");
        text
    }

    fn dump_tune(&self, text: &mut String, family: usize) -> fmt::Result {
        writeln!(text, "{}", ["ipv4", "ipv6"][family])?;
        let Parameters {
            trees_max,
            root_open_max,
            open_max,
            root_share_max,
            share_max,
            hand_on_price,
            fan,
            stop,
            tail_groups,
            port_tables,
            grid_bits,
            grid_share_max,
        } = self.parameters[family];
        writeln!(
            text,
            "  trees {trees_max}, the last two from {tail_groups} groups on"
        )?;
        writeln!(
            text,
            "  open bits: {root_open_max} of a root, {open_max} of a node"
        )?;
        writeln!(
            text,
            "  handed on: {root_share_max} of a root, {share_max} of a node"
        )?;
        writeln!(
            text,
            "  price of handing on {hand_on_price}, fan {fan}, stop {stop}"
        )?;
        writeln!(text, "  port tables {port_tables}")?;
        writeln!(text, "  grid bits {grid_bits}, share {grid_share_max}")?;
        let Visits {
            trees,
            questions,
            groups,
        } = self.visits[family];
        let nanoseconds = self.lookup_ns[family];
        writeln!(
            text,
            "  a lookup: {trees:.2} trees, {questions:.2} questions, {groups:.2} groups, \
             {nanoseconds:.1} ns by the model"
        )
    }
}

fn dump_rules(text: &mut String, rules: &RuleSet) -> fmt::Result {
    for family in [Family::V4, Family::V6] {
        writeln!(text, "{}", name(family))?;
        let flat = expand(rules, family, usize::MAX).unwrap_or_default();
        for rule in &flat {
            writeln!(text, "  {}", RuleText(family, rule))?;
        }
    }
    Ok(())
}

fn dump_frozen<G: Group<W>, const W: usize>(
    text: &mut String,
    frozen: &Frozen<G, W>,
    family: Family,
    step: Step,
) -> fmt::Result {
    writeln!(text, "{}", name(family))?;
    let parts = frozen.forest.parts();
    match step {
        Step::CodePorts => dump_codes(text, &frozen.codes, family),
        Step::ChooseBits => dump_questions::<G, W>(text, parts),
        Step::BuildTrees => dump_trees::<G, W>(text, parts),
        _ => dump_groups(text, parts),
    }
}

fn dump_codes(text: &mut String, codes: &Codes, family: Family) -> fmt::Result {
    for (side, code) in ["source", "destination"].into_iter().zip(&codes.ports) {
        match code {
            PortCode::Nothing => writeln!(text, "  {side} port: no rule asks")?,
            PortCode::Itself => writeln!(text, "  {side} port: its own code")?,
            PortCode::Short(_) | PortCode::Long(_) => {
                writeln!(text, "  {side} port: a table")?;
                let mut before = None;
                for port in 0..=u16::MAX {
                    let own = code.code(port);
                    if before != Some(own) {
                        writeln!(text, "    from {port}: {own:#06x}")?;
                    }
                    before = Some(own);
                }
            }
        }
    }
    for (zone, class) in codes.zone_classes() {
        writeln!(text, "  zone {zone}: class {class}")?;
    }
    if family == Family::V6 {
        let [a, b, c, d] = codes.digest.masks();
        writeln!(
            text,
            "  source digest: {}",
            BitsText(u128::from(a) << 64 | u128::from(b))
        )?;
        writeln!(
            text,
            "  destination digest: {}",
            BitsText(u128::from(c) << 64 | u128::from(d))
        )?;
    }
    Ok(())
}

fn dump_questions<G, const W: usize>(text: &mut String, parts: &Parts<G>) -> fmt::Result {
    if let Some(grid) = &parts.grid {
        for (side, question) in ["row", "column"].into_iter().zip(&grid.questions) {
            writeln!(text, "  grid {side} asks{}", QuestionText::<W>(*question))?;
        }
    }
    for (number, node) in parts.nodes.iter().enumerate() {
        if let Some(question) = node.asks::<W>() {
            writeln!(text, "  node {number} asks{}", QuestionText::<W>(question))?;
        }
    }
    Ok(())
}

fn dump_trees<G, const W: usize>(text: &mut String, parts: &Parts<G>) -> fmt::Result {
    for (number, root) in parts.roots.iter().enumerate() {
        let begins = match root.has_grid {
            true => "the grid".to_owned(),
            false => node_text(parts, root.node),
        };
        writeln!(
            text,
            "  tree {number}, from rule {} on: {begins}",
            root.rank_min
        )?;
    }
    if let Some(grid) = &parts.grid {
        let targets = grid.cells.iter().map(|cell| match cell.is_leaf() {
            true => groups_text(cell.leaf()),
            false => format!("node {}", cell.node()),
        });
        write_runs(text, "  cells", targets)?;
        for (side, places) in ["row", "column"].into_iter().zip(&grid.places) {
            let places = places.iter().map(|place| place.to_string());
            write_runs(text, &format!("  {side} by answer"), places)?;
        }
    }
    for (number, node) in parts.nodes.iter().enumerate() {
        if let Some(question) = node.asks::<W>() {
            let children = node.base..node.base + (1 << question.mask.count_ones());
            let targets = children.map(|child| node_text(parts, child));
            write_runs(text, &format!("  node {number}"), targets)?;
        }
    }
    Ok(())
}

/// Equal neighbours together, as `0-3: node 5`.
fn write_runs(
    text: &mut String,
    title: &str,
    targets: impl Iterator<Item = String>,
) -> fmt::Result {
    writeln!(text, "{title}")?;
    let targets: Vec<String> = targets.collect();
    let mut first = 0;
    for run in targets.chunk_by(|one, other| one == other) {
        let last = first + run.len() - 1;
        match run.len() {
            1 => writeln!(text, "    {first}: {}", run[0])?,
            _ => writeln!(text, "    {first}-{last}: {}", run[0])?,
        }
        first = last + 1;
    }
    Ok(())
}

fn node_text<G>(parts: &Parts<G>, number: u32) -> String {
    let node = parts.nodes[number as usize];
    match node.is_leaf() {
        true => groups_text(node.detail),
        false => format!("node {number}"),
    }
}

fn groups_text(leaf: Leaf) -> String {
    match (leaf.first(), leaf.count()) {
        (first, 1) => format!("group {first}"),
        (first, count) => format!("groups {first}-{}", first + count - 1),
    }
}

fn dump_groups<G: Group<W>, const W: usize>(text: &mut String, parts: &Parts<G>) -> fmt::Result {
    for (number, group) in parts.groups.iter().enumerate() {
        writeln!(text, "  group {number}")?;
        let lanes = group.lanes();
        for lane in 0..LANES {
            let rank = match lanes.ports.answer[lane] {
                NO_RANK => continue,
                number if G::HAS_RECORDS => parts.records[number as usize].rank,
                rank => rank,
            };
            let both = |number: u32| (number as u16, (number >> 16) as u16);
            let (low, high) = (both(lanes.ports.low[lane]), both(lanes.ports.high[lane]));
            writeln!(
                text,
                "    rule {rank}: source {:08x}/{:08x} destination {:08x}/{:08x} ports {}-{} {}-{} \
                 tag {:04x}/{:04x}",
                lanes.source_value[lane],
                lanes.source_care[lane],
                lanes.destination_value[lane],
                lanes.destination_care[lane],
                low.0,
                high.0,
                low.1,
                high.1,
                lanes.ports.tag_value[lane],
                lanes.ports.tag_care[lane],
            )?;
        }
    }
    Ok(())
}

/// Part of a word: name, lowest bit in the word, bits, and the number of its lowest bit.
type WordPart = (&'static str, u32, u32, u32);

const PORT_PARTS: [WordPart; 4] = [
    ("source-port", 0, 16, 0),
    ("destination-port", 16, 16, 0),
    ("protocol", 32, 8, 0),
    ("zone", 40, 8, 0),
];

fn word_parts(words: usize, word: usize) -> &'static [WordPart] {
    match (words, word) {
        (_, PORT_WORD) => &PORT_PARTS,
        (WORDS_V4, _) => &[("source", 0, 32, 0), ("destination", 32, 32, 0)],
        (_, 0) => &[
            ("source-digest", 0, 32, 0),
            ("destination-digest", 32, 32, 0),
        ],
        (_, 2) => &[("source", 0, 64, 64)],
        (_, 3) => &[("source", 0, 64, 0)],
        (_, 4) => &[("destination", 0, 64, 64)],
        _ => &[("destination", 0, 64, 0)],
    }
}

/// The bits asked by field, the highest first.
struct QuestionText<const W: usize>(Question);

impl<const W: usize> fmt::Display for QuestionText<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Question { word, mask } = self.0;
        for &(name, lowest, count, base) in word_parts(W, word) {
            let part = mask >> lowest & u64::MAX >> (64 - count);
            if part != 0 {
                write!(f, " {name} {}", BitsText(u128::from(part) << base))?;
            }
        }
        Ok(())
    }
}

/// Numbers of the bits, the highest first: `31-24,3`.
struct BitsText(u128);

impl fmt::Display for BitsText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bits: Vec<u32> = (0..128)
            .rev()
            .filter(|bit| self.0 >> bit & 1 == 1)
            .collect();
        let runs = bits.chunk_by(|one, next| *one == next + 1);
        for (place, run) in runs.enumerate() {
            let comma = if place > 0 { "," } else { "" };
            match run {
                [one] => write!(f, "{comma}{one}")?,
                [first, .., last] => write!(f, "{comma}{first}-{last}")?,
                [] => {}
            }
        }
        Ok(())
    }
}

/// A rule of one prefix a side.
struct RuleText<'a>(Family, &'a FlatRule);

impl fmt::Display for RuleText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let RuleText(family, rule) = *self;
        write!(f, "rule {}:", rule.rank)?;
        for (name, prefix) in [("source", rule.source), ("destination", rule.destination)] {
            let Prefix { first, length } = prefix;
            if length > 0 {
                write!(
                    f,
                    " {name}={}/{length}",
                    Address::from_bits(first).to_ip(family)
                )?;
            }
        }
        if let ProtocolMatch::Number(number) = rule.protocol {
            write!(f, " protocol={number}")?;
        }
        for (name, range) in ["source_port", "destination_port"]
            .into_iter()
            .zip(rule.ports)
        {
            if range != PortRange::ANY {
                write!(f, " {name}={}-{}", range.first, range.last)?;
            }
        }
        if let Some(zone) = rule.zone {
            write!(f, " zone={zone}")?;
        }
        Ok(())
    }
}

fn name(family: Family) -> &'static str {
    match family {
        Family::V4 => "ipv4",
        Family::V6 => "ipv6",
    }
}
