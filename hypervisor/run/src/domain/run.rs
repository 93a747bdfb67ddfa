//! The loop of a loaded vCPU: entries into its guest, and exits.

use super::first_write::Answer;
use super::host::RunningOn;
use super::lock::{Locked, MaybeLocked, Unlocked};
use super::turn::Leaves;
use super::without_lock::WithoutLock;
use super::{Domain, VcpuPlace};
use crate::above;
use crate::gic;
use crate::interrupts::{self, Taken};
use crate::roster::Kept;
use stasis_arch::cpu;
use stasis_arch::world::ExitKind;
use stasis_cores::hold::Held;
use stasis_debug::plan::Stop;
use stasis_guest::exit::{self, PlainAccess, Syndrome};
use stasis_guest::stats::Reason;
use stasis_guest::stop::Stopped;
use stasis_guest::{Exited, Next, OfUart, Vcpu, Whole, gicd_word, uart_access};
use stasis_hw::gic::Acknowledged;
use stasis_vgic::VcpuMask;

/// Reason why a vCPU has left its guest.
pub(super) enum Left<'a> {
    /// An exit that is not answered at once.
    Exit(Syndrome, MaybeLocked<'a>),
    /// A physical interrupt, or none any more, which is not answered at once.
    Interrupt(Taken, Unlocked),
    /// The exit was answered, and this core must decide anew.
    Answered(Locked<'a>),
    /// The guest stops for its debugger.
    Debugged(Stop, Locked<'a>),
}

/// Whether an exit was answered at once.
enum Answered<'a> {
    /// The exit was answered. `made_room` says whether the UART may have room for more of what was typed.
    Yes { unlocked: Unlocked, made_room: bool },
    /// Nothing was done.
    No(MaybeLocked<'a>),
}

impl Domain {
    /// Enters and answers exits until the vCPU leaves its core. Returns why it does, and what the vCPUs share, locked.
    #[inline(always)]
    pub(super) fn enter_until_it_leaves<'a>(
        &'a self,
        mut resident: Locked<'a>,
        vcpu: &mut Vcpu,
        host: &mut RunningOn<'a>,
    ) -> (Leaves, Locked<'a>) {
        loop {
            let roster = host.place.roster;
            // Decide first: a vCPU that is about to leave needs no list registers.
            if roster.must_decide() && !matches!(host.keep_core(), Kept::On(_)) {
                return (Leaves::ForOthers, resident);
            }
            if resident.ram.has_unseen() && !resident.show_moved(&mut host.loaded) {
                return (Leaves::Starved, resident);
            }
            resident = self.prepare_entry(resident, vcpu, host);
            let unlocked = resident.unlock();
            if host.carry_out(&unlocked) && host.errands.outbox.has_work {
                self.serve_devices(&unlocked, host);
                resident = self.lock(unlocked);
                continue;
            }
            // The errands may have woken another vCPU of this core, which interrupts nobody.
            if roster.must_decide() {
                resident = self.lock(unlocked);
                continue;
            }
            let left = match host.debugger {
                None => self.enter(unlocked, vcpu, host),
                Some(wanted) => self.enter_debugged(wanted, unlocked, vcpu, host),
            };
            let leaves = match left {
                Left::Exit(syndrome, lock) => {
                    let next;
                    (next, resident) = self.answer_exit(lock, vcpu, syndrome, host);
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
                        Next::NoRam { address } => {
                            resident.await_ram(address, host);
                            continue;
                        }
                        Next::Starved => Leaves::Starved,
                        Next::VcpuOff => Leaves::VcpuOff,
                        Next::Off => Leaves::Stopped(Stopped::Off),
                        Next::Reset => Leaves::Stopped(Stopped::Reset),
                        Next::Crashed(crash) => Leaves::Stopped(Stopped::Crash(crash)),
                    }
                }
                Left::Debugged(stop, locked) => {
                    resident = locked;
                    Leaves::Debugged(stop)
                }
                Left::Answered(locked) => {
                    resident = locked;
                    continue;
                }
                Left::Interrupt(taken, unlocked) => {
                    resident = self.step_clock(unlocked, host);
                    self.pass_taken(taken, &mut resident.guest, vcpu, host);
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
        mut resident: Locked<'a>,
        vcpu: &mut Vcpu,
        host: &mut RunningOn,
    ) -> Locked<'a> {
        let (index, hold) = (host.index, &host.place.hold);
        loop {
            let guest = &mut resident.guest;
            if self.news.is_there() {
                let kick = self.pass_news(guest, host);
                host.errands.outbox.kick(kick);
            }
            self.receive(index, guest);
            host.follow(guest);
            if vcpu.deadline_changed {
                host.tick(guest, vcpu);
            }
            if !hold.is_wanted() {
                host.errands.outbox.kick(guest.vgic.enter(index, &mut host.gic).kick);
                return resident;
            }
            host.errands.outbox.kick(guest.vgic.sync(index, &mut host.gic).kick);
            let unlocked = resident.unlock();
            host.carry_out(&unlocked);
            hold.stand_still(|| host.turn_is_over());
            resident = self.lock(unlocked);
            if host.place.roster.must_decide() {
                return resident;
            }
        }
    }

    /// Runs the guest until an exit after which more may be left to do than to enter it again.
    ///
    /// What others want of this vCPU meanwhile is not delayed: they kick its core, so the next entry ends at once.
    #[inline]
    fn enter<'a>(
        &'a self,
        mut unlocked: Unlocked,
        vcpu: &mut Vcpu,
        host: &mut RunningOn<'a>,
    ) -> Left<'a> {
        let stats = &host.place.stats;
        loop {
            let Vcpu { core, identity, .. } = &mut *vcpu;
            let mut first_look = WithoutLock { stats, identity, offset: host.offset() };
            match host.loaded.enter(core, &mut first_look) {
                ExitKind::Synchronous => {
                    let cpu::FaultAddress { far, hpfar } = cpu::fault_address();
                    let syndrome = Syndrome { esr: cpu::syndrome(), far, hpfar };
                    unlocked = match self.answer_at_once(unlocked, vcpu, syndrome, host) {
                        Answered::Yes { unlocked, made_room } => {
                            stats.left(Reason::Mmio);
                            // An interrupt that was sent may be for another vCPU of this core, which interrupts nobody.
                            let is_more = made_room && self.news.is_there();
                            if host.place.roster.must_decide() || is_more {
                                return Left::Answered(self.lock(unlocked));
                            }
                            unlocked
                        }
                        Answered::No(MaybeLocked::Unlocked(unlocked))
                            if host.lend_debug(vcpu, syndrome) =>
                        {
                            stats.left(Reason::Register);
                            unlocked
                        }
                        Answered::No(lock) => return Left::Exit(syndrome, lock),
                    }
                }
                ExitKind::Interrupt => {
                    stats.left(Reason::Interrupt);
                    let taken;
                    (unlocked, taken) = self.take_at_once(unlocked, vcpu, host);
                    if let Some(taken) = taken {
                        return Left::Interrupt(taken, unlocked);
                    }
                }
                // The cause of the SError is unknown, but the last access was the guest's.
                ExitKind::SError => {
                    stats.left(Reason::Fault);
                    host.loaded.set_virtual_serror();
                }
            }
        }
    }

    /// Answers an access to a word of the distributor that is about the records alone, or to the UART. Other exits need another look, for which what
    /// the vCPUs share may stay locked.
    #[inline(always)]
    fn answer_at_once(
        &self,
        unlocked: Unlocked,
        vcpu: &mut Vcpu,
        syndrome: Syndrome,
        host: &mut RunningOn,
    ) -> Answered<'_> {
        let Some(word) = gicd_word(syndrome) else {
            return match uart_access(syndrome) {
                Some(access) => self.answer_uart(unlocked, vcpu, access, syndrome.esr, host),
                None => Answered::No(MaybeLocked::Unlocked(unlocked)),
            };
        };
        if self.send_to_others(vcpu, word, syndrome.esr, host) {
            return Answered::Yes { unlocked, made_room: false };
        }
        let sctlr = host.loaded.sctlr_el1();
        let index = host.index;
        let mut resident = self.lock(unlocked);
        let guest = &mut resident.guest;
        let (core, esr) = (&mut vcpu.core, syndrome.esr);
        let answer = guest.answer_at_once(index, core, word, esr, sctlr, &mut host.gic);
        let Some(kick) = answer else {
            return Answered::No(MaybeLocked::Locked(resident));
        };
        let also = host.fill(guest);
        let unlocked = resident.unlock();
        self.kick(VcpuMask(kick.0 | also.0).without(index));
        Answered::Yes { unlocked, made_room: false }
    }

    /// Answers an access to the UART.
    #[inline]
    fn answer_uart(
        &self,
        unlocked: Unlocked,
        vcpu: &mut Vcpu,
        access: PlainAccess,
        esr: u64,
        host: &mut RunningOn,
    ) -> Answered<'_> {
        let sctlr = host.loaded.sctlr_el1();
        let mut resident = self.lock(unlocked);
        let guest = &mut resident.guest;
        let answer = guest.uart_at_once(&mut vcpu.core, access, esr, sctlr);
        let Some(OfUart { kick, sent }) = answer else {
            return Answered::No(MaybeLocked::Locked(resident));
        };
        let also = host.fill(guest);
        let unlocked = resident.unlock();
        self.kick(VcpuMask(kick.0 | also.0).without(host.index));
        if let Some(byte) = sent {
            above::get().transmit(self, byte);
        }
        Answered::Yes { unlocked, made_room: true }
    }

    /// Takes the physical interrupt that is pending. Answers it if it is that of a timer or a device of the guest, and the list register in which it was
    /// offered before is all that changes. Else returns it.
    #[inline(never)]
    fn take_at_once(
        &self,
        unlocked: Unlocked,
        vcpu: &mut Vcpu,
        host: &mut RunningOn,
    ) -> (Unlocked, Option<Taken>) {
        let Some(interrupt) = host.gic.take() else { return (unlocked, Some(Taken::Own)) };
        let spi = match interrupt.intid() {
            gic::VIRTUAL_TIMER => None,
            intid => match self.given.spi(intid) {
                Some(spi) => Some(spi),
                None => return self.take_own(interrupt, unlocked, vcpu, host),
            },
        };
        let mut resident = self.lock(unlocked);
        let is_done = resident.guest.comes_again(host.index, spi, &mut host.gic);
        let unlocked = resident.unlock();
        if !is_done {
            return (unlocked, Some(Taken::Other(interrupt)));
        }
        if spi.is_none() {
            host.watch_active_timer();
            host.set_timer(&unlocked);
        }
        (unlocked, None)
    }

    /// Does as [`Self::take_at_once`] says, with an interrupt that is not the guest's: EL2's timer may have fired for the guest's physical timer.
    #[inline]
    fn take_own(
        &self,
        interrupt: Acknowledged,
        unlocked: Unlocked,
        vcpu: &mut Vcpu,
        host: &mut RunningOn,
    ) -> (Unlocked, Option<Taken>) {
        let taken = interrupts::sort(interrupt, &host.gic);
        match taken {
            Taken::Timer => {}
            Taken::Own => return self.take_kick(unlocked, host),
            Taken::Other(_) => return (unlocked, Some(taken)),
        }
        let Some(now) = host.note_timer() else { return (unlocked, Some(taken)) };
        let mut resident = self.lock(unlocked);
        let due = resident.guest.timer_comes_again(host.index, vcpu, now, &mut host.gic);
        let unlocked = resident.unlock();
        let Some(due) = due else { return (unlocked, Some(taken)) };
        host.tick_by(due);
        host.set_timer(&unlocked);
        (unlocked, None)
    }

    /// Answers a kick, if it was sent for the vCPU's list registers alone. Whoever wants something else from now on sends a kick of its own.
    #[inline]
    fn take_kick(&self, unlocked: Unlocked, host: &mut RunningOn) -> (Unlocked, Option<Taken>) {
        let VcpuPlace { roster, hold, takes_over, .. } = host.place;
        let is_left_to_do =
            roster.must_decide() || self.must_leave() || hold.is_wanted() || self.news.is_there();
        if is_left_to_do {
            return (unlocked, Some(Taken::Own));
        }
        let mut resident = self.lock(unlocked);
        let guest = &mut resident.guest;
        let steps = guest.clock.is_stepped() || guest.crash().is_some();
        if steps || takes_over.is_left() || resident.ram.has_unseen() {
            return (resident.unlock(), Some(Taken::Own));
        }
        self.receive_at_entry(&mut resident.guest, host);
        let kick = host.fill(&mut resident.guest);
        let unlocked = resident.unlock();
        self.kick(kick);
        (unlocked, None)
    }

    #[inline]
    fn answer_exit<'a>(
        &'a self,
        lock: MaybeLocked<'a>,
        vcpu: &mut Vcpu,
        syndrome: Syndrome,
        host: &mut RunningOn<'a>,
    ) -> (Next, Locked<'a>) {
        let index = host.index;
        let mut exit = exit::decode(syndrome);
        host.place.stats.left(Reason::of(&exit));
        let mut held = Held::nobody(self, index);
        let mut resident = lock.lock(self);
        // What the guest reads of its GIC has what was sent before.
        self.receive(index, &mut resident.guest);
        loop {
            if let Some(fault) = exit.fault() {
                match self.answer_write(&mut resident, fault, host) {
                    Answer::Other => {}
                    Answer::Again | Answer::Later => return (Next::Enter, resident),
                    Answer::NoMemory => return (Next::Starved, resident),
                }
                resident.describe(&mut exit, &vcpu.core, &host.loaded);
            }
            let exited = &mut Exited { index, vcpu, host, esr: syndrome.esr };
            let answer = resident.exit(exited, &exit, held.vcpus());
            let missing = match answer {
                Ok(next) => return (next, resident),
                // The access is about interrupts in other cores' list registers.
                Err(missing) => missing,
            };
            let (all_stand_still, unlocked) =
                self.make_stand_still(&mut held, missing, resident, host);
            if !all_stand_still {
                drop(held);
                return (Next::Enter, self.lock(unlocked));
            }
            resident = self.lock(unlocked);
        }
    }
}
