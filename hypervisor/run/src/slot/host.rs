//! The core that a vCPU is loaded on, as the guest's logic wants it.

use super::Slot;
use crate::gic::{self, ThisCore};
use crate::{above, clock};
use stasis_arch::world::live;
use stasis_arch::{cpu, timer};
use stasis_vgic::VcpuMask;
use stasis_vm::guest::{Guest, Host, Vcpu};
use stasis_vm::inject::El1Registers;
use stasis_vm::sysreg::CacheRegister;

/// The core that a slot's guest is loaded on.
pub struct RunningOn<'a> {
    slot: &'a Slot,
    pub gic: ThisCore,
    el1: LoadedEl1,
    /// CNTVOFF_EL2.
    offset: u64,
    /// CNTVOFF_EL2, if the virtual timer must be watched: see [`clock::must_watch`].
    pub watched: Option<u64>,
    /// When the guest is to be told how time has passed.
    deadline: Option<u64>,
    /// When its virtual timer is to be looked at.
    look_at: Option<u64>,
    /// When the vCPU's turn on this core is over.
    turn_ends: Option<u64>,
}

impl<'a> RunningOn<'a> {
    /// This core, for a turn of a vCPU of the guest in `slot`.
    pub fn new(slot: &'a Slot, turn_ends: Option<u64>) -> Self {
        Self {
            slot,
            gic: ThisCore::here(),
            el1: LoadedEl1,
            offset: 0,
            watched: None,
            deadline: None,
            look_at: None,
            turn_ends,
        }
    }

    /// The guest's vCPU was loaded with this CNTVOFF_EL2.
    pub fn loaded_with(&mut self, offset: u64, guest: &Guest) {
        self.offset = offset;
        // A step does the same.
        let watched = !guest.clock.is_stepped() && clock::must_watch(offset);
        self.watched = watched.then_some(offset);
    }

    /// Has the guest's counter follow a step of its clock.
    pub fn follow(&mut self, guest: &Guest) {
        if let Some(offset) = guest.clock.offset().filter(|offset| *offset != self.offset) {
            self.offset = offset;
            timer::set_virtual_offset(offset);
        }
    }

    /// Gives the vCPU another turn.
    pub fn extend_turn(&mut self, turn_ends: Option<u64>) {
        self.turn_ends = turn_ends;
        self.set_timer();
    }

    fn set_timer(&self) {
        let soonest = |a: Option<u64>, b: Option<u64>| match (a, b) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        timer::set_deadline(soonest(soonest(self.deadline, self.look_at), self.turn_ends));
    }

    /// Lets time have passed for the guest, and has EL2's timer fire when it is to be told again.
    pub fn tick(&mut self, index: usize, guest: &mut Guest, vcpu: &mut Vcpu) {
        self.deadline = guest.tick(index, vcpu, self);
        self.watch_timer();
    }

    /// Has EL2's timer fire when the guest's virtual timer is to be looked at, where that does not always come by itself.
    pub fn watch_timer(&mut self) {
        self.look_at = None;
        if let Some(offset) = self.watched {
            timer::nudge_virtual();
            let now = timer::counter();
            let due = timer::virtual_compare_value().wrapping_add(offset);
            let latest = now + timer::frequency() / clock::WATCH_HZ;
            self.look_at = Some(if (now..latest).contains(&due) { due } else { latest });
        }
        // QEMU (10.0, `gic_complete_irq`) forgets an interrupt whose line is high when the guest's EOI
        // makes it inactive, until another one comes: have EL2's timer come then.
        if clock::timer_forgets() && gic::timer_is_active() {
            let look = timer::counter() + timer::frequency() / clock::WATCH_HZ;
            self.look_at = Some(self.look_at.map_or(look, |ticks| ticks.min(look)));
        }
        self.set_timer();
    }
}

impl Host for RunningOn<'_> {
    type Gic = ThisCore;
    type El1 = LoadedEl1;

    fn gic(&mut self) -> &mut ThisCore {
        &mut self.gic
    }

    fn el1(&mut self) -> &mut LoadedEl1 {
        &mut self.el1
    }

    fn counter(&self) -> u64 {
        timer::counter()
    }

    fn cache(&mut self, register: CacheRegister, written: Option<u64>) -> u64 {
        if let Some(value) = written {
            live::set_csselr_el1(value);
        }
        match register {
            CacheRegister::Levels => cpu::cache_levels(),
            CacheRegister::Size => cpu::cache_size(),
            CacheRegister::Selection => live::csselr_el1(),
        }
    }

    fn wall_time(&self) -> u64 {
        clock::wall_time()
    }

    fn transmit(&mut self, byte: u8) {
        above::get().transmit(self.slot, byte);
    }

    fn kick(&mut self, vcpus: VcpuMask) {
        self.slot.kick(vcpus);
    }

    fn ring(&mut self, n: u8, peer: u8) {
        if let Some(connected) = self.slot.shared().get(usize::from(n)) {
            connected.ring(peer);
        }
    }
}

/// The EL1 registers in the hardware.
pub struct LoadedEl1;

impl El1Registers for LoadedEl1 {
    fn vbar_el1(&self) -> u64 {
        live::vbar_el1()
    }

    fn sctlr_el1(&self) -> u64 {
        live::sctlr_el1()
    }

    fn set_elr_el1(&mut self, value: u64) {
        live::set_elr_el1(value);
    }

    fn set_spsr_el1(&mut self, value: u64) {
        live::set_spsr_el1(value);
    }

    fn set_esr_el1(&mut self, value: u64) {
        live::set_esr_el1(value);
    }

    fn set_far_el1(&mut self, value: u64) {
        live::set_far_el1(value);
    }
}
