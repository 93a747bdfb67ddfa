use proptest::prelude::*;

use super::*;
use crate::access::Width;
use crate::device::tests::{access, at};

/// 2026-01-01.
const NOW: u64 = 1_767_225_600;

fn get(rtc: &Rtc, offset: u64, now: u64) -> u64 {
    rtc.clone().read(access(offset, Width::Word), &mut at(now))
}

fn set(rtc: &mut Rtc, offset: u64, value: u64, now: u64) {
    rtc.write(access(offset, Width::Word), value, &mut at(now));
}

/// Returns a clock at reset, in wall time `now`.
fn new(now: u64) -> Rtc {
    Rtc::restored(Pl031::default(), now)
}

/// Returns when the line may rise, in seconds since 1970.
fn deadline(rtc: &Rtc) -> Option<u64> {
    match rtc.due().line {
        Deadline::WallTime(second) => Some(second),
        _ => None,
    }
}

/// Returns a clock whose interrupt is enabled, with an alarm in `seconds`.
fn with_alarm(seconds: u64) -> Rtc {
    let mut rtc = new(NOW);
    set(&mut rtc, offset::IMSC, 1, NOW);
    set(&mut rtc, offset::MR, NOW + seconds, NOW);
    rtc
}

#[test]
fn it_tells_the_hosts_wall_time() {
    let rtc = new(NOW);
    assert_eq!(get(&rtc, offset::DR, NOW), NOW);
    assert_eq!(get(&rtc, offset::DR, NOW + 5), NOW + 5);
    assert_eq!(get(&rtc, offset::CR, NOW), 1);
}

#[test]
fn it_is_identified_as_a_pl031() {
    let rtc = new(NOW);
    let ids: Vec<u64> = (0..8).map(|n| get(&rtc, 0xfe0 + 4 * n, NOW)).collect();
    assert_eq!(ids, [0x31, 0x10, 0x14, 0x00, 0x0d, 0xf0, 0x05, 0xb1]);
}

#[test]
fn it_can_be_set() {
    let mut rtc = new(NOW);
    set(&mut rtc, offset::LR, 1000, NOW);
    assert_eq!(get(&rtc, offset::DR, NOW + 7), 1007);
    assert_eq!(get(&rtc, offset::LR, NOW + 7), 1000);
}

#[test]
fn the_alarm_raises_the_line_until_it_is_cleared() {
    let mut rtc = with_alarm(10);
    assert_eq!(deadline(&rtc), Some(NOW + 10));
    rtc.tick(&at(NOW + 9));
    assert!(!rtc.line(0));
    rtc.tick(&at(NOW + 10));
    assert!(rtc.line(0));
    assert_eq!(deadline(&rtc), None);
    assert_eq!(get(&rtc, offset::MIS, NOW + 10), 1);
    set(&mut rtc, offset::ICR, 1, NOW + 10);
    assert!(!rtc.line(0));
    rtc.tick(&at(NOW + 11));
    assert!(!rtc.line(0), "an alarm goes off once");
}

#[test]
fn an_alarm_for_this_very_second_goes_off_at_once() {
    assert!(with_alarm(0).line(0));
}

#[test]
fn a_masked_alarm_has_a_status_but_no_line() {
    let mut rtc = with_alarm(10);
    set(&mut rtc, offset::IMSC, 0, NOW);
    assert_eq!(deadline(&rtc), None);
    rtc.tick(&at(NOW + 10));
    assert!(!rtc.line(0));
    assert_eq!(get(&rtc, offset::RIS, NOW + 10), 1);
    set(&mut rtc, offset::IMSC, 1, NOW + 10);
    assert!(rtc.line(0));
}

#[test]
fn setting_the_clock_moves_the_alarm() {
    let mut rtc = with_alarm(10);
    set(&mut rtc, offset::LR, NOW + 6, NOW);
    assert_eq!(deadline(&rtc), Some(NOW + 4));
}

#[test]
fn an_alarm_before_now_waits_for_the_counter_to_wrap() {
    let mut rtc = with_alarm(10);
    set(&mut rtc, offset::MR, NOW - 1, NOW);
    assert_eq!(deadline(&rtc), Some(NOW + u64::from(u32::MAX)));
}

#[test]
fn a_restored_clock_has_the_same_alarm() {
    let rtc = with_alarm(10);
    assert_eq!(Rtc::restored(rtc.state.clone(), NOW + 3), rtc);
}

#[test]
fn no_alarm_has_passed_while_a_guest_was_stored_that_knew_no_time() {
    let mut rtc = Rtc::restored(with_alarm(10).state, 0);
    assert_eq!(rtc.due().change, Deadline::WallTime(0), "it is looked at, at once");
    rtc.tick(&at(NOW + 100));
    assert!(!rtc.line(0));
    let mut rtc = Rtc::restored(with_alarm(10).state, 0);
    rtc.tick(&at(NOW + 3));
    assert!(!rtc.line(0));
    rtc.tick(&at(NOW + 10));
    assert!(rtc.line(0), "the one that is still to come does");
}

#[test]
fn an_alarm_that_passed_while_the_guest_was_stored_goes_off_when_it_goes_on() {
    let mut rtc = Rtc::restored(with_alarm(10).state, NOW + 3);
    rtc.tick(&at(NOW + 1000));
    assert!(rtc.line(0));
}

#[test]
fn a_clock_that_just_rang_does_not_ring_again_when_it_is_restored() {
    let mut rtc = with_alarm(10);
    rtc.tick(&at(NOW + 10));
    set(&mut rtc, offset::ICR, 1, NOW + 10);
    let mut restored = Rtc::restored(rtc.state.clone(), NOW + 10);
    restored.tick(&at(NOW + 10));
    assert!(!restored.line(0));
    assert_eq!(restored, rtc);
}

#[test]
fn a_host_without_a_clock_counts_from_zero() {
    let mut rtc = new(0);
    assert_eq!(get(&rtc, offset::DR, 0), 0);
    rtc.tick(&at(0));
    assert_eq!(get(&rtc, offset::RIS, 0), 0, "RTCMR is 0 too, but nothing was awaited");
}

#[test]
fn read_only_and_unknown_registers_ignore_writes() {
    let mut rtc = new(NOW);
    let before = rtc.clone();
    for offset in [offset::DR, offset::CR, offset::RIS, offset::MIS, 0x20, 0xfe0, 0x1] {
        set(&mut rtc, offset, u64::MAX, NOW);
    }
    assert_eq!(rtc, before);
    assert_eq!(get(&rtc, offset::ICR, NOW), 0);
    assert_eq!(get(&rtc, 0x20, NOW), 0);
}

proptest! {
    #[test]
    fn no_access_panics_at_any_time(
        accesses in prop::collection::vec(
            (any::<bool>(), prop_oneof![0_u64..0x24, 0_u64..0x1000], 0_usize..4, any::<u64>(), any::<u64>()),
            0..100,
        ),
        then: u64, mr: u32, shift: u32,
    ) {
        let mut state = Pl031::default();
        *state.mr = mr;
        *state.offset = shift;
        let mut rtc = Rtc::restored(state, then);
        for (is_write, offset, width, value, now) in accesses {
            let width = [Width::Byte, Width::Halfword, Width::Word, Width::Doubleword][width];
            rtc.tick(&at(now));
            if is_write {
                rtc.write(access(offset, width), value, &mut at(now));
            } else {
                rtc.read(access(offset, width), &mut at(now));
            }
            deadline(&rtc);
        }
    }

    #[test]
    fn the_alarm_goes_off_at_its_deadline(now in 0..u64::from(u32::MAX), mr: u32, lr: u32) {
        let mut rtc = new(now);
        set(&mut rtc, offset::LR, lr.into(), now);
        set(&mut rtc, offset::MR, mr.into(), now);
        set(&mut rtc, offset::ICR, 1, now);
        set(&mut rtc, offset::IMSC, 1, now);
        let deadline = deadline(&rtc).unwrap();
        rtc.tick(&at(deadline - 1));
        prop_assert!(!rtc.line(0));
        rtc.tick(&at(deadline));
        prop_assert!(rtc.line(0));
        prop_assert_eq!(get(&rtc, offset::DR, deadline), mr.into());
    }
}
