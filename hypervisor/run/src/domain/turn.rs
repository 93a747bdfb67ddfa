//! A vCPU's turn on its core: it is loaded, runs, and is unloaded.

use super::errands::Errands;
use super::host::RunningOn;
use super::lock::{Locked, Unlocked};
use super::{Domain, Resident, VcpuPlace, vmid};
use crate::clock;
use crate::gic::ThisCore;
use crate::roster::{self, Stay, Turn};
use core::sync::atomic::Ordering;
use stasis_arch::world::{Loaded, Registers, Surroundings};
use stasis_arch::{mmu, timer};
use stasis_guest::Vcpu;
use stasis_guest::clock::NEVER;
use stasis_guest::stop::Stopped;
use stasis_host::run_state::RunState;

/// What a core does after a vCPU's turn.
pub enum After {
    /// The core begins the turn that was decided.
    Decided,
    /// The core decides.
    Anything,
    /// The vCPU's guest has stopped, and the core decides.
    Stopped(Stopped),
    /// The vCPU's guest waits for memory, and the core decides.
    Starved,
}

/// Reason why a vCPU leaves its core.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Leaves {
    /// The core has decided: it is another task's, or nobody's.
    ForOthers,
    /// No core may run the vCPU now.
    Unwanted,
    /// The vCPU sleeps already, and no core may run it now.
    Asleep,
    /// The vCPU is off.
    VcpuOff,
    /// The guest has stopped: [`RunningOn::stopped`] says how.
    Stopped,
    /// The guest waits for memory.
    Starved,
    /// The guest stops for its debugger: [`RunningOn::debugged`] says why.
    Debugged,
}

impl Domain {
    /// Returns whether no vCPU may be entered, and one that was must leave.
    pub(super) fn must_leave(&self) -> bool {
        self.gate.is_closed()
    }

    /// Runs vCPU `index` on this core until its turn is over: when the counter reads `stay.until`,
    /// or when somebody wants the guest, or the vCPU waits and gives way, or stops. The counter has
    /// just read `from`. Returns what the core does then, and writes to `next` what was decided
    /// about that. A vCPU that can't run sleeps until it is kicked.
    ///
    /// # Safety
    ///
    /// 1. This core was [set up](stasis_arch::cpu::init) for guests.
    /// 2. No vCPU is loaded on this core: nothing that `run` itself calls calls it.
    #[inline(always)]
    pub(crate) unsafe fn run(
        &self,
        index: usize,
        (stay, now): (Stay, u64),
        this_core: &ThisCore,
        next: &mut Turn,
    ) -> After {
        let place = &self.vcpus[index];
        let mut stopped = None;
        // Whoever has the guest parked has the vCPU's lock, or kicks the vCPU afterwards.
        let leaves = if let Some(mut vcpu) = place.vcpu.try_lock()
            && !self.must_leave()
        {
            // SAFETY: 1. The core is set up for guests, by condition 1. 2. No vCPU is loaded on it,
            // by condition 2.
            match unsafe { self.load(place, &mut vcpu, stay.gives_way, now) } {
                Some((mut loaded, offset, mut resident)) => {
                    let debugger = resident.watch(index, &mut loaded, &mut vcpu.debug);
                    // The steps of a stepped clock serve as the watch.
                    let is_watched =
                        clock::must_watch(offset, now) && !resident.guest.clock.is_stepped();
                    let loaded = (loaded, offset, is_watched);
                    let (of, gic) = ((self, place), this_core.clone());
                    let mut host = RunningOn::new(of, loaded, debugger, gic, stay.until, next);
                    host.begin(&mut resident.guest, &mut vcpu, now);
                    place.stats.begin(now);
                    let (leaves, resident) =
                        self.enter_until_it_leaves(resident, &mut vcpu, &mut host);
                    let unlocked = self.unload_gic(resident, &mut host, leaves);
                    // Unload here, not in a function: an argument is moved, and `host` is large.
                    let Vcpu { system, fp, debug, .. } = &mut *vcpu;
                    host.loaded.unload(system, fp, debug);
                    // After a decision, the counter is not read again.
                    let now = match leaves {
                        Leaves::ForOthers => host.next.from,
                        _ => timer::counter(),
                    };
                    self.end_turn(unlocked, (place, now), &mut host.errands, leaves);
                    if leaves == Leaves::Stopped {
                        stopped = host.stopped;
                    }
                    leaves
                }
                None => Leaves::VcpuOff,
            }
        } else {
            Leaves::Unwanted
        };
        let after = match leaves {
            Leaves::ForOthers => return After::Decided,
            Leaves::Asleep => return After::Anything,
            Leaves::Unwanted | Leaves::VcpuOff | Leaves::Debugged => After::Anything,
            Leaves::Stopped => stopped.map_or(After::Anything, After::Stopped),
            Leaves::Starved => After::Starved,
        };
        place.roster.sleep(place.task, NEVER);
        after
    }

    /// Loads the vCPU on this core when the counter reads `now`. Returns it with its CNTVOFF_EL2
    /// and what the vCPUs share, locked; `None` if the vCPU is off, or its guest does not run.
    ///
    /// # Safety
    ///
    /// 1. This core was [set up](stasis_arch::cpu::init) for guests. 2. No vCPU is loaded on it.
    #[inline]
    unsafe fn load<'a>(
        &'a self,
        place: &VcpuPlace,
        vcpu: &mut Vcpu,
        traps_waits: bool,
        now: u64,
    ) -> Option<(Loaded, u64, Locked<'a>)> {
        let VcpuPlace { index, roster, .. } = *place;
        let mut guard = self.lock(Unlocked::at_begin_of_turn());
        let resident = &mut *guard;
        let resident_stays = resident.stays(index);
        let Resident { guest, state, stage2, .. } = resident;
        let stage2 = stage2.as_ref().filter(|_| *state == RunState::Running)?;
        if resident_stays {
            return None;
        }
        let serror_pending = match guest.power_on(index, vcpu)? {
            power if *power.serror_pending != 0 => {
                *power.serror_pending = 0;
                true
            }
            _ => false,
        };
        // SAFETY: 1. The domain's stage 2 is a 39-bit translation, which maps the guest's RAM and
        // what `Domain::new`'s caller says is the guest's own. Its tables stay until the guest is
        // removed, which takes the lock that is held here, and the lock of each vCPU that is
        // loaded; its root stays for ever. 2. Each domain has a VMID of its own, which its
        // translation alone is used under. 3. The core was set up for guests, by condition 1. 4. No
        // vCPU is loaded on this core, by condition 2, and this is the only `Stage2Active` that is
        // made of it.
        let mut active = unsafe { mmu::activate_stage2(stage2.root(), vmid(self.number)) };
        let last_on = &self.last_on[roster.core()];
        if last_on.load(Ordering::Relaxed) != index as u8 {
            last_on.store(index as u8, Ordering::Relaxed);
            active.forget_vcpu();
        }
        let counter_offset = guest.clock.offset_or_start(now);
        let surroundings = Surroundings { counter_offset, traps_waits, serror_pending };
        let Vcpu { identity, system, fp, debug, .. } = &*vcpu;
        let loaded = active.load(Registers { identity, system, fp, debug }, surroundings);
        Some((loaded, counter_offset, guard))
    }

    /// Unloads the vCPU's GIC, notes a pending virtual SError and that the guest has stopped, and
    /// gives the lock back. All else of the vCPU is still loaded. So whoever parks the guest waits
    /// for its lock.
    #[inline]
    fn unload_gic(&self, mut resident: Locked, host: &mut RunningOn, leaves: Leaves) -> Unlocked {
        let guest = &mut resident.guest;
        let effects = guest.vgic.save(host.index, &mut host.gic);
        host.errands.outbox.kick(effects.kick);
        if host.loaded.virtual_serror() {
            *guest.powers[host.index].serror_pending = 1;
        }
        if leaves != Leaves::ForOthers {
            self.note_end(&mut resident, host, leaves);
        }
        resident.unlock()
    }

    /// Notes that the guest has stopped, if the vCPU leaves for that. Another vCPU may have stopped
    /// the guest meanwhile.
    #[inline(never)]
    fn note_end(&self, resident: &mut Resident, host: &RunningOn, leaves: Leaves) {
        let runs = resident.state == RunState::Running;
        match leaves {
            Leaves::Stopped => {
                if let Some(how) = host.stopped {
                    self.set_state(resident, RunState::stopped_by_itself(how));
                }
            }
            Leaves::Debugged if runs => {
                host.debugged.into_iter().for_each(|stop| resident.note_stop(stop));
                self.set_state(resident, RunState::Debugged);
            }
            Leaves::Starved if runs => self.set_state(resident, RunState::Starved),
            _ => {}
        }
    }

    /// Notes that the vCPU in `place` is unloaded when the counter reads `now`, and carries out its
    /// errands.
    #[inline(always)]
    fn end_turn(
        &self,
        unlocked: Unlocked,
        (place, now): (&VcpuPlace, u64),
        errands: &mut Errands,
        leaves: Leaves,
    ) {
        place.stats.end(now);
        place.hold.end_running();
        if errands.carry_out(self, &unlocked) && errands.outbox.has_work {
            self.news.announce();
        }
        if leaves != Leaves::ForOthers {
            self.tell_others(leaves);
        }
    }

    /// Tells the debugger and the other vCPUs that the vCPU has left its core, as far as they have
    /// something to do then.
    #[inline(never)]
    fn tell_others(&self, leaves: Leaves) {
        if leaves == Leaves::Debugged {
            roster::wake_console();
        }
        if matches!(leaves, Leaves::Stopped | Leaves::Starved | Leaves::VcpuOff | Leaves::Debugged)
        {
            // The other vCPUs see that the guest is off, or take over the devices' deadlines.
            self.kick_all();
        }
    }
}
