use proptest::prelude::*;
use stasis_state::vcpu::{Core, SystemRegisters};

use super::*;
use crate::exit::FaultKind;

const VBAR: u64 = 0xffff_8000_1000_0800;

fn fault(cause: Cause) -> Fault {
    Fault {
        cause,
        virtual_address: 0xdead_0004,
        ipa: Some(0x0400_0004),
        kind: FaultKind::Translation,
        on_walk: false,
    }
}

fn injected(mode: u64, fault: &Fault) -> (Core, SystemRegisters) {
    let mut core = Core::default();
    let mut system = SystemRegisters::default();
    *core.pc = 0x4000_1000;
    *core.pstate = mode;
    *system.vbar_el1 = VBAR;
    external_abort(&mut core, &mut system, fault);
    (core, system)
}

#[test]
fn a_load_from_nothing_is_an_external_abort_at_the_same_level() {
    let (core, system) = injected(pstate::EL1H, &fault(Cause::Load));
    assert_eq!(*system.esr_el1, 0x9600_0010);
    assert_eq!(*system.far_el1, 0xdead_0004);
    assert_eq!(*system.elr_el1, 0x4000_1000);
    assert_eq!(*system.spsr_el1, pstate::EL1H);
    assert_eq!(*core.pc, VBAR + 0x200);
    assert_eq!(*core.pstate, 0x3c5);
}

#[test]
fn the_vector_and_the_class_tell_where_it_came_from() {
    for (mode, offset, class) in [
        (pstate::EL1T, 0x000, 0x25),
        (pstate::EL1H, 0x200, 0x25),
        (pstate::EL0T, 0x400, 0x24),
        (pstate::AARCH32, 0x600, 0x24),
        (pstate::AARCH32 | pstate::THUMB, 0x600, 0x24),
    ] {
        let (core, system) = injected(mode, &fault(Cause::Load));
        assert_eq!(*core.pc, VBAR + offset, "{mode:#x}");
        assert_eq!(*system.esr_el1 >> 26, class, "{mode:#x}");
        assert_eq!(*system.spsr_el1, mode);
    }
}

#[test]
fn the_syndrome_tells_what_the_access_was() {
    for (cause, esr) in [
        (Cause::Load, 0x9600_0010),
        (Cause::Store, 0x9600_0050),
        (Cause::Maintenance, 0x9600_0150),
        (Cause::Fetch, 0x8600_0010),
    ] {
        let (_, system) = injected(pstate::EL1H, &fault(cause));
        assert_eq!(*system.esr_el1, esr, "{cause:?}");
    }
    let (_, system) = injected(pstate::EL0T, &fault(Cause::Fetch));
    assert_eq!(*system.esr_el1, 0x8200_0010);
}

#[test]
fn a_table_that_is_nowhere_is_an_external_abort_on_the_walk() {
    let on_walk = Fault { on_walk: true, ..fault(Cause::Store) };
    let (_, system) = injected(pstate::EL1H, &on_walk);
    assert_eq!(*system.esr_el1, 0x9600_0054);
}

#[test]
fn an_undefined_instruction_leaves_far_alone() {
    let mut core = Core::default();
    let mut system = SystemRegisters::default();
    *core.pstate = pstate::EL0T;
    *core.pc = 0x8000;
    *system.far_el1 = 5;
    undefined(&mut core, &mut system);
    assert_eq!(*system.esr_el1, 0x0200_0000);
    assert_eq!(*system.far_el1, 5);
    assert_eq!(*system.elr_el1, 0x8000);
    assert_eq!(*core.pc, 0x400);
}

#[test]
fn flags_stay_and_step_illegal_and_branch_type_go() {
    let old = pstate::EL0T | pstate::NZCV | pstate::SS | pstate::IL | pstate::BTYPE | pstate::SSBS;
    let mut core = Core::default();
    let mut system = SystemRegisters::default();
    *core.pstate = old;
    undefined(&mut core, &mut system);
    assert_eq!(*core.pstate, pstate::EL1H | pstate::DAIF | pstate::NZCV);
    assert_eq!(*system.spsr_el1, old);
}

#[test]
fn pan_is_set_unless_span_says_to_leave_it() {
    let mut core = Core::default();
    let mut system = SystemRegisters::default();
    *core.pstate = pstate::EL1H;
    *system.sctlr_el1 = 0;
    undefined(&mut core, &mut system);
    assert_ne!(*core.pstate & pstate::PAN, 0);

    *core.pstate = pstate::EL1H;
    *system.sctlr_el1 = SCTLR_SPAN;
    undefined(&mut core, &mut system);
    assert_eq!(*core.pstate & pstate::PAN, 0);
}

#[test]
fn ssbs_comes_from_sctlr() {
    let mut core = Core::default();
    let mut system = SystemRegisters::default();
    *system.sctlr_el1 |= SCTLR_DSSBS;
    undefined(&mut core, &mut system);
    assert_ne!(*core.pstate & pstate::SSBS, 0);
}

proptest! {
    #[test]
    fn every_injection_ends_at_el1_in_the_vector_table(
        old: u64, pc: u64, vbar: u64, sctlr: u64, address: u64, on_walk: bool,
    ) {
        let mut core = Core::default();
        let mut system = SystemRegisters::default();
        *core.pc = pc;
        *core.pstate = old;
        *system.vbar_el1 = vbar;
        *system.sctlr_el1 = sctlr;
        let fault = Fault { on_walk, virtual_address: address, ..fault(Cause::Load) };
        external_abort(&mut core, &mut system, &fault);
        prop_assert_eq!(*core.pstate & pstate::MODE, pstate::EL1H);
        prop_assert_eq!(*core.pstate & pstate::DAIF, pstate::DAIF);
        prop_assert_eq!(*core.pc & !0x7ff, vbar & !0x7ff);
        prop_assert_eq!((*system.elr_el1, *system.spsr_el1), (pc, old));
    }
}
