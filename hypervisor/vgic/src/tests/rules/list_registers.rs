//! Rules 1 to 4: more interrupts than list registers.

use super::*;

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
