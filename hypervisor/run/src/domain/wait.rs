//! The wait of a vCPU for an interrupt.
//!
//! A vCPU that waits stays loaded for as long as nobody else wants the core: then nothing must be
//! saved and loaded again.

use super::Domain;
use super::host::RunningOn;
use super::lock::Locked;
use super::turn::Leaves;
use crate::interrupts;
use crate::roster::{Turn, Who};
use stasis_arch::{cpu, timer};
use stasis_guest::timer::Timer;
use stasis_guest::{Vcpu, Wait};

impl Domain {
    /// Makes the vCPU wait for an interrupt. An error says why it leaves its core. Takes and
    /// returns what the vCPUs share, locked.
    pub(super) fn wait<'a>(
        &'a self,
        mut resident: Locked<'a>,
        vcpu: &mut Vcpu,
        host: &mut RunningOn<'a>,
    ) -> (Result<(), Leaves>, Locked<'a>) {
        let (index, place) = (host.index, host.place);
        // Devices may be served again, or requests that were left would wait for as long as the
        // vCPU sleeps: the interrupt that makes it come back for them may come later than the
        // guest's WFI.
        host.note_exit();
        let kick = self.pass_news(&mut resident, host);
        host.errands.outbox.kick(kick);
        if host.errands.outbox.has_work {
            // The vCPU's devices are served before it enters, and it may wait afterwards.
            return (Ok(()), resident);
        }
        let guest = &mut resident.guest;
        host.errands.outbox.kick(guest.vgic.sync(index, &mut host.gic).kick);
        let virtual_timer =
            Timer { ctl: host.loaded.cntv_ctl_el0(), cval: host.loaded.cntv_cval_el0() };
        let deadline = host.pass_time(guest, vcpu, timer::counter());
        if !host.errands.outbox.is_empty() {
            // Before the vCPU sleeps, carry out what it has left to do for others.
            let unlocked = resident.unlock();
            host.carry_out(&unlocked);
            resident = self.lock(unlocked);
        }
        let guest = &resident.guest;
        let Wait::Until(until) = guest.wait(index, virtual_timer, deadline, timer::counter())
        else {
            return (Ok(()), resident);
        };
        if !place.roster.sleep(place.task, until) {
            return (Ok(()), resident);
        }
        self.sleep_loaded(until, resident, vcpu, host)
    }

    /// Waits on the core, until the counter reads `until` at the latest, for the vCPU to be woken,
    /// which sleeps and stays loaded. An error says why it leaves its core.
    #[inline(always)]
    fn sleep_loaded<'a>(
        &'a self,
        until: u64,
        mut resident: Locked<'a>,
        vcpu: &mut Vcpu,
        host: &mut RunningOn<'a>,
    ) -> (Result<(), Leaves>, Locked<'a>) {
        let (index, place) = (host.index, host.place);
        host.look_by(until);
        // The vCPU's list registers are folded.
        place.hold.end_running();
        place.stats.end(timer::counter());
        loop {
            if host.keep_core() {
                break;
            }
            let idle_until = match &*host.next {
                Turn { who: Who::Nobody, stay, .. } => stay.until,
                _ => return (Err(Leaves::ForOthers), resident),
            };
            let unlocked = resident.unlock();
            if host.carry_out(&unlocked) {
                resident = self.lock(unlocked);
                continue;
            }
            timer::set_deadline(idle_until);
            cpu::wait_for_interrupt();
            let taken = interrupts::take(place.roster, &host.gic);
            resident = self.lock(unlocked);
            self.pass_taken(taken, &mut resident.guest, vcpu, host);
            // Whoever wants the guest, or has ended it, may have sent the interrupt that was taken,
            // and sends no other one.
            if self.must_leave() {
                return (Err(Leaves::Asleep), resident);
            }
            // Mostly this vCPU was woken, and nobody else.
            if let Some(stay) = place.roster.resume(place.task) {
                host.extend_turn(stay);
                break;
            }
            if resident.guest.vgic.cpus()[index].is_called() {
                place.roster.kick(place.task);
            }
        }
        place.hold.begin_running();
        place.stats.go_on(timer::counter());
        (Ok(()), resident)
    }
}
