//! Starts cores and switches the machine off, through the firmware or the board: by PSCI (DEN
//! 0022), or on a Raspberry Pi 4 without PSCI by a spin table and a watchdog.

use crate::machine::Machine;
use smccc::psci;
use smccc::{Hvc, Smc};
use spin::Once;
use stasis_arch::{cache, cpu, timer};
use stasis_host::board::{Conduit, Core, Start};
use stasis_hw::mmio::Frame;
use stasis_hw::watchdog::Watchdog;

/// Why the firmware has not done what it was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("the device tree tells no way to start it")]
    NoWayToStart,
    #[error("{0}")]
    Psci(psci::Error),
    #[error("this machine has neither PSCI nor a watchdog that would switch it off")]
    NoWayOff,
    #[error("the machine did not go off")]
    StillOn,
}

static CONDUIT: Once<Option<Conduit>> = Once::new();
static WATCHDOG: Once<Option<Watchdog>> = Once::new();

/// Notes which ways to the firmware the machine has.
pub fn init(machine: &Machine) {
    CONDUIT.call_once(|| machine.psci);
    WATCHDOG.call_once(|| {
        let device = machine.watchdog?;
        // SAFETY: 1. `Machine` is proof that the frame is the watchdog's, and that it is mapped as
        // a device for ever. 2. Only this driver uses it, and a watchdog changes no memory.
        let frame = unsafe { Frame::new(device.frame.start as usize) };
        Some(Watchdog::new(frame))
    });
}

/// Starts `core` at `entry`, a physical address.
///
/// # Errors
///
/// Why the firmware has not started it.
///
/// # Safety
///
/// 1. `entry` is that of code which lets the core in, with its MMU off.
/// 2. `core` is of a [`Machine`].
pub unsafe fn start_core(core: &Core, entry: u64) -> Result<(), Error> {
    match (core.start, CONDUIT.get().copied().flatten()) {
        (Start::SpinTable(release), _) => {
            // SAFETY: 1. The device tree says that the core reads its entry from this address, by
            // condition 2. 2. `Machine::mappable_ram` has that memory, so it is mapped, and
            // `Machine::free_ram` gives it to nobody. 3. The core begins at code that lets it in,
            // by condition 1.
            unsafe { (release as *mut u64).write_volatile(entry) };
            cache::clean_and_invalidate_to_poc(release as usize, size_of::<u64>());
            cpu::send_event();
            Ok(())
        }
        (_, Some(Conduit::Hvc)) => psci::cpu_on::<Hvc>(core.mpidr, entry, 0).map_err(Error::Psci),
        (_, Some(Conduit::Smc)) => psci::cpu_on::<Smc>(core.mpidr, entry, 0).map_err(Error::Psci),
        (_, None) => Err(Error::NoWayToStart),
    }
}

/// Switches the machine off. Returns only if that has failed, and then why.
pub fn system_off() -> Error {
    /// Milliseconds that a watchdog may take to reset the machine.
    const PATIENCE_MS: u64 = 500;
    let refused = match CONDUIT.get().copied().flatten() {
        None => Error::NoWayOff,
        Some(Conduit::Hvc) => {
            psci::system_off::<Hvc>().map_or_else(Error::Psci, |()| Error::StillOn)
        }
        Some(Conduit::Smc) => {
            psci::system_off::<Smc>().map_or_else(Error::Psci, |()| Error::StillOn)
        }
    };
    let Some(watchdog) = WATCHDOG.get().copied().flatten() else { return refused };
    watchdog.power_off();
    timer::wait(timer::frequency() * PATIENCE_MS / 1000);
    Error::StillOn
}
