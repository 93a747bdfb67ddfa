//! The scheduler on a simulated core.

mod all_tasks;

use proptest::prelude::*;

use super::*;

const FREQUENCY: u64 = 1_000_000;
/// Ticks of a slice.
const SLICE: u64 = FREQUENCY * SLICE_MS / 1000;
/// Ticks of a second.
const SECOND: u64 = FREQUENCY;

/// A turn that no other task waits for.
fn alone(task: Option<TaskId>, until: u64) -> Turn {
    Turn { task, until, is_contended: false }
}

/// What a simulated task does for ever.
#[derive(Clone, Copy, Debug)]
enum Habit {
    /// The task computes.
    Runs,
    /// The task computes for the first number of ticks, then sleeps for the second.
    Naps(u64, u64),
    /// The task sleeps.
    Sleeps,
}

struct Core {
    scheduler: Scheduler,
    habits: Vec<Habit>,
    /// What is left to do before the next nap.
    left: Vec<u64>,
    now: u64,
    /// The tasks that ran, each with the ticks from when to when; `None` for nobody.
    history: Vec<(Option<TaskId>, u64, u64)>,
}

impl Core {
    fn new() -> Self {
        Self {
            scheduler: Scheduler::new(FREQUENCY),
            habits: Vec::new(),
            left: Vec::new(),
            now: 0,
            history: Vec::new(),
        }
    }

    fn task(mut self, guest: &str, weight: u16, habit: Habit) -> Self {
        let task = self.scheduler.add(guest, weight);
        if !matches!(habit, Habit::Sleeps) {
            let _ = self.scheduler.wake(task, || 0);
        }
        self.habits.push(habit);
        self.left.push(if let Habit::Naps(ticks, _) = habit { ticks } else { u64::MAX });
        self
    }

    /// Runs until `end`, as `boot` would.
    fn run_until(&mut self, end: u64) {
        while self.now < end {
            let turn = self.scheduler.decide(self.now);
            assert_eq!(self.scheduler.turn(), turn);
            let limit = turn.until.min(end);
            assert!(limit > self.now, "a turn of no length at {}", self.now);
            let begin = self.now;
            match turn.task {
                None => self.now = limit,
                Some(task) => {
                    let ran = (limit - self.now).min(self.left[task]);
                    self.now += ran;
                    if let Habit::Naps(ticks, nap) = self.habits[task] {
                        self.left[task] -= ran;
                        if self.left[task] == 0 {
                            self.left[task] = ticks;
                            let until = self.now + nap;
                            // Refused if it was woken before: then it goes on.
                            let _ = self.scheduler.sleep(task, until, self.now);
                        }
                    }
                }
            }
            self.history.push((turn.task, begin, self.now));
        }
        let _ = self.scheduler.decide(self.now);
    }

    fn ran(&self, task: TaskId) -> u64 {
        let turns = self.history.iter().filter(|(who, ..)| *who == Some(task));
        turns.map(|(_, begin, end)| end - begin).sum()
    }

    /// Returns the ticks in which nobody had the core.
    fn idle(&self) -> u64 {
        let idle = self.history.iter().filter(|(who, ..)| who.is_none());
        idle.map(|(_, begin, end)| end - begin).sum()
    }

    /// Returns the longest time that passed without `task` having the core.
    fn longest_wait(&self, task: TaskId) -> u64 {
        let mut last = 0;
        let mut longest = 0;
        for &(who, begin, end) in &self.history {
            if who == Some(task) {
                longest = longest.max(begin - last);
                last = end;
            }
        }
        longest.max(self.now - last)
    }
}

fn divided(windows: &[(&str, u64, u64)]) -> Core {
    let mut core = Core::new();
    core.scheduler.divide(10_000, windows.iter().copied(), FREQUENCY, 0);
    core
}

#[test]
fn a_core_without_tasks_is_idle_until_something_happens() {
    let mut core = Core::new();
    assert_eq!(core.scheduler.decide(5), alone(None, NEVER));
}

#[test]
fn a_task_alone_has_no_slices() {
    let mut core = Core::new().task("a", 100, Habit::Runs);
    assert_eq!(core.scheduler.decide(5), alone(Some(0), NEVER));
    assert_eq!(core.scheduler.decide(SECOND), alone(Some(0), NEVER));
}

#[test]
fn the_number_of_a_task_that_is_gone_is_used_again() {
    let mut core = Core::new().task("a", 100, Habit::Runs).task("b", 100, Habit::Runs);
    core.run_until(SECOND);
    let scheduler = &mut core.scheduler;
    let current = scheduler.current().unwrap();
    assert!(!scheduler.remove(current), "it has the core");
    let (other, now) = (1 - current, 2 * SECOND);
    assert!(scheduler.remove(other));
    assert_eq!(scheduler.task_count(), 1);
    assert!(!scheduler.wake(other, || now), "nobody is there");
    assert_eq!(scheduler.decide(now), alone(Some(current), NEVER));
    assert_eq!(scheduler.add("c", 100), other);
    assert!(scheduler.wake(other, || now));
    assert_eq!(scheduler.add("d", 100), 2);
}

#[test]
fn two_that_compute_take_turns_of_a_slice() {
    let mut core = Core::new().task("a", 100, Habit::Runs).task("b", 100, Habit::Runs);
    core.run_until(SECOND);
    assert_eq!(core.ran(0), core.ran(1));
    let turns: Vec<_> = core.history.iter().map(|turn| (turn.0, turn.2 - turn.1)).collect();
    assert_eq!(turns[..3], [(Some(0), SLICE), (Some(1), SLICE), (Some(0), SLICE)]);
}

#[test]
fn shares_are_as_the_weights() {
    let mut core = Core::new().task("a", 100, Habit::Runs).task("b", 300, Habit::Runs).task(
        "c",
        50,
        Habit::Runs,
    );
    core.run_until(90 * SECOND);
    for (task, share) in [(0, 20), (1, 60), (2, 10)] {
        let expected = share * SECOND;
        assert!(core.ran(task).abs_diff(expected) <= 2 * SLICE, "{task}: {}", core.ran(task));
    }
}

#[test]
fn who_sleeps_has_no_share() {
    let mut core = Core::new().task("a", 100, Habit::Runs).task("b", 10_000, Habit::Sleeps);
    core.run_until(SECOND);
    assert_eq!((core.ran(0), core.ran(1)), (SECOND, 0));
    assert_eq!(core.history.len(), 1);
}

#[test]
fn who_has_slept_runs_at_once_when_it_is_woken() {
    let mut core = Core::new().task("a", 100, Habit::Runs).task("b", 100, Habit::Naps(20, 10_000));
    core.run_until(10 * SECOND);
    // The task never waits for a slice of the other's to end.
    assert!(core.longest_wait(1) <= 10_000, "{}", core.longest_wait(1));
}

#[test]
fn who_was_just_served_waits_for_the_slice_to_end() {
    let mut core = Core::new().task("a", 100, Habit::Runs).task("b", 100, Habit::Runs);
    let scheduler = &mut core.scheduler;
    assert_eq!(scheduler.decide(0).task, Some(0));
    assert_eq!(scheduler.decide(SLICE).task, Some(1));
    assert!(scheduler.sleep(1, NEVER, 2 * SLICE));
    assert_eq!(scheduler.decide(2 * SLICE), alone(Some(0), NEVER));
    // The task has had as much as the other one: no reason to interrupt, but the slice has an end
    // now.
    assert!(scheduler.wake(1, || 2 * SLICE));
    let turn = scheduler.decide(2 * SLICE);
    assert_eq!(turn, Turn { is_contended: true, ..alone(Some(0), 3 * SLICE) });
    assert!(!scheduler.wake(1, || unreachable!("it is awake")));
}

#[test]
fn a_wake_up_changes_no_turn_that_was_decided() {
    let mut core = Core::new().task("", 256, Habit::Runs).task("", 256, Habit::Sleeps);
    let turn = core.scheduler.decide(0);
    assert_eq!(turn.task, Some(0));
    assert!(core.scheduler.wake(1, || 10), "the core decides anew, soon");
    assert_eq!(core.scheduler.turn(), turn);
}

#[test]
fn a_wake_up_before_the_sleep_is_not_lost() {
    let mut core = Core::new().task("a", 100, Habit::Runs);
    assert_eq!(core.scheduler.decide(0).task, Some(0));
    assert!(!core.scheduler.wake(0, || 1));
    assert!(!core.scheduler.sleep(0, NEVER, 2), "it was called while it ran");
    assert_eq!(core.scheduler.decide(2).task, Some(0));
    assert!(core.scheduler.sleep(0, NEVER, 3), "once");
    assert_eq!(core.scheduler.decide(3), alone(None, NEVER));
    assert!(core.scheduler.wake(0, || 4), "an idle core is to be told");
    assert_eq!(core.scheduler.decide(4).task, Some(0));
    assert!(core.scheduler.sleep(0, NEVER, 5), "that was before it got the core");
}

#[test]
fn who_alone_is_woken_on_an_idle_core_goes_on_without_a_decision() {
    let mut core = divided(&[("rt", 5000, 1000)]).task("a", 100, Habit::Runs);
    let scheduler = &mut core.scheduler;
    assert_eq!(scheduler.add("b", 100), 1);
    assert_eq!(scheduler.decide(0), alone(Some(0), 5000));
    assert_eq!(scheduler.resume(0, 1), None, "it has the core");
    assert!(scheduler.sleep(0, 3000, 10));
    assert_eq!(scheduler.resume(0, 11), None, "nothing was decided since");
    assert_eq!(scheduler.decide(11), alone(None, 3000));
    assert_eq!(scheduler.resume(0, 12), None, "it sleeps");
    assert!(scheduler.wake(0, || 20));
    assert_eq!(scheduler.resume(0, 30), Some(3000));
    assert_eq!(scheduler.current(), Some(0));
    assert!(!scheduler.wake(0, || 31));
    assert!(!scheduler.sleep(0, NEVER, 32), "it was called since it goes on");
    assert!(scheduler.wake(1, || 33), "it has had less, and runs at once");
    assert_eq!(scheduler.decide(33).task, Some(1));
}

#[test]
fn who_is_not_woken_alone_or_too_late_waits_for_a_decision() {
    let idle = || {
        let mut core = divided(&[("rt", 5000, 1000)]).task("a", 100, Habit::Sleeps);
        core.scheduler.add("b", 100);
        assert_eq!(core.scheduler.decide(11), alone(None, 5000));
        core.scheduler
    };
    let mut scheduler = idle();
    assert!(scheduler.wake(0, || 20));
    assert!(scheduler.wake(1, || 21));
    assert_eq!((scheduler.resume(0, 22), scheduler.resume(1, 22)), (None, None));

    let mut scheduler = idle();
    assert!(scheduler.wake(1, || 20));
    assert_eq!(scheduler.resume(0, 22), None, "another one was woken");

    let mut scheduler = idle();
    assert!(scheduler.wake(0, || 20));
    assert_eq!(scheduler.resume(0, 5000), None, "it is not its time");
    assert_eq!(scheduler.decide(5000), alone(None, 6000));
    assert_eq!(scheduler.resume(0, 5001), None, "nor now");
}

#[test]
fn who_was_woken_and_removed_does_not_go_on() {
    let mut core = Core::new().task("a", 100, Habit::Runs).task("b", 100, Habit::Sleeps);
    let scheduler = &mut core.scheduler;
    assert_eq!(scheduler.decide(0).task, Some(0));
    assert!(scheduler.sleep(0, NEVER, 1));
    assert_eq!(scheduler.decide(1).task, None);
    assert!(scheduler.wake(0, || 2));
    assert!(scheduler.remove(0));
    assert_eq!(scheduler.resume(0, 3), None);
    assert_eq!(scheduler.decide(3).task, None);
}

#[test]
fn a_deadline_wakes() {
    let mut core = Core::new().task("a", 100, Habit::Runs);
    assert_eq!(core.scheduler.decide(0).task, Some(0));
    assert!(core.scheduler.sleep(0, 700, 0));
    assert_eq!(core.scheduler.decide(1), alone(None, 700));
    assert_eq!(core.scheduler.decide(700).task, Some(0));
}

#[test]
fn nobody_but_its_guest_runs_in_a_window() {
    let mut core = divided(&[("rt", 2000, 1000), ("rt", 7000, 500)])
        .task("hog", 10_000, Habit::Runs)
        .task("rt", 1, Habit::Runs);
    core.run_until(SECOND);
    for &(task, begin, end) in &core.history {
        let inside = |at: u64| {
            (2000..3000).contains(&(at % 10_000)) || (7000..7500).contains(&(at % 10_000))
        };
        assert_eq!(
            (inside(begin), inside(end - 1)),
            (task == Some(1), task == Some(1)),
            "{begin} {end}"
        );
    }
    assert_eq!(core.ran(1), SECOND * 15 / 100);
    assert_eq!(core.ran(0), SECOND * 85 / 100);
}

#[test]
fn what_is_left_of_a_window_stays_idle() {
    let mut core = divided(&[("rt", 0, 5000)]).task("hog", 100, Habit::Runs).task(
        "rt",
        100,
        Habit::Naps(100, 9900),
    );
    core.run_until(SECOND);
    assert_eq!(core.ran(0), SECOND / 2);
    assert_eq!(core.ran(1), SECOND / 100);
    assert_eq!(core.idle(), SECOND / 2 - SECOND / 100);
}

#[test]
fn who_is_woken_in_anothers_window_waits_for_its_own() {
    let mut core = divided(&[("a", 0, 5000), ("b", 5000, 5000)]).task("a", 100, Habit::Runs).task(
        "b",
        100,
        Habit::Sleeps,
    );
    assert_eq!(core.scheduler.decide(0), alone(Some(0), 5000));
    assert!(!core.scheduler.wake(1, || 10), "it is not its time");
    assert_eq!(core.scheduler.decide(20).task, Some(0));
    assert_eq!(core.scheduler.decide(5000), alone(Some(1), 10_000));
}

#[test]
fn the_vcpus_of_a_guest_share_its_window() {
    let mut core = divided(&[("rt", 0, 9000)])
        .task("rt", 100, Habit::Runs)
        .task("rt", 100, Habit::Runs)
        .task("other", 100, Habit::Runs);
    core.run_until(10 * SECOND);
    assert!(core.ran(0).abs_diff(SECOND * 45 / 10) <= 2 * SLICE, "{}", core.ran(0));
    assert!(core.ran(1).abs_diff(SECOND * 45 / 10) <= 2 * SLICE, "{}", core.ran(1));
    assert_eq!(core.ran(2), SECOND);
}

#[test]
fn a_sleep_of_years_is_no_credit_for_years() {
    let mut core = Core::new().task("a", 1, Habit::Runs).task("b", 10_000, Habit::Sleeps);
    core.run_until(3600 * 24 * 365 * SECOND);
    let _ = core.scheduler.wake(1, || core.now);
    core.habits[1] = Habit::Runs;
    let (start, before) = (core.now, core.ran(0));
    core.run_until(start + 100 * SECOND);
    let ran = core.ran(0) - before;
    // Of 10001 parts of 100 seconds the lighter one has one.
    assert!(ran.abs_diff(SECOND / 100) <= 2 * SLICE, "{ran}");
}

fn habit() -> impl Strategy<Value = Habit> {
    prop_oneof![
        Just(Habit::Runs),
        (1_u64..3 * SLICE, 1_u64..10 * SLICE).prop_map(|(runs, naps)| Habit::Naps(runs, naps)),
        Just(Habit::Sleeps),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn whatever_the_others_do_a_task_has_its_share(
        weight in 1_u16..1000,
        others in prop::collection::vec((1_u16..1000, habit()), 0..6),
    ) {
        let mut core = Core::new().task("it", weight, Habit::Runs);
        for &(weight, habit) in &others {
            core = core.task("other", weight, habit);
        }
        core.run_until(20 * SECOND);
        let sum: u64 = others.iter().map(|(weight, _)| u64::from(*weight)).sum();
        let share = 20 * SECOND * u64::from(weight) / (u64::from(weight) + sum);
        // A slice for each of the others may be ahead of it at the end.
        let slack = SLICE * (1 + others.len() as u64);
        prop_assert!(core.ran(0) + slack >= share, "{} of {share}", core.ran(0));
    }

    #[test]
    fn whatever_anybody_does_a_window_is_its_guests(
        (at, length) in (0_u64..9000).prop_flat_map(|at| (Just(at), 50..=10_000 - at)),
        others in prop::collection::vec((1_u16..1000, habit()), 0..6),
        wakes in prop::collection::vec((0_usize..6, 1_u64..20_000), 0..200),
    ) {
        let mut core = divided(&[("rt", at, length)]).task("rt", 100, Habit::Runs);
        for &(weight, habit) in &others {
            core = core.task("other", weight, habit);
        }
        for (task, after) in wakes {
            core.run_until(core.now + after);
            if task < core.habits.len() {
                let now = core.now;
                let _ = core.scheduler.wake(task, || now);
            }
        }
        core.run_until(core.now.next_multiple_of(10_000) + 10_000);
        for &(task, begin, end) in &core.history {
            let inside = |place: u64| (at..at + length).contains(&(place % 10_000));
            prop_assert_eq!(inside(begin), task == Some(0), "{} to {}", begin, end);
            prop_assert_eq!(inside(end - 1), task == Some(0), "{} to {}", begin, end);
        }
        prop_assert_eq!(core.ran(0), core.now / 10_000 * length);
    }
}

/// Returns the ticks that a task has had from `begin` on.
fn had_since(core: &Core, task: TaskId, begin: u64) -> u64 {
    let of = core.history.iter().filter(|(who, from, _)| *who == Some(task) && *from >= begin);
    of.map(|(_, from, to)| to - from).sum()
}

#[test]
fn shares_are_as_the_weights_as_soon_as_they_are_changed() {
    let mut core = Core::new().task("a", 100, Habit::Runs).task("b", 100, Habit::Runs);
    core.run_until(SECOND);
    core.scheduler.set_weight(0, 300, core.now);
    assert_eq!((core.scheduler.weight(0), core.scheduler.weight(1)), (300, 100));
    core.run_until(2 * SECOND);
    let [a, b] = [0, 1].map(|task| had_since(&core, task, SECOND));
    assert!(
        a.abs_diff(SECOND * 3 / 4) <= 2 * SLICE && b.abs_diff(SECOND / 4) <= 2 * SLICE,
        "{a} {b}"
    );
}

/// Returns a plan with a window of 2 ms of 10 for the guest `a`.
fn window_of_a() -> crate::config::CoreConfig {
    let window = crate::config::WindowConfig { guest: "a".into(), at_us: 1000, length_us: 2000 };
    crate::config::CoreConfig { number: 0, frame_us: 10_000, windows: Vec::from([window]) }
}

#[test]
fn a_window_begins_and_ends_to_be_while_the_tasks_run() {
    let mut core = Core::new().task("a", 100, Habit::Runs).task("b", 900, Habit::Runs);
    core.run_until(SECOND);
    core.scheduler.divide_anew(Some(&window_of_a()), FREQUENCY, core.now);
    core.run_until(2 * SECOND);
    assert_eq!(had_since(&core, 0, SECOND), SECOND / 5, "all of each window, and nothing else");
    core.scheduler.divide_anew(None, FREQUENCY, core.now);
    core.run_until(3 * SECOND);
    let a = had_since(&core, 0, 2 * SECOND);
    assert!(a.abs_diff(SECOND / 10) <= 2 * SLICE, "by weights again: {a}");
}

#[test]
fn a_window_that_begins_late_is_counted_if_its_guest_wants_it() {
    let mut core = Core::new().task("a", 100, Habit::Runs).task("b", 100, Habit::Runs);
    core.scheduler.divide_anew(Some(&window_of_a()), FREQUENCY, 0);
    let missed = |core: &Core| (core.scheduler.missed()[0].count, core.scheduler.missed()[0].late);
    core.run_until(SECOND);
    assert_eq!(missed(&core), (0, 0));
    // A tenth of it is 200 ticks: EL2 is busy until that, then longer, then for more than a frame.
    for (now, expected) in [(1200, (0, 0)), (11_201, (1, 201)), (32_000, (3, 1000))] {
        core.scheduler.decide(SECOND + now);
        assert_eq!(missed(&core), expected, "{now}");
    }
    // In no window, `a` sleeps: it misses nothing.
    core.scheduler.decide(SECOND + 41_000);
    assert!(core.scheduler.sleep(0, NEVER, SECOND + 41_100));
    core.scheduler.decide(SECOND + 52_000);
    assert_eq!(missed(&core), (3, 1000));
}

#[test]
fn no_window_was_missed_before_the_first_decision() {
    let mut core = divided(&[("a", 1000, 2000)]).task("a", 100, Habit::Runs);
    core.scheduler.decide(5 * SECOND + 1500);
    assert_eq!(core.scheduler.missed()[0].count, 0, "the machine was not up then");
    core.scheduler.decide(5 * SECOND + 11_500);
    assert_eq!(core.scheduler.missed()[0].count, 1);
}
