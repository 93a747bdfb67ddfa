//! Memory that is still elsewhere, while cores want it: which of its units are not there yet, who
//! waits, and which unit is brought next.
//!
//! A guest that is resumed on demand runs before its memory is there. A core that wants a unit
//! [asks](Absent::ask) for it, and sleeps if the unit is absent. A device asks for all units of a
//! request ([`Absent::ask_all`]), and leaves the request alone while one is absent. One loader, the
//! console's task, takes one unit after another ([`Absent::next`]), brings it, makes it reachable,
//! and says so ([`Absent::arrived`]): then it wakes those who wait.
//!
//! Nobody can reach a unit before it is there: the guest's translation has no entry for it, and
//! whoever else wants it asks before. So the loader writes it without a lock. A core that finds the
//! entry, or is told that the unit is there, finds all that the loader has written before.
//!
//! # Order
//!
//! First comes what somebody waits for, in the order in which it was asked for; then what the
//! loader [prefers](Absent::prefer), for somebody has asked for it in this order before; then the
//! rest of the block in which that was; then the rest of all other blocks that are there in part,
//! for each of them takes a table of the guest's translation; then all others, ascending.

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::ops::Range;

use crate::sync::Lock;

/// Units of a block.
pub const UNITS: usize = u32::BITS as usize;

/// Most units whose order is noted: those that were asked for first, or preferred.
pub const MOST_NOTED: usize = 4096;

/// Most units that wait in the order in which they were asked for. Whoever finds no place asks
/// again.
const MOST_WANTED: usize = 64;

/// Most of these places that [`Absent::ask_all`] takes: who asks for one unit then finds a place,
/// and does not wait for many others.
const MOST_OF_MANY: usize = 16;

/// The units that are not there yet.
#[derive(Debug)]
pub struct Absent {
    units: Lock<Units>,
}

#[derive(Debug)]
struct Units {
    /// For each block, one bit for each of its units: set if the unit is absent.
    absent: Vec<u32>,
    /// Number of absent units.
    left: usize,
    /// Number of blocks of which some units are absent, and some are not.
    partial: usize,
    /// Units that were asked for, the first one first.
    wanted: VecDeque<usize>,
    /// Units that are brought before all others when nobody waits: the first one at the end.
    preferred: Vec<u32>,
    /// Units that were asked for or preferred, in the order in which they were brought.
    noted: Vec<u32>,
    /// Number of units that somebody has waited for.
    waited: usize,
    /// Where the loader goes on when nobody waits.
    cursor: usize,
    /// Whether somebody has asked in vain since the last unit arrived.
    is_waited_for: bool,
}

/// The answer to a core that asks for a unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// The unit is there.
    There,
    /// The unit is absent: the next unit that arrives says that somebody waits.
    Absent {
        /// Whether the loader must be woken: the unit was not asked for before.
        is_first: bool,
    },
}

/// What a unit's arrival means for others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrived {
    /// Whether somebody waits, for this unit or another one.
    pub is_waited_for: bool,
    /// Whether all units of its block are there now.
    pub is_block_whole: bool,
    /// Number of units that are still absent.
    pub left: usize,
}

impl Absent {
    /// Returns units of which these are absent: for each block one bit for each of its units.
    pub fn new(absent: Vec<u32>) -> Self {
        let left = absent.iter().map(|mask| mask.count_ones() as usize).sum();
        let mut noted = Vec::new();
        // Without room, the order is not noted.
        let _ = noted.try_reserve_exact(MOST_NOTED.min(left));
        let units = Units {
            left,
            preferred: Vec::new(),
            noted,
            waited: 0,
            partial: absent.iter().filter(|mask| is_partial(**mask)).count(),
            absent,
            wanted: VecDeque::with_capacity(MOST_WANTED),
            cursor: 0,
            is_waited_for: false,
        };
        Self { units: Lock::new(units) }
    }

    /// Makes the loader bring these units before all others when nobody waits, in this order. Units
    /// that are not absent, or not there at all, do not matter.
    pub fn prefer(&self, mut units: Vec<u32>) {
        units.reverse();
        self.units.lock().preferred = units;
    }

    /// Returns the units that were asked for or preferred, in the order in which they were brought,
    /// at most [`MOST_NOTED`], and how many were asked for.
    pub fn take_noted(&self) -> (Vec<u32>, usize) {
        let mut units = self.units.lock();
        (core::mem::take(&mut units.noted), units.waited)
    }

    /// Asks for a unit. A unit beyond the last one is there.
    pub fn ask(&self, unit: usize) -> Asked {
        let mut units = self.units.lock();
        if !units.is_absent(unit) {
            return Asked::There;
        }
        units.is_waited_for = true;
        let is_first = !units.wanted.contains(&unit) && units.wanted.len() < MOST_WANTED;
        if is_first {
            units.wanted.push_back(unit);
        }
        Asked::Absent { is_first }
    }

    /// Asks for those of these units that are absent, as far as there is a place for them: whoever
    /// finds none asks for the rest when some have arrived. Returns whether any is absent; then the
    /// next unit that arrives says that somebody waits. A unit beyond the last one is there.
    pub fn ask_all(&self, asked: Range<usize>) -> bool {
        let units = &mut *self.units.lock();
        let end = asked.end.min(units.absent.len() * UNITS);
        let (mut unit, mut is_any) = (asked.start, false);
        while unit < end {
            if units.absent[unit / UNITS] == 0 {
                unit = unit / UNITS * UNITS + UNITS;
                continue;
            }
            if units.is_absent(unit) {
                is_any = true;
                if units.wanted.len() >= MOST_OF_MANY {
                    break;
                }
                if !units.wanted.contains(&unit) {
                    units.wanted.push_back(unit);
                }
            }
            unit += 1;
        }
        units.is_waited_for |= is_any;
        is_any
    }

    /// Returns whether a unit is there. Then the caller finds what the loader has written.
    pub fn is_there(&self, unit: usize) -> bool {
        !self.units.lock().is_absent(unit)
    }

    /// Returns whether all units of a block are there.
    pub fn is_block_whole(&self, block: usize) -> bool {
        self.units.lock().absent.get(block).is_none_or(|mask| *mask == 0)
    }

    /// Returns the number of units that are absent.
    pub fn left(&self) -> usize {
        self.units.lock().left
    }

    /// Returns whether somebody has asked for a unit that is still absent.
    pub fn is_wanted(&self) -> bool {
        !self.units.lock().wanted.is_empty()
    }

    /// Returns whether somebody has asked in vain since a unit has arrived last.
    pub fn is_waited_for(&self) -> bool {
        self.units.lock().is_waited_for
    }

    /// Returns the unit that is brought next; `None` if all are there. One loader calls this, and
    /// brings the unit before it calls again.
    pub fn next(&self) -> Option<usize> {
        let mut units = self.units.lock();
        // A unit may be there that was asked for: with the rest of another one's block.
        while let Some(unit) = units.wanted.front().copied() {
            if units.is_absent(unit) {
                // One that can't be brought now stays the first one, and is wanted.
                units.cursor = unit;
                units.note(unit);
                return Some(unit);
            }
            units.wanted.pop_front();
        }
        while let Some(unit) = units.preferred.pop() {
            let unit = unit as usize;
            if units.is_absent(unit) {
                units.note(unit);
                return Some(unit);
            }
        }
        let unit = units.next_unasked()?;
        units.cursor = unit;
        Some(unit)
    }

    /// Notes that a unit is there: from now on the guest finds it. The caller wakes those who wait.
    ///
    /// # Panics
    ///
    /// If the unit was not absent.
    #[must_use = "who has asked in vain sleeps"]
    pub fn arrived(&self, unit: usize) -> Arrived {
        let mut units = self.units.lock();
        assert!(units.is_absent(unit), "unit {unit} arrives twice");
        let before = units.absent[unit / UNITS];
        let after = before & !bit(unit);
        units.absent[unit / UNITS] = after;
        units.left -= 1;
        if units.wanted.front() == Some(&unit) {
            units.wanted.pop_front();
            units.waited += 1;
        }
        units.partial =
            units.partial + usize::from(is_partial(after)) - usize::from(is_partial(before));
        Arrived {
            is_waited_for: core::mem::take(&mut units.is_waited_for),
            is_block_whole: after == 0,
            left: units.left,
        }
    }
}

impl Units {
    /// Notes that a unit is brought, if there is room. One that is brought again after a failure is
    /// noted once.
    fn note(&mut self, unit: usize) {
        let unit = unit as u32;
        if self.noted.len() < self.noted.capacity() && self.noted.last() != Some(&unit) {
            self.noted.push(unit);
        }
    }

    fn is_absent(&self, unit: usize) -> bool {
        self.absent.get(unit / UNITS).is_some_and(|mask| mask & bit(unit) != 0)
    }

    /// Returns the unit that is brought next if nobody waits for one.
    fn next_unasked(&self) -> Option<usize> {
        let here = self.cursor / UNITS;
        let mask = *self.absent.get(here)?;
        if mask != 0 {
            // First those behind the one that was brought last, for a guest goes up more often than
            // down.
            let behind = mask & (u32::MAX << (self.cursor % UNITS));
            let mask = if behind == 0 { mask } else { behind };
            return Some(here * UNITS + mask.trailing_zeros() as usize);
        }
        if self.left == 0 {
            return None;
        }
        let is_next = |mask: &u32| match self.partial {
            0 => *mask != 0,
            _ => is_partial(*mask),
        };
        // Ascending from where the loader is, and then from the first one on.
        let block = self.absent[here..].iter().position(is_next).map(|ahead| here + ahead);
        let block = block.or_else(|| self.absent.iter().position(is_next))?;
        Some(block * UNITS + self.absent[block].trailing_zeros() as usize)
    }
}

/// Returns the bit of a unit in its block's mask.
const fn bit(unit: usize) -> u32 {
    1 << (unit % UNITS)
}

/// Returns whether some units of a block with this mask are absent, and some are not.
const fn is_partial(mask: u32) -> bool {
    mask != 0 && mask != u32::MAX
}
