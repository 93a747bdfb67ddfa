//! The loop of a loaded vCPU: entries into its guest, and exits.

use super::Domain;
use super::first_look::AtExit;
use super::first_write::Answer;
use super::host::RunningOn;
use super::lock::{Locked, Unlocked};
use super::turn::Leaves;
use crate::interrupts::Taken;
use stasis_arch::cpu;
use stasis_arch::world::{ExitKind, Loaded};
use stasis_cores::hold::Held;
use stasis_guest::exit::{self, Syndrome};
use stasis_guest::stats::Reason;
use stasis_guest::stop::Stopped;
use stasis_guest::{Exited, Next, Vcpu, Whole};

/// Reason why a vCPU has left its guest.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Left {
    /// An exit that the first look has not answered: [`syndrome`] describes it.
    Exit,
    /// A physical interrupt, or none any more, which the first look has not answered:
    /// [`RunningOn::taken`].
    Interrupt,
    /// The exit was answered, and this core must decide anew, or has more to do.
    Answered,
    /// The guest stops for its debugger: [`RunningOn::debugged`] says why.
    Debugged,
}

/// Returns the syndrome of the exit that was just taken.
#[inline(always)]
pub(super) fn syndrome() -> Syndrome {
    let cpu::FaultAddress { far, hpfar } = cpu::fault_address();
    Syndrome { esr: cpu::syndrome(), far, hpfar }
}

/// Notes how the guest stops, and returns that the vCPU leaves for that.
#[inline(never)]
fn stops(host: &mut RunningOn, how: Stopped) -> Leaves {
    host.stopped = Some(how);
    Leaves::Stopped
}

impl Domain {
    /// Enters and answers exits until the vCPU leaves its core. Returns why it does, and what the
    /// vCPUs share, locked.
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
            if roster.must_decide() && !host.keep_core() {
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
            let (left, unlocked) = match host.debugger {
                None => Self::enter(unlocked, vcpu, host),
                Some(wanted) => self.enter_debugged(wanted, unlocked, vcpu, host),
            };
            let next;
            (next, resident) = self.answer(left, unlocked, vcpu, host);
            if let Some(leaves) = next {
                return (leaves, resident);
            }
        }
    }

    /// Answers what the vCPU has left its guest for. Returns why it leaves its core; None if it
    /// enters again.
    #[inline(always)]
    fn answer<'a>(
        &'a self,
        left: Left,
        unlocked: Unlocked,
        vcpu: &mut Vcpu,
        host: &mut RunningOn<'a>,
    ) -> (Option<Leaves>, Locked<'a>) {
        match left {
            Left::Exit => {
                let (next, resident) = self.answer_exit(unlocked, vcpu, syndrome(), host);
                self.do_next(next, resident, vcpu, host)
            }
            Left::Debugged => (Some(Leaves::Debugged), self.lock(unlocked)),
            Left::Answered => (None, self.lock(unlocked)),
            Left::Interrupt => {
                let mut resident = self.step_clock(unlocked, host);
                self.pass_taken(host.taken, &mut resident.guest, vcpu, host);
                let leaves = match resident.guest.crash() {
                    Some(crash) => Some(stops(host, Stopped::Crash(crash))),
                    None => self.must_leave().then_some(Leaves::Unwanted),
                };
                (leaves, resident)
            }
        }
    }

    /// Does what follows from the answer to an exit. Returns why the vCPU leaves its core; None if
    /// it enters again.
    #[inline(always)]
    fn do_next<'a>(
        &'a self,
        next: Next,
        mut resident: Locked<'a>,
        vcpu: &mut Vcpu,
        host: &mut RunningOn<'a>,
    ) -> (Option<Leaves>, Locked<'a>) {
        let leaves = match next {
            Next::Enter => return (None, resident),
            Next::Wait => {
                let waited;
                (waited, resident) = self.wait(resident, vcpu, host);
                match (waited, resident.guest.crash()) {
                    (Ok(()), None) => return (None, resident),
                    (Ok(()), Some(crash)) => stops(host, Stopped::Crash(crash)),
                    (Err(leaves), _) => leaves,
                }
            }
            Next::NoRam { address } => {
                resident.await_ram(address, host);
                return (None, resident);
            }
            Next::Starved => Leaves::Starved,
            Next::VcpuOff => Leaves::VcpuOff,
            Next::Off => stops(host, Stopped::Off),
            Next::Reset => stops(host, Stopped::Reset),
            Next::Crashed(crash) => stops(host, Stopped::Crash(crash)),
        };
        (Some(leaves), resident)
    }

    /// Fills the list registers. While somebody wants this vCPU held, folds them instead and stands
    /// still; leaves them folded if the core must decide.
    #[inline]
    fn prepare_entry<'a>(
        &'a self,
        mut resident: Locked<'a>,
        vcpu: &mut Vcpu,
        host: &mut RunningOn,
    ) -> Locked<'a> {
        let (index, hold) = (host.index, &host.place.hold);
        loop {
            if self.news.is_there() {
                let kick = self.pass_news(&mut resident, host);
                host.errands.outbox.kick(kick);
            }
            let guest = &mut resident.guest;
            host.place.receive(guest);
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
    /// What others want of this vCPU meanwhile is not delayed: they kick its core, so the next
    /// entry ends at once.
    #[inline]
    fn enter(mut unlocked: Unlocked, vcpu: &mut Vcpu, host: &mut RunningOn) -> (Left, Unlocked) {
        let stats = &host.place.stats;
        loop {
            match Loaded::enter(AtExit::of(host, &mut unlocked), vcpu) {
                ExitKind::Answered => return (Left::Answered, unlocked),
                ExitKind::Interrupt if matches!(host.taken, Taken::TurnOver) => {
                    host.note_exit();
                    return (Left::Answered, unlocked);
                }
                ExitKind::Interrupt => return (Left::Interrupt, unlocked),
                ExitKind::Synchronous => {
                    if !host.lend_debug(vcpu, syndrome()) {
                        return (Left::Exit, unlocked);
                    }
                    stats.left(Reason::Register);
                }
                // The cause of the SError is unknown, but the last access was the guest's.
                ExitKind::SError => {
                    stats.left(Reason::Fault);
                    host.loaded.set_virtual_serror();
                }
            }
        }
    }

    #[inline]
    fn answer_exit<'a>(
        &'a self,
        unlocked: Unlocked,
        vcpu: &mut Vcpu,
        syndrome: Syndrome,
        host: &mut RunningOn<'a>,
    ) -> (Next, Locked<'a>) {
        let index = host.index;
        let mut exit = exit::decode(syndrome);
        host.place.stats.left(Reason::of(&exit));
        let mut held = Held::nobody(self, index);
        let mut resident = self.lock(unlocked);
        // What the guest reads of its GIC has what was sent before.
        host.place.receive(&mut resident.guest);
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
