//! Breakpoints and watchpoints as register values.

use crate::plan::{Action, Plan};
use crate::points::{Kind, Lacking, Limits, Pair, Points, Watchpoint};

const LIMITS: Limits = Limits { breakpoints: 2, watchpoints: 2 };

fn watch(address: u64, len: u64, kind: Kind) -> Watchpoint {
    Watchpoint { address, len, kind }
}

#[test]
fn a_breakpoint_stops_the_instruction_at_el1_and_el0() {
    let mut points = Points::default();
    points.add_breakpoint(0xffff_8000_1234_5678, LIMITS).unwrap();
    // E, PMC 0b11, BAS 0b1111: an address match at EL1 and EL0.
    let expected = Pair { value: 0xffff_8000_1234_5678, control: 0x1e7 };
    assert_eq!(points.breakpoint(0), expected);
    assert_eq!(points.breakpoint(1), Pair::default());
    assert!(points.has_breakpoint(0xffff_8000_1234_5678));
}

#[test]
fn a_watchpoint_selects_its_bytes_of_a_doubleword() {
    let mut points = Points::default();
    points.add_watchpoint(watch(0x4000_0004, 4, Kind::Store), LIMITS).unwrap();
    // E, PAC 0b11, LSC 0b10, BAS 0b11110000.
    assert_eq!(points.watchpoint(0), Pair { value: 0x4000_0000, control: 0x1e17 });
}

#[test]
fn a_watchpoint_of_a_page_has_a_mask() {
    let mut points = Points::default();
    points.add_watchpoint(watch(0x4000_1000, 4096, Kind::Both), LIMITS).unwrap();
    assert_eq!(points.watchpoint(0), Pair { value: 0x4000_1000, control: 12 << 24 | 0x1fff });
}

#[test]
fn bytes_that_one_watchpoint_cannot_watch_are_refused() {
    for (address, len) in [(6, 4), (0, 12), (8, 16), (0, 0), (u64::MAX, 2), (0, 1 << 32)] {
        let refused = Points::default().add_watchpoint(watch(address, len, Kind::Load), LIMITS);
        assert_eq!(refused, Err(Lacking::Shape { address, len }), "{address:#x}, {len}");
    }
}

#[test]
fn one_more_than_the_cpu_has_is_refused_and_one_that_goes_makes_room() {
    let mut points = Points::default();
    points.add_breakpoint(0, LIMITS).unwrap();
    points.add_breakpoint(4, LIMITS).unwrap();
    points.add_breakpoint(4, LIMITS).unwrap();
    assert_eq!(points.add_breakpoint(8, LIMITS), Err(Lacking::Breakpoint(2)));
    assert!(points.remove_breakpoint(0));
    assert!(!points.remove_breakpoint(0));
    points.add_breakpoint(8, LIMITS).unwrap();
    assert_eq!(points.add_breakpoint(9, LIMITS), Err(Lacking::Misaligned(9)));
}

#[test]
fn an_access_reported_beside_a_watchpoint_is_the_nearest_ones() {
    let mut points = Points::default();
    let (low, high) = (watch(0x1000, 8, Kind::Store), watch(0x1040, 8, Kind::Load));
    points.add_watchpoint(low, LIMITS).unwrap();
    points.add_watchpoint(high, LIMITS).unwrap();
    for (at, expected) in [(0x1004, low), (0xff8, low), (0x1038, high), (0x1044, high)] {
        assert_eq!(points.watchpoint_at(at), Some(expected), "{at:#x}");
    }
    assert_eq!(Points::default().watchpoint_at(0), None);
}

#[test]
fn the_cpu_says_how_many_there_are() {
    // A Cortex-A72: six breakpoints, four watchpoints.
    assert_eq!(Limits::of(0x1030_5106), Limits { breakpoints: 6, watchpoints: 4 });
}

#[test]
fn a_plan_enables_what_it_needs_and_never_exceptions_of_el2() {
    let mut plan = Plan::default();
    assert!(!plan.needs_registers(0), "the guest has its own");
    plan.points.add_breakpoint(0x1000, LIMITS).unwrap();
    plan.actions[1] = Action::Step;
    let registers = plan.registers(0);
    assert_eq!((registers.dbgbvr[0], registers.dbgbcr[0]), (0x1000, 0x1e7));
    assert_eq!((registers.dbgbcr[1], registers.dbgwcr[0]), (0, 0));
    // MDE alone, and with SS; never KDE.
    assert_eq!(*registers.mdscr_el1, 1 << 15);
    assert_eq!(*plan.registers(1).mdscr_el1, 1 << 15 | 1);
}

#[test]
fn an_access_by_a_tagged_address_hits_the_watchpoint_at_the_address() {
    let mut points = Points::default();
    let (low, high) = (watch(0x4000_0000, 8, Kind::Store), watch(0x5000_0000, 8, Kind::Store));
    points.add_watchpoint(low, LIMITS).unwrap();
    points.add_watchpoint(high, LIMITS).unwrap();
    assert_eq!(points.watchpoint_at(0x34 << 56 | 0x4000_0000), Some(low));
    assert_eq!(points.watchpoint_at(0x34 << 56 | 0x5000_0004), Some(high));
}

#[test]
fn unlike_cores_have_what_each_of_them_has() {
    let (big, little) =
        (Limits { breakpoints: 6, watchpoints: 2 }, Limits { breakpoints: 2, watchpoints: 4 });
    assert_eq!(big.of_both(little), LIMITS);
    assert_eq!(little.of_both(big), LIMITS);
}
