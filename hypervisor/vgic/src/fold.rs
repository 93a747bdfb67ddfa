//! From the list registers to the records: what the guest has done with what it was offered.

use core::mem;

use crate::changed::Changed;
use crate::hardware::VirtualInterface;
use crate::interface::{ActivePriorities, Control, PackedControl};
use crate::irq::{Irq, bits};
use crate::list_register::ListRegister;
use crate::vcpus::Effects;
use crate::vgic::{Resident, Vgic, VirtualCpu};

/// What a fold of list registers leaves to be done.
struct Folded {
    effects: Effects,
    /// The list registers whose physical interrupts must be ended: bit n is list register n.
    ended: u32,
}

impl Vgic {
    /// Folds what the guest has done since it was entered. The vCPU stays loaded, and the next
    /// [`Vgic::enter`] fills its list registers again. On a maintenance interrupt, call this before
    /// INTID 25 is deactivated: it takes the cause away.
    pub fn sync(&mut self, vcpu: usize, hw: &mut impl VirtualInterface) -> Effects {
        let cpu = &mut self.cpus[vcpu];
        if !cpu.loaded || cpu.synced {
            return Effects::default();
        }
        let unlisted_ends = unlisted_ends(cpu.control, hw);
        let quiet = Control::on(false, false);
        if cpu.control != quiet {
            cpu.control = quiet;
            hw.write_control(quiet);
        }
        let mut effects = self.fold(vcpu, unlisted_ends, hw);
        effects.kick = effects.kick.without(vcpu);
        effects
    }

    /// Takes a vCPU off this core. The records are complete then, and the core's virtual interface
    /// is empty. Call this while the vCPU's virtual timer still runs: the timer's line is looked
    /// at.
    #[inline]
    pub fn save(&mut self, vcpu: usize, hw: &mut impl VirtualInterface) -> Effects {
        let cpu = &mut self.cpus[vcpu];
        if !cpu.loaded {
            return Effects::default();
        }
        // Where the vCPU was offered nothing, there is nothing to fold: as in `enter`.
        if cpu.used == 0 && self.links.is_idle(vcpu) {
            hw.write_control(Control::OFF);
            cpu.leave(hw);
            return Effects::default();
        }
        self.save_list_registers(vcpu, hw)
    }

    #[inline(never)]
    fn save_list_registers(&mut self, vcpu: usize, hw: &mut impl VirtualInterface) -> Effects {
        let cpu = &mut self.cpus[vcpu];
        let mut effects = Effects::default();
        let was_synced = cpu.synced;
        let unlisted_ends = if was_synced { 0 } else { unlisted_ends(cpu.control, hw) };
        hw.write_control(Control::OFF);
        if !was_synced {
            effects = self.fold(vcpu, unlisted_ends, hw);
        }
        if !self.links.is_idle(vcpu) {
            self.resample(vcpu, hw);
            self.detach_physical(vcpu, hw);
        }
        let cpu = &mut self.cpus[vcpu];
        for (n, value) in cpu.values[..cpu.used].iter_mut().enumerate() {
            if mem::take(value).matters() {
                hw.write_list_register(n, ListRegister::EMPTY);
            }
        }
        cpu.leave(hw);
        effects.kick = effects.kick.without(vcpu);
        effects
    }

    #[inline]
    fn fold(&mut self, vcpu: usize, unlisted_ends: u32, hw: &mut impl VirtualInterface) -> Effects {
        // Unlisted ends come first, while the queue of active interrupts has only those that were
        // in no list register.
        let mut effects = Effects::default();
        if unlisted_ends != 0 {
            effects |= self.fold_unlisted_ends(vcpu, unlisted_ends, hw);
        }
        let cpu = &mut self.cpus[vcpu];
        cpu.synced = true;
        cpu.changed = Changed::Anything;
        if !cpu.residents.is_empty() {
            effects |= self.fold_residents(vcpu, hw);
        }
        effects
    }

    #[inline(never)]
    fn fold_residents(&mut self, vcpu: usize, hw: &mut impl VirtualInterface) -> Effects {
        let cpu = &mut self.cpus[vcpu];
        let read = mem::take(&mut cpu.read);
        for n in 0..cpu.residents.len() {
            if read >> n & 1 == 0 {
                cpu.found[n] = hw.read_state(n);
            }
        }
        let Folded { mut effects, ended } = self.fold_list_registers(vcpu);
        if ended != 0 {
            effects |= self.end_physical_of(vcpu, ended, hw);
        }
        self.cpus[vcpu].residents.clear();
        effects
    }

    /// Ends the physical interrupts of what was in the list registers of the mask `ended`.
    #[cold]
    fn end_physical_of(
        &mut self,
        vcpu: usize,
        ended: u32,
        hw: &mut impl VirtualInterface,
    ) -> Effects {
        let mut effects = Effects::default();
        for n in bits(ended) {
            let intid = self.cpus[vcpu].residents[n].intid;
            self.end_physical(vcpu, intid, hw);
            effects |= self.relocate(vcpu, intid);
        }
        effects
    }

    /// Folds what has become of the interrupts in the list registers in use. Compiled here, and not
    /// where `hw` is known: so it is built for speed.
    #[inline(never)]
    fn fold_list_registers(&mut self, vcpu: usize) -> Folded {
        let mut folded = Folded { effects: Effects::default(), ended: 0 };
        for n in 0..self.cpus[vcpu].residents.len() {
            let cpu = &mut self.cpus[vcpu];
            let Resident { intid, cause, refired } = cpu.residents[n];
            let offered = cpu.offered[n];
            let value = offered.with_state(cpu.found[n]);
            cpu.values[n] = value;
            let taken = offered.is_pending() && !value.is_pending();
            cpu.taken += u64::from(taken);

            let mut irq = self.irq(vcpu, intid);
            let has_ended = irq.fold(vcpu, cause, value);
            // A physical interrupt that has come again since is not the one that the guest has
            // deactivated.
            if has_ended && !refired && self.links.active_physical(vcpu, intid).is_some() {
                if offered.is_hardware() {
                    // The guest's own deactivation ended the physical interrupt. If its line is
                    // still high, it will come again.
                    self.links.note(vcpu, intid, false);
                    irq.lower();
                } else {
                    folded.ended |= 1 << n;
                }
            }
            let place = irq.wanted_place();
            self.write_back(vcpu, intid, &irq, place);
            folded.effects |= self.insert(intid, place);
        }
        folded
    }

    /// Deactivates the `count` interrupts that the guest has ended while they were in no list
    /// register. The hardware only counts them; a guest that nests its handlers ends the best
    /// first.
    #[cold]
    fn fold_unlisted_ends(
        &mut self,
        vcpu: usize,
        count: u32,
        hw: &mut impl VirtualInterface,
    ) -> Effects {
        let mut effects = Effects::default();
        for _ in 0..count {
            let Some((_, intid)) = self.cpus[vcpu].waiting.first_active() else {
                break;
            };
            effects |= self.change(vcpu, intid, Irq::deactivate);
            self.end_physical(vcpu, intid, hw);
            effects |= self.relocate(vcpu, intid);
        }
        effects
    }
}

impl VirtualCpu {
    /// Saves what the guest sees of its CPU interface. Its list registers are folded and empty, and
    /// its interface is off.
    #[inline]
    fn leave(&mut self, hw: &mut impl VirtualInterface) {
        let machine = hw.read_packed_control();
        // Guests set it once.
        if machine != self.machine {
            self.note_control(machine);
        }
        let state = &mut self.state;
        *state.cc_apr = [0; 4];
        let active = hw.read_active_priorities();
        // Seldom: in the midst of a handler. None is left active, and so none needs to be cleared
        // when a vCPU is loaded.
        if active != ActivePriorities::NONE {
            hw.write_active_priorities(ActivePriorities::NONE);
            *state.cc_apr = active.levels();
        }
        self.control = Control::OFF;
        self.synced = true;
        self.changed = Changed::Anything;
        self.loaded = false;
    }

    /// Notes what the guest has set in its CPU interface.
    #[inline(never)]
    fn note_control(&mut self, control: PackedControl) {
        self.machine = PackedControl::new(control.unpack().stored(&mut self.state));
    }
}

/// Returns how many ends only the hardware knows of: none unless active interrupts were spilled,
/// and the interface told of such ends.
fn unlisted_ends(control: Control, hw: &mut impl VirtualInterface) -> u32 {
    if control.tells_unlisted_ends() { hw.read_unlisted_ends() } else { 0 }
}
