//! The interrupts that a core takes.

use crate::gic::{self, ThisCore};
use crate::{device_interrupts, turns};
use core::sync::atomic::{AtomicU32, Ordering};
use stasis_arch::timer;
use stasis_vm::clock::NEVER;

/// The interrupt of the console's UART; none before [`open_console`].
static CONSOLE: AtomicU32 = AtomicU32::new(u32::MAX);

/// Takes every interrupt that is pending on this core. `guests` is asked to take one that may be
/// linked to the guest that is loaded.
#[inline]
pub fn take_interrupts(this_core: &ThisCore, mut guests: impl FnMut(u16) -> bool) -> Taken {
    let mut taken = Taken::default();
    while let Some(interrupt) = this_core.take() {
        match interrupt.intid() {
            // What it is asked to do is looked for after every exit.
            gic::KICK => {}
            gic::EL2_TIMER => {
                timer::set_deadline(NEVER);
                turns::timer_fired();
                taken.timer = true;
            }
            intid if guests(intid as u16) || device_interrupts::take(intid) => continue,
            gic::VIRTUAL_TIMER => {}
            _ if this_core.is_maintenance(interrupt) => {
                taken.maintenance = Some(interrupt);
                continue;
            }
            // What was received is taken from the UART there: until then the interrupt is kept off.
            intid if intid == CONSOLE.load(Ordering::Relaxed) => {
                gic::disable(intid);
                turns::wake_console();
            }
            intid => {
                log::warn!("interrupt {intid} was not expected, and is disabled");
                gic::disable(intid);
            }
        }
        this_core.end(interrupt);
    }
    taken
}

/// Says what the interrupt of the console's UART is, and lets it come.
pub fn open_console(intid: u32) {
    CONSOLE.store(intid, Ordering::Relaxed);
    listen_to_console();
}

/// Lets the interrupt of the console's UART come, to this core: then there is something for the console.
pub fn listen_to_console() {
    gic::route_here(CONSOLE.load(Ordering::Relaxed));
}

/// What [`take_interrupts`] leaves to its caller.
#[derive(Default)]
pub struct Taken {
    /// EL2's timer has fired: a deadline of the guest's is over, or a turn.
    pub timer: bool,
    /// The maintenance interrupt, to be ended when its cause is gone.
    pub maintenance: Option<stasis_hw::gic::Acknowledged>,
}
