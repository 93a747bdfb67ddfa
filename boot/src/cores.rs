//! The interrupts that a core takes.

use crate::{console, devices, gic, turns};
use stasis_arch::timer;

/// Takes every interrupt that is pending on this core. `guests` is asked to take one that may be
/// linked to the guest that is loaded.
pub fn take_interrupts(mut guests: impl FnMut(u16) -> bool) -> Taken {
    let mut taken = Taken::default();
    while let Some(interrupt) = gic::take() {
        match interrupt.intid() {
            // What it is asked to do is looked for after every exit.
            gic::KICK => {}
            gic::EL2_TIMER => {
                timer::set_deadline(None);
                turns::timer_fired();
                taken.timer = true;
            }
            intid if guests(intid as u16) || devices::take_interrupt(intid) => continue,
            gic::VIRTUAL_TIMER => {}
            _ if gic::is_maintenance(interrupt) => {
                taken.maintenance = Some(interrupt);
                continue;
            }
            intid if console::take_interrupt(intid) => {}
            intid => {
                log::warn!("interrupt {intid} was not expected, and is disabled");
                gic::disable(intid);
            }
        }
        gic::end(interrupt);
    }
    taken
}

/// What [`take_interrupts`] leaves to its caller.
#[derive(Default)]
pub struct Taken {
    /// EL2's timer has fired: a deadline of the guest's is over.
    pub timer: bool,
    /// The maintenance interrupt, to be ended when its cause is gone.
    pub maintenance: Option<stasis_hw::gic::Acknowledged>,
}
