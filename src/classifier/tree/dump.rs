//! What each step of a compilation made, as text for people and golden files.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};

use super::Compilation;
use super::build::{BuiltTree, Child, Node};
use super::classes::FieldClasses;
use super::field::{Field, FieldSet};
use super::interval_index::Value;
use super::normalise::{ConditionId, NormalFamily, NormalRule};
use super::packed::{
    Kind, LEAF_ROWS, MANY_RUNS, NO_CLASS, NO_RULE, NUMBER_BITS, PackedTree, Place,
};
use super::walk::FamilyTree;
use crate::wire::{Address, Family};

/// A step of the compilation, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Step {
    /// Rules of one family, written in interned conditions.
    Normalise,
    /// Rules one stronger rule covers are taken out.
    RemoveShadowed,
    /// The classes of every field.
    Classes,
    /// The decision tree over classes.
    Tree,
    /// The tree as it is looked up.
    Pack,
}

impl Step {
    /// Every step, in order.
    pub const ALL: [Step; 5] = [
        Step::Normalise,
        Step::RemoveShadowed,
        Step::Classes,
        Step::Tree,
        Step::Pack,
    ];
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Step::Normalise => "normalise",
            Step::RemoveShadowed => "remove-shadowed",
            Step::Classes => "classes",
            Step::Tree => "tree",
            Step::Pack => "pack",
        })
    }
}

impl Compilation {
    /// What the step made, as text; equal for equal rules. Its form is for readers and may change.
    pub fn dump(&self, step: Step) -> String {
        let mut text = String::new();
        let written = match step {
            Step::Normalise => self.dump_normalise(&mut text),
            Step::RemoveShadowed => self.dump_shadowed(&mut text),
            Step::Classes => self.dump_classes(&mut text),
            Step::Tree => self.dump_trees(&mut text),
            Step::Pack => self.dump_packed(&mut text),
        };
        written.expect("writing to a string cannot fail");
        text
    }

    fn dump_normalise(&self, text: &mut String) -> fmt::Result {
        for (family, rules) in self.normal.iter().zip(&self.rules_before) {
            writeln!(text, "{}", name(family.family))?;
            for rule in rules {
                writeln!(text, "  {}", RuleText(family, rule))?;
            }
        }
        Ok(())
    }

    fn dump_shadowed(&self, text: &mut String) -> fmt::Result {
        for (covered, covering) in &self.shadowed.pairs {
            writeln!(text, "rule {} is covered by rule {}", covered.0, covering.0)?;
        }
        for (family, taken) in self.normal.iter().zip(&self.shadowed.taken) {
            let left = family.rules.len();
            write!(
                text,
                "{}: {left} rules left, taken out:",
                name(family.family)
            )?;
            for rule in taken {
                write!(text, " {}", rule.0)?;
            }
            writeln!(text)?;
        }
        if !self.shadowed.complete {
            writeln!(text, "the search was cut short")?;
        }
        Ok(())
    }

    fn dump_classes(&self, text: &mut String) -> fmt::Result {
        for (normal, classes) in self.normal.iter().zip(&self.classes) {
            writeln!(text, "{}", name(normal.family))?;
            for field in Field::ALL {
                dump_field_classes(text, normal, field, &classes[field as usize])?;
            }
        }
        Ok(())
    }

    fn dump_trees(&self, text: &mut String) -> fmt::Result {
        for (normal, built) in self.normal.iter().zip(&self.built) {
            writeln!(
                text,
                "{}: {}",
                name(normal.family),
                ChildText(normal, built.root)
            )?;
            dump_tree(text, normal, built)?;
        }
        Ok(())
    }

    fn dump_packed(&self, text: &mut String) -> fmt::Result {
        writeln!(text, "{}", name(Family::V4))?;
        dump_family_tree(text, &self.tree.v4)?;
        writeln!(text, "{}", name(Family::V6))?;
        dump_family_tree(text, &self.tree.v6)
    }
}

fn name(family: Family) -> &'static str {
    match family {
        Family::V4 => "ipv4",
        Family::V6 => "ipv6",
    }
}

/// A value of a field as people write it.
struct ValueText(Family, Field, u128);

impl fmt::Display for ValueText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let &ValueText(family, field, value) = self;
        match field {
            Field::Source | Field::Destination => {
                write!(f, "{}", Address::from_bits(value).to_ip(family))
            }
            _ => write!(f, "{value}"),
        }
    }
}

/// The values of a condition: `80,8000-8080`.
struct ConditionText<'a>(&'a NormalFamily, Field, ConditionId);

impl fmt::Display for ConditionText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let &ConditionText(normal, field, condition) = self;
        let value = |value| ValueText(normal.family, field, value);
        let ranges = &normal.conditions[field as usize][condition.0 as usize];
        for (position, &(first, last)) in ranges.iter().enumerate() {
            let comma = if position > 0 { "," } else { "" };
            write!(f, "{comma}{}", value(first))?;
            if first != last {
                write!(f, "-{}", value(last))?;
            }
        }
        Ok(())
    }
}

/// A rule with its conditions.
struct RuleText<'a>(&'a NormalFamily, &'a NormalRule);

impl fmt::Display for RuleText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let &RuleText(normal, rule) = self;
        write!(f, "rule {}:", rule.index.0)?;
        for field in rule.constrained().iter() {
            let condition = ConditionText(normal, field, rule.condition(field));
            write!(f, " {field}={condition}")?;
        }
        if rule.constrained() == FieldSet::EMPTY {
            write!(f, " everything")?;
        }
        Ok(())
    }
}

fn dump_field_classes(
    text: &mut String,
    normal: &NormalFamily,
    field: Field,
    classes: &FieldClasses,
) -> fmt::Result {
    if classes.count() == 1 {
        // Nothing to say of sets where none is shared.
        if matches!(field, Field::SourceSets | Field::DestinationSets) {
            return Ok(());
        }
        return writeln!(text, "  {field}: 1 class");
    }
    writeln!(text, "  {field}: {} classes", classes.count())?;
    for &(first, class) in &classes.stretches {
        let first = ValueText(normal.family, field, first);
        writeln!(text, "    from {first}: class {class}")?;
    }
    for (id, runs) in classes.runs_of.iter().enumerate().skip(1) {
        if !runs.is_empty() {
            let condition = ConditionText(normal, field, ConditionId(id as u32));
            write!(text, "    {condition} =")?;
            for &(first, last) in runs {
                write!(text, " {}", Run(first, last))?;
            }
            writeln!(text)?;
        }
    }
    Ok(())
}

/// Classes: `3` or `3-5`.
struct Run(u32, u32);

impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Run(first, last) if first == last => write!(f, "{first}"),
            Run(first, last) => write!(f, "{first}-{last}"),
        }
    }
}

struct ChildText<'a>(&'a NormalFamily, Child);

impl fmt::Display for ChildText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.1 {
            Child::Nothing => write!(f, "nothing"),
            Child::Decision(rule) => write!(f, "rule {}", self.0.rules[rule as usize].index.0),
            Child::Node(node) => write!(f, "node {node}"),
        }
    }
}

fn dump_tree(text: &mut String, normal: &NormalFamily, built: &BuiltTree) -> fmt::Result {
    let child_text = |child| ChildText(normal, child);
    for (number, node) in built.nodes.iter().enumerate().rev() {
        write!(text, "  node {number}: ")?;
        match node {
            Node::Test { field, children } => {
                writeln!(text, "test {field}")?;
                for &(first, child) in children {
                    writeln!(text, "    from class {first}: {}", child_text(child))?;
                }
            }
            Node::Fork { first, second } => {
                let (first, second) = (child_text(*first), child_text(*second));
                writeln!(text, "fork to {first} and {second}")?;
            }
            Node::Leaf { rules, open } => {
                write!(text, "leaf on")?;
                for field in open.iter() {
                    write!(text, " {field}")?;
                }
                for &rule in rules {
                    write!(text, ", {}", child_text(Child::Decision(rule)))?;
                }
                writeln!(text)?;
            }
        }
    }
    Ok(())
}

fn dump_family_tree<V: Value>(text: &mut String, family: &FamilyTree<V>) -> fmt::Result {
    for (table, field) in family.tables.addresses.iter().zip(Field::ALL) {
        if let Some(table) = table {
            let [nodes, lists, buckets] = table.shape();
            writeln!(
                text,
                "  {field} table: {nodes} bucket nodes, {buckets} buckets, {lists} lists"
            )?;
        }
    }
    for (table, field) in family.tables.numbers.iter().zip(&Field::ALL[2..]) {
        if let Some(table) = table {
            writeln!(text, "  {field} table: {} pages", table.page_count())?;
        }
    }
    let sets = [Field::SourceSets, Field::DestinationSets];
    for (table, field) in family.tables.sets.iter().zip(sets) {
        if let Some(table) = table {
            let [nodes, lists, buckets] = table.own.shape();
            writeln!(
                text,
                "  {field} table: {nodes} bucket nodes, {buckets} buckets, {lists} lists"
            )?;
        }
    }
    let tree = &family.tree;
    writeln!(text, "  root: {}", PlaceText(tree.root))?;
    for (word, kind) in reachable(tree) {
        write!(text, "  word {word}: ")?;
        dump_node(text, tree, &tree.words[word as usize..], kind)?;
    }
    Ok(())
}

/// The nodes a lookup can come to, by the word they begin at.
fn reachable(tree: &PackedTree) -> BTreeMap<u32, Kind> {
    let mut found = BTreeMap::new();
    let mut waiting = vec![tree.root];
    while let Some(place) = waiting.pop() {
        let kind = place.kind();
        if matches!(kind, Kind::Nothing | Kind::Decision)
            || found.insert(place.number(), kind).is_some()
        {
            continue;
        }
        let node = &tree.words[place.number() as usize..];
        let children = match kind {
            Kind::Dense => &node[3..][..node[2] as usize + 2],
            Kind::Sparse => sparse(node).1,
            Kind::Fork => &node[..2],
            _ => &[],
        };
        waiting.extend(children.iter().map(|&word| Place::from_word(word)));
    }
    found
}

/// True boundaries and children of a sparse node.
fn sparse(node: &[u32]) -> (&[u32], &[u32]) {
    let (boundaries, children) = node[2..].split_at(node[1] as usize);
    let count = boundaries.partition_point(|&class| class != NO_CLASS);
    (&boundaries[..count], &children[..count + 1])
}

fn dump_node(text: &mut String, tree: &PackedTree, node: &[u32], kind: Kind) -> fmt::Result {
    let place = |word: u32| PlaceText(Place::from_word(word));
    let field = |number: u32| Field::ALL[number as usize];
    match kind {
        Kind::Dense => {
            let (first, children) = (node[1], &node[3..][..node[2] as usize + 2]);
            writeln!(text, "table of {}", field(node[0]))?;
            // The first child is for all classes below `first`, the second for `first` itself.
            let mut position = 0;
            for same in children.chunk_by(|one, other| one == other) {
                let class = if position == 0 {
                    0
                } else {
                    first + position - 1
                };
                writeln!(text, "    from class {class}: {}", place(same[0]))?;
                position += same.len() as u32;
            }
        }
        Kind::Sparse => {
            let (boundaries, children) = sparse(node);
            writeln!(text, "search of {}", field(node[0]))?;
            let firsts = std::iter::once(&0).chain(boundaries);
            for (first, child) in firsts.zip(children) {
                writeln!(text, "    from class {first}: {}", place(*child))?;
            }
        }
        Kind::Fork => {
            let (first, second) = (place(node[0]), place(node[1]));
            writeln!(text, "fork to {first} and {second} (rule {} on)", node[2])?;
        }
        Kind::Leaf1 => dump_rows(text, node, 1)?,
        Kind::Leaf2 => dump_rows(text, node, 2)?,
        Kind::Leaf => dump_leaf(text, tree, node)?,
        Kind::Nothing | Kind::Decision => {}
    }
    Ok(())
}

fn dump_rows(text: &mut String, node: &[u32], fields: usize) -> fmt::Result {
    writeln!(text, "leaf of {} groups", node[0])?;
    let groups = node[1 + fields..].chunks(LEAF_ROWS * (1 + 2 * fields));
    for group in groups.take(node[0] as usize) {
        for row in 0..LEAF_ROWS {
            if group[row] == NO_RULE {
                continue;
            }
            write!(text, "    rule {}:", group[row])?;
            for (position, &number) in node[1..1 + fields].iter().enumerate() {
                let column = |line: usize| group[LEAF_ROWS * line + row];
                let (first, span) = (column(1 + 2 * position), column(2 + 2 * position));
                let run = Run(first, first + span);
                write!(text, " {} {run}", Field::ALL[number as usize])?;
            }
            writeln!(text)?;
        }
    }
    Ok(())
}

fn dump_leaf(text: &mut String, tree: &PackedTree, node: &[u32]) -> fmt::Result {
    const NUMBER_MASK: u32 = (1 << NUMBER_BITS) - 1;
    writeln!(text, "leaf of {} rules", node[0])?;
    let mut rest = &node[1..];
    for _ in 0..node[0] {
        let tests = (rest[0] >> NUMBER_BITS) as usize;
        write!(text, "    rule {}:", rest[0] & NUMBER_MASK)?;
        for test in rest[1..].chunks(2).take(tests) {
            let field = Field::ALL[(test[0] >> NUMBER_BITS) as usize];
            let first = test[0] & (MANY_RUNS - 1);
            write!(text, " {field}")?;
            if test[0] & MANY_RUNS == 0 {
                write!(text, " {}", Run(first, first + test[1]))?;
            } else {
                for run in &tree.runs[first as usize..][..test[1] as usize] {
                    write!(text, " {}", Run(run[0], run[0] + run[1]))?;
                }
            }
        }
        writeln!(text)?;
        rest = &rest[1 + 2 * tests..];
    }
    Ok(())
}

struct PlaceText(Place);

impl fmt::Display for PlaceText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.kind() {
            Kind::Nothing => write!(f, "nothing"),
            Kind::Decision => write!(f, "rule {}", self.0.number()),
            _ => write!(f, "word {}", self.0.number()),
        }
    }
}
