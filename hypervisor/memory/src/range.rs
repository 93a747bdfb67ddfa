//! Ranges of physical memory, and the [`Pool`] from which guests get their RAM.

use arrayvec::ArrayVec;
use core::fmt;

/// The addresses `start..end` of physical memory, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Range {
    /// The first address.
    pub start: u64,
    /// The first address behind the range.
    pub end: u64,
}

impl Range {
    /// Returns the range of `len` bytes at `start`. What would lie beyond the address space is cut
    /// off.
    pub const fn new(start: u64, len: u64) -> Self {
        Self { start, end: start.saturating_add(len) }
    }

    /// Returns the length of the range in bytes. `end` must not be below `start`.
    pub const fn len(self) -> u64 {
        self.end - self.start
    }

    /// Returns whether no address lies in the range.
    pub const fn is_empty(self) -> bool {
        self.start >= self.end
    }

    /// Returns whether `address` lies in the range.
    pub const fn contains(self, address: u64) -> bool {
        self.start <= address && address < self.end
    }

    /// Returns whether some address lies in both ranges.
    pub const fn overlaps(self, other: Self) -> bool {
        self.start < other.end && other.start < self.end
    }

    /// Returns the smallest range of whole blocks that contains this one. A block has `block`
    /// bytes, a power of two.
    pub const fn outward(self, block: u64) -> Self {
        let end = match self.end.checked_next_multiple_of(block) {
            Some(end) => end,
            None => u64::MAX,
        };
        Self { start: self.start & !(block - 1), end }
    }

    /// Returns the largest range of whole blocks that lies in this one. A block has `block` bytes,
    /// a power of two.
    pub const fn inward(self, block: u64) -> Self {
        let start = match self.start.checked_next_multiple_of(block) {
            Some(start) => start,
            None => self.end,
        };
        let end = self.end & !(block - 1);
        Self { start, end: if end < start { start } else { end } }
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{:#x}..{:#x}", self.start, self.end)
    }
}

/// Why there is no RAM for a guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoRam {
    /// The machine's RAM is not known.
    #[error("there is no RAM yet")]
    Unknown,
    /// A pointer to RAM at address 0 could not be told from a null pointer.
    #[error("there is no RAM at address 0")]
    AtZero,
    /// EL2's heap has no memory to note what was taken.
    #[error("Stasis has no memory of its own left")]
    Unnoted,
    /// No free piece is large enough.
    #[error(
        "it needs {} MiB of RAM; {} MiB are free, {} MiB of them in one piece{}",
        .wanted >> 20, .free >> 20, .largest >> 20, AtOrAbove(*.lowest)
    )]
    NoPiece {
        /// Bytes that were asked for.
        wanted: u64,
        /// The lowest address at which the guest's RAM may begin.
        lowest: u64,
        /// Bytes of free RAM at any address.
        free: u64,
        /// Bytes of the largest free piece at `lowest` or above.
        largest: u64,
    },
    /// Memory that takes frames as it is written, or loaded, needs more at once than there are.
    #[error(
        "it needs {} KiB of memory at once; {} KiB are free for guests that take memory as they write",
        .wanted >> 10, .free >> 10
    )]
    NoFrames {
        /// Bytes that are needed.
        wanted: u64,
        /// Bytes that are free.
        free: u64,
    },
}

impl NoRam {
    /// The error of memory that takes frames as it is written or loaded, and finds none.
    pub const NO_FRAME: Self = Self::NoFrames { wanted: crate::PAGE_SIZE, free: 0 };
}

/// The lowest address at which memory was looked for, as a part of a message. The address 0 is not
/// mentioned.
struct AtOrAbove(u64);

impl fmt::Display for AtOrAbove {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self.0 {
            0 => Ok(()),
            lowest => write!(f, " at {lowest:#x} or above"),
        }
    }
}

/// The greatest number of pieces that a pool keeps track of.
const MAX_PIECES: usize = 64;

/// The free physical memory. If it falls into more pieces than the pool can keep track of, some are
/// lost, but none is ever given out twice.
#[derive(Clone, Debug, Default)]
pub struct Pool {
    /// The free pieces in ascending order. No piece touches the next.
    free: ArrayVec<Range, MAX_PIECES>,
}

impl Pool {
    /// Returns a pool without memory.
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns the free ranges, in ascending order.
    pub fn free(&self) -> &[Range] {
        &self.free
    }

    /// Returns how many bytes are free.
    pub fn free_bytes(&self) -> u64 {
        self.free.iter().map(|range| range.len()).sum()
    }

    /// Adds `range` to the pool. What of it is free already stays free.
    pub fn add(&mut self, range: Range) {
        let mut range = range;
        self.free.retain(|piece| {
            let touches = piece.start <= range.end && range.start <= piece.end;
            if touches {
                range =
                    Range { start: piece.start.min(range.start), end: piece.end.max(range.end) };
            }
            !touches
        });
        let place = self.free.partition_point(|piece| piece.start < range.start);
        if !range.is_empty() {
            let _ = self.free.try_insert(place, range);
        }
    }

    /// Removes from the pool what of `range` is free.
    pub fn remove(&mut self, range: Range) {
        if range.is_empty() {
            return;
        }
        for piece in core::mem::take(&mut self.free) {
            let below = Range { start: piece.start, end: piece.end.min(range.start) };
            let above = Range { start: piece.start.max(range.end), end: piece.end };
            for rest in [below, above] {
                if !rest.is_empty() {
                    let _ = self.free.try_push(rest);
                }
            }
        }
    }

    /// Takes `len` bytes out of the pool and returns their range; `None` if no piece has them. The
    /// range begins at `lowest` or above, at a multiple of `align`, a power of two, and lies in the
    /// lowest piece that has room for it.
    pub fn allocate(&mut self, lowest: u64, len: u64, align: u64) -> Option<Range> {
        let range = self.free.iter().find_map(|piece| {
            let start = piece.start.max(lowest).checked_next_multiple_of(align)?;
            let end = start.checked_add(len)?;
            (end <= piece.end).then_some(Range { start, end })
        })?;
        self.remove(range);
        Some(range)
    }

    /// Takes `len` bytes out of the pool, as [`Self::allocate`] does, and returns their range.
    ///
    /// # Errors
    ///
    /// [`NoRam::NoPiece`] with the sizes of what is free.
    pub fn take(&mut self, lowest: u64, len: u64, align: u64) -> Result<Range, NoRam> {
        self.allocate(lowest, len, align).ok_or_else(|| {
            let above = |piece: &Range| piece.end.saturating_sub(piece.start.max(lowest));
            let largest = self.free.iter().map(above).max().unwrap_or(0);
            NoRam::NoPiece { wanted: len, lowest, free: self.free_bytes(), largest }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pool(ranges: &[(u64, u64)]) -> Pool {
        let mut pool = Pool::new();
        ranges.iter().for_each(|&(start, end)| pool.add(Range { start, end }));
        pool
    }

    #[test]
    fn whole_blocks_are_found_inside_and_around() {
        let range = Range { start: 0x1001, end: 0x4fff };
        assert_eq!(range.inward(0x1000), Range { start: 0x2000, end: 0x4000 });
        assert_eq!(range.outward(0x1000), Range { start: 0x1000, end: 0x5000 });
        assert!(Range { start: 0x1001, end: 0x1fff }.inward(0x1000).is_empty());
        assert!(Range { start: 1, end: 0 }.inward(0x1000).is_empty());
        let last = Range { start: u64::MAX - 1, end: u64::MAX };
        assert!(last.inward(0x1000).is_empty());
        assert_eq!(last.outward(0x1000), Range { start: !0xfff, end: u64::MAX });
    }

    #[test]
    fn neighbours_become_one_piece() {
        assert_eq!(pool(&[(0, 10), (20, 30), (10, 20)]).free(), [Range { start: 0, end: 30 }]);
    }

    #[test]
    fn a_hole_splits_a_piece() {
        let mut pool = pool(&[(0, 30)]);
        pool.remove(Range { start: 10, end: 20 });
        assert_eq!(pool.free(), [Range { start: 0, end: 10 }, Range { start: 20, end: 30 }]);
    }

    #[test]
    fn an_allocation_is_aligned_and_comes_back() {
        let mut pool = pool(&[(0x1000, 0x9000)]);
        let range = pool.allocate(0, 0x2000, 0x4000).unwrap();
        assert_eq!(range, Range { start: 0x4000, end: 0x6000 });
        assert_eq!(pool.allocate(0, 0x4000, 0x1000), None, "no piece is that long now");
        pool.add(range);
        assert_eq!(pool.free_bytes(), 0x8000);
        assert_eq!(pool.free().len(), 1);
    }

    #[test]
    fn an_allocation_begins_no_lower_than_it_may() {
        let mut pool = pool(&[(0x1000, 0x3000), (0x4000, 0x9000)]);
        assert_eq!(pool.allocate(0x2000, 0x1000, 0x1000), Some(Range::new(0x2000, 0x1000)));
        assert_eq!(pool.allocate(0x2000, 0x1000, 0x1000), Some(Range::new(0x4000, 0x1000)));
        assert_eq!(pool.allocate(0x7000, 0x3000, 0x1000), None, "there are two pages");
    }

    #[test]
    fn a_pool_without_a_piece_that_large_says_what_it_has_there() {
        const MIB: u64 = 1 << 20;
        let mut pool = pool(&[(MIB, 4 * MIB), (8 * MIB, 10 * MIB)]);
        let said =
            |pool: &mut Pool, lowest, len| pool.take(lowest, len, MIB).unwrap_err().to_string();
        assert_eq!(
            said(&mut pool, 0, 4 * MIB),
            "it needs 4 MiB of RAM; 5 MiB are free, 3 MiB of them in one piece"
        );
        assert_eq!(
            said(&mut pool, 3 * MIB, 3 * MIB),
            "it needs 3 MiB of RAM; 5 MiB are free, 2 MiB of them in one piece at 0x300000 or above"
        );
        assert_eq!(pool.free_bytes(), 5 * MIB, "nothing is lost by asking");
        assert_eq!(pool.take(0, 3 * MIB, MIB), Ok(Range::new(MIB, 3 * MIB)));
    }

    proptest! {
        #[test]
        fn a_pool_holds_exactly_what_a_set_of_bytes_would(
            steps in proptest::collection::vec((any::<bool>(), 0u64..64, 0u64..16), 0..40)
        ) {
            let mut pool = Pool::new();
            let mut bytes = [false; 80];
            for (add, start, len) in steps {
                let range = Range::new(start, len);
                if add { pool.add(range) } else { pool.remove(range) }
                bytes[start as usize..(start + len) as usize].fill(add);
            }
            for (address, free) in bytes.into_iter().enumerate() {
                prop_assert_eq!(pool.free().iter().any(|r| r.contains(address as u64)), free);
            }
            for pair in pool.free().windows(2) {
                prop_assert!(pair[0].end < pair[1].start);
            }
        }
    }
}
