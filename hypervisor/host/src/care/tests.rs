use super::*;
use crate::config::Periodic;
use crate::recovery::LIMITS;
use alloc::string::ToString;
use stasis_devices::device::Verdict;
use stasis_guest::stop::Crash;

const SECOND: u64 = 1_000_000;
const EVERY: u64 = 10 * SECOND;
const CRASH: Stopped = Stopped::Crash(Crash::Device(Verdict::NotFed));

type Guests = Vec<(usize, Arc<&'static str>)>;

fn guests() -> Guests {
    ["linux", "rt"].into_iter().map(Arc::new).enumerate().collect()
}

fn config(on_crash: Policy, periodic: bool) -> GuestConfig {
    let periodic = periodic.then_some(Periodic { every_us: EVERY, keep: 3, run_share: 50 });
    GuestConfig { on_crash, periodic, ..GuestConfig::new("linux", "Image", 2 << 20) }
}

fn care() -> Care<&'static str, &'static str> {
    Care::new()
}

/// Returns which guest is treated or stored next.
fn next(care: &mut Care<&'static str, &'static str>, now: u64) -> Option<(&'static str, bool)> {
    Some(match care.next(guests().into_iter(), now)? {
        Duty::Treat(guest, _) => (*guest, true),
        Duty::Store(guest, _) => (*guest, false),
    })
}

#[test]
fn guests_that_have_stopped_come_first_in_the_order_in_which_they_have() {
    let mut care = care();
    care.begin(0, Some(&config(Policy::Stop, true)), RunState::Running, 0);
    care.stopped(1, guests()[1].1.clone(), Stopped::Reset);
    care.stopped(0, guests()[0].1.clone(), CRASH);
    assert_eq!(care.next_us(5), Some(5), "at once");
    assert_eq!(next(&mut care, EVERY), Some(("rt", true)));
    assert_eq!(next(&mut care, EVERY), Some(("linux", true)));
    assert_eq!(next(&mut care, EVERY), Some(("linux", false)), "and then its checkpoint");
}

#[test]
fn a_checkpoint_is_made_when_it_is_due_and_the_console_is_quiet() {
    let mut care = care();
    care.begin(1, Some(&config(Policy::Stop, true)), RunState::Running, 0);
    assert_eq!(care.next_us(0), Some(EVERY));
    assert_eq!(next(&mut care, EVERY - 1), None);
    care.console_is_used(EVERY - 1);
    assert_eq!(next(&mut care, EVERY), None);
    let begins = care.next_us(EVERY).unwrap();
    assert!(begins > EVERY);
    assert_eq!(next(&mut care, begins - 1), None);
    assert_eq!(next(&mut care, begins), Some(("rt", false)));
}

#[test]
fn a_guest_that_does_not_run_is_passed_over_until_the_next_time() {
    let mut care = care();
    care.begin(0, Some(&config(Policy::Stop, true)), RunState::Paused, 0);
    care.skip(0, EVERY);
    assert_eq!(care.next_us(EVERY), Some(2 * EVERY));
}

#[test]
fn a_guest_that_is_put_off_is_treated_again_in_a_while_and_said_once() {
    let (mut care, guest) = (care(), guests()[1].1.clone());
    care.begin(1, Some(&config(Policy::Resume, false)), RunState::Running, 0);
    assert!(care.put_off(1, guest.clone(), CRASH, 5));
    assert_eq!(care.next_us(5), Some(5 + SECOND));
    assert_eq!(next(&mut care, 4 + SECOND), None);
    assert_eq!(next(&mut care, 5 + SECOND), Some(("rt", true)));
    assert!(!care.put_off(1, guest.clone(), CRASH, 5 + SECOND), "it is said again");
    // Each pause is twice as long as the one before, up to 16 seconds.
    for pause in [2, 4, 8, 16, 16] {
        let due = care.next_us(0).unwrap();
        assert_eq!(next(&mut care, due), Some(("rt", true)));
        assert!(care.was_put_off(1) && !care.put_off(1, guest.clone(), CRASH, due));
        assert_eq!(care.next_us(0), Some(due + (2 * pause).min(16) * SECOND));
    }
    care.resumed(1, 7, true, 6 + SECOND);
    assert_eq!(care.next_us(6 + SECOND), None, "it goes on");
    assert!(care.put_off(1, guest, CRASH, 9 * SECOND), "this is another time");
}

/// Whoever starts it, or removes it, knows what is wanted of it.
#[test]
fn a_guest_that_is_put_off_and_was_changed_by_a_command_is_left_alone() {
    let by: [fn(&mut Care<&'static str, &'static str>); 4] = [
        |care| care.runs(0, 1),
        |care| care.starts(0, 1),
        |care| care.resumed(0, 7, false, 1),
        |care| care.end(0),
    ];
    for change in by {
        let mut care = care();
        care.put_off(0, guests()[0].1.clone(), CRASH, 0);
        change(&mut care);
        assert_eq!((next(&mut care, 9 * SECOND), care.next_us(0)), (None, None));
    }
}

#[test]
fn nothing_is_remembered_of_a_guest_that_is_removed() {
    let mut care = care();
    care.begin(0, Some(&config(Policy::Stop, true)), RunState::Running, 0);
    care.stopped(0, guests()[0].1.clone(), CRASH);
    care.end(0);
    assert_eq!(next(&mut care, 10 * EVERY), None);
    assert_eq!(care.next_us(0), None);
}

#[test]
fn a_guest_that_was_resumed_off_is_not_treated_for_the_stop_before() {
    let mut care = care();
    for (is_on, expected) in [(false, None), (true, Some(("linux", true)))] {
        care.stopped(0, guests()[0].1.clone(), CRASH);
        care.resumed(0, 3, is_on, 0);
        assert_eq!(next(&mut care, 0), expected);
    }
}

#[test]
fn what_is_configured_is_decided_and_a_guest_of_the_console_alone_stays_off_after_a_crash() {
    let mut care = care();
    let resume = config(Policy::Resume, false);
    assert_eq!(care.decide(0, CRASH, Some(&resume), 0), Remedy::Resume { before: None });
    assert_eq!(care.decide(0, Stopped::Reset, Some(&resume), 0), Remedy::Restart);
    assert_eq!(care.decide(1, CRASH, None, 0), Remedy::Stop);
    assert_eq!(care.decide(1, Stopped::Reset, None, 0), Remedy::Restart);
}

#[test]
fn a_guest_is_helped_as_often_as_the_limit_allows_and_its_neighbour_still() {
    let mut care = care();
    for _ in 0..LIMITS[0].times {
        let remedy = care.decide(0, Stopped::Reset, None, 0);
        assert_eq!(remedy, Remedy::Restart);
        care.done(0, remedy, 0);
    }
    assert_eq!(care.decide(0, Stopped::Reset, None, 0), Remedy::GiveUp(LIMITS[0]));
    assert_eq!(care.decide(1, Stopped::Reset, None, 0), Remedy::Restart);
}

#[test]
fn a_guest_that_is_left_alone_was_not_helped() {
    let mut care = care();
    for _ in 0..2 * LIMITS[0].times {
        let remedy = care.decide(0, CRASH, None, 0);
        care.done(0, remedy, 0);
    }
    assert_eq!(care.decide(0, Stopped::Reset, None, 0), Remedy::Restart);
}

fn attempt(failure: Option<&'static str>) -> Attempt<&'static str> {
    Attempt { began_us: EVERY, ended_us: EVERY + 1, failure, was_told: false }
}

#[test]
fn a_failure_is_said_once_and_so_is_its_end() {
    let mut care = care();
    care.begin(0, Some(&config(Policy::Stop, true)), RunState::Running, 0);
    let mut said = |failure| {
        let news = care.stored(0, attempt(failure));
        news.outcome.map(|outcome| outcome.to_string())
    };
    assert_eq!(said(None), None);
    assert_eq!(said(Some("full")).as_deref(), Some("no periodic checkpoint: full"));
    assert_eq!(said(Some("full")), None);
    assert_eq!(said(Some("no disk")).as_deref(), Some("no periodic checkpoint: no disk"));
    assert_eq!(said(None).as_deref(), Some("periodic checkpoints succeed again"));
    assert_eq!(said(None), None);
}

#[test]
fn a_checkpoint_that_was_given_up_for_a_command_is_tried_again_soon_and_not_said() {
    let mut care = care();
    care.begin(0, Some(&config(Policy::Stop, true)), RunState::Running, 0);
    let told = Attempt { was_told: true, ..attempt(Some("given up")) };
    assert_eq!(care.stored(0, told), AttemptReport { outcome: None, behind: None });
    assert_eq!(care.next_us(EVERY), Some(EVERY + 2), "after its share of the time");
    let Some(Duty::Store(_, table)) = care.next(guests().into_iter(), 2 * EVERY) else {
        panic!("it is due");
    };
    assert!(!table.may_be_given_up(), "not one after another");
    let told = Attempt { was_told: true, ..attempt(None) };
    assert_eq!(care.stored(0, told), AttemptReport { outcome: None, behind: None });
    assert_eq!(care.next_us(EVERY), Some(2 * EVERY + 1), "it was complete before it was told");
}

#[test]
fn a_guest_that_would_not_have_its_share_of_the_time_is_said_to_be_behind() {
    let mut care = care();
    care.begin(0, Some(&config(Policy::Stop, true)), RunState::Running, 0);
    let slow = Attempt { ended_us: 3 * EVERY, ..attempt(None) };
    assert!(care.stored(0, slow).behind.is_some());
}

#[test]
fn checkpoints_from_before_a_guest_was_well_are_spared() {
    let mut care = care();
    care.begin(0, None, RunState::Running, 0);
    assert_eq!(care.spared(0, 7, 1), 7);
    assert_eq!(care.spared(0, 9, 2), 7);
    let well = crate::config::DEFAULT_WELL_AFTER_US;
    assert_eq!(care.spared(0, 9, well), 0);
    care.starts(0, well);
    assert_eq!(care.spared(0, 9, well), 9);
    care.rests(0);
    assert_eq!(care.spared(0, 9, 10 * well), 9, "it does not get well while it rests");
    care.runs(0, 10 * well);
    assert_eq!(care.spared(0, 9, 11 * well), 0);
}
