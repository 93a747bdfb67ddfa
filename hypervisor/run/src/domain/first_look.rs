//! The first look at an exit, before all registers of the vCPU are saved: [`AtExit`].
//!
//! [`without_lock`](super::without_lock) answers calls and reads of system registers,
//! [`at_once`](super::at_once) accesses to the distributor and the UART, and
//! [`again`](super::again) interrupts. What they don't answer is left to [`super::run`], and
//! nothing was done then.

use super::host::RunningOn;
use super::lock::Unlocked;
use super::times::Times;
use super::{Domain, VcpuPlace};
use crate::gic::ThisCore;
use crate::interrupts::Taken;
use stasis_arch::cpu;
use stasis_arch::world::{Class, FirstLook, Glimpse, Loaded, Looked};
use stasis_guest::exit::{self, SystemAccess};
use stasis_guest::{DueTimer, Guest};
use stasis_state::vcpu::Identity;
use stasis_vgic::VcpuMask;

/// A loaded vCPU at an exit, as far as is needed before all of its registers are saved.
pub(super) struct AtExit<'a, 'turn> {
    pub domain: &'a Domain,
    pub place: &'a VcpuPlace,
    pub gic: ThisCore,
    pub times: &'turn mut Times,
    pub identity: &'turn Identity,
    pub timer: DueTimer<'turn>,
    /// CNTVOFF_EL2, in ticks.
    pub offset: u64,
    /// The turn's proof that it does not have the lock.
    pub unlocked: &'turn mut Unlocked,
    /// The interrupt for which the vCPU leaves, if it leaves for one.
    pub taken: Taken,
}

impl<'a, 'turn> AtExit<'a, 'turn> {
    /// Returns the part of a vCPU's turn on `host` that the first look needs, and the vCPU in the
    /// core's registers. `identity` and `timer` are the vCPU's.
    #[inline(always)]
    pub fn of(
        domain: &'a Domain,
        host: &'turn mut RunningOn<'a>,
        (identity, timer): (&'turn Identity, DueTimer<'turn>),
        unlocked: &'turn mut Unlocked,
    ) -> (&'turn mut Loaded, Self) {
        let (offset, place, gic) = (host.offset(), host.place, host.gic.clone());
        let RunningOn { loaded, times, .. } = host;
        let taken = Taken::Own;
        (loaded, Self { domain, place, gic, times, identity, timer, offset, unlocked, taken })
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

impl FirstLook for AtExit<'_, '_> {
    #[inline(always)]
    fn look(&mut self, class: Class, vcpu: Glimpse<'_>) -> Looked {
        match class {
            Class::Hvc | Class::Smc => self.call(vcpu, exit::immediate(cpu::syndrome()), class),
            _ => self.read(vcpu, SystemAccess::decode(cpu::syndrome())),
        }
    }

    #[inline(always)]
    fn look_at_abort(&mut self, vcpu: Glimpse<'_>) -> Looked {
        self.abort(vcpu)
    }

    #[inline(always)]
    fn look_at_interrupt(&mut self) -> Looked {
        self.interrupt()
    }
}
