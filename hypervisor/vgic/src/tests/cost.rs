//! What the hot paths cost: accesses to GICH, each some hundred nanoseconds on hardware.

use super::hardware::Accesses;
use super::machine::*;

fn cost(machine: &mut Machine, run: impl FnOnce(&mut Machine)) -> Accesses {
    let before = machine.cores[0].accesses;
    run(machine);
    let after = machine.cores[0].accesses;
    Accesses {
        reads: after.reads - before.reads,
        writes: after.writes - before.writes,
        physical: after.physical - before.physical,
    }
}

fn accesses(reads: usize, writes: usize, physical: usize) -> Accesses {
    Accesses { reads, writes, physical }
}

#[test]
fn an_entry_without_news_touches_no_hardware() {
    let mut machine = Machine::new(1, 4);
    machine.spi(40, true);
    machine.timer(0, true);
    let cost = cost(&mut machine, |machine| {
        machine.enter(0);
        // Registers that do not depend on what the guest has acknowledged.
        for offset in [CTLR, ISENABLER, IPRIORITYR, ITARGETSR, ICFGR] {
            machine.read(0, offset, 4);
        }
    });
    assert_eq!(cost, accesses(0, 0, 0));
}

#[test]
fn an_injection_into_empty_list_registers_is_one_write() {
    let mut machine = Machine::new(1, 4);
    assert_eq!(cost(&mut machine, |m| m.spi(40, true)), accesses(0, 1, 0));
    let mut machine = Machine::new(1, 4);
    assert_eq!(cost(&mut machine, |m| m.timer(0, true)), accesses(0, 1, 0));
}

#[test]
fn a_timer_tick_after_the_one_before_reads_one_and_writes_one() {
    let mut machine = Machine::new(1, 4);
    for _ in 0..2 {
        machine.timer(0, true);
        assert_eq!(machine.iar(0), 27);
        machine.cores[0].line = false;
        machine.eoir(0, 27);
    }
    assert_eq!(cost(&mut machine, |m| m.timer(0, true)), accesses(1, 1, 0));
    assert_eq!(machine.exits, 0);
}

#[test]
fn a_fold_reads_the_list_registers_in_use_and_four_more_at_most() {
    for in_use in 0..=6 {
        let mut machine = Machine::new(1, 8);
        for intid in 0..in_use {
            machine.spi(32 + intid as u16, true);
        }
        let found = cost(&mut machine, |m| m.save(0));
        // VMCR and APR.
        assert_eq!(found, accesses(in_use + 2, in_use + 1, 0));
        machine.load(0);
        let found = cost(&mut machine, |m| {
            let _ = m.vgic.sync(0, &mut m.cores[0]);
        });
        assert_eq!(found, accesses(in_use, 0, 0));
        // Nothing has changed: nothing is written.
        assert_eq!(cost(&mut machine, |m| m.enter(0)), accesses(0, 0, 0));
    }
    // Spilled, active ones among them: HCR besides.
    let mut machine = Machine::new(1, 1);
    machine.spi(40, true);
    machine.iar(0);
    machine.spi(41, true);
    assert_eq!(cost(&mut machine, |m| m.save(0)).reads, 1 + 3);
}

#[test]
fn an_sgi_to_an_idle_vcpu_is_one_write_on_its_core() {
    let mut machine = Machine::new(2, 4);
    assert_eq!(cost(&mut machine, |m| m.write(1, SGIR, 4, 1 << 16)), accesses(0, 1, 0));
}
