//! Where a guest's own page tables have its memory (DDI 0487, D8.2): stage 1 of EL1 and EL0, any granule.

use stasis_state::vcpu::SystemRegisters;

use super::memory::Memory;

/// A run of virtual addresses that is a run of RAM, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// Its first virtual address.
    pub address: u64,
    /// Where that is in RAM.
    pub physical: u64,
    /// Bytes.
    pub len: u64,
}

/// Memory by its virtual addresses.
#[derive(Clone, Copy)]
pub struct Virtual<'a> {
    /// All of it.
    pub memory: &'a Memory,
    /// Where it is; ascending, as [`mappings`] has them.
    pub mappings: &'a [Mapping],
}

impl Virtual<'_> {
    /// The byte at this address.
    pub fn u8(&self, address: u64) -> Option<u8> {
        let after = self.mappings.partition_point(|mapping| mapping.address <= address);
        let mapping = self.mappings.get(after.checked_sub(1)?)?;
        let offset = address - mapping.address;
        if offset >= mapping.len {
            return None;
        }
        let physical = mapping.physical + offset;
        let word = self.memory.word(physical & !7)?;
        Some(word.to_le_bytes()[(physical & 7) as usize])
    }

    /// The four bytes at this address, as a number.
    pub fn u32(&self, address: u64) -> Option<u32> {
        let byte = |offset| Some(u32::from(self.u8(address.checked_add(offset)?)?));
        Some(byte(0)? | byte(1)? << 8 | byte(2)? << 16 | byte(3)? << 24)
    }
}

/// One of the two trees of tables.
struct Tree {
    /// The first address that it translates.
    base: u64,
    /// Bits of an address that it translates.
    bits: u32,
    /// Bits of an address within a page.
    page_bits: u32,
    /// The first table.
    table: u64,
}

/// All mappings to RAM by TTBR0 and TTBR1, ascending; none where the MMU is off.
pub fn mappings(system: &SystemRegisters, memory: &Memory) -> Vec<Mapping> {
    /// SCTLR_EL1.M.
    const MMU: u64 = 1;
    let mut found = Vec::new();
    if *system.sctlr_el1 & MMU != 0 {
        for tree in [low(system), high(system)].into_iter().flatten() {
            tree.walk(memory, &mut found);
        }
    }
    found
}

/// TTBR0_EL1 by TCR_EL1's T0SZ, EPD0 and TG0.
fn low(system: &SystemRegisters) -> Option<Tree> {
    let tcr = *system.tcr_el1;
    let page_bits = match tcr >> 14 & 3 {
        0 => 12,
        1 => 16,
        2 => 14,
        _ => return None,
    };
    Tree::new(0, *system.ttbr0_el1, tcr & 0x3f, tcr >> 7 & 1, page_bits)
}

/// TTBR1_EL1 by TCR_EL1's T1SZ, EPD1 and TG1.
fn high(system: &SystemRegisters) -> Option<Tree> {
    let tcr = *system.tcr_el1;
    let page_bits = match tcr >> 30 & 3 {
        1 => 14,
        2 => 12,
        3 => 16,
        _ => return None,
    };
    let size = tcr >> 16 & 0x3f;
    Tree::new(u64::MAX << (64 - size).min(63), *system.ttbr1_el1, size, tcr >> 23 & 1, page_bits)
}

impl Tree {
    fn new(base: u64, ttbr: u64, size: u64, disabled: u64, page_bits: u32) -> Option<Self> {
        // An address has 25 to 48 bits where there are neither FEAT_TTST nor FEAT_LVA.
        let bits = u32::try_from(64 - size).ok().filter(|bits| (25..=48).contains(bits))?;
        // TTBR.BADDR, without the ASID and CnP.
        let table = ttbr & 0xffff_ffff_fffe;
        (disabled == 0).then_some(Self { base, bits, page_bits, table })
    }

    /// Bits of an address that a table of one level translates.
    fn level_bits(&self) -> u32 {
        self.page_bits - 3
    }

    fn walk(&self, memory: &Memory, found: &mut Vec<Mapping>) {
        let levels = (self.bits - self.page_bits).div_ceil(self.level_bits());
        let mut walk = Walk { memory, found, tables_left: MAX_TABLES };
        self.table(&mut walk, self.table, self.base, levels, self.bits);
    }

    /// `levels` are left, this one included; together they translate `bits` bits.
    fn table(&self, walk: &mut Walk<'_>, table: u64, base: u64, levels: u32, bits: u32) {
        if walk.tables_left == 0 {
            return;
        }
        walk.tables_left -= 1;
        let below = self.page_bits + (levels - 1) * self.level_bits();
        for index in 0..1u64 << (bits - below) {
            let Some(entry) = walk.memory.word(table + index * 8) else { continue };
            let address = base + (index << below);
            let physical = entry & 0xffff_ffff_f000 & (u64::MAX << self.page_bits);
            match (entry & 3, levels) {
                (3, 1) => walk.add(address, physical, below),
                (3, _) => self.table(walk, physical, address, levels - 1, below),
                (1, 2..) => walk.add(address, physical >> below << below, below),
                _ => {}
            }
        }
    }
}

/// Tables of 4 KiB that map 128 GiB by pages. Only tables that lie in themselves need more.
const MAX_TABLES: usize = 65_536;

struct Walk<'a> {
    memory: &'a Memory,
    found: &'a mut Vec<Mapping>,
    tables_left: usize,
}

impl Walk<'_> {
    /// Adds what lies in RAM of a page or block, to the mapping before if it goes on there.
    fn add(&mut self, address: u64, physical: u64, bits: u32) {
        let ram = &self.memory.ram;
        let start = physical.max(ram.start);
        let end = physical.saturating_add(1 << bits).min(ram.end);
        if start >= end {
            return;
        }
        let (address, len) = (address + (start - physical), end - start);
        match self.found.last_mut() {
            Some(last)
                if last.address + last.len == address && last.physical + last.len == start =>
            {
                last.len += len;
            }
            _ => self.found.push(Mapping { address, physical: start, len }),
        }
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

    fn memory() -> Memory {
        Memory::of(
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
        let memory = Memory::of(0x4000_0000..0x4800_0000, [(TABLES, page(&all))]);
        let mut system = registers();
        // 48 bits: four levels.
        *system.tcr_el1 = 16 | 16 << 16 | 2 << 30;
        assert!(mappings(&system, &memory).len() < 1 << 26);
    }
}
