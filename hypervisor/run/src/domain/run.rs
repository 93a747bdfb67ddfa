//! The loop of a loaded vCPU: entries into its guest, and exits.

use super::host::RunningOn;
use super::turn::Leaves;
use super::{Domain, Resident};
use stasis_arch::cpu;
use stasis_arch::world::ExitKind;
use stasis_cores::hold::Held;
use stasis_cores::sync::LockGuard;
use stasis_guest::exit::{self, Syndrome, WordAccess};
use stasis_guest::stats::Reason;
use stasis_guest::stop::Stopped;
use stasis_guest::{Next, Vcpu, Whole, is_in_distributor};

/// Reason why a vCPU has left its guest.
enum Left {
    /// An exit that is not answered at once.
    Exit(Syndrome),
    /// A physical interrupt is pending.
    Interrupt,
    /// The exit was answered. Either the vCPU's list registers must be filled, or this core must decide anew.
    Answered,
}

impl Domain {
    /// Enters and answers exits until the vCPU leaves its core. Returns why it does, and what the vCPUs share, locked.
    #[inline(always)]
    pub(super) fn enter_until_it_leaves<'a>(
        &'a self,
        mut resident: LockGuard<'a, Resident>,
        vcpu: &mut Vcpu,
        host: &mut RunningOn<'a>,
    ) -> (Leaves, LockGuard<'a, Resident>) {
        loop {
            let roster = host.place.roster;
            // Decide first: a vCPU that is about to leave needs no list registers.
            if roster.must_decide()
                && let Err(turn) = host.keep_core()
            {
                return (Leaves::ForOthers(turn), resident);
            }
            resident = self.prepare_entry(resident, vcpu, host);
            drop(resident);
            host.carry_out();
            // The errands may have woken another vCPU of this core, which interrupts nobody.
            if roster.must_decide() {
                resident = self.resident.lock();
                continue;
            }
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
                    resident = host.lock();
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

    /// Fills the list registers. While somebody wants this vCPU held, folds them instead and stands still; leaves them folded if the core must
    /// decide.
    #[inline]
    fn prepare_entry<'a>(
        &'a self,
        mut resident: LockGuard<'a, Resident>,
        vcpu: &mut Vcpu,
        host: &mut RunningOn,
    ) -> LockGuard<'a, Resident> {
        let (index, hold) = (host.index, &host.place.hold);
        loop {
            let guest = &mut resident.guest;
            if self.news.is_there() {
                host.errands.outbox.kick(self.pass_news(guest));
            }
            host.follow(guest);
            if vcpu.deadline_changed {
                host.tick(guest, vcpu);
            }
            if !hold.is_wanted() {
                host.errands.outbox.kick(guest.vgic.enter(index, &mut host.gic).kick);
                return resident;
            }
            host.errands.outbox.kick(guest.vgic.sync(index, &mut host.gic).kick);
            drop(resident);
            host.carry_out();
            hold.stand_still(|| host.turn_is_over());
            resident = self.resident.lock();
            if host.place.roster.must_decide() {
                return resident;
            }
        }
    }

    /// Runs the guest until an exit after which more may be left to do than to enter it again.
    ///
    /// What others want of this vCPU meanwhile is not delayed: they kick its core, so the next entry ends at once.
    #[inline]
    fn enter<'a>(&'a self, vcpu: &mut Vcpu, host: &mut RunningOn<'a>) -> Left {
        let stats = &host.place.stats;
        loop {
            match host.loaded.enter(&mut vcpu.core) {
                ExitKind::Synchronous => {
                    let cpu::Syndrome { esr, far, hpfar } = cpu::syndrome();
                    let syndrome = Syndrome { esr, far, hpfar };
                    if vcpu.call_alone(syndrome) {
                        stats.left(Reason::Call);
                    } else if let Some(is_dirty) = self.answer_at_once(vcpu, syndrome, host) {
                        stats.left(Reason::Mmio);
                        // An interrupt that was sent may be for another vCPU of this core, which interrupts nobody.
                        if is_dirty || host.place.roster.must_decide() {
                            return Left::Answered;
                        }
                    } else if vcpu.read_alone(syndrome, || host.guest_time())
                        || host.lend_debug(vcpu, syndrome)
                    {
                        stats.left(Reason::Register);
                    } else {
                        return Left::Exit(syndrome);
                    }
                }
                ExitKind::Interrupt => {
                    stats.left(Reason::Interrupt);
                    return Left::Interrupt;
                }
                // The cause of the SError is unknown, but the last access was the guest's.
                ExitKind::SError => {
                    stats.left(Reason::Fault);
                    host.loaded.set_virtual_serror();
                }
            }
        }
    }

    /// Answers an access to a word of the distributor that is about the records alone. Returns whether this vCPU's list registers must be filled
    /// then; `None` if the exit is another one. What the vCPUs share may stay locked for what follows ([`RunningOn::lock`]), unless it returns
    /// `Some(false)`.
    #[inline]
    fn answer_at_once<'a>(
        &'a self,
        vcpu: &mut Vcpu,
        syndrome: Syndrome,
        host: &mut RunningOn<'a>,
    ) -> Option<bool> {
        let word = WordAccess::of(syndrome).filter(|word| is_in_distributor(*word))?;
        let sctlr = host.loaded.sctlr_el1();
        let index = host.index;
        let mut resident = self.resident.lock();
        let guest = &mut resident.guest;
        let answer = guest.answer_at_once(index, &mut vcpu.core, word, syndrome.esr, sctlr);
        let Some(kick) = answer else {
            host.keep_locked(resident);
            return None;
        };
        let kick = kick.without(index);
        if guest.vgic.cpus()[index].is_dirty() {
            host.errands.outbox.kick(kick);
            host.keep_locked(resident);
            return Some(true);
        }
        drop(resident);
        self.kick(kick);
        Some(false)
    }

    #[inline]
    fn answer_exit<'a>(
        &'a self,
        vcpu: &mut Vcpu,
        syndrome: Syndrome,
        host: &mut RunningOn<'a>,
    ) -> (Next, LockGuard<'a, Resident>) {
        let index = host.index;
        let mut exit = exit::decode(syndrome);
        host.place.stats.left(Reason::of(&exit));
        let mut held = Held::nobody(self, index);
        let mut resident = host.lock();
        loop {
            if let Some(fault) = exit.fault() {
                if resident.is_first_write(fault, &mut host.loaded) {
                    return (Next::Enter, resident);
                }
                resident.describe(&mut exit, &vcpu.core, &host.loaded);
            }
            let answer = resident.exit(index, vcpu, &exit, syndrome.esr, held.vcpus(), host);
            let missing = match answer {
                Ok(next) => return (next, resident),
                // The access is about interrupts in other cores' list registers.
                Err(missing) => missing,
            };
            let all_stand_still = self.make_stand_still(&mut held, missing, resident, host);
            if !all_stand_still {
                drop(held);
                return (Next::Enter, self.resident.lock());
            }
            resident = self.resident.lock();
        }
    }
}
