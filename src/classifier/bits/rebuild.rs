//! Trees built anew beside the ones in use, which go on changing.
//!
//! Changes leave what they replace behind, and trees that were not tuned for the rules there are.
//! So now and then all is built again, on another thread: [`Updatable::rebuild`] takes the rules
//! there are, [`Rebuild::run`] builds, and [`Updatable::adopt`] makes the changes that came
//! meanwhile once more, to the new trees, before readers get them.

use super::key::{WORDS_V4, WORDS_V6, WideRule, wide_v4, wide_v6};
use super::tune::{Budget, Coded};
use super::update::{Change, Rules, Updatable};
use super::{NotForBits, UpdateError};
use crate::wire::Family;

/// Rules to be built anew.
#[derive(Debug)]
pub struct Rebuild {
    v4: Coded<WORDS_V4>,
    v6: Coded<WORDS_V6>,
    ranks: Vec<u32>,
}

/// Trees built anew.
#[derive(Debug)]
pub struct Rebuilt(Updatable);

impl Updatable {
    /// Has memory grown so much since it was built that building anew pays?
    pub fn is_worn(&self) -> bool {
        self.bytes() * 4 > self.bytes_built * 5
    }

    /// The rules there are, to be built anew. Changes from now on are made again by
    /// [`Updatable::adopt`]; a rebuild begun before is forgotten.
    pub fn rebuild(&mut self) -> Rebuild {
        self.since_rebuild = Some(Vec::new());
        Rebuild {
            v4: self.v4.coded(),
            v6: self.v6.coded(),
            ranks: self.v4.places.keys().copied().collect(),
        }
    }

    /// Turns to the trees built anew from what the last [`Updatable::rebuild`] gave.
    ///
    /// # Errors
    /// When a change that came meanwhile does not fit them. Nothing has changed then.
    pub fn adopt(&mut self, rebuilt: Rebuilt) -> Result<(), UpdateError> {
        let Rebuilt(mut next) = rebuilt;
        for change in self.since_rebuild.take().unwrap_or_default() {
            match change {
                Change::Add(rank, [v4, v6]) => next.add_flat(rank, &v4, &v6)?,
                Change::Remove(rank) => next.remove(rank)?,
            }
        }
        *self = next;
        Ok(())
    }
}

impl Rebuild {
    /// Builds; takes as long as [`Updatable::new`].
    ///
    /// # Errors
    /// When the rules are not for this strategy any more.
    pub fn run(self, budget: &Budget) -> Result<Rebuilt, NotForBits> {
        let Rebuild { v4, v6, ranks } = self;
        let v4 = Rules::of(v4, ranks.iter().copied(), Family::V4, wide_v4, budget)?;
        let v6 = Rules::of(v6, ranks.into_iter(), Family::V6, wide_v6, budget)?;
        Ok(Rebuilt(Updatable::of(v4, v6)))
    }
}

impl<const W: usize> Rules<W> {
    /// The rules there are, strongest first, with the codes they have.
    fn coded(&self) -> Coded<W> {
        let places = self.places.values().flatten();
        let rules: Vec<WideRule<W>> = (0..)
            .zip(places)
            .map(|(number, &place)| WideRule {
                number,
                ..self.rules[place as usize]
            })
            .collect();
        Coded {
            codes: [self.codes.clone(), self.codes.clone()],
            rules: [rules.clone(), rules],
            order: Vec::new(),
        }
    }
}
