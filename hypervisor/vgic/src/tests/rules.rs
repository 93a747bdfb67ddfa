//! The rules that break hypervisors when missed: what published ones got wrong, one test each.

mod list_registers;
mod requests;
mod vcpus;

use super::interface::{EOI_MODE, SPURIOUS};
use super::machine::*;
use crate::{Control, ListRegister, Origin, State, VIRTUAL_TIMER};

/// SPIs 32.. with priorities 0xf0, 0xe8, 0xe0 and so on: each can preempt the one before.
fn nested(list_registers: usize, depth: u16) -> Machine {
    let mut machine = Machine::new(1, list_registers);
    for n in 0..depth {
        machine.priority(0, u64::from(32 + n), 0xf0 - 8 * n as u8);
        machine.pulse_as_edge(32 + n);
        assert_eq!(machine.iar(0), u32::from(32 + n));
    }
    machine
}

impl Machine {
    fn pulse_as_edge(&mut self, intid: u16) {
        self.edge(intid.into());
        self.pulse(intid);
    }

    fn active(&mut self, vcpu: usize, intid: u16) -> bool {
        let word = u64::from(intid / 32) * 4;
        self.read(vcpu, ISACTIVER + word, 4) & (1 << (intid % 32)) != 0
    }

    fn pending(&mut self, vcpu: usize, intid: u16) -> bool {
        let word = u64::from(intid / 32) * 4;
        self.read(vcpu, ISPENDR + word, 4) & (1 << (intid % 32)) != 0
    }

    /// Returns whether there is a maintenance interrupt while none is pending, and for ends of what
    /// is in no list register.
    fn armed(&self, vcpu: usize) -> (bool, bool) {
        let control = self.cores[vcpu].control;
        (control.tells_none_pending(), control.tells_unlisted_ends())
    }

    fn resident(&self, vcpu: usize) -> Vec<u16> {
        self.cores[vcpu].residents().map(|lr| lr.intid).collect()
    }
}
