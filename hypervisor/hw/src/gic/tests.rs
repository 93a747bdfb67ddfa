//! The drivers of the GIC on one that does what the architecture says.

use super::fake::{GICC, GICD, GICH, Gic};
use super::*;
use crate::mmio::fake::frame;
use stasis_vgic::{ListRegister, State};
use std::cell::RefCell;
use std::rc::Rc;

const KICK: u32 = 3;
const TIMER: u32 = 27;
const SPI: u32 = 33;
const OTHER_SPI: u32 = 70;

/// Returns a GIC of `cores` cores whose drivers have set it up on all of them, and core 0 in front
/// of it.
fn set_up(cores: usize) -> (Rc<RefCell<Gic>>, Distributor, CpuInterface) {
    let gic = Gic::attach(cores, 64, 4);
    let (distributor, cpu) = (Distributor::new(frame(GICD)), CpuInterface::new(frame(GICC)));
    distributor.init();
    for core in (0..cores).rev() {
        gic.borrow_mut().core = core;
        distributor.init_this_cpu();
        cpu.init_this_cpu();
    }
    (gic, distributor, cpu)
}

#[test]
fn nothing_that_a_firmware_has_left_comes() {
    let (gic, distributor, cpu) = set_up(2);
    assert_eq!(distributor.intid_count(), 96);
    for core in 0..2 {
        gic.borrow_mut().core = core;
        assert_eq!(cpu.acknowledge(), None);
        for intid in 0..96 {
            let interrupt = *gic.borrow_mut().interrupt(intid).unwrap();
            let state = (interrupt.enabled, interrupt.latched, interrupt.senders, interrupt.active);
            assert_eq!(state, (intid < 16, false, 0, false), "{intid}");
            assert_eq!(interrupt.priority, 0xa0);
        }
        assert_eq!(gic.borrow().banks[core].active_priorities, [0; 4]);
    }
}

#[test]
fn an_interrupt_comes_while_it_is_enabled_and_only_to_its_core() {
    let (gic, distributor, cpu) = set_up(2);
    distributor.set_targets(SPI, 0b10);
    gic.borrow_mut().set_line(SPI as usize, true);
    distributor.enable(OTHER_SPI);
    assert_eq!(cpu.acknowledge(), None, "core 0, and it is disabled");
    gic.borrow_mut().core = 1;
    assert_eq!(cpu.acknowledge(), None, "it is disabled");
    distributor.enable(SPI);
    gic.borrow_mut().core = 0;
    assert_eq!(cpu.acknowledge(), None, "it is core 1's");
    gic.borrow_mut().core = 1;
    assert_eq!(cpu.acknowledge().map(Acknowledged::intid), Some(SPI));
    assert!(gic.borrow_mut().interrupt(OTHER_SPI as usize).unwrap().enabled, "one bit was written");
    distributor.disable(OTHER_SPI);
    assert!(gic.borrow_mut().interrupt(SPI as usize).unwrap().enabled, "one bit was written");
}

#[test]
fn an_interrupt_stays_active_after_its_priority_was_dropped_and_others_come() {
    let (gic, distributor, cpu) = set_up(1);
    for intid in [TIMER, SPI] {
        distributor.set_targets(SPI, 1);
        distributor.enable(intid);
        gic.borrow_mut().set_line(intid as usize, true);
    }
    let timer = cpu.acknowledge().unwrap();
    assert_eq!(timer.intid(), TIMER, "of equal priorities the lowest number");
    assert_eq!(cpu.acknowledge(), None, "no other one preempts it");
    cpu.drop_priority(timer);
    assert!(distributor.is_active(TIMER) && !distributor.is_active(SPI));
    let device = cpu.acknowledge().unwrap();
    assert_eq!(device.intid(), SPI);
    cpu.drop_priority(device);
    assert_eq!(cpu.acknowledge(), None, "both are active, though their lines are high");
    cpu.deactivate(timer);
    assert_eq!(cpu.acknowledge(), Some(timer), "its line is still high");
}

#[test]
fn an_sgi_comes_to_each_of_its_cores_once_from_each_sender() {
    let (gic, distributor, cpu) = set_up(4);
    for sender in [0, 2] {
        gic.borrow_mut().core = sender;
        distributor.send_sgi(KICK, SgiTarget::List(0b1010));
    }
    for core in 0..4 {
        gic.borrow_mut().core = core;
        let expected = if core % 2 == 1 { 2 } else { 0 };
        for _ in 0..expected {
            let kick = cpu.acknowledge().unwrap();
            assert_eq!(kick.intid(), KICK);
            cpu.drop_priority(kick);
            cpu.deactivate(kick);
        }
        assert_eq!(cpu.acknowledge(), None);
    }
    gic.borrow_mut().core = 1;
    distributor.send_sgi(KICK, SgiTarget::AllOthers);
    let came = [0, 1, 2, 3].map(|core| {
        gic.borrow_mut().core = core;
        cpu.acknowledge().is_some()
    });
    assert_eq!(came, [true, false, true, true]);
}

#[test]
fn a_cores_mask_is_the_gics_own_number_of_it() {
    let (gic, distributor, _) = set_up(3);
    let masks = [0, 1, 2].map(|core| {
        gic.borrow_mut().core = core;
        distributor.this_cpu_mask()
    });
    assert_eq!(masks, [1, 2, 4]);
    let (_, distributor, _) = set_up(1);
    assert_eq!(distributor.this_cpu_mask(), 1, "a GIC of one core has none to read");
}

#[test]
fn what_is_private_is_each_cores_own() {
    let (gic, distributor, cpu) = set_up(2);
    distributor.enable(TIMER);
    gic.borrow_mut().core = 1;
    gic.borrow_mut().set_line(TIMER as usize, true);
    assert_eq!(cpu.acknowledge(), None, "it is enabled on core 0");
    assert!(distributor.is_pending(TIMER));
    gic.borrow_mut().core = 0;
    assert!(!distributor.is_pending(TIMER));
}

#[test]
fn a_level_is_pending_as_its_line_is_and_an_edge_until_it_is_forgotten() {
    let (gic, distributor, cpu) = set_up(1);
    distributor.set_edge(SPI, true);
    for intid in [SPI, OTHER_SPI] {
        distributor.set_targets(intid, 1);
        gic.borrow_mut().set_line(intid as usize, true);
        gic.borrow_mut().set_line(intid as usize, false);
    }
    assert_eq!([SPI, OTHER_SPI].map(|intid| distributor.is_pending(intid)), [true, false]);
    distributor.clear_pending(SPI);
    distributor.enable(SPI);
    assert_eq!(cpu.acknowledge(), None);
    let neighbours = [SPI as usize - 1, SPI as usize + 1];
    assert!(neighbours.iter().all(|intid| !gic.borrow_mut().interrupt(*intid).unwrap().edge));
    distributor.disable(SPI);
    distributor.set_edge(SPI, false);
    assert!(!gic.borrow_mut().interrupt(SPI as usize).unwrap().edge);
}

#[test]
fn what_is_made_active_does_not_come_until_it_is_made_inactive() {
    let (gic, distributor, cpu) = set_up(1);
    distributor.enable(TIMER);
    distributor.set_active(TIMER, true);
    gic.borrow_mut().set_line(TIMER as usize, true);
    assert_eq!((cpu.acknowledge(), distributor.is_active(TIMER)), (None, true));
    distributor.set_active(TIMER, false);
    assert_eq!(cpu.acknowledge().map(Acknowledged::intid), Some(TIMER));
}

#[test]
fn the_last_real_interrupt_is_taken_and_the_special_numbers_are_none() {
    let gic = Gic::attach(1, 988, 4);
    let (distributor, cpu) = (Distributor::new(frame(GICD)), CpuInterface::new(frame(GICC)));
    distributor.init();
    distributor.init_this_cpu();
    cpu.init_this_cpu();
    assert_eq!(distributor.intid_count(), 992);
    assert_eq!(cpu.acknowledge(), None);
    distributor.set_targets(991, 1);
    distributor.enable(991);
    gic.borrow_mut().set_line(991, true);
    assert_eq!(cpu.acknowledge().map(Acknowledged::intid), Some(991));
}

#[test]
fn each_core_has_its_own_list_registers() {
    let gic = Gic::attach(2, 32, 4);
    let here = VirtualInterfaceControl::new(frame(GICH));
    assert_eq!(here.list_registers(), 4);
    let pending = ListRegister { intid: 30, state: State::Pending, ..ListRegister::EMPTY };
    here.write_list_register(3, pending);
    gic.borrow_mut().core = 1;
    assert_eq!(here.read_state(3), State::Inactive);
    gic.borrow_mut().core = 0;
    assert_eq!([2, 3].map(|n| here.read_state(n)), [State::Inactive, State::Pending]);
}
