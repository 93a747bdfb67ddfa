//! What the hot paths cost: accesses to GICH, each some hundred nanoseconds on hardware. And the
//! most that an access to GICD may cost, whatever a guest has done before: how many interrupts are
//! looked at.

use std::cell::Cell;
use std::iter;

use stasis_state::vgic::{CpuInterface, Distributor};

use super::hardware::{Accesses, Core};
use super::machine::*;
use crate::{Access, Vgic};

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
fn a_timer_tick_after_the_one_before_reads_nothing_and_writes_one() {
    let mut machine = Machine::new(1, 4);
    for _ in 0..2 {
        machine.timer(0, true);
        assert_eq!(machine.iar(0), 27);
        machine.cores[0].line = false;
        machine.eoir(0, 27);
    }
    assert_eq!(cost(&mut machine, |m| m.timer(0, true)), accesses(0, 1, 0));
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

thread_local! {
    static LOOKS: Cell<usize> = const { Cell::new(0) };
}

/// Counts that the state of an interrupt is read from the records.
pub fn look() {
    LOOKS.set(LOOKS.get() + 1);
}

/// Returns a guest with 8 vCPUs whose interrupts are all pending and enabled, after a `change`.
fn crowd(change: impl Fn(&mut Distributor, &mut CpuInterface)) -> (Distributor, CpuInterface) {
    let (mut dist, mut cpu) = (Distributor::default(), CpuInterface::default());
    (*dist.nr_irqs, *dist.nr_cpus, *dist.ctlr) = (288, 8, 3);
    dist.spi_enable[..8].fill(u32::MAX);
    dist.spi_latch[..8].fill(u32::MAX);
    dist.spi_targets[..256].fill(0x80);
    *cpu.priv_enable = u32::MAX;
    *cpu.priv_latch = 0xffff_0000;
    cpu.sgi_src.fill(0xff);
    change(&mut dist, &mut cpu);
    (dist, cpu)
}

/// Returns the number of interrupts that the hypervisor looks at for one access of vCPU 7, from one
/// entry to the next.
fn looks(dist: &Distributor, cpu: &CpuInterface, access: Access, write: Option<u64>) -> usize {
    let cpus = iter::repeat_n(cpu, 8).cloned();
    let mut vgic = Vgic::from_state(dist.clone().into(), cpus).unwrap();
    let mut core = Core::new(4);
    vgic.load(7, &mut core);
    let _ = vgic.enter(7, &mut core);
    LOOKS.set(0);
    let _ = match write {
        Some(value) => vgic.distributor_write(7, access, value, &mut core),
        None => vgic.distributor_read(7, access, &mut core).1,
    };
    let _ = vgic.enter(7, &mut core);
    LOOKS.get()
}

#[test]
fn an_access_looks_at_its_own_interrupts_and_a_few_more_whatever_is_pending() {
    let crowds = [
        crowd(|_, _| ()),
        crowd(|dist, _| *dist.ctlr = 0),
        crowd(|dist, cpu| {
            dist.spi_enable.fill(0);
            *cpu.priv_enable = 0xffff;
        }),
        crowd(|dist, cpu| {
            dist.spi_latch.fill(0);
            dist.spi_level[..8].fill(u32::MAX);
            // The lines of the timers.
            (*cpu.priv_latch, *cpu.priv_level) = (0, 1 << 27 | 1 << 30);
        }),
        crowd(|dist, cpu| {
            dist.spi_active[..8].fill(u32::MAX);
            dist.spi_active_cpu[..256].fill(7);
            *cpu.priv_active = u32::MAX;
        }),
    ];
    for (dist, cpu) in &crowds {
        for offset in (0..0x1000).step_by(8) {
            let access = Access::checked(offset, 8).unwrap();
            for write in [None, Some(0), Some(u64::MAX), Some(0x5555_5555_5555_5555)] {
                let looks = looks(dist, cpu, access, write);
                // Two words of 32 interrupts, and what list registers hold and get.
                assert!(looks <= 64 + 24, "{looks}, GICD {offset:#x}, {write:x?}");
            }
        }
    }
}
