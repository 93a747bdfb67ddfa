//! Running a vCPU on its core: loading it, the loop of entries and exits, unloading it.

use super::hold::Held;
use super::host::RunningOn;
use super::{Resident, RunState, Slot, VcpuPlace, vmid};
use crate::clock;
use crate::interrupts::{self, Taken};
use crate::roster::Turn;
use core::sync::atomic::Ordering;
use spin::mutex::SpinMutexGuard;
use stasis_arch::world::{self, ExitKind, live};
use stasis_arch::{cpu, mmu, timer};
use stasis_hw::gic::Acknowledged;
use stasis_vgic::VcpuMask;
use stasis_vm::clock::NEVER;
use stasis_vm::exit::{self, Syndrome, WordAccess};
use stasis_vm::guest::{Guest, Next, Vcpu};
use stasis_vm::recovery::Stopped;
use stasis_vm::stats::Reason;

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

/// Why a vCPU has left its guest.
enum Left {
    /// An exit that is not answered at once.
    Exit(Syndrome),
    /// A physical interrupt is pending.
    Interrupt,
    /// Nothing is left of the exit, but its list registers are to be filled, or this core is to decide anew.
    Answered,
}

impl Slot {
    /// Whether no vCPU is to be entered.
    pub(super) fn must_leave(&self) -> bool {
        self.barred.load(Ordering::Acquire) != 0
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
        match *leaves {
            Leaves::Stopped(Stopped::Off) => self.set_state(&mut resident, RunState::Off),
            Leaves::Stopped(Stopped::Reset) => self.set_state(&mut resident, RunState::Reset),
            Leaves::Stopped(Stopped::Crash(_)) => self.set_state(&mut resident, RunState::Crashed),
            _ => {}
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

    /// The loop of exits and entries.
    #[inline]
    fn enter_until_it_leaves<'a>(
        &'a self,
        mut resident: SpinMutexGuard<'a, Resident>,
        vcpu: &mut Vcpu,
        host: &mut RunningOn<'a>,
    ) -> (Leaves, SpinMutexGuard<'a, Resident>) {
        loop {
            let roster = host.place.roster;
            // Before the list registers are filled, which who is to leave does not need.
            if roster.must_decide()
                && let Err(turn) = host.keep_core()
            {
                return (Leaves::ForOthers(turn), resident);
            }
            resident = self.prepare_entry(resident, vcpu, host);
            // That may have woken another vCPU of this core, which interrupts nobody.
            if roster.must_decide() {
                continue;
            }
            drop(resident);
            let leaves = match self.enter(vcpu, host) {
                Left::Exit(syndrome) => {
                    let next;
                    (next, resident) = self.answer_exit(vcpu, syndrome, host);
                    match next {
                        Next::Enter => continue,
                        Next::Wait => {
                            let waited;
                            (waited, resident) = self.wait(resident, vcpu, host);
                            match (waited, resident.guest.crash()) {
                                (Ok(()), None) => continue,
                                (Ok(()), Some(crash)) => Leaves::Stopped(Stopped::Crash(crash)),
                                (Err(leaves), _) => leaves,
                            }
                        }
                        Next::VcpuOff => Leaves::VcpuOff,
                        Next::Off => Leaves::Stopped(Stopped::Off),
                        Next::Reset => Leaves::Stopped(Stopped::Reset),
                        Next::Crashed(crash) => Leaves::Stopped(Stopped::Crash(crash)),
                    }
                }
                Left::Answered => {
                    resident = self.resident.lock();
                    continue;
                }
                Left::Interrupt => {
                    resident = self.step_clock(host);
                    self.take_interrupt(&mut resident.guest, vcpu, host);
                    if let Some(crash) = resident.guest.crash() {
                        Leaves::Stopped(Stopped::Crash(crash))
                    } else if self.must_leave() {
                        Leaves::Unwanted
                    } else {
                        continue;
                    }
                }
            };
            return (leaves, resident);
        }
    }

    /// Fills the list registers; folds them as long as this vCPU is to stand still.
    #[inline]
    fn prepare_entry<'a>(
        &'a self,
        mut resident: SpinMutexGuard<'a, Resident>,
        vcpu: &mut Vcpu,
        host: &mut RunningOn,
    ) -> SpinMutexGuard<'a, Resident> {
        let (index, hold) = (host.index, &host.place.hold);
        loop {
            let guest = &mut resident.guest;
            if self.has_news.load(Ordering::Relaxed) {
                self.pass_news(guest);
            }
            host.follow(guest);
            if vcpu.deadline_changed {
                host.tick(guest, vcpu);
            }
            if !hold.is_wanted() {
                self.kick(guest.vgic.enter(index, &mut host.gic).kick);
                return resident;
            }
            let effects = guest.vgic.sync(index, &mut host.gic);
            drop(resident);
            self.kick(effects.kick);
            hold.stand_still();
            resident = self.resident.lock();
        }
    }

    /// Runs the guest until it does something that may leave more to be done than to enter it again.
    ///
    /// What others want of this vCPU meanwhile does not wait: they kick its core, so the next entry ends at once.
    #[inline]
    fn enter(&self, vcpu: &mut Vcpu, host: &mut RunningOn) -> Left {
        let stats = &host.place.stats;
        loop {
            match world::enter(&mut vcpu.core) {
                ExitKind::Synchronous => {
                    let cpu::Syndrome { esr, far, hpfar } = cpu::syndrome();
                    let syndrome = Syndrome { esr, far, hpfar };
                    if vcpu.exit_alone(syndrome) {
                        stats.left(Reason::Call);
                    } else if let Some(is_dirty) = self.answer_at_once(host.index, vcpu, syndrome) {
                        stats.left(Reason::Mmio);
                        // What was sent may be for another vCPU of this core, which interrupts nobody.
                        if is_dirty || host.place.roster.must_decide() {
                            return Left::Answered;
                        }
                    } else if host.lend_debug(vcpu, syndrome) {
                        stats.left(Reason::Register);
                    } else {
                        return Left::Exit(syndrome);
                    }
                }
                ExitKind::Interrupt => {
                    stats.left(Reason::Interrupt);
                    return Left::Interrupt;
                }
                // Whatever it was that failed, the guest's access was the last one made.
                ExitKind::SError => {
                    stats.left(Reason::Fault);
                    cpu::set_virtual_serror();
                }
            }
        }
    }

    /// Whether it was answered, and then whether its list registers are to be filled.
    #[inline]
    fn answer_at_once(&self, index: usize, vcpu: &mut Vcpu, syndrome: Syndrome) -> Option<bool> {
        let word = WordAccess::of(syndrome)?;
        let sctlr = live::sctlr_el1();
        let guest = &mut self.resident.lock().guest;
        let kick = guest.answer_at_once(index, &mut vcpu.core, word, syndrome.esr, sctlr)?;
        self.kick(kick.without(index));
        Some(guest.vgic.cpus()[index].is_dirty())
    }

    #[inline]
    fn answer_exit(
        &self,
        vcpu: &mut Vcpu,
        syndrome: Syndrome,
        host: &mut RunningOn,
    ) -> (Next, SpinMutexGuard<'_, Resident>) {
        let index = host.index;
        let mut exit = exit::decode(syndrome);
        host.place.stats.left(Reason::of(&exit));
        let mut held = Held::nobody(self, index);
        loop {
            let mut resident = self.resident.lock();
            if resident.is_first_write(&exit) {
                return (Next::Enter, resident);
            }
            resident.describe(&mut exit, &vcpu.core);
            let guest = &mut resident.guest;
            match guest.exit(index, vcpu, &exit, syndrome.esr, held.vcpus(), host) {
                Ok(next) => return (next, resident),
                // The interrupt is in another core's list registers: see `hold`.
                Err(missing) => self.hold(&mut held, missing, resident, host),
            }
        }
    }

    /// Takes the physical interrupt that is pending, if one is.
    #[inline(always)]
    pub(super) fn take_interrupt(&self, guest: &mut Guest, vcpu: &mut Vcpu, host: &mut RunningOn) {
        let VcpuPlace { roster, takes_over, .. } = host.place;
        match interrupts::take(roster, &host.gic) {
            Taken::Own => {}
            // Where it has fired because the turn is over, the decision that follows sets it again.
            Taken::Timer if !host.tick_is_due() => {}
            Taken::Timer => host.tick(guest, vcpu),
            Taken::Other(interrupt) => self.pass_interrupt(interrupt, guest, host),
        }
        if takes_over.load(Ordering::Acquire) {
            takes_over.store(false, Ordering::Release);
            host.tick(guest, vcpu);
        }
    }

    /// Sees to a physical interrupt that was taken: it is the guest's that is loaded, that GIC's, or somebody else's.
    #[inline(never)]
    fn pass_interrupt(&self, interrupt: Acknowledged, guest: &mut Guest, host: &mut RunningOn) {
        let index = host.index;
        if let Some(kick) = guest.interrupt(index, interrupt.intid() as u16) {
            self.kick(kick);
            if clock::timer_forgets() {
                host.watch_timer(guest);
            }
        } else if host.gic.is_maintenance(interrupt) {
            self.kick(guest.vgic.sync(index, &mut host.gic).kick);
            host.gic.end(interrupt);
        } else {
            interrupts::pass(&host.gic, interrupt);
        }
    }

    /// Steps the guest's clock if it is time.
    #[inline]
    fn step_clock(&self, host: &mut RunningOn) -> SpinMutexGuard<'_, Resident> {
        let resident = self.resident.lock();
        if resident.guest.clock.is_stepped() {
            drop(resident);
            return self.step_stepped_clock(host);
        }
        resident
    }

    /// Steps the clock if it is time. All vCPUs of the guest stand still then, or one would see the new time, and
    /// then another the old one.
    #[cold]
    fn step_stepped_clock(&self, host: &mut RunningOn) -> SpinMutexGuard<'_, Resident> {
        let others = VcpuMask::first(self.vcpus.len()).without(host.index);
        let mut held = Held::nobody(self, host.index);
        loop {
            let mut resident = self.resident.lock();
            let now = timer::counter();
            // Another vCPU may be faster.
            if !resident.guest.clock.step_is_due(now) {
                return resident;
            }
            let missing = VcpuMask(others.0 & !held.vcpus().0);
            if missing.is_empty() {
                resident.guest.clock.step(now);
                return resident;
            }
            self.hold(&mut held, missing, resident, host);
        }
    }

    /// Has others stand still, too, after this vCPU is folded itself.
    #[cold]
    fn hold(
        &self,
        held: &mut Held,
        missing: VcpuMask,
        mut resident: SpinMutexGuard<Resident>,
        host: &mut RunningOn,
    ) {
        let effects = resident.guest.vgic.sync(host.index, &mut host.gic);
        drop(resident);
        self.kick(effects.kick);
        held.add(missing);
    }

    pub(super) fn pass_news(&self, guest: &mut Guest) {
        // Before: what comes later is news again.
        self.has_news.store(false, Ordering::SeqCst);
        self.pass_bells(guest);
        self.pass_interrupts(guest);
        let mut input = self.input.lock();
        while guest.can_receive() {
            let Some(byte) = input.pop_front() else { break };
            self.kick(guest.receive(byte));
        }
        if !input.is_empty() {
            self.has_news.store(true, Ordering::Relaxed);
        }
    }

    /// Has the guest have the interrupts of its devices.
    fn pass_interrupts(&self, guest: &mut Guest) {
        let raised = self.raised.swap(0, Ordering::Acquire);
        if raised == 0 {
            return;
        }
        for (n, (_, spi)) in self.given.interrupts().enumerate() {
            if raised >> n & 1 != 0 {
                self.kick(guest.device_interrupt(spi));
            }
        }
    }

    /// Has the guest hear what was rung.
    pub(super) fn pass_bells(&self, guest: &mut Guest) {
        for (n, connected) in self.shared.iter().enumerate() {
            let rung = connected.take_rung();
            if rung != 0 {
                self.kick(guest.rung(n, rung));
            }
        }
    }
}
