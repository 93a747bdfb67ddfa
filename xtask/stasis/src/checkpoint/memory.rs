//! A checkpoint's memory in as much room as its file has: the pages that are stored.

use std::collections::BTreeMap;
use std::ops::Range;

use anyhow::Result;
use sha2::{Digest, Sha256};
use stasis_state::{PAGE_SIZE, Routines, read_extents};

use super::source::{Bytes, Loaded, format_error};

/// A page's bytes.
pub type Page = [u8; PAGE_SIZE];

/// A guest's memory.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    /// The addresses that are RAM.
    pub ram: Range<u64>,
    /// The pages that are stored, also of what the guest shares with others. All others are zero.
    pages: BTreeMap<u64, Box<Page>>,
}

impl Memory {
    /// Reads it.
    pub fn read(loaded: &Loaded) -> Result<Self> {
        let guest = &loaded.checkpoint.state.guest;
        let mut memory = Self {
            ram: *guest.ram_base..*guest.ram_base + *guest.ram_size,
            pages: BTreeMap::new(),
        };
        let routines = Routines::default();
        read_extents(
            &mut Bytes(&loaded.bytes),
            &loaded.checkpoint,
            routines,
            &mut |extent, raw| {
                let (pages, _) = raw.unwrap_or_default().as_chunks::<PAGE_SIZE>();
                let addresses = (extent.address..).step_by(PAGE_SIZE);
                memory.pages.extend(addresses.zip(pages.iter().map(|page| Box::new(*page))));
            },
        )
        .map_err(format_error)?;
        Ok(memory)
    }

    /// Memory of these pages.
    #[cfg(test)]
    pub fn of(ram: Range<u64>, pages: impl IntoIterator<Item = (u64, Box<Page>)>) -> Self {
        Self { ram, pages: pages.into_iter().collect() }
    }

    /// The page at this address, or none if all of it is zero.
    pub fn page(&self, address: u64) -> Option<&Page> {
        self.pages.get(&address).map(|page| &**page)
    }

    /// The pages that are stored, by address.
    pub fn pages(&self) -> impl Iterator<Item = (u64, &Page)> {
        self.pages.iter().map(|(address, page)| (*address, &**page))
    }

    /// The eight bytes at this address, a multiple of 8, as a number: none outside of RAM.
    pub fn word(&self, address: u64) -> Option<u64> {
        if !self.ram.contains(&address) {
            return None;
        }
        let offset = (address % PAGE_SIZE as u64) as usize;
        let Some(page) = self.page(address - offset as u64) else { return Some(0) };
        Some(u64::from_le_bytes(page.get(offset..offset + 8)?.try_into().ok()?))
    }

    /// SHA-256 over the stored pages, each after its address in eight bytes, little-endian.
    pub fn sha256(&self) -> String {
        let mut hash = Sha256::new();
        for (address, page) in self.pages() {
            hash.update(address.to_le_bytes());
            hash.update(page);
        }
        hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// The addresses of the pages that differ, as ranges.
    pub fn differences(&self, other: &Self) -> Vec<Range<u64>> {
        let zero = [0; PAGE_SIZE];
        let differ =
            |address| self.page(address).unwrap_or(&zero) != other.page(address).unwrap_or(&zero);
        let mut addresses: Vec<u64> =
            self.pages.keys().chain(other.pages.keys()).copied().filter(|a| differ(*a)).collect();
        addresses.sort_unstable();
        addresses.dedup();
        let mut ranges: Vec<Range<u64>> = Vec::new();
        for address in addresses {
            let end = address + PAGE_SIZE as u64;
            match ranges.last_mut() {
                Some(last) if last.end == address => last.end = end,
                _ => ranges.push(address..end),
            }
        }
        ranges
    }
}

/// Pages in a range.
pub fn pages(range: &Range<u64>) -> u64 {
    (range.end - range.start) / PAGE_SIZE as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn memory(pages: &[(u64, u8)]) -> Memory {
        let page = |&(address, byte)| (address, Box::new([byte; PAGE_SIZE]));
        Memory::of(0x4000_0000..0x4001_0000, pages.iter().map(page))
    }

    #[test]
    fn pages_that_differ_are_ranges() {
        let one = memory(&[(0x4000_0000, 1), (0x4000_1000, 2), (0x4000_5000, 3)]);
        let other =
            memory(&[(0x4000_1000, 9), (0x4000_2000, 0), (0x4000_5000, 3), (0x4000_8000, 1)]);
        let expected = [0x4000_0000..0x4000_2000, 0x4000_8000..0x4000_9000];
        assert_eq!(one.differences(&other), expected);
        assert_eq!(other.differences(&one), expected);
        assert!(one.differences(&one).is_empty());
    }

    #[test]
    fn words_are_there_in_all_of_ram_and_nowhere_else() {
        let memory = memory(&[(0x4000_1000, 0xab)]);
        assert_eq!(memory.word(0x4000_1ff8), Some(0xabab_abab_abab_abab));
        assert_eq!(memory.word(0x4000_2000), Some(0));
        assert_eq!(memory.word(0x4001_0000), None);
        assert_eq!(memory.word(0), None);
    }
}
