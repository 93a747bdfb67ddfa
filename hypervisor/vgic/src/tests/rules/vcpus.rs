//! Rules 10 to 20: vCPUs that come, go and end, and what stays of them.

use super::*;
use crate::tests::hardware::Core;

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
    machine.cores[0] = Core::new(2);
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
