//! The system registers of a vCPU by the encodings of their instructions, as KVM's ONE_REG and
//! QEMU's stream name them.
//!
//! The tables are the format's own: the id of a register in [`SystemRegisters`] and [`Debug`] is
//! its encoding, and an array's elements differ in CRm. [`Sysreg`] finds a register's value in its
//! record by the table, so no register stands here by its name, but for two things that the others
//! have in another form: the OS lock, and the special registers, which both have beside their
//! lists.

use stasis_state::records::VcpuState;
use stasis_state::register::{Descriptor, Record, VALUE_OFFSET};
use stasis_state::vcpu::{Debug, SystemRegisters, sysreg};
use zerocopy::IntoBytes;

/// The encoding of OSLSR_EL1, by which the OS lock is known.
const OSLSR: u16 = sysreg(2, 0, 1, 1, 4);
/// OSLSR_EL1.OSLM of a CPU that has an OS lock (DDI 0487, D24.3.24).
const OSLM: u64 = 0b10 << 2;
/// The bit of OSLSR_EL1.OSLK.
const OSLK: u32 = 1;

/// A system register of a vCPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sysreg {
    /// The encoding of its MRS and MSR instructions, see [`sysreg`].
    pub encoding: u16,
    /// The name in the format's table, in lower case; that of the whole array for an element.
    pub name: &'static str,
    table: Table,
    /// Offset of the value in the record, in bytes.
    offset: usize,
}

/// The record that a register is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Table {
    System,
    Debug,
}

impl Sysreg {
    /// Returns every register of [`SystemRegisters`] and [`Debug`], but for the special registers:
    /// SP, ELR and SPSR are no system registers for KVM and QEMU.
    pub fn all() -> impl Iterator<Item = Self> {
        let system =
            SystemRegisters::REGISTERS.iter().flat_map(|line| elements(Table::System, line));
        let debug = Debug::REGISTERS.iter().flat_map(|line| elements(Table::Debug, line));
        system.filter(|register| !register.is_special()).chain(debug)
    }

    /// Returns the register of this encoding; `None` if the format has none.
    pub fn find(encoding: u16) -> Option<Self> {
        Self::all().find(|register| register.encoding == encoding)
    }

    /// Returns what MRS of the register reads.
    pub fn get(self, vcpu: &VcpuState) -> u64 {
        let record = match self.table {
            Table::System => vcpu.system.as_bytes(),
            Table::Debug => vcpu.debug.as_bytes(),
        };
        let value =
            record[self.offset..].first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
        if self.encoding == OSLSR { OSLM | value << OSLK } else { value }
    }

    /// Makes the register read `value`.
    pub fn set(self, vcpu: &mut VcpuState, value: u64) {
        let record = match self.table {
            Table::System => vcpu.system.as_mut_bytes(),
            Table::Debug => vcpu.debug.as_mut_bytes(),
        };
        let value = if self.encoding == OSLSR { value >> OSLK & 1 } else { value };
        record[self.offset..][..size_of::<u64>()].copy_from_slice(&value.to_le_bytes());
    }

    /// Returns what MRS of the register reads at reset.
    pub fn reset(self) -> u64 {
        self.get(&VcpuState::default())
    }

    /// Returns whether MRS and MSR of the register are those of a special register (DDI 0487,
    /// C5.2), which have CRn 4.
    fn is_special(self) -> bool {
        self.encoding >> 7 & 0xf == 4
    }
}

/// Returns the registers of a line of a table: the elements of an array differ in CRm.
fn elements(table: Table, line: &'static Descriptor) -> impl Iterator<Item = Sysreg> {
    (0..line.shape.count).map(move |n| Sysreg {
        encoding: line.id + (n << 3),
        name: line.name,
        table,
        offset: line.offset + VALUE_OFFSET + usize::from(n) * size_of::<u64>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_register_is_found_by_its_encoding_and_keeps_what_was_written() {
        let mut vcpu = VcpuState::default();
        for register in Sysreg::all() {
            assert_eq!(Sysreg::find(register.encoding), Some(register), "two have one encoding");
            register.set(&mut vcpu, OSLM | u64::from(register.encoding) << 2);
        }
        assert_eq!(*vcpu.system.ttbr0_el1, OSLM | u64::from(sysreg(3, 0, 2, 0, 0)) << 2);
        assert_eq!(vcpu.debug.dbgwcr[15], OSLM | u64::from(sysreg(2, 0, 0, 15, 7)) << 2);
        assert_eq!(*vcpu.system.sp_el0, 0, "a special register");
        for register in Sysreg::all().filter(|register| register.encoding != OSLSR) {
            assert_eq!(register.get(&vcpu), OSLM | u64::from(register.encoding) << 2);
        }
    }

    #[test]
    fn the_os_lock_is_a_bit_of_oslsr() {
        let lock = Sysreg::find(OSLSR).unwrap();
        let mut vcpu = VcpuState::default();
        assert_eq!((lock.get(&vcpu), lock.reset()), (0xa, 0xa));
        lock.set(&mut vcpu, 0x8);
        assert_eq!((*vcpu.debug.os_lock, lock.get(&vcpu)), (0, 0x8));
    }
}
