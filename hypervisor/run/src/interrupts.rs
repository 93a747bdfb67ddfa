//! The interrupts that a core takes.

use crate::gic::{self, ThisCore};
use crate::roster::Roster;
use crate::{device_interrupts, turns};
use core::sync::atomic::{AtomicU32, Ordering};
use stasis_arch::{cpu, timer};
use stasis_hw::gic::Acknowledged;

/// The interrupt of the console's UART; none before [`open_console`].
static CONSOLE: AtomicU32 = AtomicU32::new(u32::MAX);

/// What [`take`] has found.
pub enum Taken {
    /// None, or the one that has this core look at what it is asked to do, as it does after every exit. It is ended.
    Own,
    /// EL2's timer has fired, and is off: a deadline of the guest's is over, or a turn. It is ended.
    Timer,
    /// Another one, whose priority was dropped, is active.
    Other(Acknowledged),
}

/// Takes the interrupt that is pending on this core. Of several the most urgent one: the others end the guest's next stay at once, or
/// the next WFI.
#[inline]
pub fn take(roster: &Roster, this_core: &ThisCore) -> Taken {
    let Some(interrupt) = this_core.take() else { return Taken::Own };
    match interrupt.intid() {
        gic::KICK => {
            // What the sender has written is read after its interrupt, which comes no second time.
            cpu::dmb_reads();
            this_core.end(interrupt);
            Taken::Own
        }
        gic::EL2_TIMER => {
            timer::stop_deadline();
            roster.timer_fired();
            this_core.end(interrupt);
            Taken::Timer
        }
        _ => Taken::Other(interrupt),
    }
}

/// Sees to an interrupt that is not for the guest that is loaded, if any is.
pub fn pass(this_core: &ThisCore, interrupt: Acknowledged) {
    match interrupt.intid() {
        // Its owner ends it.
        intid if device_interrupts::take(intid) => return,
        // Of a vCPU that is not loaded any more, or a cause that is gone.
        gic::VIRTUAL_TIMER => {}
        _ if this_core.is_maintenance(interrupt) => {}
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

/// Says what the interrupt of the console's UART is, and lets it come.
pub fn open_console(intid: u32) {
    CONSOLE.store(intid, Ordering::Relaxed);
    listen_to_console();
}

/// Lets the interrupt of the console's UART come, to this core: then there is something for the console.
pub fn listen_to_console() {
    gic::route_here(CONSOLE.load(Ordering::Relaxed));
}
