//! All that a guest's own page tables map (DDI 0487, D8.2), and its memory at virtual addresses.
//! What a table's entry means is `stasis_debug`'s.

use std::cell::Cell;
use std::ops::RangeInclusive;

use stasis_debug::translation::{Entry, Tree};
use stasis_state::vcpu::SystemRegisters;

use super::memory::{self, Memory};

/// A range of virtual addresses that is mapped to one range of RAM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// The first virtual address.
    pub address: u64,
    /// The physical address to which it is mapped.
    pub physical: u64,
    /// Bytes of the range.
    pub len: u64,
}

/// A guest's memory at its virtual addresses.
pub struct Virtual<'a, 'm> {
    memory: &'a Memory<'m>,
    /// The function that returns the physical address of a virtual page.
    translate: &'a dyn Fn(u64) -> Option<u64>,
    /// The virtual page that was translated last, and its physical address.
    last: Cell<Option<(u64, Option<u64>)>>,
}

/// The bits of an address within a page of the smallest granule.
const SMALLEST_PAGE: u64 = 0xfff;

impl<'a, 'm> Virtual<'a, 'm> {
    /// Returns memory whose virtual addresses `translate` translates.
    pub fn new(memory: &'a Memory<'m>, translate: &'a dyn Fn(u64) -> Option<u64>) -> Self {
        Self { memory, translate, last: Cell::new(None) }
    }

    /// Returns the byte at this address; `None` if it is not mapped to RAM.
    pub fn u8(&self, address: u64) -> Option<u8> {
        let virtual_page = address & !SMALLEST_PAGE;
        let page = match self.last.get() {
            Some((last, page)) if last == virtual_page => page,
            _ => {
                let page = (self.translate)(virtual_page);
                self.last.set(Some((virtual_page, page)));
                page
            }
        }?;
        let physical = page + (address & SMALLEST_PAGE);
        let word = self.memory.word(physical & !7)?;
        Some(word.to_le_bytes()[(physical & 7) as usize])
    }

    /// Returns the number in the eight bytes at this address; `None` if one of them is not mapped
    /// to RAM.
    pub fn u64(&self, address: u64) -> Option<u64> {
        let low = self.u32(address)?;
        Some(u64::from(low) | u64::from(self.u32(address.checked_add(4)?)?) << 32)
    }

    /// Returns the number in the four bytes at this address; `None` if one of them is not mapped to
    /// RAM.
    pub fn u32(&self, address: u64) -> Option<u32> {
        let byte = |offset| Some(u32::from(self.u8(address.checked_add(offset)?)?));
        Some(byte(0)? | byte(1)? << 8 | byte(2)? << 16 | byte(3)? << 24)
    }
}

/// The two trees of translation tables of a vCPU; there is none while its MMU is off.
#[derive(Debug, Default)]
pub struct Tables {
    low: Option<Tree>,
    high: Option<Tree>,
}

impl Tables {
    /// Returns the trees that TTBR0_EL1 and TTBR1_EL1 point to.
    pub fn of(system: &SystemRegisters) -> Self {
        /// SCTLR_EL1.M.
        const MMU: u64 = 1;
        match *system.sctlr_el1 & MMU {
            0 => Self::default(),
            _ => Self { low: Tree::low(system), high: Tree::high(system) },
        }
    }

    /// Returns whether there is a tree for the kernel's half of the addresses.
    pub fn has_kernel(&self) -> bool {
        self.high.is_some()
    }

    /// Passes all mappings to RAM to `each`, in ascending order. Mappings that are adjacent in both
    /// kinds of addresses are passed as one.
    pub fn each(&self, memory: &Memory<'_>, each: &mut dyn FnMut(Mapping)) {
        self.within(0..=u64::MAX, memory, each);
    }

    /// Returns the physical address of a virtual page; `None` if it is not mapped to RAM.
    pub fn translate(&self, memory: &Memory<'_>, page: u64) -> Option<u64> {
        let mut found = None;
        self.within(page..=page | SMALLEST_PAGE, memory, &mut |mapping| {
            let offset = page.checked_sub(mapping.address).filter(|offset| *offset < mapping.len);
            found = found.or(offset.map(|offset| mapping.physical + offset));
        });
        found
    }

    /// Passes the mappings of any of these virtual addresses to `each`.
    fn within(
        &self,
        wanted: RangeInclusive<u64>,
        memory: &Memory<'_>,
        each: &mut dyn FnMut(Mapping),
    ) {
        for tree in [&self.low, &self.high].into_iter().flatten() {
            let mut walk =
                Walk { memory, wanted: wanted.clone(), each, last: None, tables_left: MAX_TABLES };
            walk_tree(tree, &mut walk);
            walk.finish();
        }
    }
}

/// Passes on to `walk` all of a tree.
fn walk_tree(tree: &Tree, walk: &mut Walk<'_, '_>) {
    walk.table(tree, tree.table, tree.base, tree.levels());
}
/// The greatest number of tables: enough to map 128 GiB by pages of 4 KiB. Only tables that contain
/// themselves need more.
const MAX_TABLES: usize = 65_536;

struct Walk<'a, 'm> {
    memory: &'a Memory<'m>,
    /// The virtual addresses whose mappings are wanted.
    wanted: RangeInclusive<u64>,
    each: &'a mut dyn FnMut(Mapping),
    /// The mapping that was found last, to which the next one may be adjacent.
    last: Option<Mapping>,
    tables_left: usize,
}

impl Walk<'_, '_> {
    /// Walks a table of `tree`, whose first entry is for the address `base`, and with which `level`
    /// levels are left.
    fn table(&mut self, tree: &Tree, table: u64, base: u64, level: u32) {
        if self.tables_left == 0 {
            return;
        }
        self.tables_left -= 1;
        let below = tree.bits_below(level);
        let bits = if level == tree.levels() { tree.bits } else { below + tree.level_bits() };
        let index = |address: u64| address.saturating_sub(base) >> below;
        let last = ((1 << (bits - below)) - 1).min(index(*self.wanted.end()));
        let mut entries = None;
        for index in index(*self.wanted.start())..=last {
            let place = table + index * 8;
            let (page, offset) = (place & !SMALLEST_PAGE, (place & SMALLEST_PAGE) as usize);
            if entries.as_ref().is_none_or(|(at, _)| *at != page) {
                entries = self.memory.page(page).map(|content| (page, content));
            }
            let Some((_, content)) = &entries else { continue };
            let address = base + (index << below);
            match tree.entry(memory::word(content, offset), level) {
                Entry::Memory(physical) => self.add(address, physical, below),
                Entry::Table(next) => self.table(tree, next, address, level - 1),
                Entry::Nothing => {}
            }
        }
    }

    /// Adds the part of a page or block that lies in RAM. If it is adjacent to the last mapping, it
    /// becomes part of that.
    fn add(&mut self, address: u64, physical: u64, bits: u32) {
        let ram = &self.memory.ram;
        let start = physical.max(ram.start);
        let end = physical.saturating_add(1 << bits).min(ram.end);
        if start >= end {
            return;
        }
        let (address, len) = (address + (start - physical), end - start);
        match &mut self.last {
            Some(last)
                if last.address + last.len == address && last.physical + last.len == start =>
            {
                last.len += len;
            }
            _ => {
                self.finish();
                self.last = Some(Mapping { address, physical: start, len });
            }
        }
    }

    /// Passes on the mapping that was found last.
    fn finish(&mut self) {
        self.last.take().into_iter().for_each(&mut *self.each);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use stasis_state::PAGE_SIZE;

    const TABLES: u64 = 0x4000_0000;

    fn page(entries: &[(usize, u64)]) -> Box<[u8; PAGE_SIZE]> {
        let mut page = Box::new([0; PAGE_SIZE]);
        for (index, entry) in entries {
            page[index * 8..][..8].copy_from_slice(&entry.to_le_bytes());
        }
        page
    }

    /// 39 bits through each, pages of 4 KiB.
    fn registers() -> SystemRegisters {
        let mut system = SystemRegisters::default();
        *system.sctlr_el1 |= 1;
        *system.tcr_el1 = 25 | 25 << 16 | 2 << 30;
        *system.ttbr1_el1 = TABLES | 7 << 48;
        *system.ttbr0_el1 = TABLES + 0x3000;
        system
    }

    fn mappings(system: &SystemRegisters, memory: &Memory<'_>) -> Vec<Mapping> {
        let mut found = Vec::new();
        Tables::of(system).each(memory, &mut |mapping| found.push(mapping));
        found
    }

    fn memory() -> Memory<'static> {
        memory::tests::memory(
            0x4000_0000..0x4800_0000,
            [
                (TABLES, page(&[(511, TABLES + 0x1003)])),
                (
                    TABLES + 0x1000,
                    page(&[(0, 0x4020_0401), (1, 0x4040_0401), (511, TABLES + 0x2003)]),
                ),
                (TABLES + 0x2000, page(&[(0, 0x4700_0403), (1, 0x4600_0403), (511, 0x0900_0403)])),
                // A GiB in one block, most of it not RAM.
                (TABLES + 0x3000, page(&[(1, 0x4000_0401)])),
            ],
        )
    }

    #[test]
    fn blocks_and_pages_are_found_and_joined_where_both_go_on() {
        let high = 0xffff_ffff_c000_0000;
        let expected = [
            Mapping { address: 0x4000_0000, physical: 0x4000_0000, len: 0x800_0000 },
            Mapping { address: high, physical: 0x4020_0000, len: 0x40_0000 },
            Mapping { address: high + 0x3fe0_0000, physical: 0x4700_0000, len: 0x1000 },
            Mapping { address: high + 0x3fe0_1000, physical: 0x4600_0000, len: 0x1000 },
        ];
        assert_eq!(mappings(&registers(), &memory()), expected);
    }

    #[test]
    fn a_single_address_is_translated_as_all_of_them_are() {
        let (tables, memory) = (Tables::of(&registers()), memory());
        for mapping in mappings(&registers(), &memory) {
            let last = mapping.len - 0x1000;
            for offset in [0, 0x1000.min(last), last] {
                let physical = tables.translate(&memory, mapping.address + offset);
                assert_eq!(physical, Some(mapping.physical + offset), "{mapping:x?}");
            }
        }
        for nowhere in [0, 0x3fff_f000, 0x4800_0000, 0xffff_ffff_c000_0000 - 0x1000] {
            assert_eq!(tables.translate(&memory, nowhere), None, "{nowhere:#x}");
        }
    }

    #[test]
    fn without_an_mmu_or_with_a_tree_disabled_there_is_nothing() {
        let mut system = registers();
        *system.tcr_el1 |= 1 << 7 | 1 << 23;
        assert!(mappings(&system, &memory()).is_empty());
        let mut system = registers();
        *system.sctlr_el1 &= !1;
        assert!(mappings(&system, &memory()).is_empty());
    }

    #[test]
    fn tables_that_point_to_themselves_end() {
        let all: Vec<_> = (0..512).map(|index| (index, TABLES + 3)).collect();
        let memory = memory::tests::memory(0x4000_0000..0x4800_0000, [(TABLES, page(&all))]);
        let mut system = registers();
        // 48 bits: four levels.
        *system.tcr_el1 = 16 | 16 << 16 | 2 << 30;
        let mut count = 0;
        Tables::of(&system).each(&memory, &mut |_| count += 1);
        assert!((1..1 << 26).contains(&count), "{count}");
    }
}
