use std::string::ToString;

use proptest::prelude::*;

use super::*;

/// Frequency of QEMU's counter, and of a Raspberry Pi 4's, in Hz.
const QEMU: u64 = 62_500_000;
const BOARD: u64 = 54_000_000;

fn native() -> GuestClock {
    GuestClock::new(Pace::of_machine(QEMU))
}

/// Returns a guest that was made under QEMU, on the board.
fn stepped() -> GuestClock {
    GuestClock::new(Pace::resumed(QEMU, BOARD, false).unwrap())
}

#[test]
fn a_clock_stands_still_while_it_is_stopped() {
    let mut clock = native();
    assert_eq!((clock.now(5000), clock.offset()), (0, None));
    clock.start(5000);
    assert_eq!((clock.now(5000), clock.now(5100)), (0, 100));
    assert_eq!(clock.offset(), Some(5000));
    clock.stop(5100);
    assert_eq!(clock.now(9999), 100);
    clock.start(20000);
    assert_eq!(clock.now(20001), 101);
    assert_eq!(clock.host_time(200, 20001), Some(20100));
}

#[test]
fn starting_and_stopping_twice_changes_nothing() {
    let mut clock = native();
    clock.start(10);
    clock.start(30);
    assert_eq!(clock.now(30), 20);
    clock.stop(30);
    clock.stop(90);
    assert_eq!(clock.now(90), 20);
}

#[test]
fn a_restored_clock_goes_on_on_a_host_that_has_just_started() {
    let mut record = Clock::default();
    let mut clock = native();
    clock.start(1000);
    clock.save(1_000_000, &mut record);
    assert_eq!(*record.cntvct, 999_000);
    // The offset is below zero, and wraps.
    let mut clock = GuestClock::restored(&record, Pace::of_machine(QEMU));
    clock.start(7);
    assert_eq!(clock.now(8), 999_001);
}

#[test]
fn a_clock_at_the_machines_own_pace_needs_no_steps() {
    let mut clock = native();
    clock.start(0);
    assert_eq!((clock.next_step(), clock.step_is_due(u64::MAX)), (None, false));
    let before = clock;
    clock.step(QEMU);
    assert_eq!(clock.offset(), before.offset());
}

#[test]
fn a_second_on_a_slower_machine_is_a_second_of_the_guests() {
    let mut clock = stepped();
    clock.start(BOARD);
    assert_eq!(clock.next_step(), Some(BOARD + BOARD / STEP_HZ));
    assert!(!clock.step_is_due(BOARD + BOARD / STEP_HZ - 1));
    for millisecond in 1..=1000 {
        let host = BOARD + millisecond * BOARD / STEP_HZ;
        assert!(clock.step_is_due(host));
        // Behind by what one step mends, and no more.
        let lag = millisecond * QEMU / STEP_HZ - clock.now(host);
        assert!(lag <= (QEMU - BOARD) / STEP_HZ, "{lag}");
        clock.step(host);
        assert_eq!(clock.now(host), millisecond * QEMU / STEP_HZ);
    }
}

#[test]
fn a_stepped_clock_is_stopped_at_its_true_time() {
    let mut clock = stepped();
    clock.start(0);
    clock.stop(BOARD);
    assert_eq!(clock.now(0), QEMU);
    assert_eq!((clock.next_step(), clock.host_time(1, BOARD)), (None, None));
}

#[test]
fn a_step_that_was_read_before_the_last_one_changes_nothing() {
    let mut clock = stepped();
    clock.start(0);
    clock.step(BOARD);
    let after = clock;
    clock.step(BOARD - 1);
    assert_eq!(clock, after);
}

#[test]
fn a_faster_machine_is_refused_by_its_number_and_with_what_to_do() {
    let error = Pace::resumed(BOARD, QEMU, false).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the guest's counter runs at 54000000 Hz, and this machine's is faster, at 62500000 Hz; with \
         --any-speed the guest's clock gains 15.7 %, and a guest that is made with \
         counter-frequency = 62500000 can go on on both machines"
    );
    let error = Pace::configured(Some(BOARD), QEMU).unwrap_err();
    assert_eq!(
        error.to_string(),
        "its counter-frequency is 54000000 Hz, and this machine's counter is faster, at 62500000 Hz"
    );
}

#[test]
fn a_guest_whose_other_speed_is_accepted_takes_the_machines_counter_as_it_is() {
    for (guest, host) in [(BOARD, QEMU), (QEMU, BOARD)] {
        let mut clock = GuestClock::new(Pace::resumed(guest, host, true).unwrap());
        clock.start(0);
        assert_eq!((clock.now(host), clock.next_step()), (host, None));
    }
}

#[test]
fn a_guest_is_made_with_the_frequency_that_was_asked_for_or_the_machines() {
    assert_eq!(Pace::configured(None, BOARD).unwrap().guest_hz(), BOARD);
    assert_eq!(Pace::configured(Some(QEMU), BOARD).unwrap().guest_hz(), QEMU);
    assert!(!GuestClock::new(Pace::configured(Some(QEMU), QEMU).unwrap()).is_stepped());
}

/// Returns a guest whose counter reads `guest` where the host's reads `host`.
fn running(pace: Pace, guest: u64, host: u64) -> GuestClock {
    let mut record = Clock::default();
    *record.cntvct = guest;
    let mut clock = GuestClock::restored(&record, pace);
    clock.start(host);
    clock
}

#[test]
fn a_deadline_at_the_end_of_time_does_not_come_whatever_the_offset() {
    let (slow, native) = (Pace::resumed(QEMU, BOARD, false).unwrap(), Pace::of_machine(QEMU));
    for pace in [native, slow] {
        // CNTVOFF is positive; 0; negative.
        for (guest, host) in [(0, 1 << 40), (77, 77), (1 << 40, 5)] {
            let clock = running(pace, guest, host);
            for cval in [u64::MAX, u64::MAX - 1, 1 << 63] {
                let due = clock.host_time(cval, host + 1).unwrap();
                assert!(due >= 1 << 62, "{guest} {host} {cval:#x}: {due:#x}");
            }
        }
    }
    // As late as the counter can tell, or not at all.
    assert_eq!(running(native, 0, 10).host_time(u64::MAX, 10), Some(NEVER));
    assert_eq!(running(native, 10, 0).host_time(u64::MAX, 0), Some(u64::MAX - 10));
}

#[test]
fn a_guests_counter_near_its_end_still_meets_its_deadlines() {
    let clock = running(Pace::of_machine(QEMU), u64::MAX - 100, 5000);
    assert_eq!(clock.host_time(u64::MAX, 5040), Some(5100));
    // Once it has wrapped, what lies before it has long been, and what lies behind is to come.
    let host = 5000 + 100 + 1 + 30;
    assert_eq!(clock.now(host), 30);
    assert_eq!(clock.host_time(29, host), Some(host));
    assert_eq!(clock.host_time(50, host), Some(host + 20));
    assert_eq!(clock.host_time(u64::MAX, host), Some(NEVER));
}

proptest! {
    #[test]
    fn a_deadline_is_no_earlier_than_the_counter_comes_there(guest: u64, host: u64, run in 0_u64..1 << 40, ticks: u64) {
        for pace in [Pace::of_machine(QEMU), Pace::resumed(QEMU, BOARD, false).unwrap()] {
            let mut clock = running(pace, guest, host);
            let now = host.saturating_add(run);
            let due = clock.host_time(ticks, now).unwrap();
            clock.step(due);
            // Unless one of the counters wraps meanwhile.
            if due != NEVER && clock.now(due) >= clock.now(now) {
                prop_assert!(clock.now(due) >= ticks, "{:#x}", due);
            }
        }
    }

    #[test]
    fn a_pause_takes_no_guest_time(start: u64, run: u64, pause: u64) {
        let mut clock = native();
        clock.start(start);
        let host = start.wrapping_add(run);
        clock.stop(host);
        let host = host.wrapping_add(pause);
        clock.start(host);
        prop_assert_eq!(clock.now(host), run);
        prop_assert_eq!(clock.now(host.wrapping_add(9)), run.wrapping_add(9));
    }

    #[test]
    fn a_stepped_clock_never_goes_back_and_loses_nothing(
        host_hz in 1_000_000_u64..2_000_000_000,
        faster in 1_u64..2_000_000_000,
        start in 0..1_u64 << 60,
        waits in prop::collection::vec((0_u64..50_000_000, 0..4), 1..50),
    ) {
        let pace = Pace::resumed(host_hz + faster, host_hz, false).unwrap();
        let mut clock = GuestClock::new(pace);
        clock.start(start);
        let (mut host, mut last, mut stood) = (start, 0, 0);
        for (wait, what) in waits {
            host += wait;
            match what {
                0 => clock.step(host),
                1 => {
                    clock.stop(host);
                    host += 1000;
                    stood += 1000;
                    clock.start(host);
                }
                _ => {}
            }
            let now = clock.now(host);
            prop_assert!(now >= last, "{} after {}", now, last);
            last = now;
        }
        clock.step(host);
        let expected = pace.to_guest(host - start - stood);
        // Each of at most 50 stops rounds down.
        prop_assert!(clock.now(host) <= expected && expected - clock.now(host) <= 50);
    }

    #[test]
    fn a_step_at_the_time_of_a_deadline_reaches_it(start in 0..1_u64 << 60, ticks in 0..1_u64 << 60) {
        let mut clock = stepped();
        clock.start(start);
        let host = clock.host_time(ticks, start).unwrap();
        clock.step(host);
        prop_assert!(clock.now(host) >= ticks);
        // And one tick of the machine's before, it is not reached.
        prop_assert!(host == start || clock.pace.to_guest(host - 1 - start) < ticks);
    }

    #[test]
    fn no_frequency_and_no_counter_panics(guest: u64, host: u64, start: u64, then: u64, ticks: u64) {
        for accept in [false, true] {
            let Ok(pace) = Pace::resumed(guest, host, accept) else { continue };
            let mut clock = GuestClock::new(pace);
            clock.start(start);
            clock.step(then);
            let _ = (clock.now(then), clock.next_step(), clock.host_time(ticks, then));
            clock.stop(then);
        }
    }
}
