//! The rules that break hypervisors when missed: what published ones got wrong, one test each.

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

    /// Returns whether there is a maintenance interrupt while none is pending, and for ends of what is in no list register.
    fn armed(&self, vcpu: usize) -> (bool, bool) {
        let control = self.cores[vcpu].control;
        (control.tells_none_pending(), control.tells_unlisted_ends())
    }

    fn resident(&self, vcpu: usize) -> Vec<u16> {
        self.cores[vcpu].residents().map(|lr| lr.intid).collect()
    }
}

#[test]
fn rule_01_four_active_and_a_fifth_pending_make_progress_in_one_exit() {
    let mut machine = nested(4, 4);
    assert_eq!(machine.exits, 0);
    machine.priority(0, 40, 0xf0);
    machine.pulse_as_edge(40);
    // `settle` fails if the maintenance interrupt does not go away.
    assert_eq!(machine.cores[0].misr(), 0);
    assert_eq!(machine.exits, 0);
    assert!(machine.resident(0).contains(&40));
    for n in (0..4).rev() {
        machine.eoir(0, 32 + n);
    }
    // The one that was evicted took one exit to deactivate.
    assert_eq!(machine.exits, 1);
    assert_eq!(machine.iar(0), 40);
    machine.eoir(0, 40);
    assert_eq!(machine.iar(0), SPURIOUS);
}

#[test]
fn rule_02_the_worst_gives_way_and_never_a_better_one() {
    let mut machine = Machine::new(1, 4);
    for (intid, priority) in [(32, 0x40), (33, 0x50), (34, 0x60), (35, 0x60)] {
        machine.priority(0, intid, priority);
        machine.spi(intid as u16, true);
    }
    // Worse than all: it waits.
    machine.priority(0, 36, 0x70);
    machine.spi(36, true);
    assert_eq!(machine.resident(0), [32, 33, 34, 35]);
    // As good as the worst two, with a greater INTID: it waits.
    machine.priority(0, 37, 0x60);
    machine.spi(37, true);
    assert_eq!(machine.resident(0), [32, 33, 34, 35]);
    // Better than the worst: of those, the greatest INTID goes.
    machine.priority(0, 38, 0x58);
    machine.spi(38, true);
    assert_eq!(machine.resident(0), [32, 33, 38, 34]);
}

#[test]
fn rule_02_an_active_one_gives_way_if_no_pending_one_is_worse() {
    let mut machine = nested(4, 3);
    machine.priority(0, 40, 0x20);
    machine.priority(0, 41, 0x30);
    machine.spi(41, true);
    machine.spi(40, true);
    // Active: 34 (0xe0), 33 (0xe8), 32 (0xf0). The last gives way, and not the pending 41.
    assert_eq!(machine.resident(0), [40, 41, 34, 33]);
    // At the same priority, the active one stays.
    machine.priority(0, 42, 0xe8);
    machine.spi(42, true);
    assert_eq!(machine.resident(0), [40, 41, 34, 33]);
}

#[test]
fn rule_02_equal_priorities_go_by_intid_also_when_one_comes_again_while_active() {
    for list_registers in 1..=4 {
        let mut machine = Machine::new(1, list_registers);
        machine.pulse_as_edge(36);
        assert_eq!(machine.iar(0), 36);
        machine.pulse(36);
        machine.write(0, SGIR, 4, 2 << 24 | 1);
        machine.write(0, SGIR, 4, 2 << 24);
        machine.pulse_as_edge(35);
        machine.eoir(0, 36);
        for intid in [0, 1, 35, 36] {
            assert_eq!(machine.iar(0), intid, "{list_registers} list registers");
            machine.eoir(0, intid);
        }
    }
}

#[test]
fn rule_03_maintenance_interrupts_are_armed_only_while_something_is_spilled() {
    let mut machine = Machine::new(1, 2);
    for intid in 32..36 {
        machine.edge(intid);
    }
    machine.pulse(32);
    machine.pulse(33);
    assert_eq!(machine.armed(0), (false, false));
    machine.pulse(34);
    assert_eq!(machine.armed(0), (true, false));
    for intid in 32..35 {
        assert_eq!(machine.iar(0), intid);
        machine.eoir(0, intid);
    }
    assert_eq!((machine.armed(0), machine.exits), ((false, false), 1));

    let mut machine = nested(2, 3);
    assert_eq!(machine.armed(0), (false, true));
    for intid in (32..35).rev() {
        machine.eoir(0, intid);
    }
    assert_eq!(machine.armed(0), (false, false));
}

#[test]
fn rule_04_eoi_count_deactivates_spilled_active_interrupts() {
    let mut machine = nested(2, 6);
    assert_eq!(machine.resident(0), [37, 36]);
    let active = machine.read(0, ISACTIVER + 4, 4);
    assert_eq!(active, 0b11_1111);
    for n in (0..6).rev() {
        machine.eoir(0, 32 + n);
        // In the order of the priorities, after those that had list registers.
        assert_eq!(machine.read(0, ISACTIVER + 4, 4), (1 << n) - 1);
    }
}

#[test]
fn rule_04_several_eois_in_one_exit_are_all_counted() {
    let mut machine = nested(2, 20);
    // Nothing is served in between, as if the maintenance interrupt were late.
    for n in (0..20).rev() {
        machine.cores[0].eoir(32 + n);
    }
    assert_eq!(machine.cores[0].unlisted_ends, 18);
    machine.settle(0);
    assert_eq!(machine.read(0, ISACTIVER + 4, 4), 0);
    assert_eq!(machine.cores[0].unlisted_ends, 0, "the count starts anew");
}

#[test]
fn rule_04_with_eoi_mode_1_the_trapped_dir_deactivates_in_any_order() {
    let mut machine = Machine::new(1, 2);
    machine.cores[0].interface.ctlr |= EOI_MODE;
    for intid in 32..38 {
        machine.edge(intid);
        machine.pulse(intid as u16);
    }
    for intid in 32..38 {
        assert_eq!(machine.iar(0), intid);
        machine.eoir(0, intid);
    }
    for (intid, left) in [(36, 0b10_1111), (32, 0b10_1110), (37, 0b1110), (34, 0b1010)] {
        machine.dir(0, intid);
        assert_eq!(machine.read(0, ISACTIVER + 4, 4), left);
    }
}

#[test]
fn rule_04_with_eoi_mode_1_dir_is_counted_if_it_is_not_trapped() {
    let mut machine = Machine::new(1, 1);
    machine.cores[0].interface.ctlr |= EOI_MODE;
    for intid in 32..35 {
        machine.edge(intid);
        machine.pulse(intid as u16);
        assert_eq!(machine.iar(0), intid as u32);
        machine.eoir(0, intid as u32);
    }
    for intid in 32..35 {
        machine.cores[0].dir(intid);
        machine.settle(0);
    }
    assert_eq!(machine.read(0, ISACTIVER + 4, 4), 0);
}

#[test]
fn rule_05_clearing_a_resident_interrupt_takes_it_back() {
    let mut machine = Machine::new(1, 4);
    machine.edge(32);
    machine.pulse(32);
    machine.write(0, ICPENDR + 4, 4, 1);
    assert_eq!(machine.iar(0), SPURIOUS);

    machine.pulse(32);
    machine.write(0, ICENABLER + 4, 4, 1);
    assert_eq!(machine.iar(0), SPURIOUS);
    assert!(machine.pending(0, 32), "it stays pending");
    machine.write(0, ISENABLER + 4, 4, 1);
    assert_eq!(machine.iar(0), 32);

    machine.write(0, ICENABLER + 4, 4, 1);
    assert!(machine.active(0, 32), "it stays active");
    machine.write(0, ICACTIVER + 4, 4, 1);
    assert!(!machine.active(0, 32));
    assert!(machine.resident(0).is_empty());
}

#[test]
fn rule_05_a_physical_interrupt_is_deactivated_exactly_once() {
    // By ICACTIVER, while it is in a list register and while it is spilled.
    for list_registers in [4, 1] {
        let mut machine = Machine::new(1, list_registers);
        machine.timer(0, true);
        assert_eq!(machine.iar(0), 27);
        machine.timers[0] = false;
        machine.cores[0].line = false;
        machine.priority(0, 32, 0x20);
        machine.spi(32, true);
        machine.write(0, ICACTIVER, 4, 1 << 27);
        assert!(!machine.cores[0].active);
        assert_eq!(machine.cores[0].deactivated, 1);
        assert!(!machine.active(0, 27) && !machine.pending(0, 27));
    }
    // By an EOI that only EOICount tells of.
    let mut machine = Machine::new(1, 1);
    machine.timer(0, true);
    assert_eq!(machine.iar(0), 27);
    machine.cores[0].line = false;
    machine.edge(32);
    machine.priority(0, 32, 0x20);
    machine.pulse(32);
    assert_eq!(machine.iar(0), 32);
    machine.eoir(0, 32);
    machine.pulse(33);
    machine.spi(33, true);
    machine.eoir(0, 27);
    assert!(!machine.cores[0].active);
    assert_eq!(machine.cores[0].deactivated, 1);
    assert_eq!(machine.iar(0), 33);
}

#[test]
fn rule_05_a_disabled_timer_is_not_orphaned() {
    let mut machine = Machine::new(1, 4);
    machine.timer(0, true);
    machine.write(0, ICENABLER, 4, 1 << 27);
    assert_eq!(machine.iar(0), SPURIOUS);
    assert!(machine.pending(0, 27) && machine.cores[0].active);
    // The guest stops the timer while it is disabled: nothing is left of it.
    machine.cores[0].line = false;
    assert!(!machine.pending(0, 27) && !machine.cores[0].active);
    // And it works as before.
    machine.timer(0, true);
    machine.write(0, ISENABLER, 4, 1 << 27);
    assert_eq!(machine.iar(0), 27);
}

#[test]
fn rule_06_one_sgi_from_every_source_while_active_from_another() {
    for list_registers in [1, 4] {
        let mut machine = Machine::new(8, list_registers);
        machine.write(5, SGIR, 4, 1 << 16 | 3);
        let first = machine.iar(0);
        assert_eq!(first, 5 << 10 | 3);
        for source in (0..8).rev() {
            machine.write(source, SGIR, 4, 1 << 16 | 3);
        }
        assert_eq!(machine.read(0, SPENDSGIR, 4), 0xff << 24);
        assert_eq!(machine.iar(0), SPURIOUS, "it is active");
        // Another one preempts it, and spills it.
        machine.priority(0, 32, 0x20);
        machine.edge(32);
        machine.pulse(32);
        assert_eq!(machine.iar(0), 32);
        machine.checkpoint_and_resume();
        machine.eoir(0, 32);
        machine.eoir(0, first);
        for source in 0..8 {
            let ack = machine.iar(0);
            assert_eq!(ack, source << 10 | 3);
            machine.eoir(0, ack);
        }
        assert_eq!(machine.iar(0), SPURIOUS);
    }
}

#[test]
fn rule_06_an_sgi_sent_again_between_its_acknowledge_and_the_next_exit_is_not_lost() {
    let mut machine = Machine::new(2, 4);
    machine.write(1, SGIR, 4, 1 << 16);
    // The guest acknowledges it; no exit since. On the other core the same is sent again.
    let ack = machine.cores[0].iar();
    machine.write(1, SGIR, 4, 1 << 16);
    machine.eoir(0, ack);
    assert_eq!(machine.iar(0), 1 << 10);
}

#[test]
fn rule_07_sgir_filters() {
    let sent = |from, value| {
        let mut machine = Machine::new(3, 4);
        machine.write(from, SGIR, 4, value);
        [0, 1, 2].map(|vcpu| machine.read(vcpu, SPENDSGIR, 4) as u8)
    };
    let from_1 = 0b10;
    assert_eq!(sent(1, 0b101 << 16), [from_1, 0, from_1], "a list");
    assert_eq!(sent(1, 0b010 << 16), [0, from_1, 0], "a list with itself only");
    assert_eq!(sent(1, 0), [0, 0, 0], "an empty list");
    assert_eq!(sent(1, 0b1111_1000 << 16), [0, 0, 0], "absent CPUs");
    assert_eq!(sent(1, 1 << 24 | 0xff << 16), [from_1, 0, from_1], "all others");
    assert_eq!(sent(1, 2 << 24 | 0xff << 16), [0, from_1, 0], "itself");
    assert_eq!(sent(1, 3 << 24), [from_1; 3], "reserved: all, as QEMU has it");
}

#[test]
fn rule_09_a_level_is_sampled_again_when_it_is_deactivated() {
    let mut machine = Machine::new(1, 4);
    machine.spi(32, true);
    for _ in 0..3 {
        assert_eq!(machine.iar(0), 32);
        assert_eq!(machine.iar(0), SPURIOUS);
        machine.eoir(0, 32);
    }
    assert_eq!(machine.iar(0), 32);
    machine.spi(32, false);
    machine.eoir(0, 32);
    assert_eq!(machine.iar(0), SPURIOUS);
}

#[test]
fn rule_09_a_line_that_falls_takes_a_pending_interrupt_away() {
    let mut machine = Machine::new(1, 4);
    machine.spi(32, true);
    machine.spi(32, false);
    assert_eq!(machine.iar(0), SPURIOUS);
    machine.timer(0, true);
    machine.timer(0, false);
    assert_eq!(machine.iar(0), SPURIOUS);
    assert!(!machine.cores[0].active);
}

#[test]
fn rule_09_what_is_injected_while_disabled_is_kept() {
    let mut machine = Machine::new(1, 4);
    machine.edge(33);
    machine.write(0, ICENABLER + 4, 4, 3);
    machine.pulse(33);
    machine.spi(32, true);
    assert_eq!(machine.iar(0), SPURIOUS);
    machine.write(0, ISENABLER + 4, 4, 3);
    assert_eq!(machine.iar(0), 32);
    machine.spi(32, false);
    machine.eoir(0, 32);
    assert_eq!(machine.iar(0), 33);
}

#[test]
fn rule_09_the_latch_of_a_level_interrupt_is_apart_from_its_line() {
    let mut machine = Machine::new(1, 4);
    // The line falls, the latch stays; the acknowledge clears it.
    machine.spi(32, true);
    machine.write(0, ISPENDR + 4, 4, 1);
    machine.spi(32, false);
    assert!(machine.pending(0, 32));
    assert_eq!(machine.iar(0), 32);
    assert!(!machine.pending(0, 32));
    machine.eoir(0, 32);
    assert_eq!(machine.iar(0), SPURIOUS);
    // ICPENDR clears the latch, and not the line.
    machine.spi(32, true);
    machine.write(0, ISPENDR + 4, 4, 1);
    machine.write(0, ICPENDR + 4, 4, 1);
    assert!(machine.pending(0, 32));
    machine.spi(32, false);
    assert!(!machine.pending(0, 32));
}

#[test]
fn rule_09_a_linked_list_register_is_never_pending_and_active() {
    let mut machine = Machine::new(1, 4);
    machine.timer(0, true);
    assert_eq!(machine.iar(0), 27);
    // `Core::check` fails if it were. It must come again all the same.
    machine.write(0, ISPENDR, 4, 1 << 27);
    machine.cores[0].line = false;
    machine.eoir(0, 27);
    assert!(!machine.cores[0].active);
    assert_eq!(machine.cores[0].deactivated, 1);
    assert_eq!(machine.iar(0), 27);
    machine.eoir(0, 27);
    assert_eq!(machine.iar(0), SPURIOUS);
}

#[test]
fn rule_10_the_interface_switches_with_the_list_registers_also_in_nested_handlers() {
    let mut machine = nested(4, 3);
    machine.cores[0].interface.pmr = 0xf0;
    machine.cores[0].interface.bpr = 4;
    machine.cores[0].interface.abpr = 5;
    let before = machine.cores[0].interface;
    machine.save(0);
    // Priorities 0xf0, 0xe8 and 0xe0, of 128 levels.
    let apr = *machine.vgic.cpus()[0].state.cc_apr;
    assert_eq!(apr, [0, 0, 0, 1 << 24 | 1 << 20 | 1 << 16]);
    machine.load(0);
    assert_eq!(machine.cores[0].interface, before);
    machine.checkpoint_and_resume();
    assert_eq!(machine.cores[0].interface, before);
    for n in (0..3).rev() {
        machine.eoir(0, 32 + n);
    }
    assert_eq!(machine.cores[0].interface.apr, 0);
    machine.spi(50, true);
    assert_eq!(machine.iar(0), 50, "a stale bit would leave the guest deaf");
}

#[test]
fn rule_10_binary_points_below_the_least_are_stored_as_the_least() {
    for stored in 0..=7 {
        let mut machine = Machine::new(1, 4);
        // GICV keeps what the guest stores, as QEMU's does with 1 and 2 in GICC_ABPR.
        machine.cores[0].interface.bpr = stored;
        machine.cores[0].interface.abpr = stored;
        machine.save(0);
        let state = &machine.vgic.cpus()[0].state;
        assert_eq!((*state.cc_bpr, *state.cc_abpr), (stored.max(2), stored.max(3)));
        machine.load(0);
    }
}

#[test]
fn rule_11_the_virtual_interface_is_off_while_it_is_switched() {
    // `Core` fails on a write to VMCR or APR while it is on, and a read of HCR comes before.
    let mut machine = nested(2, 4);
    machine.save(0);
    assert_eq!(machine.cores[0].control, Control::OFF);
    machine.load(0);
    assert!(machine.cores[0].control.is_on());
}

#[test]
fn rule_12_a_fresh_vcpu_finds_nothing_of_the_one_before() {
    let mut machine = nested(2, 4);
    machine.timer(0, true);
    machine.spi(50, true);
    // `save` and `load` of the machine fail on anything that is left.
    machine.save(0);
    let mut fresh = Machine::at_reset(1, 2);
    fresh.save(0);
    fresh.cores = machine.cores;
    fresh.load(0);
    assert!(fresh.cores[0].list_registers.iter().all(|&lr| lr == ListRegister::EMPTY));
    assert_eq!(fresh.cores[0].interface.apr, 0);
    assert_eq!(fresh.cores[0].interface.ctlr, 0);
}

#[test]
fn rule_13_each_vcpu_gets_its_own_banked_registers_back() {
    let mut machine = Machine::new(3, 4);
    for vcpu in 0..3 {
        let n = vcpu as u32;
        machine.write(vcpu, ICENABLER, 4, u32::MAX);
        machine.write(vcpu, ISENABLER, 4, 1 << (20 + n));
        machine.priority(vcpu, 20, 0x10 * (n as u8 + 1));
        machine.write(vcpu, IGROUPR, 4, 1 << n);
        machine.write(vcpu, ISPENDR, 4, 1 << (24 + n));
    }
    machine.write(0, ITARGETSR + 8 + 32, 1, 0b100);
    machine.checkpoint_and_resume();
    for vcpu in 0..3 {
        let n = vcpu as u32;
        assert_eq!(machine.read(vcpu, ISENABLER, 4), 0xffff | 1 << (20 + n));
        assert_eq!(machine.read(vcpu, IPRIORITYR + 20, 1), 0x10 * (n + 1));
        assert_eq!(machine.read(vcpu, IGROUPR, 4), 1 << n);
        assert_eq!(machine.read(vcpu, ISPENDR, 4), 1 << (24 + n));
        assert_eq!(machine.read(vcpu, ITARGETSR, 4), 0x0101_0101 << n);
    }
    assert_eq!(machine.read(1, ITARGETSR + 8 + 32, 1), 0b100);
}

#[test]
fn rule_14_save_load_save_gives_the_same_records() {
    let mut machine = nested(2, 5);
    for intid in 40..50 {
        machine.spi(intid, true);
    }
    machine.write(0, SGIR, 4, 2 << 24 | 7);
    machine.timer(0, true);
    machine.save(0);
    let records = |machine: &Machine| {
        (machine.vgic.distributor().clone(), machine.vgic.cpus()[0].state.clone())
    };
    let first = records(&machine);
    for _ in 0..3 {
        machine.load(0);
        machine.save(0);
        assert_eq!(records(&machine), first);
    }
}

#[test]
fn rule_14_nothing_is_lost_when_everything_is_pending_at_once() {
    let mut machine = Machine::new(8, 1);
    for intid in 32..64 {
        machine.spi(intid, true);
    }
    for vcpu in 0..8 {
        machine.write(vcpu, ISPENDR, 4, 0xf7ff_0000);
        for sgi in 0..16 {
            machine.write(vcpu, SGIR, 4, 0xff << 16 | sgi);
        }
    }
    let mut count = 0;
    loop {
        let ack = machine.iar(0);
        if ack == SPURIOUS {
            break;
        }
        let intid = (ack & 0x3ff) as u16;
        if intid >= 32 {
            machine.spi(intid, false);
        }
        machine.eoir(0, ack);
        count += 1;
    }
    assert_eq!(count, 16 * 8 + 15 + 32);
}

#[test]
fn rule_15_a_timer_that_expired_while_the_vcpu_was_away_fires_once() {
    let mut machine = Machine::new(1, 4);
    machine.save(0);
    machine.timer(0, true);
    machine.load(0);
    assert_eq!(machine.iar(0), 27);
    machine.timer(0, false);
    machine.eoir(0, 27);
    assert_eq!(machine.iar(0), SPURIOUS);
    // Pending and masked: no storm, and it is still there afterwards.
    machine.write(0, ICENABLER, 4, 1 << 27);
    machine.timer(0, true);
    machine.save(0);
    machine.load(0);
    assert!(machine.pending(0, 27));
    machine.write(0, ISENABLER, 4, 1 << 27);
    assert_eq!(machine.iar(0), 27);
}

#[test]
fn rule_16_no_list_register_beyond_the_last_is_touched() {
    // `Core` fails if one is.
    for list_registers in 1..=16 {
        let mut machine = nested(list_registers, 20);
        machine.checkpoint_and_resume();
        for n in (0..20).rev() {
            machine.eoir(0, 32 + n);
        }
    }
    // More than are used are left alone.
    let mut machine = nested(64, 20);
    machine.save(0);
    assert!(machine.cores[0].list_registers.iter().all(|&lr| lr == ListRegister::EMPTY));
}

#[test]
fn rule_17_an_active_physical_interrupt_moves_to_another_core() {
    let mut machine = Machine::new(1, 4);
    machine.timer(0, true);
    assert_eq!(machine.iar(0), 27);
    machine.save(0);
    assert!(!machine.cores[0].active);
    // Another core; `Core` fails if the physical state is set or cleared twice.
    machine.cores[0] = super::hardware::Core::new(2);
    machine.cores[0].line = true;
    machine.vgic.load(0, &mut machine.cores[0]);
    machine.enter(0);
    assert!(machine.cores[0].active, "it would fire again at once");
    let active = ListRegister {
        intid: VIRTUAL_TIMER,
        priority: 0xa0,
        group1: false,
        state: State::Active,
        origin: Origin::Hardware { physical: VIRTUAL_TIMER },
    };
    assert_eq!(machine.cores[0].list_registers[0], active);
    machine.timers[0] = false;
    machine.cores[0].line = false;
    machine.eoir(0, 27);
    assert!(!machine.cores[0].active && !machine.pending(0, 27));
    assert_eq!(machine.iar(0), SPURIOUS);
    machine.timer(0, true);
    assert_eq!(machine.iar(0), 27);
}

#[test]
fn rule_18_a_guest_that_ends_leaves_no_physical_interrupt_active() {
    let mut machine = Machine::new(1, 4);
    machine.vgic.link(40, VIRTUAL_TIMER).unwrap();
    machine.cores[0].active = true;
    let (linked, effects) = machine.vgic.hardware_interrupt(0, 40);
    assert!(linked);
    machine.serve(effects);
    assert_eq!(machine.iar(0), 40);
    let _ = machine.vgic.save(0, &mut machine.cores[0]);
    assert!(machine.cores[0].active, "an SPI stays active without a vCPU");
    let _ = machine.vgic.release_physical(&mut machine.cores[0]);
    assert!(!machine.cores[0].active);
}

#[test]
fn rule_19_a_retargeted_interrupt_is_in_one_list_register_only() {
    let mut machine = Machine::new(2, 4);
    machine.spi(40, true);
    assert_eq!(machine.resident(0), [40]);
    machine.write(0, ITARGETSR + 40, 1, 0b10);
    assert_eq!((machine.resident(0), machine.resident(1)), (vec![], vec![40]));
    // Active, it stays with its holder, and goes to its new target when it is deactivated.
    assert_eq!(machine.iar(1), 40);
    machine.write(0, ITARGETSR + 40, 1, 0b01);
    assert_eq!((machine.resident(0), machine.resident(1)), (vec![], vec![40]));
    machine.eoir(1, 40);
    assert_eq!((machine.resident(0), machine.resident(1)), (vec![40], vec![]));
    // Spilled, it leaves the queue of the one for that of the other.
    for intid in 32..36 {
        machine.spi(intid, true);
    }
    assert_eq!(machine.resident(0), [32, 33, 34, 35]);
    machine.write(0, ITARGETSR + 40, 1, 0b10);
    assert_eq!(machine.resident(1), [40]);
}

#[test]
fn rule_20_a_list_register_whose_eoi_is_unhandled_is_not_taken_for_empty() {
    let mut machine = Machine::new(1, 1);
    machine.spi(32, true);
    let ack = machine.cores[0].iar();
    machine.cores[0].eoir(ack);
    assert!(machine.cores[0].list_registers[0].asks_for_maintenance());
    // The line falls and the vCPU leaves before the maintenance interrupt is served.
    let _ = machine.vgic.set_spi_level(32, false);
    machine.save(0);
    machine.load(0);
    assert_eq!(machine.cores[0].misr(), 0);
    assert_eq!(machine.iar(0), SPURIOUS);
}

#[test]
fn rule_17_the_records_have_the_line_of_an_active_physical_interrupt() {
    let mut machine = Machine::new(1, 4);
    machine.timer(0, true);
    assert_eq!(machine.iar(0), 27);
    machine.save(0);
    assert_eq!(*machine.vgic.cpus()[0].state.priv_level, 1 << 27);
    machine.load(0);
    // The handler has set the next deadline; it is not over yet.
    machine.timers[0] = false;
    machine.cores[0].line = false;
    machine.save(0);
    assert_eq!(*machine.vgic.cpus()[0].state.priv_level, 0);
    assert_eq!(*machine.vgic.cpus()[0].state.priv_active, 1 << 27);
    machine.load(0);
    machine.eoir(0, 27);
    assert_eq!(machine.iar(0), SPURIOUS);
}
