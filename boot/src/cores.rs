//! The machine's cores: starting them, and what each does when it arrives.

use crate::firmware;
use crate::machine::Machine;
use core::sync::atomic::{AtomicU32, Ordering};
use stasis_arch::{boot, cpu, timer};

/// Cores that have arrived, one bit each.
static PRESENT: AtomicU32 = AtomicU32::new(0);

/// How long a core may take to arrive, in milliseconds.
const PATIENCE_MS: u64 = 1000;

/// How many cores have arrived.
pub fn count() -> usize {
    PRESENT.load(Ordering::Acquire).count_ones() as usize
}

/// Starts every core but this one.
pub fn start_others(machine: &Machine) {
    PRESENT.fetch_or(1, Ordering::Release);
    // SAFETY: the final tables are installed, and only this core runs.
    let entry = unsafe { boot::prepare_secondaries() };
    let others = machine.cores.iter().filter(|mpidr| **mpidr != cpu::mpidr());
    for (number, &mpidr) in (1..boot::MAX_CORES).zip(others) {
        match firmware::cpu_on(mpidr, entry, number as u64) {
            Ok(()) if arrives(number) => {}
            Ok(()) => log::warn!("core {number} (MPIDR {mpidr:#x}) was started but did not arrive"),
            Err(error) => log::warn!("core {number} (MPIDR {mpidr:#x}) was not started: {error}"),
        }
    }
}

fn arrives(number: usize) -> bool {
    let deadline = timer::counter() + timer::frequency() * PATIENCE_MS / 1000;
    while PRESENT.load(Ordering::Acquire) & 1 << number == 0 {
        if timer::counter() > deadline {
            return false;
        }
        core::hint::spin_loop();
    }
    true
}

/// The other cores arrive here, under the final translation.
#[unsafe(no_mangle)]
extern "C" fn stasis_secondary(number: usize) -> ! {
    PRESENT.fetch_or(1 << number, Ordering::Release);
    loop {
        cpu::wait_for_interrupt();
    }
}
