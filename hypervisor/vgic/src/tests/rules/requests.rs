//! Rules 5 to 9: what a guest clears, sends and samples.

use super::*;

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
