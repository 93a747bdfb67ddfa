//! The walk through a guest's own page tables (DDI 0487, D8.2): stage 1 of EL1 and EL0, with any
//! granule.
//!
//! [`translate`] finds one address. [`Tree`] is what a walk begins with, for whoever walks all of
//! it.

use stasis_state::vcpu::SystemRegisters;

/// One of the two trees of translation tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tree {
    /// The first address that the tree translates.
    pub base: u64,
    /// Number of address bits that the tree translates.
    pub bits: u32,
    /// Number of address bits within a page.
    pub page_bits: u32,
    /// Physical address of the first table.
    pub table: u64,
}

/// The meaning of a descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// The physical address of the table for the next level.
    Table(u64),
    /// The physical address of a page or block.
    Memory(u64),
    /// Nothing is mapped.
    Nothing,
}

/// SCTLR_EL1.M.
const MMU: u64 = 1;
/// TCR_EL1.TBI0 and TBI1: the address's top byte is not translated.
const IGNORES_TOP_BYTE: [u64; 2] = [1 << 37, 1 << 38];

/// Returns the physical address of a virtual one, by the tables of a vCPU with these registers;
/// `None` if there is none. `word` returns the eight bytes at a physical address, a multiple of 8,
/// if they are the guest's RAM.
///
/// # Errors
///
/// The error of `word`.
pub fn translate<E>(
    system: &SystemRegisters,
    address: u64,
    word: &mut dyn FnMut(u64) -> Result<Option<u64>, E>,
) -> Result<Option<u64>, E> {
    if *system.sctlr_el1 & MMU == 0 {
        return Ok(Some(address));
    }
    let half = (address >> 55 & 1) as usize;
    let tree = if half == 0 { Tree::low(system) } else { Tree::high(system) };
    let Some(tree) = tree else { return Ok(None) };
    let mut address = address;
    if *system.tcr_el1 & IGNORES_TOP_BYTE[half] != 0 {
        // Bit 55 says what the bits above it are.
        address = ((address << 8) as i64 >> 8) as u64;
    }
    let Some(offset) = address.checked_sub(tree.base) else { return Ok(None) };
    if offset >> tree.bits != 0 {
        return Ok(None);
    }
    let mut table = tree.table;
    for level in (1..=tree.levels()).rev() {
        let below = tree.bits_below(level);
        let index = offset >> below & (u64::MAX >> (64 - tree.level_bits()));
        let Some(descriptor) = word(table + index * 8)? else { return Ok(None) };
        match tree.entry(descriptor, level) {
            Entry::Table(next) => table = next,
            Entry::Memory(start) => {
                return Ok(Some(start | offset & (u64::MAX >> (64 - below))));
            }
            Entry::Nothing => return Ok(None),
        }
    }
    Ok(None)
}

impl Tree {
    /// Returns the tree of TTBR0_EL1, by T0SZ, EPD0 and TG0 of TCR_EL1; `None` if it is disabled,
    /// or of a size that no guest's CPU has.
    pub fn low(system: &SystemRegisters) -> Option<Self> {
        let tcr = *system.tcr_el1;
        let page_bits = match tcr >> 14 & 3 {
            0 => 12,
            1 => 16,
            2 => 14,
            _ => return None,
        };
        Self::new(0, *system.ttbr0_el1, tcr & 0x3f, tcr >> 7 & 1, page_bits)
    }

    /// Returns the tree of TTBR1_EL1, by T1SZ, EPD1 and TG1 of TCR_EL1; `None` as of [`Self::low`].
    pub fn high(system: &SystemRegisters) -> Option<Self> {
        let tcr = *system.tcr_el1;
        let page_bits = match tcr >> 30 & 3 {
            1 => 14,
            2 => 12,
            3 => 16,
            _ => return None,
        };
        let size = tcr >> 16 & 0x3f;
        let base = u64::MAX << (64 - size).min(63);
        Self::new(base, *system.ttbr1_el1, size, tcr >> 23 & 1, page_bits)
    }

    fn new(base: u64, ttbr: u64, size: u64, disabled: u64, page_bits: u32) -> Option<Self> {
        // Without FEAT_TTST and FEAT_LVA, an address has 25 to 48 bits.
        let bits = u32::try_from(64 - size).ok().filter(|bits| (25..=48).contains(bits))?;
        // The mask leaves TTBR.BADDR, without the ASID and CnP.
        let table = ttbr & 0xffff_ffff_fffe;
        (disabled == 0).then_some(Self { base, bits, page_bits, table })
    }

    /// Returns the number of address bits that a table of one level translates.
    pub fn level_bits(&self) -> u32 {
        self.page_bits - 3
    }

    /// Returns the number of levels.
    pub fn levels(&self) -> u32 {
        (self.bits - self.page_bits).div_ceil(self.level_bits())
    }

    /// Returns the number of address bits that one entry of a table spans, below which `level - 1`
    /// levels are left.
    pub fn bits_below(&self, level: u32) -> u32 {
        self.page_bits + (level - 1) * self.level_bits()
    }

    /// Returns what a descriptor means in a table with which `level` levels are left.
    pub fn entry(&self, descriptor: u64, level: u32) -> Entry {
        let physical = descriptor & 0xffff_ffff_f000 & (u64::MAX << self.page_bits);
        let below = self.bits_below(level);
        match (descriptor & 3, level) {
            (3, 1) => Entry::Memory(physical),
            (3, _) => Entry::Table(physical),
            (1, 2..) => Entry::Memory(physical >> below << below),
            _ => Entry::Nothing,
        }
    }
}
