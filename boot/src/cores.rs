//! The machine's cores: starting them, what each does for ever, and the interrupts that it takes.

use crate::machine::Machine;
use crate::slot::Slot;
use crate::{console, firmware, gic};
use alloc::sync::Arc;
use core::sync::atomic::{AtomicU32, Ordering};
use spin::mutex::SpinMutex;
use stasis_arch::boot::MAX_CORES;
use stasis_arch::{boot, cpu, timer};

/// Cores that have arrived, one bit each.
static PRESENT: AtomicU32 = AtomicU32::new(0);
/// A vCPU: its guest, and its index there.
#[derive(Clone)]
struct Pinned {
    slot: Arc<Slot>,
    index: usize,
}

/// The vCPU that is pinned to each core.
static PINNED: [SpinMutex<Option<Pinned>>; MAX_CORES] = [const { SpinMutex::new(None) }; MAX_CORES];

/// How long a core may take to arrive, in milliseconds.
const PATIENCE_MS: u64 = 1000;

/// Whether there is such a core.
pub fn is_present(core: usize) -> bool {
    core < MAX_CORES && PRESENT.load(Ordering::Acquire) & 1 << core != 0
}

/// The numbers of the cores that have arrived.
pub fn present() -> impl Iterator<Item = usize> {
    (0..MAX_CORES).filter(|core| is_present(*core))
}

/// Starts every core but this one.
pub fn start_others(machine: &Machine) {
    PRESENT.fetch_or(1, Ordering::Release);
    // SAFETY: the final tables are installed, and only this core runs.
    let entry = unsafe { boot::prepare_secondaries() };
    let others = machine.cores.iter().filter(|mpidr| **mpidr != cpu::mpidr());
    for (number, &mpidr) in (1..MAX_CORES).zip(others) {
        match firmware::cpu_on(mpidr, entry, number as u64) {
            Ok(()) if arrives(number) => {}
            Ok(()) => log::warn!("core {number} (MPIDR {mpidr:#x}) was started but did not arrive"),
            Err(error) => log::warn!("core {number} (MPIDR {mpidr:#x}) was not started: {error}"),
        }
    }
}

fn arrives(number: usize) -> bool {
    let deadline = timer::counter() + timer::frequency() * PATIENCE_MS / 1000;
    while !is_present(number) {
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
    init_this_core();
    PRESENT.fetch_or(1 << number, Ordering::Release);
    serve();
}

/// What every core does first.
pub fn init_this_core() {
    gic::init_this_core();
    cpu::init_traps();
}

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
