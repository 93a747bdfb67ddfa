//! The first look at an exit, before all registers of the vCPU are saved: [`AtExit`].
//!
//! [`without_lock`](super::without_lock) answers calls and reads of system registers,
//! [`at_once`](super::at_once) accesses to the distributor and the UART, and
//! [`again`](super::again) interrupts. What they don't answer is left to [`super::run`], and
//! nothing was done then.

use super::host::RunningOn;
use super::lock::Unlocked;
use crate::gic::ThisCore;
use core::mem::offset_of;
use stasis_arch::cpu;
use stasis_arch::world::{self, Class, FirstLook, Loaded, Looked};
use stasis_guest::exit::{self, SystemAccess};
use stasis_guest::{Guest, Vcpu};
use stasis_vgic::VcpuMask;

/// A loaded vCPU at an exit, as far as it is saved.
pub(super) type Glimpse<'a> = world::Glimpse<'a, Vcpu>;

/// A vCPU's turn from an entry into its guest to the exit for which it leaves: the turn's state,
/// without the lock of what the vCPUs share.
#[repr(transparent)]
pub(super) struct AtExit<'a> {
    pub host: RunningOn<'a>,
    /// The turn's proof that it does not have the lock.
    pub unlocked: Unlocked,
}

impl<'a> AtExit<'a> {
    /// Returns a turn from an entry on, until the result is dropped.
    #[inline(always)]
    pub fn of<'t>(host: &'t mut RunningOn<'a>, _: &'t mut Unlocked) -> &'t mut Self {
        const { assert!(size_of::<Unlocked>() == 0, "the proof takes no room") };
        // SAFETY: 1. The type is transparent, and so is laid out as the turn's state: the proof
        // takes no room. 2. The turn's only proof is borrowed as long as the result, which has it
        // meanwhile.
        unsafe { &mut *core::ptr::from_mut(host).cast() }
    }
}

/// Fills the list registers of vCPU `index`, which is loaded on this core, if anything about its
/// interrupts has changed, which is seldom so. Returns the vCPUs that must be kicked.
#[inline(always)]
pub(super) fn fill(guest: &mut Guest, index: usize, gic: &mut ThisCore) -> VcpuMask {
    match guest.vgic.cpus()[index].is_dirty() {
        true => fill_list_registers(guest, index, gic),
        false => VcpuMask::NONE,
    }
}

#[inline(never)]
fn fill_list_registers(guest: &mut Guest, index: usize, gic: &mut ThisCore) -> VcpuMask {
    guest.vgic.enter(index, gic).kick
}

// SAFETY: `CORE` is the offset of a vCPU's `Core` in it.
unsafe impl FirstLook for AtExit<'_> {
    type Vcpu = Vcpu;

    const CORE: usize = offset_of!(Vcpu, core);

    #[inline(always)]
    fn loaded(&mut self) -> &mut Loaded {
        &mut self.host.loaded
    }

    #[inline(always)]
    fn look(&mut self, class: Class, glimpse: Glimpse<'_>) -> Looked {
        match class {
            Class::Hvc | Class::Smc => self.call(glimpse, exit::immediate(cpu::syndrome()), class),
            _ => self.read(glimpse, SystemAccess::decode(cpu::syndrome())),
        }
    }

    #[inline(always)]
    fn look_at_abort(&mut self, glimpse: Glimpse<'_>) -> Looked {
        self.abort(glimpse)
    }

    #[inline(always)]
    fn look_at_interrupt(&mut self, glimpse: Glimpse<'_>) -> Looked {
        self.interrupt(glimpse)
    }
}
