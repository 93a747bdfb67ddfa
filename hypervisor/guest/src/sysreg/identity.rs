//! What a guest sees of its CPU, and whether a host can provide it.
//!
//! A guest is shown what every board's CPU has, which is Armv8.0-A, so that it can go on anywhere
//! ([`Reach`]). [`made`] leaves only the fields of [`FIELDS`], none of them higher than the value
//! there. Everything else reads as 0: what newer CPUs add, and all features whose state is not
//! saved (SVE, SME, MTE, pointer authentication, RAS, the PMU, trace, profiling). EL2 and EL3 are
//! absent, as on QEMU's `virt`.

mod granule;

use stasis_state::vcpu::{Identity, sysreg};

pub use self::granule::{Granule, NoSuchGranule, made};
use super::aarch32;
use crate::psci;

/// The machines on which a guest must be able to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// Any machine: the guest is shown a CTR_EL0 that is right on every board, of which reads trap
    /// where the core's is another.
    Anywhere,
    /// Machines whose caches need no more maintenance than this one's: the guest is shown the
    /// CTR_EL0 of the core, of which reads do not trap.
    Alike,
}

/// The rule for a field between a resumed guest and its host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Need {
    /// The host has the same value or a higher one.
    AtLeast,
    /// The host has the same value.
    Same,
    /// The host may have any value: the guest can't tell, or the field is advice.
    Nothing,
}

/// The highest value of a field that is shown, and the order of its values (D24.1.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Most {
    /// Unsigned values up to this one.
    Unsigned(u8),
    /// Signed values up to this one: 0xf is less than 0, and means that something is absent.
    Signed(i8),
}

/// A field of an ID register that a guest is shown.
struct Field {
    register: u16,
    name: &'static str,
    shift: u32,
    most: Most,
    need: Need,
}

const fn field(register: u16, name: &'static str, shift: u32, most: Most, need: Need) -> Field {
    Field { register, name, shift, most, need }
}

const MIDR: u16 = sysreg(3, 0, 0, 0, 0);
const MPIDR: u16 = sysreg(3, 0, 0, 0, 5);
const REVIDR: u16 = sysreg(3, 0, 0, 0, 6);
const PFR0: u16 = sysreg(3, 0, 0, 4, 0);
const PFR1: u16 = sysreg(3, 0, 0, 4, 1);
const DFR0: u16 = sysreg(3, 0, 0, 5, 0);
const ISAR0: u16 = sysreg(3, 0, 0, 6, 0);
const ISAR1: u16 = sysreg(3, 0, 0, 6, 1);
const MMFR0: u16 = sysreg(3, 0, 0, 7, 0);
const MMFR1: u16 = sysreg(3, 0, 0, 7, 1);
const MMFR2: u16 = sysreg(3, 0, 0, 7, 2);
const AIDR: u16 = sysreg(3, 1, 0, 0, 7);
const CTR: u16 = sysreg(3, 3, 0, 0, 1);
const DCZID: u16 = sysreg(3, 3, 0, 0, 7);

/// The fields of the ID registers that a guest is shown. All others read as 0.
#[rustfmt::skip]
const FIELDS: &[Field] = &[
    // AArch32 is shown at EL0, and not at EL1.
    field(PFR0, "ID_AA64PFR0_EL1.EL0", 0, Most::Unsigned(2), Need::AtLeast),
    field(PFR0, "ID_AA64PFR0_EL1.EL1", 4, Most::Unsigned(1), Need::AtLeast),
    field(PFR0, "ID_AA64PFR0_EL1.FP", 16, Most::Signed(0), Need::AtLeast),
    field(PFR0, "ID_AA64PFR0_EL1.AdvSIMD", 20, Most::Signed(0), Need::AtLeast),
    // These fields say whether speculation is safe on this board, or the guest has to defend
    // itself. A guest that goes on elsewhere keeps what it was told.
    field(PFR0, "ID_AA64PFR0_EL1.CSV2", 56, Most::Unsigned(1), Need::Nothing),
    field(PFR0, "ID_AA64PFR0_EL1.CSV3", 60, Most::Unsigned(1), Need::Nothing),
    field(DFR0, "ID_AA64DFR0_EL1.DebugVer", 0, Most::Unsigned(6), Need::AtLeast),
    // The last CTX_CMPs + 1 breakpoints know contexts, so the number of breakpoints must be the
    // same.
    field(DFR0, "ID_AA64DFR0_EL1.BRPs", 12, Most::Unsigned(15), Need::Same),
    field(DFR0, "ID_AA64DFR0_EL1.WRPs", 20, Most::Unsigned(15), Need::AtLeast),
    field(DFR0, "ID_AA64DFR0_EL1.CTX_CMPs", 28, Most::Unsigned(15), Need::Same),
    field(ISAR0, "ID_AA64ISAR0_EL1.AES", 4, Most::Unsigned(2), Need::AtLeast),
    field(ISAR0, "ID_AA64ISAR0_EL1.SHA1", 8, Most::Unsigned(1), Need::AtLeast),
    field(ISAR0, "ID_AA64ISAR0_EL1.SHA2", 12, Most::Unsigned(1), Need::AtLeast),
    field(ISAR0, "ID_AA64ISAR0_EL1.CRC32", 16, Most::Unsigned(1), Need::AtLeast),
    // At most 40 bits, as many as a Cortex-A53 has.
    field(MMFR0, "ID_AA64MMFR0_EL1.PARange", 0, Most::Unsigned(2), Need::AtLeast),
    field(MMFR0, "ID_AA64MMFR0_EL1.ASIDBits", 4, Most::Unsigned(2), Need::AtLeast),
    field(MMFR0, "ID_AA64MMFR0_EL1.BigEnd", 8, Most::Unsigned(1), Need::AtLeast),
    field(MMFR0, "ID_AA64MMFR0_EL1.SNSMem", 12, Most::Unsigned(1), Need::Nothing),
    // A new guest is shown it only if its kernel asks for it: [`made`].
    field(MMFR0, "ID_AA64MMFR0_EL1.TGran16", granule::TGRAN16, Most::Unsigned(1), Need::AtLeast),
    field(MMFR0, "ID_AA64MMFR0_EL1.TGran64", granule::TGRAN64, Most::Signed(0), Need::AtLeast),
    field(MMFR0, "ID_AA64MMFR0_EL1.TGran4", granule::TGRAN4, Most::Signed(0), Need::AtLeast),
    // CCIDX is the layout of CCSIDR_EL1, which does not trap.
    field(MMFR2, "ID_AA64MMFR2_EL1.CCIDX", 20, Most::Unsigned(1), Need::Same),
];

/// A field of CTR_EL0 or DCZID_EL0 (D24.2.34, D24.2.35).
struct CacheField {
    name: &'static str,
    shift: u32,
    bits: u32,
}

impl CacheField {
    const fn new(name: &'static str, shift: u32, bits: u32) -> Self {
        Self { name, shift, bits }
    }

    fn value(&self, register: u64) -> u8 {
        (register >> self.shift & ((1 << self.bits) - 1)) as u8
    }

    fn with(&self, register: u64, value: u8) -> u64 {
        let mask = ((1 << self.bits) - 1) << self.shift;
        register & !mask | u64::from(value) << self.shift & mask
    }

    fn require(&self, met: fn(u8, u8) -> bool, saved: u64, host: u64) -> Result<(), IdentityError> {
        let (found, available) = (self.value(saved), self.value(host));
        match met(found, available) {
            true => Ok(()),
            false => Err(IdentityError::Missing { field: self.name, found, available }),
        }
    }
}

const INSTRUCTION_LINE: CacheField = CacheField::new("CTR_EL0.IminLine", 0, 4);
const INSTRUCTION_POLICY: CacheField = CacheField::new("CTR_EL0.L1Ip", 14, 2);
const DATA_LINE: CacheField = CacheField::new("CTR_EL0.DminLine", 16, 4);
/// IDC and DIC: the caches need no cleaning, or no invalidation, for instructions that are written
/// as data.
const DATA_COHERENT: CacheField = CacheField::new("CTR_EL0.IDC", 28, 1);
const INSTRUCTION_COHERENT: CacheField = CacheField::new("CTR_EL0.DIC", 29, 1);
/// Line of MTE's tags.
const TAG_LINE: CacheField = CacheField::new("CTR_EL0.TminLine", 32, 6);
const ZERO_BLOCK: CacheField = CacheField::new("DCZID_EL0.BS", 0, 4);
const ZERO_PROHIBITED: CacheField = CacheField::new("DCZID_EL0.DZP", 4, 1);

/// Value of CTR_EL0.L1Ip: indexed by virtual addresses, with physical tags.
const VIPT: u8 = 0b10;
/// Value of CTR_EL0.L1Ip: indexed by physical addresses, with physical tags, which needs less
/// maintenance.
const PIPT: u8 = 0b11;
/// Lines of 64 bytes, as the binary logarithm of their number of words.
const LINE_OF_64: u8 = 4;

/// Returns the CTR_EL0 that a guest is shown on a CPU with the CTR_EL0 `raw`. The maintenance that
/// it demands is enough on every board: a smaller line, and more maintenance than is needed, do no
/// harm.
fn shown_ctr(raw: u64) -> u64 {
    let smallest = |field: &CacheField| field.value(raw).min(LINE_OF_64);
    let policy = match INSTRUCTION_POLICY.value(raw) {
        PIPT => VIPT,
        other => other,
    };
    let mut shown = INSTRUCTION_LINE.with(raw, smallest(&INSTRUCTION_LINE));
    shown = DATA_LINE.with(shown, smallest(&DATA_LINE));
    shown = INSTRUCTION_POLICY.with(shown, policy);
    [DATA_COHERENT, INSTRUCTION_COHERENT, TAG_LINE]
        .iter()
        .fold(shown, |shown, field| field.with(shown, 0))
}

/// Checks that a guest's maintenance of its caches, and its way to zero memory, are right on a host
/// whose registers are `raw`.
fn check_caches(saved: &Identity, raw: &Identity) -> Result<(), IdentityError> {
    let (ctr, host) = (*saved.ctr_el0, *raw.ctr_el0);
    for at_most in [INSTRUCTION_LINE, DATA_LINE, DATA_COHERENT, INSTRUCTION_COHERENT] {
        at_most.require(|found, available| found <= available, ctr, host)?;
    }
    let policy = |found, available| found == available || (found, available) == (VIPT, PIPT);
    INSTRUCTION_POLICY.require(policy, ctr, host)?;
    for same in [ZERO_BLOCK, ZERO_PROHIBITED] {
        same.require(|found, available| found == available, *saved.dczid_el0, *raw.dczid_el0)?;
    }
    Ok(())
}

/// The error of [`check`]: why a guest can't go on here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// The guest was shown something that this host's CPU does not have.
    #[error("the guest's {field} is {found}, and this machine's is {available}")]
    Missing {
        /// Name of the register and its field.
        field: &'static str,
        /// Value that the guest was shown.
        found: u8,
        /// Value that this host can show.
        available: u8,
    },
    /// The guest was shown something that no version of Stasis up to this one shows.
    #[error("the guest's {register} is {found:#x}: it has features that can't be given here")]
    Unsupported {
        /// Name of the register.
        register: &'static str,
        /// Value that the guest was shown.
        found: u64,
    },
    /// The guest was shown, by something else than Stasis, more than Stasis shows.
    #[error(
        "the guest's {register} is {found:#x}, of which Stasis shows {shown:#x}: it may use what it would not find"
    )]
    Beyond {
        /// Name of the register.
        register: &'static str,
        /// Value that the guest was shown.
        found: u64,
        /// Value that it would have been shown by Stasis.
        shown: u64,
    },
    /// The guest's vCPUs have another numbering.
    #[error("the guest's MPIDR_EL1 is {found:#x} where it should be {expected:#x}")]
    Affinity {
        /// MPIDR_EL1 that the guest was shown.
        found: u64,
        /// MPIDR_EL1 that the vCPU must have: [`psci::mpidr`].
        expected: u64,
    },
}

/// Returns all that vCPU `index` of a guest can be shown on a CPU whose registers are `raw`.
/// [`made`] returns what a new guest is shown.
pub fn present(raw: &Identity, index: usize) -> Identity {
    let mut shown = Identity::default();
    for field in FIELDS {
        let from = get(raw, field.register);
        if let (Some(from), Some(to)) = (from, value_mut(&mut shown, field.register)) {
            *to |= u64::from(field.limited(from)) << field.shift;
        }
    }
    *shown.midr_el1 = *raw.midr_el1;
    *shown.mpidr_el1 = psci::mpidr(index);
    *shown.revidr_el1 = *raw.revidr_el1;
    *shown.ctr_el0 = shown_ctr(*raw.ctr_el0);
    *shown.dczid_el0 = *raw.dczid_el0;
    shown
}

/// Checks that vCPU `index` of a guest that was shown `saved` can go on on a CPU whose registers
/// are `raw`. MIDR_EL1 may differ: the guest keeps its own.
///
/// # Errors
///
/// [`IdentityError`] with the first field or register that does not fit.
pub fn check(saved: &Identity, raw: &Identity, index: usize) -> Result<(), IdentityError> {
    if *saved.mpidr_el1 != psci::mpidr(index) {
        return Err(IdentityError::Affinity {
            found: *saved.mpidr_el1,
            expected: psci::mpidr(index),
        });
    }
    let shown = present(raw, index);
    for field in FIELDS {
        let (Some(saved), Some(host)) = (get(saved, field.register), get(&shown, field.register))
        else {
            continue;
        };
        if !field.is_met(saved, host) {
            return Err(IdentityError::Missing {
                field: field.name,
                found: field.value(saved),
                available: field.value(host),
            });
        }
    }
    check_caches(saved, raw)?;
    for (register, name) in LIMITED {
        let found = get(saved, register).unwrap_or(0);
        if found & !shown_bits(register) != 0 {
            return Err(IdentityError::Unsupported { register: name, found });
        }
    }
    Ok(())
}

/// Fields that a guest does not miss if it was shown more of them than Stasis shows: AArch32 at
/// EL1, and EL2 and EL3, which KVM shows to guests that are in neither; addresses of more than 40
/// bits, newer debug registers, what speculation does; and performance counters, of whose registers
/// one sees whether it uses them.
const UNMISSED: [(u16, u32); 9] = [
    (PFR0, 4),
    (PFR0, 8),
    (PFR0, 12),
    (PFR0, 56),
    (PFR0, 60),
    (DFR0, 0),
    (DFR0, 8),
    (MMFR0, 0),
    (MMFR0, 12),
];

/// Checks that a guest that has run without Stasis, on a CPU whose registers were `raw`, was shown
/// nothing that it would miss under Stasis.
///
/// # Errors
///
/// [`IdentityError::Beyond`] with the first register that says more than Stasis does.
pub fn check_origin(raw: &Identity) -> Result<(), IdentityError> {
    let shown = present(raw, 0);
    for (register, name) in LIMITED {
        let (Some(found), Some(shown)) = (get(raw, register), get(&shown, register)) else {
            continue;
        };
        let unmissed = UNMISSED.iter().filter(|(of, _)| *of == register);
        let unmissed = unmissed.fold(0, |bits, (_, shift)| bits | 0xf << shift);
        if (found ^ shown) & !unmissed != 0 {
            return Err(IdentityError::Beyond { register: name, found, shown });
        }
    }
    Ok(())
}

/// The registers of which only [`FIELDS`] are shown, with their names.
const LIMITED: [(u16, &str); 8] = [
    (PFR0, "ID_AA64PFR0_EL1"),
    (PFR1, "ID_AA64PFR1_EL1"),
    (DFR0, "ID_AA64DFR0_EL1"),
    (ISAR0, "ID_AA64ISAR0_EL1"),
    (ISAR1, "ID_AA64ISAR1_EL1"),
    (MMFR0, "ID_AA64MMFR0_EL1"),
    (MMFR1, "ID_AA64MMFR1_EL1"),
    (MMFR2, "ID_AA64MMFR2_EL1"),
];

fn shown_bits(register: u16) -> u64 {
    let fields = FIELDS.iter().filter(|field| field.register == register);
    fields.fold(0, |bits, field| bits | 0xf << field.shift)
}

/// Returns the ID register with this encoding, as the guest reads it. None if there is none.
/// Encodings that the architecture reserves among the ID registers read as 0 (D22.3.1).
#[inline]
pub fn read(identity: &Identity, encoding: u16) -> Option<u64> {
    if let Some(value) = get(identity, encoding) {
        return Some(value);
    }
    let (crm, op2) = (encoding >> 3 & 0xf, encoding & 7);
    match encoding {
        AIDR => Some(0),
        _ if encoding & !0x7f != MIDR => None,
        _ => match crm {
            1..=3 => Some(aarch32::read(identity, crm, op2)),
            4..=7 => Some(0),
            _ => None,
        },
    }
}

impl Field {
    fn value(&self, register: u64) -> u8 {
        (register >> self.shift) as u8 & 0xf
    }

    /// Returns the field's value in the host's `register`, or the highest that is shown if that is
    /// lower.
    fn limited(&self, register: u64) -> u8 {
        let value = self.value(register);
        match self.most {
            Most::Unsigned(most) => value.min(most),
            Most::Signed(most) => signed(value).min(most) as u8 & 0xf,
        }
    }

    fn is_met(&self, saved: u64, host: u64) -> bool {
        let (saved, host) = (self.value(saved), self.value(host));
        match (self.need, self.most) {
            (Need::Nothing, _) => true,
            (Need::Same, _) => saved == host,
            (Need::AtLeast, Most::Unsigned(_)) => saved <= host,
            (Need::AtLeast, Most::Signed(_)) => signed(saved) <= signed(host),
        }
    }
}

/// Returns a four-bit value as a signed number.
fn signed(value: u8) -> i8 {
    ((value << 4) as i8) >> 4
}

/// Evaluates to the register of an encoding in an [`Identity`], by value or by exclusive reference.
macro_rules! by_encoding {
    ($identity:ident, $encoding:ident, $($reference:tt)+) => {
        Some(match $encoding {
            MIDR => $($reference)+ $identity.midr_el1,
            MPIDR => $($reference)+ $identity.mpidr_el1,
            REVIDR => $($reference)+ $identity.revidr_el1,
            CTR => $($reference)+ $identity.ctr_el0,
            DCZID => $($reference)+ $identity.dczid_el0,
            PFR0 => $($reference)+ $identity.id_aa64pfr0_el1,
            PFR1 => $($reference)+ $identity.id_aa64pfr1_el1,
            DFR0 => $($reference)+ $identity.id_aa64dfr0_el1,
            ISAR0 => $($reference)+ $identity.id_aa64isar0_el1,
            ISAR1 => $($reference)+ $identity.id_aa64isar1_el1,
            MMFR0 => $($reference)+ $identity.id_aa64mmfr0_el1,
            MMFR1 => $($reference)+ $identity.id_aa64mmfr1_el1,
            MMFR2 => $($reference)+ $identity.id_aa64mmfr2_el1,
            _ => return None,
        })
    };
}

/// Returns the ID register with this encoding, if it is one of those that are stored.
#[inline]
pub(super) fn get(identity: &Identity, encoding: u16) -> Option<u64> {
    by_encoding!(identity, encoding, *)
}

fn value_mut(identity: &mut Identity, encoding: u16) -> Option<&mut u64> {
    by_encoding!(identity, encoding, &mut)
}

#[cfg(test)]
mod tests;
