//! What the secondary cores find when they are let in: their translation, and their numbers.
//!
//! [`prepare_secondaries`] leaves both in memory. Each core then comes to `stasis_secondary_entry`
//! in [`super`]'s assembly, with its MMU off.

use super::MAX_CORES;
use crate::cache;
use core::cell::UnsafeCell;
use core::mem::offset_of;

/// Values that a secondary core reads while its MMU is still off.
#[repr(C, align(64))]
pub(super) struct SecondaryBoot {
    ttbr0: UnsafeCell<u64>,
    tcr: UnsafeCell<u64>,
    /// MPIDR_EL1 of each core, by number. A core whose own is not in the list does not join.
    mpidrs: UnsafeCell<[u64; MAX_CORES]>,
}

const _: () = assert!(offset_of!(SecondaryBoot, mpidrs) == 16);
/// Value that is no core's MPIDR_EL1.
const NO_CORE: u64 = u64::MAX;

// SAFETY: `prepare_secondaries` alone writes the cells, before another core runs. After that they
// are only read.
unsafe impl Sync for SecondaryBoot {}

pub(super) static SECONDARY_BOOT: SecondaryBoot = SecondaryBoot {
    ttbr0: UnsafeCell::new(0),
    tcr: UnsafeCell::new(0),
    mpidrs: UnsafeCell::new([NO_CORE; MAX_CORES]),
};

/// Writes what secondary cores need to join, and returns the physical address at which PSCI CPU_ON,
/// or a spin table, lets them in. `mpidrs` are the cores' MPIDR_EL1, from core 1 on: a spin table
/// passes nothing on that would tell a core its number. Each core then arrives in the boot crate's
/// `stasis_secondary`, with the tables of this core.
///
/// # Safety
///
/// 1. The final tables are installed. 2. No secondary core runs yet.
pub unsafe fn prepare_secondaries(mpidrs: impl Iterator<Item = u64>) -> u64 {
    let (ttbr0, tcr) = (mrs!("ttbr0_el2"), mrs!("tcr_el2"));
    let mut numbered = [NO_CORE; MAX_CORES];
    numbered.iter_mut().skip(1).zip(mpidrs).for_each(|(place, mpidr)| *place = mpidr);
    // SAFETY: no other core runs, by condition 2, so nothing else accesses these cells.
    unsafe {
        *SECONDARY_BOOT.ttbr0.get() = ttbr0;
        *SECONDARY_BOOT.tcr.get() = tcr;
        *SECONDARY_BOOT.mpidrs.get() = numbered;
    }
    cache::clean_to_poc(
        (&raw const SECONDARY_BOOT).cast::<u8>() as usize,
        size_of::<SecondaryBoot>(),
    );
    unsafe extern "C" {
        safe fn stasis_secondary_entry() -> !;
    }
    stasis_secondary_entry as *const () as u64
}
