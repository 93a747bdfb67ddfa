//! Starts the machine's cores, and tells which of them there are.

use crate::firmware;
use crate::machine::Machine;
use core::sync::atomic::{AtomicU32, Ordering};
use stasis_arch::boot::MAX_CORES;
use stasis_arch::cpu::{self, Ready};
use stasis_arch::{boot, timer};
use stasis_run::{gic, turns};

/// Cores that have arrived, one bit for each. A core sets its bit when it is set up.
static PRESENT: AtomicU32 = AtomicU32::new(0);

/// Milliseconds that a core may take to arrive.
const PATIENCE_MS: u64 = 1000;

/// Returns whether the core of this number has arrived.
pub fn is_present(core: usize) -> bool {
    core < MAX_CORES && PRESENT.load(Ordering::Acquire) & 1 << core != 0
}

/// Returns the numbers of the cores that have arrived.
pub fn present() -> impl Iterator<Item = usize> {
    (0..MAX_CORES).filter(|core| is_present(*core))
}

/// Sets up the calling core, which is the first one, and starts all others.
///
/// # Safety
///
/// 1. The final tables are installed.
/// 2. No other core was started yet.
/// 3. No vCPU is loaded on this core, and EL2 has set no deadline.
pub unsafe fn start(machine: &Machine) -> Ready {
    // SAFETY: no vCPU is loaded and no deadline is set, by condition 3.
    let ready = unsafe { init_this_core(0) };
    let others = || machine.cores.iter().filter(|core| core.mpidr != cpu::mpidr());
    // SAFETY: 1. The final tables are installed, by condition 1. 2. No other core was started yet,
    // by condition 2.
    let entry = unsafe { boot::prepare_secondaries(others().map(|core| core.mpidr)) };
    for (number, core) in (1..MAX_CORES).zip(others()) {
        let mpidr = core.mpidr;
        // SAFETY: 1. `entry` is where `prepare_secondaries` lets cores in. 2. The core is one of
        // the machine's, of whose cores `Machine` is proof.
        match unsafe { firmware::start_core(core, entry) } {
            Ok(()) if arrives(number) => {}
            Ok(()) => log::warn!("core {number} (MPIDR {mpidr:#x}) was started but did not arrive"),
            Err(error) => log::warn!("core {number} (MPIDR {mpidr:#x}) was not started: {error}"),
        }
    }
    ready
}

fn arrives(number: usize) -> bool {
    let deadline = timer::counter() + timer::frequency() * PATIENCE_MS / 1000;
    while !is_present(number) {
        if timer::counter() > deadline {
            return false;
        }
        cpu::wait_for_core();
    }
    true
}

/// Sets up a secondary core, which then serves vCPUs for ever. The entry code jumps here, under the
/// final translation.
///
/// # Safety
///
/// The entry code alone calls this, once on each core but the first one, with the core's number.
#[unsafe(no_mangle)]
unsafe extern "C" fn stasis_secondary(number: usize) -> ! {
    // SAFETY: the core has just started, by the caller, so it has loaded no vCPU and has set no
    // deadline.
    turns::serve(unsafe { init_this_core(number) })
}

/// Sets up the calling core, whose number is `number`. Every core does this first.
///
/// # Safety
///
/// No vCPU is loaded on this core, and EL2 has set no deadline.
unsafe fn init_this_core(number: usize) -> Ready {
    // SAFETY: 1. No vCPU is loaded on this core, so it has activated no stage 2 for one, by the
    // caller. 2. EL2 has set no deadline, by the caller.
    let ready = unsafe { cpu::init() };
    gic::init_this_core();
    PRESENT.fetch_or(1 << number, Ordering::Release);
    ready
}
