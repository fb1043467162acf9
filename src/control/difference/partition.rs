//! The values of one field, divided into classes that no compiled step tells apart.

use std::collections::{BTreeSet, HashMap};

/// Stretches of values, each of one class; together every value of the field.
#[derive(Debug)]
pub struct Partition {
    /// First value and class of each stretch, ascending.
    stretches: Vec<(u128, u32)>,
    last: u128,
    classes: u32,
}

impl Partition {
    /// Divides `0..=last`. The signature of a value changes at the given boundaries alone; values
    /// of equal signature are of one class.
    pub fn new(
        boundaries: impl IntoIterator<Item = u128>,
        last: u128,
        mut signature: impl FnMut(u128) -> Vec<u32>,
    ) -> Self {
        let mut firsts: BTreeSet<u128> = boundaries.into_iter().filter(|at| *at <= last).collect();
        firsts.insert(0);
        let mut known: HashMap<Vec<u32>, u32> = HashMap::new();
        let mut stretches: Vec<(u128, u32)> = Vec::with_capacity(firsts.len());
        for first in firsts {
            let next = known.len() as u32;
            let class = *known.entry(signature(first)).or_insert(next);
            if stretches.last().is_none_or(|(_, before)| *before != class) {
                stretches.push((first, class));
            }
        }
        Partition {
            stretches,
            last,
            classes: known.len() as u32,
        }
    }

    /// Number of classes; they are numbered from 0.
    pub fn classes(&self) -> u32 {
        self.classes
    }

    /// The class of a value.
    pub fn class_of(&self, value: u128) -> u32 {
        let after = self.stretches.partition_point(|(first, _)| *first <= value);
        self.stretches[after - 1].1
    }

    /// The classes that have a value in `first..=last`.
    pub fn classes_within(&self, first: u128, last: u128) -> BTreeSet<u32> {
        let from = self.stretches.partition_point(|(start, _)| *start <= first) - 1;
        let within = self.stretches[from..].iter();
        within
            .take_while(|(start, _)| *start <= last)
            .map(|(_, class)| *class)
            .collect()
    }

    /// All stretches, ascending: first value, last value, class.
    pub fn stretches(&self) -> impl Iterator<Item = (u128, u128, u32)> + '_ {
        let ends = self.stretches[1..].iter().map(|(first, _)| first - 1);
        self.stretches
            .iter()
            .zip(ends.chain([self.last]))
            .map(|(&(first, class), last)| (first, last, class))
    }

    /// The values of some classes, as ascending ranges that do not touch.
    pub fn ranges_of(&self, classes: &BTreeSet<u32>) -> Vec<(u128, u128)> {
        let mut ranges: Vec<(u128, u128)> = Vec::new();
        for (first, last, _) in self
            .stretches()
            .filter(|(.., class)| classes.contains(class))
        {
            match ranges
                .last_mut()
                .filter(|(_, end)| end.checked_add(1) == Some(first))
            {
                Some((_, end)) => *end = last,
                None => ranges.push((first, last)),
            }
        }
        ranges
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_one_signature_are_one_class_wherever_they_stand() {
        let odd = |value: u128| vec![u32::from((20..30).contains(&value) || value >= 60)];
        let partition = Partition::new([20, 25, 30, 60], 100, odd);
        assert_eq!(partition.classes(), 2);
        assert_eq!(
            partition.stretches().collect::<Vec<_>>(),
            [(0, 19, 0), (20, 29, 1), (30, 59, 0), (60, 100, 1)]
        );
        assert_eq!((partition.class_of(19), partition.class_of(100)), (0, 1));
        assert_eq!(partition.classes_within(20, 29), [1].into());
        assert_eq!(partition.classes_within(29, 30), [0, 1].into());
        assert_eq!(partition.ranges_of(&[1].into()), [(20, 29), (60, 100)]);
        assert_eq!(partition.ranges_of(&[0, 1].into()), [(0, 100)]);
    }
}
