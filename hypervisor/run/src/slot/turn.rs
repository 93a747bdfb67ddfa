//! A vCPU's turn on its core: loading it, running it, unloading it.

use super::host::RunningOn;
use super::{Resident, Slot, VcpuPlace, vmid};
use crate::roster::Turn;
use core::sync::atomic::Ordering;
use spin::mutex::SpinMutexGuard;
use stasis_arch::{cpu, mmu, timer, world};
use stasis_guest::Vcpu;
use stasis_guest::clock::NEVER;
use stasis_guest::stop::Stopped;
use stasis_host::run_state::RunState;

/// What comes after a vCPU's turn.
pub enum After {
    /// This one, as is decided already.
    Turn(Turn),
    /// Whatever the core decides.
    Anything,
    /// Its guest has stopped.
    Stopped(Stopped),
}

/// Why a vCPU leaves its core.
pub(super) enum Leaves {
    /// This is whose turn it is.
    ForOthers(Turn),
    /// Nobody may run it.
    Unwanted,
    /// It waits, and nobody may run it.
    Asleep,
    /// It is off.
    VcpuOff,
    /// The guest has stopped.
    Stopped(Stopped),
}

impl Slot {
    /// Whether no vCPU is to be entered.
    pub(super) fn must_leave(&self) -> bool {
        self.gate.is_closed()
    }

    /// Runs vCPU `index` on this core until its turn is over: at `until`, or when somebody wants the guest, it waits for
    /// something, or stops. If it can't run, it sleeps until it is kicked.
    #[inline(always)]
    pub fn run(&self, index: usize, until: u64) -> After {
        let place = &self.vcpus[index];
        let leaves = match place.vcpu.try_lock() {
            Some(mut vcpu) if !self.must_leave() => {
                let mut host = RunningOn::new(self, index, place, until);
                match self.load(&mut vcpu, &mut host) {
                    Some(resident) => {
                        let (leaves, resident) =
                            self.enter_until_it_leaves(resident, &mut vcpu, &mut host);
                        self.unload(resident, &mut vcpu, &mut host, &leaves);
                        leaves
                    }
                    None => Leaves::VcpuOff,
                }
            }
            // Whoever has it parked kicks it afterwards.
            _ => Leaves::Unwanted,
        };
        let after = match leaves {
            Leaves::ForOthers(turn) => return After::Turn(turn),
            Leaves::Asleep => return After::Anything,
            Leaves::Stopped(how) => After::Stopped(how),
            Leaves::Unwanted | Leaves::VcpuOff => After::Anything,
        };
        place.roster.sleep(place.task, NEVER);
        after
    }

    #[inline]
    fn load<'a>(
        &'a self,
        vcpu: &mut Vcpu,
        host: &mut RunningOn,
    ) -> Option<SpinMutexGuard<'a, Resident>> {
        let index = host.index;
        let VcpuPlace { roster, hold, stats, .. } = host.place;
        let mut guard = self.resident.lock();
        let resident = &mut *guard;
        let Resident { guest, state, stage2, .. } = resident;
        let stage2 = stage2.as_ref().filter(|_| *state == RunState::Running)?;
        let serror_pending = match guest.power_on(index, vcpu)? {
            power if *power.serror_pending != 0 => {
                *power.serror_pending = 0;
                true
            }
            _ => false,
        };
        let vmid = vmid(self.number);
        // SAFETY: the slot's stage 2 maps the guest's own memory and the GICV. Its tables stay until the guest is removed, and its root for
        // ever. Each slot has a VMID of its own.
        unsafe { mmu::activate_stage2(stage2.root(), vmid) };
        let last_on = &self.last_on[roster.core()];
        if last_on.load(Ordering::Relaxed) != index as u8 {
            last_on.store(index as u8, Ordering::Relaxed);
            mmu::forget_vcpu();
        }
        let now = timer::counter();
        let offset = guest.clock.offset_or_start(now);
        host.loaded_with(offset, guest);
        cpu::set_guest_identity(*vcpu.identity.midr_el1, *vcpu.identity.mpidr_el1);
        let shown_ctr = *vcpu.identity.ctr_el0;
        cpu::set_guest_controls(roster.is_shared(), serror_pending, shown_ctr);
        cpu::clear_deferred_serror();
        world::load(&vcpu.system, &vcpu.fp, offset);
        host.load_debug(vcpu);
        // Before anything is in the list registers: whoever has wanted it to stand still may be in the midst of an access.
        hold.begin_running();
        guest.vgic.load(index, &mut host.gic);
        host.tick(guest, vcpu);
        stats.begin(now);
        Some(guard)
    }

    #[inline]
    fn unload(
        &self,
        mut resident: SpinMutexGuard<Resident>,
        vcpu: &mut Vcpu,
        host: &mut RunningOn,
        leaves: &Leaves,
    ) {
        let (index, place) = (host.index, host.place);
        let guest = &mut resident.guest;
        let effects = guest.vgic.save(index, &mut host.gic);
        if cpu::virtual_serror() {
            *guest.powers[index].serror_pending = 1;
        }
        world::save(&mut vcpu.system, &mut vcpu.fp);
        host.save_debug(vcpu);
        if let Leaves::Stopped(how) = *leaves {
            self.set_state(&mut resident, RunState::stopped_by_itself(how));
        }
        drop(resident);
        place.stats.end(timer::counter());
        place.hold.end_running();
        match leaves {
            // The others see that the guest is off, or take over the devices' deadlines.
            Leaves::Stopped(_) | Leaves::VcpuOff => self.kick_all(),
            _ => self.kick(effects.kick),
        }
    }
}
