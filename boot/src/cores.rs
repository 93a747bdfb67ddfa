//! The machine's cores: what each does for ever, and the interrupts that it takes.

use crate::slot::Slot;
use crate::{console, gic};
use alloc::sync::Arc;
use spin::mutex::SpinMutex;
use stasis_arch::boot::MAX_CORES;
use stasis_arch::{cpu, timer};

/// A vCPU: its guest, and its index there.
#[derive(Clone)]
struct Pinned {
    slot: Arc<Slot>,
    index: usize,
}

/// The vCPU that is pinned to each core.
static PINNED: [SpinMutex<Option<Pinned>>; MAX_CORES] = [const { SpinMutex::new(None) }; MAX_CORES];

/// Pins a guest's vCPUs to their cores.
pub fn assign(slot: &Arc<Slot>) {
    for (index, core) in slot.cores().enumerate() {
        *PINNED[core].lock() = Some(Pinned { slot: slot.clone(), index });
        gic::kick(core);
    }
}

/// The guest that has this core.
pub fn owner(core: usize) -> Option<Arc<Slot>> {
    PINNED[core].lock().as_ref().map(|pinned| pinned.slot.clone())
}

/// What every core does from then on: runs its vCPU, and the first core the console.
pub fn serve() -> ! {
    loop {
        take_interrupts(|_| false);
        if console::is_due() {
            console::serve();
        }
        let vcpu = PINNED[cpu::number()].lock().clone();
        if !vcpu.is_some_and(|vcpu| vcpu.slot.run(vcpu.index)) {
            cpu::wait_for_interrupt();
        }
    }
}

/// Takes every interrupt that is pending on this core. `guests` is asked to take one that may be
/// linked to the guest that is loaded.
pub fn take_interrupts(mut guests: impl FnMut(u16) -> bool) -> Taken {
    let mut taken = Taken::default();
    while let Some(interrupt) = gic::take() {
        match interrupt.intid() {
            // Among what a core may be asked to do is to take over a deadline.
            gic::KICK => taken.timer = true,
            gic::EL2_TIMER => {
                timer::set_deadline(None);
                taken.timer = true;
            }
            intid if guests(intid as u16) => continue,
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
    /// EL2's timer has fired: a deadline of the guest's is over, or there may be another one.
    pub timer: bool,
    /// The maintenance interrupt, to be ended when its cause is gone.
    pub maintenance: Option<stasis_hw::gic::Acknowledged>,
}
