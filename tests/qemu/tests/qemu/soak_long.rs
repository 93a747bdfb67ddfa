//! The [soak] run at its full length, which takes half an hour on a host that does nothing else.
//! Run by name: `cargo xtask test soak_long`.

use anyhow::Result;
use stasis_qemu_tests::lab::Lab;

use crate::soak::{self, Time, cycles};

/// Cycles unless the environment says otherwise: in each, guests are stored while they run, or at a
/// known point, and resumed, Linux on demand.
const CYCLES: u32 = 1000;

pub fn a_thousand_checkpoints_and_resumes_and_their_clones_lose_nothing(lab: &Lab) -> Result<()> {
    soak::run(lab, Time::Instructions, cycles(CYCLES))
}
