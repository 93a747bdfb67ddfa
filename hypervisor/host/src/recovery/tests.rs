//! What is done about a guest that stops, by when it has stopped before and which checkpoints did
//! not help.

use super::*;
use stasis_guest::stop::Crash;

const CRASH: Stopped = Stopped::Crash(Crash::ExceptionLoop { pc: 0x200 });
const SECOND: u64 = 1_000_000;
const WELL_AFTER: u64 = 60 * SECOND;

/// A guest that is resumed from its last checkpoint when it crashes.
struct Patient {
    recovery: Recovery,
    checkpoints: Vec<u64>,
}

impl Patient {
    fn new(checkpoints: impl IntoIterator<Item = u64>) -> Self {
        let mut recovery = Recovery::new(WELL_AFTER);
        recovery.runs(0);
        Self { recovery, checkpoints: checkpoints.into_iter().collect() }
    }

    /// Returns the checkpoint that it goes on from; none: it is started again, or left alone.
    fn crash(&mut self, second: u64) -> Option<u64> {
        let now = second * SECOND;
        let remedy = self.recovery.decide(CRASH, Policy::Restart, Policy::Resume, now);
        let Remedy::Resume { before } = remedy else { return None };
        let before = before.unwrap_or(u64::MAX);
        let number = self.checkpoints.iter().copied().filter(|number| *number < before).max()?;
        self.recovery.resumed(number, now);
        self.recovery.helped(now);
        Some(number)
    }
}

/// Resets a guest that was started again, and returns what is done about it.
fn reset(recovery: &mut Recovery, second: u64) -> Remedy {
    let now = second * SECOND;
    let remedy = recovery.decide(Stopped::Reset, Policy::Restart, Policy::Stop, now);
    if remedy == Remedy::Restart {
        recovery.runs(now);
        recovery.helped(now);
    }
    remedy
}

#[test]
fn what_is_configured_is_done() {
    let decide =
        |stopped, on_crash| Recovery::new(WELL_AFTER).decide(stopped, Policy::Restart, on_crash, 0);
    assert_eq!(decide(Stopped::Off, Policy::Resume), Remedy::Stop);
    assert_eq!(decide(Stopped::Reset, Policy::Resume), Remedy::Restart);
    assert_eq!(decide(CRASH, Policy::Resume), Remedy::Resume { before: None });
    assert_eq!(decide(CRASH, Policy::Stop), Remedy::Stop);
}

#[test]
fn a_guest_that_stops_again_and_again_is_left_alone() {
    let mut recovery = Recovery::new(WELL_AFTER);
    let mut reset = |second| reset(&mut recovery, second);
    assert_eq!([reset(100), reset(110), reset(120)], [Remedy::Restart; 3]);
    assert_eq!(reset(159), Remedy::GiveUp(LIMITS[0]));
    assert_eq!(reset(160), Remedy::Restart, "a person has started it");
}

#[test]
fn what_is_a_minute_ago_does_not_count() {
    let mut recovery = Recovery::new(WELL_AFTER);
    let mut reset = |second| reset(&mut recovery, second);
    assert_eq!([reset(100), reset(110), reset(120)], [Remedy::Restart; 3]);
    assert_eq!([reset(160), reset(1000)], [Remedy::Restart; 2]);
}

#[test]
fn a_guest_that_stops_slowly_but_for_ever_is_left_alone() {
    // Each interval is that of a watchdog: the one that was seen, and the longest that is possible.
    for interval in [22, 27, 100] {
        let mut recovery = Recovery::new(WELL_AFTER);
        let remedies = (1..=11).map(|n| reset(&mut recovery, n * interval));
        let remedies: Vec<Remedy> = remedies.collect();
        assert_eq!(remedies[..10], [Remedy::Restart; 10], "every {interval} s");
        assert_eq!(remedies[10], Remedy::GiveUp(LIMITS[1]), "every {interval} s");
    }
}

#[test]
fn how_long_help_takes_does_not_count() {
    let mut recovery = Recovery::new(WELL_AFTER);
    for n in 0..3 {
        // The guest stops at once, and each resume takes 40 s.
        let now = n * 40 * SECOND;
        let remedy = recovery.decide(CRASH, Policy::Stop, Policy::Resume, now);
        assert!(matches!(remedy, Remedy::Resume { .. }), "{remedy:?}");
        recovery.helped(now + 40 * SECOND);
    }
    // From their beginnings on it would have been helped once in this minute.
    let remedy = recovery.decide(CRASH, Policy::Stop, Policy::Resume, 139 * SECOND);
    assert_eq!(remedy, Remedy::Resume { before: None }, "two in this minute");
    recovery.helped(139 * SECOND);
    let remedy = recovery.decide(CRASH, Policy::Stop, Policy::Resume, 139 * SECOND);
    assert_eq!(remedy, Remedy::GiveUp(LIMITS[0]));
}

#[test]
fn a_guest_that_stops_again_is_resumed_from_an_older_checkpoint() {
    let mut guest = Patient::new([1, 4, 7]);
    assert_eq!(guest.crash(10), Some(7));
    assert_eq!(guest.crash(20), Some(4));
    assert_eq!(guest.crash(75), Some(1), "it was not well for a minute");
    assert_eq!(guest.crash(500), Some(7), "it was");
}

#[test]
fn a_checkpoint_that_was_made_meanwhile_is_not_taken_for_an_older_one() {
    let mut guest = Patient::new([1, 4, 7]);
    assert_eq!(guest.crash(10), Some(7));
    // By its place, the second of the list is the one that did not help, and then one that the ill
    // guest has made.
    guest.checkpoints.push(8);
    assert_eq!(guest.crash(20), Some(4));
    guest.checkpoints.extend([9, 10]);
    assert_eq!(guest.crash(75), Some(1));
}

#[test]
fn what_a_person_has_resumed_counts_as_tried() {
    let mut guest = Patient::new([1, 4, 7]);
    guest.recovery.resumed(4, 200 * SECOND);
    assert_eq!(guest.crash(210), Some(1));
}

#[test]
fn a_guest_that_starts_anew_is_not_known_to_be_well() {
    let mut recovery = Recovery::new(WELL_AFTER);
    recovery.runs(0);
    assert_eq!(recovery.spared(7, 1000 * SECOND), 0, "it is well");
    recovery.starts(1000 * SECOND);
    assert_eq!(recovery.spared(7, 1001 * SECOND), 7);
    assert_eq!(recovery.spared(9, 1059 * SECOND), 7);
    assert_eq!(recovery.spared(9, 1060 * SECOND), 0, "it is well again");
}

#[test]
fn checkpoints_from_before_a_trouble_are_spared_until_the_guest_is_well() {
    let mut guest = Patient::new([7]);
    assert_eq!(guest.recovery.spared(7, 60 * SECOND), 0, "it has run for a minute");
    assert_eq!(guest.crash(100), Some(7));
    assert_eq!(guest.recovery.spared(9, 110 * SECOND), 9);
    assert_eq!(guest.recovery.spared(12, 120 * SECOND), 9, "what it makes meanwhile is not");
    assert_eq!(guest.crash(130), None, "there is no older one");
    assert_eq!(guest.recovery.spared(13, 1000 * SECOND), 9, "it does not run");
    guest.recovery.runs(1000 * SECOND);
    assert_eq!(guest.recovery.spared(14, 1059 * SECOND), 9);
    assert_eq!(guest.recovery.spared(14, 1060 * SECOND), 0);
    assert_eq!(guest.crash(1100), Some(7));
    assert_eq!(guest.recovery.spared(15, 1110 * SECOND), 15);
}

#[test]
fn checkpoints_of_an_earlier_life_are_spared_until_the_new_one_is_well() {
    let mut recovery = Recovery::new(WELL_AFTER);
    assert_eq!(recovery.spared(5, 900 * SECOND), 5, "it has not run yet");
    recovery.runs(900 * SECOND);
    assert_eq!(recovery.spared(6, 959 * SECOND), 5);
    assert_eq!(recovery.spared(6, 960 * SECOND), 0);
}

#[test]
fn what_a_guest_has_made_before_its_first_stop_is_spared() {
    let mut guest = Patient::new([]);
    assert_eq!(guest.recovery.spared(0, 5 * SECOND), 0);
    guest.checkpoints.extend([1, 2]);
    assert_eq!(guest.crash(10), Some(2));
    assert_eq!(guest.recovery.spared(2, 15 * SECOND), 2);
    assert_eq!(guest.crash(20), Some(1));
    assert_eq!(guest.recovery.spared(4, 25 * SECOND), 2, "it is ill since");
}

#[test]
fn a_guest_that_switches_itself_off_is_not_ill() {
    let mut guest = Patient::new([7]);
    guest.recovery.decide(Stopped::Off, Policy::Restart, Policy::Resume, 100 * SECOND);
    assert_eq!(guest.recovery.spared(9, 110 * SECOND), 0);
}
