//! All encodings of MRS and MSR that a system register can have, and those that `sweeper` and
//! `reader` leave out, each with why.

/// The parts of an encoding: op0, op1, CRn, CRm, op2.
pub type Encoding = (u32, u32, u32, u32, u32);

/// How many there are: op0 2 and 3.
pub const COUNT: usize = 1 << 15;

/// Returns all encodings, by number.
pub fn all() -> impl Iterator<Item = Encoding> {
    (0..COUNT as u32).map(|n| (2 + (n >> 14), n >> 11 & 7, n >> 7 & 15, n >> 3 & 15, n & 7))
}

const ITS_OWN_MEMORY: &str = "the sweeper itself could not go on: VCPU_SYSTEM has it";
const ITS_OWN_STATE: &str = "the sweeper itself could not go on: PSTATE is in VCPU_CORE";
const TIMER: &str = "an interrupt or an hour's wait, and its line in the GIC: VCPU_SYSTEM has it";

/// What is not written, for the guest that writes would not survive it.
#[rustfmt::skip]
pub const NOT_WRITTEN: &[(&str, Encoding, &str)] = &[
    ("SCTLR_EL1", (3, 0, 1, 0, 0), ITS_OWN_MEMORY),
    ("CPACR_EL1", (3, 0, 1, 0, 2), ITS_OWN_MEMORY),
    ("TTBR0_EL1", (3, 0, 2, 0, 0), ITS_OWN_MEMORY),
    ("TTBR1_EL1", (3, 0, 2, 0, 1), ITS_OWN_MEMORY),
    ("TCR_EL1", (3, 0, 2, 0, 2), ITS_OWN_MEMORY),
    ("MAIR_EL1", (3, 0, 10, 2, 0), ITS_OWN_MEMORY),
    ("VBAR_EL1", (3, 0, 12, 0, 0), ITS_OWN_MEMORY),
    ("SPSel", (3, 0, 4, 2, 0), ITS_OWN_STATE),
    ("DAIF", (3, 3, 4, 2, 1), ITS_OWN_STATE),
    ("CNTP_TVAL_EL0", (3, 3, 14, 2, 0), TIMER),
    ("CNTP_CTL_EL0", (3, 3, 14, 2, 1), TIMER),
    ("CNTP_CVAL_EL0", (3, 3, 14, 2, 2), TIMER),
    ("CNTV_TVAL_EL0", (3, 3, 14, 3, 0), TIMER),
    ("CNTV_CTL_EL0", (3, 3, 14, 3, 1), TIMER),
    ("CNTV_CVAL_EL0", (3, 3, 14, 3, 2), TIMER),
];

const TICKS: &str = "it counts";
const RANDOM: &str = "another number each time is what it is for";
const FLAGS: &str = "the reader's own instructions set it";

/// What is not compared, for it changes by itself.
#[rustfmt::skip]
pub const NOT_COMPARED: &[(&str, Encoding, &str)] = &[
    ("CNTPCT_EL0", (3, 3, 14, 0, 1), TICKS),
    ("CNTVCT_EL0", (3, 3, 14, 0, 2), TICKS),
    ("CNTPCTSS_EL0", (3, 3, 14, 0, 5), TICKS),
    ("CNTVCTSS_EL0", (3, 3, 14, 0, 6), TICKS),
    ("CNTP_TVAL_EL0", (3, 3, 14, 2, 0), TICKS),
    ("CNTV_TVAL_EL0", (3, 3, 14, 3, 0), TICKS),
    ("RNDR", (3, 3, 2, 4, 0), RANDOM),
    ("RNDRRS", (3, 3, 2, 4, 1), RANDOM),
    ("NZCV", (3, 3, 4, 2, 0), FLAGS),
];

/// Returns whether a table has an encoding.
pub fn has(table: &[(&str, Encoding, &str)], encoding: Encoding) -> bool {
    table.iter().any(|(_, listed, _)| *listed == encoding)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_are_different_and_those_left_out_are_among_them() {
        let mut numbers: Vec<Encoding> = all().collect();
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), COUNT);
        for (name, encoding, reason) in NOT_WRITTEN.iter().chain(NOT_COMPARED) {
            assert!(numbers.contains(encoding) && !reason.is_empty(), "{name}");
        }
    }
}
