//! The memory of checkpoints page by page, in order: its hash, and the differences between two.

use std::ops::Range;

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};
use stasis_state::memory::Extent;
use stasis_state::routines::Page;
use stasis_state::{Checkpoint, Extents, PAGE_SIZE};

use super::source::{Loaded, Opened, anyhow_of, routines};

/// Returns the SHA-256 of the stored pages, each behind its address in eight bytes, little-endian.
pub fn sha256(loaded: &mut Loaded) -> Result<String> {
    let name = loaded.name.clone();
    let (mut opened, checkpoint) = loaded.open()?;
    let mut side = Side::new(&mut opened, checkpoint, name)?;
    let mut hash = Sha256::new();
    while let Some(extent) = side.extent {
        let extents = &side.extents;
        for (address, page) in (extent.address..).step_by(PAGE_SIZE).zip(extents.pages()) {
            hash.update(address.to_le_bytes());
            hash.update(page);
        }
        side.read()?;
    }
    Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

/// A set of pages, one bit for each. Pages are added in ascending order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PageSet {
    /// The words that are not 0, each for 64 pages, with the address of its first page; in
    /// ascending order.
    words: Vec<(u64, u64)>,
}

impl PageSet {
    /// Bytes of memory for which a word stands.
    const WORD_LEN: u64 = 64 * PAGE_SIZE as u64;

    /// Adds the page at this address, which must not be below the last one.
    fn add(&mut self, address: u64) {
        let (word, bit) = (address / Self::WORD_LEN, address % Self::WORD_LEN / PAGE_SIZE as u64);
        let start = word * Self::WORD_LEN;
        match self.words.last_mut() {
            Some((last, bits)) if *last == start => *bits |= 1 << bit,
            _ => self.words.push((start, 1 << bit)),
        }
    }

    /// Returns whether the page at this address is one of them.
    pub fn contains(&self, address: u64) -> bool {
        let start = address / Self::WORD_LEN * Self::WORD_LEN;
        let word = self.words.binary_search_by_key(&start, |(start, _)| *start);
        let bit = address % Self::WORD_LEN / PAGE_SIZE as u64;
        word.is_ok_and(|index| self.words[index].1 >> bit & 1 != 0)
    }

    /// Returns the number of pages.
    pub fn len(&self) -> u64 {
        self.words.iter().map(|(_, bits)| u64::from(bits.count_ones())).sum()
    }

    /// Returns whether there is no page.
    pub fn is_empty(&self) -> bool {
        self.words.is_empty()
    }

    /// Returns the pages as ranges of addresses, in ascending order and with gaps between them.
    pub fn ranges(&self) -> impl Iterator<Item = Range<u64>> {
        let bits = |&(start, bits): &(u64, u64)| {
            let set = (0..64).filter(move |bit| bits >> bit & 1 != 0);
            set.map(move |bit| start + bit * PAGE_SIZE as u64)
        };
        let mut addresses = self.words.iter().flat_map(bits).peekable();
        std::iter::from_fn(move || {
            let start = addresses.next()?;
            let mut end = start + PAGE_SIZE as u64;
            while addresses.next_if_eq(&end).is_some() {
                end += PAGE_SIZE as u64;
            }
            Some(start..end)
        })
    }
}

impl FromIterator<u64> for PageSet {
    fn from_iter<I: IntoIterator<Item = u64>>(addresses: I) -> Self {
        let mut set = Self::default();
        addresses.into_iter().for_each(|address| set.add(address));
        set
    }
}

/// Returns the number of pages in a range.
pub fn count(range: &Range<u64>) -> u64 {
    (range.end - range.start) / PAGE_SIZE as u64
}

/// Returns the pages that differ between two checkpoints. A page that only one of them has is
/// compared with zeros.
pub fn differences(old: &mut Loaded, new: &mut Loaded) -> Result<PageSet> {
    let names = (old.name.clone(), new.name.clone());
    let ((mut old, of_old), (mut new, of_new)) = (old.open()?, new.open()?);
    compare(Side::new(&mut old, of_old, names.0)?, Side::new(&mut new, of_new, names.1)?)
}

fn compare(mut old: Side<'_, '_>, mut new: Side<'_, '_>) -> Result<PageSet> {
    let mut differ = PageSet::default();
    let mut at = 0;
    loop {
        old.advance(at)?;
        new.advance(at)?;
        let ends = [old.end_of_the_same(at), new.end_of_the_same(at)];
        let Some(end) = ends.into_iter().flatten().min() else { return Ok(differ) };
        if old.has_content(at) || new.has_content(at) {
            let pages = (at..end).step_by(PAGE_SIZE);
            pages
                .filter(|&page| old.page(page) != new.page(page))
                .for_each(|page| differ.add(page));
        }
        at = end;
    }
}

/// A checkpoint whose memory is read extent by extent, alone or side by side with another's.
struct Side<'s, 'o> {
    extents: Extents<'s, Opened<'o>>,
    /// The extent that was read last.
    extent: Option<Extent>,
    /// Name of the checkpoint, for errors.
    name: String,
}

impl<'s, 'o> Side<'s, 'o> {
    fn new(opened: &'s mut Opened<'o>, checkpoint: &Checkpoint, name: String) -> Result<Self> {
        let extents = Extents::new(opened, checkpoint, routines()).map_err(anyhow_of);
        let extents = extents.with_context(|| format!("cannot read {name}"))?;
        let mut side = Self { extents, extent: None, name };
        side.read()?;
        Ok(side)
    }

    fn read(&mut self) -> Result<()> {
        let extent = self.extents.read_next().map_err(anyhow_of);
        self.extent = extent.with_context(|| format!("cannot read {}", self.name))?;
        Ok(())
    }

    /// Reads extents until one ends behind `at`.
    fn advance(&mut self, at: u64) -> Result<()> {
        while self.extent.is_some_and(|extent| end(&extent) <= at) {
            self.read()?;
        }
        Ok(())
    }

    /// Returns the end of the extent at `at`, or of the gap before the next extent; `None` behind
    /// the last extent.
    fn end_of_the_same(&self, at: u64) -> Option<u64> {
        self.extent.map(|extent| if at < extent.address { extent.address } else { end(&extent) })
    }

    /// Returns whether pages are stored at `at`.
    fn has_content(&self, at: u64) -> bool {
        self.extent.is_some_and(|extent| extent.address <= at) && !self.extents.pages().is_empty()
    }

    /// Returns the page at this address, which lies in the extent or in the gap before it.
    fn page(&self, address: u64) -> &Page {
        const ZERO: &Page = &[0; PAGE_SIZE];
        match self.extent {
            Some(extent) if self.has_content(address) => {
                &self.extents.pages()[(address - extent.address) as usize / PAGE_SIZE]
            }
            _ => ZERO,
        }
    }
}

/// Returns the first address behind an extent.
fn end(extent: &Extent) -> u64 {
    extent.address + extent.memory_len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::source::tests::loaded;

    /// Four pages, each full of a letter, or of zeros where that is `.`.
    fn ram(letters: &str) -> Vec<u8> {
        let byte = |letter| if letter == b'.' { 0 } else { letter };
        letters.bytes().flat_map(|letter| [byte(letter); PAGE_SIZE]).collect()
    }

    /// The files have an extent for each run of pages with content, and for each of zeros.
    #[test]
    fn pages_are_compared_where_the_extents_of_the_two_begin_and_end_elsewhere() {
        const BASE: u64 = 0x4000_0000;
        let folder = tempfile::tempdir().unwrap();
        for (old, new, differ) in [
            ("abcd", "abcd", &[][..]),
            ("abcd", "a..d", &[1, 2]),
            ("a..d", "abcd", &[1, 2]),
            (".bc.", "ab..", &[0, 2]),
            ("ab..", "..cd", &[0, 1, 2, 3]),
            ("....", "...d", &[3]),
            (".b.d", "abcx", &[0, 2, 3]),
        ] {
            let file =
                |name: &str, letters| loaded(&folder.path().join(name), &ram(letters), |_| ());
            let found = differences(&mut file("old", old), &mut file("new", new)).unwrap();
            let expected: PageSet =
                differ.iter().map(|page| BASE + page * PAGE_SIZE as u64).collect();
            assert_eq!(found, expected, "{old} {new}");
        }
    }

    #[test]
    fn pages_that_follow_each_other_are_one_range() {
        let pages = [0x4000_0000, 0x4000_1000, 0x4003_f000, 0x4004_0000, 0x8000_0000];
        let set: PageSet = pages.into_iter().collect();
        assert_eq!(set.len(), 5);
        assert!(!set.is_empty() && PageSet::default().is_empty());
        assert!(pages.iter().all(|page| set.contains(*page)));
        assert!([0, 0x4000_2000, 0x4003_e000, 0x7fff_f000].iter().all(|page| !set.contains(*page)));
        let ranges: Vec<_> = set.ranges().collect();
        let expected =
            [0x4000_0000..0x4000_2000, 0x4003_f000..0x4004_1000, 0x8000_0000..0x8000_1000];
        assert_eq!(ranges, expected);
    }
}
