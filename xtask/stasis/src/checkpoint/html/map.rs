//! [`Map`]: a guest's memory in cells, few enough for a page however large the memory is.

use std::ops::Range;

use stasis_state::routines::Page;
use stasis_state::{Checkpoint, PAGE_SIZE};

use super::owners::Owner;
use crate::checkpoint::memory::{ram, word};
use crate::checkpoint::pages::PageSet;

/// The greatest number of cells of an area.
const MAX_CELLS: u64 = 1024;

/// What is in a page that is not all zeros.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// One word of eight bytes over and over.
    Word,
    /// Anything else.
    Other,
}

impl Content {
    /// Returns what is in a page; `None` if that is zeros.
    pub fn of(page: &Page) -> Option<Self> {
        let first = word(page, 0);
        let is_repeated = page.as_chunks::<8>().0.iter().all(|chunk| *chunk == first.to_le_bytes());
        match (is_repeated, first) {
            (true, 0) => None,
            (true, _) => Some(Self::Word),
            _ => Some(Self::Other),
        }
    }
}

/// A piece of an area, with the numbers of its pages.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cell {
    /// All pages.
    pub pages: u64,
    /// Pages of one word over and over.
    pub words: u64,
    /// Pages with other content.
    pub others: u64,
    /// Pages that differ from the older checkpoint.
    pub changed: u64,
    /// Pages by their owner.
    pub owned: [u64; Owner::ALL.len()],
    /// The changed ones of them.
    pub owned_changed: [u64; Owner::ALL.len()],
}

impl Cell {
    /// Returns the number of pages that are all zeros.
    pub fn zeros(&self) -> u64 {
        self.pages - self.words - self.others
    }

    /// Returns the owner of most of the pages; `None` if nobody is known.
    pub fn owner(&self) -> Option<Owner> {
        let most = *self.owned.iter().max()?;
        let of_most = Owner::ALL.iter().zip(self.owned).find(|(_, count)| *count == most)?.0;
        (most > 0).then_some(*of_most)
    }

    fn add(&mut self, other: &Self) {
        self.pages += other.pages;
        self.words += other.words;
        self.others += other.others;
        self.changed += other.changed;
        let sum = |sums: &mut [u64], others: &[u64]| {
            sums.iter_mut().zip(others).for_each(|(sum, other)| *sum += other);
        };
        sum(&mut self.owned, &other.owned);
        sum(&mut self.owned_changed, &other.owned_changed);
    }
}

/// The guest's RAM, or a region that it shares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Area {
    /// The area's name.
    pub name: String,
    /// The guest-physical addresses.
    pub range: Range<u64>,
    /// Bytes of a cell, a power of two.
    pub span: u64,
    /// The cells, in ascending order of addresses.
    pub cells: Vec<Cell>,
}

impl Area {
    fn new(name: String, range: Range<u64>) -> Self {
        let len = range.end.saturating_sub(range.start);
        let span = len.div_ceil(MAX_CELLS).max(PAGE_SIZE as u64).next_power_of_two();
        let cells = (0..len.div_ceil(span)).map(|index| {
            let bytes = span.min(len - index * span);
            Cell { pages: bytes.div_ceil(PAGE_SIZE as u64), ..Cell::default() }
        });
        Self { name, span, cells: cells.collect(), range }
    }

    /// Returns the addresses of a cell.
    pub fn addresses(&self, index: usize) -> Range<u64> {
        let start = self.range.start + index as u64 * self.span;
        start..(start + self.span).min(self.range.end)
    }

    /// Returns the sum of all cells.
    pub fn total(&self) -> Cell {
        let mut total = Cell::default();
        self.cells.iter().for_each(|cell| total.add(cell));
        total
    }
}

/// All memory of a guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Map {
    /// The RAM, and behind it the regions that the guest shares.
    pub areas: Vec<Area>,
    /// Pages that differ and that the newer checkpoint does not have.
    pub changed_elsewhere: u64,
}

impl Map {
    /// Returns a map of zeros.
    pub fn new(
        checkpoint: &Checkpoint,
        shared: impl Iterator<Item = (String, Range<u64>)>,
    ) -> Self {
        let ram = Area::new("RAM".to_owned(), ram(checkpoint));
        let regions = shared.map(|(name, range)| Area::new(format!("shared as {name}"), range));
        Self { areas: std::iter::once(ram).chain(regions).collect(), changed_elsewhere: 0 }
    }

    fn cell(&mut self, address: u64) -> Option<&mut Cell> {
        let area = self.areas.iter_mut().find(|area| area.range.contains(&address))?;
        area.cells.get_mut(((address - area.range.start) / area.span) as usize)
    }

    /// Notes what is in a page.
    pub fn add(&mut self, address: u64, content: Option<Content>) {
        let Some(cell) = self.cell(address) else { return };
        match content {
            None => {}
            Some(Content::Word) => cell.words += 1,
            Some(Content::Other) => cell.others += 1,
        }
    }

    /// Notes which pages have changed.
    pub fn change(&mut self, changed: &PageSet) {
        for address in changed.ranges().flat_map(|range| range.step_by(PAGE_SIZE)) {
            match self.cell(address) {
                Some(cell) => cell.changed += 1,
                None => self.changed_elsewhere += 1,
            }
        }
    }

    /// Notes who has a page.
    pub fn own(&mut self, address: u64, owner: Owner, changed: bool) {
        let Some(cell) = self.cell(address) else { return };
        cell.owned[owner as usize] += 1;
        cell.owned_changed[owner as usize] += u64::from(changed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_area_has_no_more_cells_than_fit_and_all_of_its_pages() {
        for len in [0x1000, 0x40_0000, 0x40_1000, 255 << 30] {
            let area = Area::new("it".to_owned(), 0x4000_0000..0x4000_0000 + len);
            assert!(area.cells.len() as u64 <= MAX_CELLS, "{len:#x}");
            assert_eq!(area.total().pages, len / 0x1000, "{len:#x}");
            assert_eq!(area.addresses(area.cells.len() - 1).end, area.range.end);
        }
    }

    #[test]
    fn pages_are_zero_one_word_or_other() {
        let mut page = [0; PAGE_SIZE];
        assert_eq!(Content::of(&page), None);
        page[4095] = 1;
        assert_eq!(Content::of(&page), Some(Content::Other));
        page.as_chunks_mut::<8>().0.fill([0, 0, 0, 0, 0, 0, 0, 1]);
        assert_eq!(Content::of(&page), Some(Content::Word));
    }
}
