//! The registers of a vCPU by gdb's numbers.
//!
//! The first are those of gdb's features `org.gnu.gdb.aarch64.core` and `fpu`, in gdb's order.
//! Behind them are the system registers, in the order of the format's table, so that one which is
//! added there is here, too.

use core::num::NonZeroUsize;

use gdbstub::arch::{Arch, RegId, Registers};
use stasis_state::register::{Descriptor, Home, Record, VALUE_OFFSET};
use stasis_state::vcpu::{PSTATE_AARCH64, PSTATE_IS_AARCH32, SystemRegisters, defined_pstate};
use zerocopy::IntoBytes;

use crate::machine::Records;

/// The architecture as `gdbstub` wants it.
#[derive(Debug)]
pub enum AArch64 {}

impl Arch for AArch64 {
    type Usize = u64;
    type Registers = General;
    type BreakpointKind = usize;
    type RegId = Number;
}

/// Number of general registers, X0 to X30.
pub(crate) const GENERAL: usize = 31;
const SP: usize = GENERAL;
const PC: usize = SP + 1;
const CPSR: usize = PC + 1;
pub(crate) const V0: usize = CPSR + 1;
/// Number of vector registers.
pub(crate) const VECTORS: usize = 32;
const FPSR: usize = V0 + VECTORS;
const FPCR: usize = FPSR + 1;
/// Number of the first system register.
pub(crate) const SYSTEM: usize = FPCR + 1;

/// Bytes of the registers that gdb reads and writes at once (`g`, `G`): all but the system
/// registers.
const GENERAL_BYTES: usize = 8 * (GENERAL + 2) + 4 + 16 * VECTORS + 8;
/// Most bytes of a register.
pub(crate) const MAX_BYTES: usize = 16;

/// A register, by gdb's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Number(usize);

impl RegId for Number {
    fn from_raw_id(id: usize) -> Option<(Self, Option<NonZeroUsize>)> {
        let number = Self(id);
        Some((number, NonZeroUsize::new(number.bytes()?)))
    }

    fn to_raw_id(&self) -> Option<usize> {
        Some(self.0)
    }
}

/// PSTATE.M of a guest: EL0, EL1 with SP_EL0, EL1 with SP_EL1 (DDI 0487, C5.2.19).
const MODES: [u64; 3] = [0b0000, 0b0100, 0b0101];
const MODE: u64 = 0b1_1111;
const EL1H: u64 = 0b0101;

impl Number {
    /// Returns the numbers of all registers that [`General`] has, in their order.
    fn general() -> impl Iterator<Item = Self> {
        (0..SYSTEM).map(Self)
    }

    /// Returns the number of the register's bytes; `None` if there is no such register.
    pub fn bytes(self) -> Option<usize> {
        match self.0 {
            CPSR | FPSR | FPCR => Some(4),
            V0..FPSR => Some(16),
            ..V0 => Some(8),
            _ => self.system().map(|register| usize::from(register.shape.width)),
        }
    }

    /// Returns the line of the format's table, if it is a system register.
    fn system(self) -> Option<&'static Descriptor> {
        SystemRegisters::REGISTERS.get(self.0.checked_sub(SYSTEM)?)
    }

    /// Returns the register's value, in as many of the low bytes as it has; `None` if there is no
    /// such register.
    pub fn read(self, of: &Records<'_>) -> Option<[u8; MAX_BYTES]> {
        let number = |value: u64| [value, 0];
        let value = match self.0 {
            n @ ..GENERAL => number(of.core.x[n]),
            SP => number(*stack_pointer(of.core.pstate.value, of.system)),
            PC => number(*of.core.pc),
            CPSR => number(*of.core.pstate & u64::from(u32::MAX)),
            n @ V0..FPSR => of.fp.v[n - V0],
            FPSR => number(u64::from(*of.fp.fpsr)),
            FPCR => number(u64::from(*of.fp.fpcr)),
            _ => {
                let register = self.system()?;
                let start = register.offset + VALUE_OFFSET;
                let bytes = of.system.as_bytes().get(start..)?.first_chunk()?;
                number(u64::from_le_bytes(*bytes))
            }
        };
        Some(u128::to_le_bytes(u128::from(value[1]) << 64 | u128::from(value[0])))
    }

    /// Writes the register. Returns `false`, and nothing is changed, if there is no such register,
    /// `bytes` are not as many as it has, or a guest may not have the value.
    pub fn write(self, of: &mut Records<'_>, bytes: &[u8]) -> bool {
        if self.bytes() != Some(bytes.len()) {
            return false;
        }
        let mut value = [0; MAX_BYTES];
        value[..bytes.len()].copy_from_slice(bytes);
        let value = u128::from_le_bytes(value);
        let low = value as u64;
        match self.0 {
            n @ ..GENERAL => of.core.x[n] = low,
            SP => *stack_pointer_mut(of.core.pstate.value, of.system) = low,
            PC => *of.core.pc = low,
            CPSR => {
                let old = *of.core.pstate;
                let new = old & !u64::from(u32::MAX) | low;
                if !may_follow(old, new) {
                    return false;
                }
                *of.core.pstate = new;
            }
            n @ V0..FPSR => of.fp.v[n - V0] = [low, (value >> 64) as u64],
            FPSR => *of.fp.fpsr = low as u32,
            FPCR => *of.fp.fpcr = low as u32,
            _ => {
                // A register that EL2 emulates, or a timer, is more than its value.
                let writable =
                    |register: &&Descriptor| matches!(register.home, Home::Switch | Home::Regime);
                let Some(register) = self.system().filter(writable) else { return false };
                let start = register.offset + VALUE_OFFSET;
                of.system.as_mut_bytes()[start..][..bytes.len()].copy_from_slice(bytes);
            }
        }
        true
    }
}

/// Returns whether a debugger may make PSTATE `new` of `old`: the guest runs at EL1 or EL0 then,
/// and reserved bits are 0. A guest does not change between AArch64 and AArch32.
fn may_follow(old: u64, new: u64) -> bool {
    if old & PSTATE_IS_AARCH32 != 0 {
        return new & MODE == old & MODE && new == defined_pstate(new);
    }
    MODES.contains(&(new & MODE)) && new & !PSTATE_AARCH64 == 0
}

fn stack_pointer(pstate: u64, system: &SystemRegisters) -> &u64 {
    if pstate & MODE == EL1H { &system.sp_el1 } else { &system.sp_el0 }
}

fn stack_pointer_mut(pstate: u64, system: &mut SystemRegisters) -> &mut u64 {
    if pstate & MODE == EL1H { &mut system.sp_el1 } else { &mut system.sp_el0 }
}

/// The registers that gdb reads and writes at once.
#[derive(Clone, Debug, PartialEq)]
pub struct General([u8; GENERAL_BYTES]);

impl Default for General {
    fn default() -> Self {
        Self([0; GENERAL_BYTES])
    }
}

impl General {
    /// Reads all of them.
    pub fn read(&mut self, of: &Records<'_>) {
        let mut rest = &mut self.0[..];
        for number in Number::general() {
            let (Some(bytes), Some(value)) = (number.bytes(), number.read(of)) else { return };
            let (register, behind) = rest.split_at_mut(bytes);
            register.copy_from_slice(&value[..bytes]);
            rest = behind;
        }
    }

    /// Writes all of them. Returns `false`, and nothing is changed, if a guest may not have the
    /// PSTATE.
    pub fn write(&self, of: &mut Records<'_>) -> bool {
        let parts = || {
            Number::general().scan(&self.0[..], |rest, number| {
                let (register, behind) = rest.split_at_checked(number.bytes()?)?;
                *rest = behind;
                Some((number, register))
            })
        };
        // PSTATE comes first: it says which stack pointer is meant.
        let (first, rest) = (|&(number, _): &(Number, _)| number.0 == CPSR, parts());
        parts().find(first).is_some_and(|(number, value)| number.write(of, value)) && {
            rest.for_each(|(number, value)| {
                number.write(of, value);
            });
            true
        }
    }
}

impl Registers for General {
    type ProgramCounter = u64;

    fn pc(&self) -> u64 {
        self.0[8 * PC..].first_chunk().copied().map_or(0, u64::from_le_bytes)
    }

    fn gdb_serialize(&self, mut write_byte: impl FnMut(Option<u8>)) {
        self.0.iter().for_each(|byte| write_byte(Some(*byte)));
    }

    fn gdb_deserialize(&mut self, bytes: &[u8]) -> Result<(), ()> {
        self.0.copy_from_slice(bytes.get(..GENERAL_BYTES).ok_or(())?);
        Ok(())
    }
}
