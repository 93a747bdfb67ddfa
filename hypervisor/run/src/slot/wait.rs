//! A vCPU that waits for an interrupt, and whether it keeps its core.
//!
//! It stays loaded for as long as nobody else wants the core: then nothing has to be saved, nor to be loaded again.

use super::host::RunningOn;
use super::run::Leaves;
use super::{Resident, Slot};
use crate::turns;
use spin::mutex::SpinMutexGuard;
use stasis_arch::world::live;
use stasis_arch::{cpu, timer};
use stasis_vm::guest::{Vcpu, Wait};
use stasis_vm::sched::Turn;
use stasis_vm::timer::Timer;

impl Slot {
    /// Has the core decide. An error is another's turn.
    #[inline]
    pub(super) fn keep_core(&self, host: &mut RunningOn) -> Result<(), Turn> {
        let turn = turns::decide();
        if turn.task != Some(host.place.task) {
            return Err(turn);
        }
        host.extend_turn(turn.until);
        Ok(())
    }

    /// Has the vCPU wait for an interrupt. An error says why it leaves its core.
    pub(super) fn wait<'a>(
        &'a self,
        mut resident: SpinMutexGuard<'a, Resident>,
        vcpu: &mut Vcpu,
        host: &mut RunningOn<'a>,
    ) -> Result<SpinMutexGuard<'a, Resident>, Leaves> {
        let (index, place) = (host.index, host.place);
        let guest = &mut resident.guest;
        self.pass_news(guest);
        let effects = guest.vgic.sync(index, &mut host.gic);
        self.kick(effects.kick.without(index));
        let virtual_timer = Timer { ctl: live::cntv_ctl_el0(), cval: live::cntv_cval_el0() };
        let deadline = host.pass_time(guest, vcpu);
        let Wait::Until(until) = guest.wait(index, virtual_timer, deadline, timer::counter())
        else {
            return Ok(resident);
        };
        if !turns::sleep(place.task, until) {
            return Ok(resident);
        }
        host.look_by(until);
        // Its list registers are folded.
        place.hold.end_running();
        place.stats.end(timer::counter());
        while let Err(turn) = self.keep_core(host) {
            if turn.task.is_some() {
                return Err(Leaves::ForOthers(turn));
            }
            if self.must_leave() {
                return Err(Leaves::Asleep);
            }
            drop(resident);
            timer::set_deadline(turn.until);
            cpu::wait_for_interrupt();
            resident = self.resident.lock();
            self.take_interrupts(&mut resident.guest, vcpu, host);
            // Who wants the guest, or has ended it, may have sent the interrupt that was taken, and sends no other one.
            if self.must_leave() {
                return Err(Leaves::Asleep);
            }
            // Mostly it was woken, and nobody else.
            if let Some(until) = turns::resume(place.task) {
                host.extend_turn(until);
                break;
            }
            if resident.guest.vgic.cpus()[index].is_called() {
                turns::kick(place.core, place.task);
            }
        }
        place.hold.begin_running();
        place.stats.go_on(timer::counter());
        Ok(resident)
    }
}
