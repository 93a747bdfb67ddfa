//! What can be written to each register of the tables without harm to the guest that writes it.

use core::fmt;
use stasis_guests::{mrs, random::Random};
use stasis_state::register::Descriptor;

/// A register's encoding: op0, op1, CRn, CRm, op2.
type Encoding = (u32, u32, u32, u32, u32);

/// A register that is tried.
#[derive(Clone, Copy)]
pub struct Tried {
    name: &'static str,
    /// Which of an array, else 0.
    index: u32,
    /// The encoding that MRS reads.
    pub read: Encoding,
    /// The encoding that MSR writes.
    pub write: Encoding,
    /// Bits that get a value of the vCPU's own.
    free: u64,
    /// Bits that are 1.
    ones: u64,
    /// Bits that count.
    significant: u64,
}

/// Returns how a register of the tables is tried: for an array, each element that the CPU has; for
/// one that EL1 can't reach, nothing.
pub fn tried(register: &'static Descriptor) -> impl Iterator<Item = Tried> {
    let encoding = decode(register.id);
    // EL2's, but for SP_EL1, which is this program's own stack: `general` has it.
    let elements = if encoding.1 == 4 { 0 } else { elements(register) };
    (0..elements).map(move |index| {
        let (op0, op1, crn, crm, op2) = encoding;
        let at = (op0, op1, crn, crm + index, op2);
        let (free, ones, significant) = bits(register.name);
        let (read, write) = match register.name {
            "os_lock" => (at, OSLAR_EL1),
            _ => (at, at),
        };
        Tried { name: register.name, index, read, write, free, ones, significant }
    })
}

/// Returns a word without a pattern, another one for each `seed`.
pub fn word(seed: u64) -> u64 {
    // An odd multiplier spreads seeds that are close to each other, of which the generator makes
    // little.
    Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1).next()
}

const OSLAR_EL1: Encoding = (2, 0, 1, 0, 4);

fn decode(id: u16) -> Encoding {
    let id = u32::from(id);
    (id >> 14, id >> 11 & 7, id >> 7 & 15, id >> 3 & 15, id & 7)
}

/// Returns how many registers of an array the CPU has: ID_AA64DFR0_EL1.BRPs and WRPs are one less.
fn elements(register: &Descriptor) -> u32 {
    let dfr0 = mrs!("ID_AA64DFR0_EL1");
    match register.name {
        "dbgbvr" | "dbgbcr" => (dfr0 >> 12 & 15) as u32 + 1,
        "dbgwvr" | "dbgwcr" => (dfr0 >> 20 & 15) as u32 + 1,
        _ => u32::from(register.shape.count),
    }
}

/// Returns the bits of a register that are free, those that are 1, and those that count.
fn bits(name: &str) -> (u64, u64, u64) {
    const ALL: u64 = u64::MAX;
    match name {
        // Which of EL0's instructions trap; there is no EL0 here.
        "sctlr_el1" => (1 << 14 | 1 << 15 | 1 << 16 | 1 << 18 | 1 << 26, 0, ALL),
        // T1SZ, IRGN1, ORGN1, SH1, of walks that are disabled.
        "tcr_el1" => (0x3f3f << 16, 0, ALL),
        // The ASID; all of this program's memory is global.
        "ttbr0_el1" => (0xff << 48, 0, ALL),
        // Attributes 2 to 7, which nothing has.
        "mair_el1" => (!0xffff, 0, ALL),
        // FPEN: whether EL0's FP traps.
        "cpacr_el1" => (1 << 21, 1 << 20, ALL),
        "cntkctl_el1" => (0x3ff, 0, ALL),
        // Enabled or not, masked; ISTATUS is not the writer's.
        "cntv_ctl_el0" | "cntp_ctl_el0" => (1, 1 << 1, 0b11),
        // In a far future.
        "cntv_cval_el0" | "cntp_cval_el0" => (ALL >> 1, 1 << 62, ALL),
        // TDCC, KDE and MDE: they enable what no breakpoint below is enabled for.
        "mdscr_el1" => (1 << 12 | 1 << 13 | 1 << 15, 0, ALL),
        "mdccint_el1" => (0b11 << 29, 0, ALL),
        "os_lock" => (1, 0, 1),
        // E: not enabled.
        "dbgbcr" | "dbgwcr" => (!1, 0, ALL),
        _ => (ALL, 0, ALL),
    }
}

impl Tried {
    /// Returns the value for the vCPU `cpu` in this round, where the register has `old`.
    pub fn value(&self, old: u64, cpu: usize, round: u64) -> u64 {
        let (op0, op1, crn, crm, op2) = self.read;
        let encoding = op0 << 16 | op1 << 12 | crn << 8 | crm << 4 | op2;
        // The lowest bit is the vCPU's number: so the two differ at all times, however few bits
        // there are. The OS lock has all four combinations within eight rounds, for EL2 lends the
        // debug registers to a vCPU whose OS lock is unlocked.
        let lowest = self.free & self.free.wrapping_neg();
        let number = match self.name {
            "os_lock" => !(round >> (1 + cpu)) & 1,
            _ => [0, lowest][cpu],
        };
        let own = word(u64::from(encoding) << 32 | round << 1 | cpu as u64) & !lowest | number;
        old & !self.free | own & self.free | self.ones
    }

    /// Returns what counts of a value.
    pub fn significant(&self, value: u64) -> u64 {
        value & self.significant
    }

    /// Returns what was read as it is written: the OS lock stands in bit 1 of OSLSR_EL1, and in bit
    /// 0 of OSLAR_EL1.
    pub fn of_read(&self, value: u64) -> u64 {
        if self.name == "os_lock" { value >> 1 & 1 } else { value }
    }
}

impl fmt::Display for Tried {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name {
            "dbgbvr" | "dbgbcr" | "dbgwvr" | "dbgwcr" => {
                write!(f, "{}{}_el1", self.name, self.index)
            }
            name => f.write_str(name),
        }
    }
}
