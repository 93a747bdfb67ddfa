//! One list register alone, beside the whole way: each entry of each test is made in both ways, and
//! nothing that a guest, another vCPU or a checkpoint can see may differ. And what the short way
//! costs, in accesses to GICH, over many histories.

use proptest::collection::vec;
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;
use zerocopy::IntoBytes;

use super::hardware::Core;
use super::machine::{ICACTIVER, ICENABLER, ISACTIVER, ISPENDR, Machine, SGIR};
use super::random::{Op, accesses_of, cases, op};
use crate::Vgic;
use crate::changed::Changed;

impl Vgic {
    /// Makes the next entry of `vcpu` fold all list registers, if anything has changed.
    pub fn fold_all_next(&mut self, vcpu: usize) {
        let changed = &mut self.cpus[vcpu].changed;
        if let Changed::One(_) = changed {
            *changed = Changed::Anything;
        }
    }
}

/// A vCPU's way into its guest on a copy of everything, by a fold of all list registers and the
/// filling of all.
pub struct WholeWay {
    vgic: Vgic,
    core: Core,
}

impl WholeWay {
    /// Enters `vcpu`, before whose entry `first` happens.
    pub fn entered(machine: &Machine, vcpu: usize, first: impl FnOnce(&mut Vgic)) -> Self {
        let mut whole = Self { vgic: machine.vgic.clone(), core: machine.cores[vcpu].clone() };
        first(&mut whole.vgic);
        whole.vgic.fold_all_next(vcpu);
        let _ = whole.vgic.enter(vcpu, &mut whole.core);
        whole
    }

    /// Checks that the machine, in which the vCPU was entered by whatever way, is the same to all
    /// who look.
    pub fn compare(mut self, machine: &Machine, vcpu: usize) {
        let (mut vgic, mut core) = (machine.vgic.clone(), machine.cores[vcpu].clone());
        let (short, whole) = (core.accesses, self.core.accesses);
        assert!(short.reads <= whole.reads && short.writes <= whole.writes, "{short:?}, {whole:?}");
        // A list register that the guest has ended may ask for the next source of its SGI: the
        // whole way is ahead of that.
        for (vgic, core) in [(&mut vgic, &mut core), (&mut self.vgic, &mut self.core)] {
            if core.misr() != 0 {
                let _ = vgic.sync(vcpu, core);
                let _ = vgic.enter(vcpu, core);
            }
        }
        assert_eq!(core.offered(), self.core.offered(), "what list registers hold");
        assert_eq!(core.best_offer(), self.core.best_offer(), "what the guest takes next");
        assert_eq!((core.control, core.active), (self.core.control, self.core.active));
        assert_eq!((core.misr(), self.core.misr()), (0, 0), "the maintenance interrupt");
        let _ = vgic.save(vcpu, &mut core);
        let _ = self.vgic.save(vcpu, &mut self.core);
        assert_eq!(core.active, self.core.active, "the physical interrupt after a save");
        let same = vgic.dist.as_bytes() == self.vgic.dist.as_bytes();
        assert!(same, "the distributor's records: {:?}, not {:?}", vgic.dist, self.vgic.dist);
        assert_eq!(vgic.spi_places, self.vgic.spi_places);
        for (one, other) in vgic.cpus.iter().zip(&self.vgic.cpus) {
            let same = one.state.as_bytes() == other.state.as_bytes();
            assert!(same, "the records of a vCPU: {:?}, not {:?}", one.state, other.state);
            assert_eq!(one.places, other.places);
            assert_eq!(one.waiting, other.waiting);
            assert_eq!(one.taken, other.taken, "interrupts that were seen to be taken");
        }
    }
}

/// Makes vCPU 0 take what it is offered, which must be `intid`.
fn take(machine: &mut Machine, intid: u32) {
    assert_eq!(machine.iar(0) & 0x3ff, intid);
}

#[test]
fn a_ppi_whose_line_fell_in_its_handler_is_not_active_when_the_line_rises_again() {
    let mut machine = Machine::new(1, 4);
    machine.ppi(0, 30, true);
    take(&mut machine, 30);
    machine.ppi(0, 30, false);
    machine.eoir(0, 30);
    let reads = machine.cores[0].accesses.reads;
    machine.ppi(0, 30, true);
    assert_eq!(machine.cores[0].accesses.reads, reads + 1, "one list register alone");
    machine.save(0);
    assert_eq!(*machine.vgic.cpus[0].state.priv_active, 0);
}

#[test]
fn an_interrupt_gets_the_list_register_of_one_that_has_ended() {
    let mut machine = Machine::new(1, 4);
    machine.timer(0, true);
    take(&mut machine, 27);
    machine.cores[0].line = false;
    machine.eoir(0, 27);
    machine.write(0, SGIR, 4, 2 << 24 | 3);
    assert_eq!(machine.cores[0].list_registers[0].intid, 3);
    assert!(
        !machine.vgic.has_active_physical(0),
        "the timer's interrupt has ended with its list register"
    );
}

#[test]
fn an_sgi_to_oneself_waits_for_those_of_other_sources() {
    let mut machine = Machine::new(2, 4);
    machine.write(0, SGIR, 4, 2 << 24 | 3);
    // The SGI stays pending from vCPU 0, and from vCPU 1 behind that.
    machine.write(1, SGIR, 4, 1 << 16 | 3);
    machine.write(0, SGIR, 4, 2 << 24 | 3);
    assert_eq!(machine.iar(0), 3);
    machine.eoir(0, 3);
    assert_eq!(machine.iar(0), 1 << 10 | 3);
    machine.eoir(0, 1 << 10 | 3);
    assert_eq!(machine.iar(0), 1023);
}

#[test]
fn a_physical_interrupt_without_a_list_register_makes_the_next_entry_look_at_its_line() {
    let mut machine = Machine::new(1, 4);
    machine.write(0, ICENABLER, 4, 1 << 27);
    machine.timer(0, true);
    machine.write(0, SGIR, 4, 2 << 24 | 3);
    machine.cores[0].line = false;
    take(&mut machine, 3);
    machine.eoir(0, 3);
    machine.write(0, SGIR, 4, 2 << 24 | 3);
    assert!(!machine.cores[0].active, "the physical interrupt has ended");
}

#[test]
fn a_timer_that_came_while_it_was_active_is_looked_at_again_when_it_is_cleared() {
    for folds_all in [false, true] {
        let mut machine = Machine::new(1, 14);
        machine.folds_all = folds_all;
        machine.write(0, ISACTIVER, 4, 1 << 27);
        machine.timer(0, true);
        machine.timer(0, false);
        machine.write(0, ICACTIVER, 4, 1 << 27);
        assert!(!machine.cores[0].signals(), "the line has fallen");
    }
}

#[test]
fn what_a_reading_of_pending_states_has_read_is_not_read_again_by_the_entry_behind_it() {
    // Something has changed before.
    let behind_a_change = vec![
        Op::Spi(32, false),
        Op::Ppi(0, true),
        Op::Sgi(0, 1 << 16),
        Op::Acknowledge(0),
        Op::Spi(32, true),
        Op::Ppi(0, false),
        Op::Read(0, ISPENDR + 4, 4),
    ];
    // The guest has ended what is in the list register.
    let behind_an_end = vec![
        Op::Sgi(0, 2 << 24),
        Op::Acknowledge(0),
        Op::EndOfInterrupt(0),
        Op::Read(0, ISPENDR, 4),
        Op::Spi(32, false),
    ];
    for history in [behind_a_change, behind_an_end] {
        let cost = |folds_all| accesses_of(2, 1, folds_all, history.clone());
        assert_eq!(cost(false).reads, cost(true).reads, "{history:?}");
    }
}

/// Each entry alone costs no more, as [`WholeWay::compare`] sees. A whole history may: what the
/// short way leaves in a list register for good reason can be read later, when the whole way has
/// nothing to read. The sum over many says which way is cheaper.
#[test]
fn histories_together_read_and_write_less_of_gich_than_by_the_whole_way() {
    let mut runner = TestRunner::deterministic();
    let history = (1usize..=6, vec(op(2), 1..200));
    let (mut one, mut all) = ((0, 0), (0, 0));
    for _ in 0..cases() {
        let (list_registers, ops) = history.new_tree(&mut runner).unwrap().current();
        for (folds_all, sum) in [(false, &mut one), (true, &mut all)] {
            let cost = accesses_of(2, list_registers, folds_all, ops.clone());
            *sum = (sum.0 + cost.reads, sum.1 + cost.writes);
        }
    }
    println!("reads and writes: {one:?}, and by the whole way {all:?}");
    assert!(one.0 < all.0 && one.1 <= all.1, "{one:?}, not {all:?}");
}
