//! Each decision beside a look at all tasks, whatever happened before.

use proptest::prelude::*;

use super::{FREQUENCY, SLICE, window_of_a};
use crate::sched::{Scheduler, State, TaskId, Turn};

/// What happens to a core, one event after the other.
#[derive(Clone, Copy, Debug)]
enum Event {
    /// Time passes, and the core decides.
    Decide(u64),
    /// A task is woken.
    Wake(TaskId),
    /// The current task sleeps for so long, after some time.
    Sleep(u64, u64),
    /// A task gets another weight.
    Weigh(TaskId, u16),
    /// A task is removed, and another one added.
    Replace(TaskId),
    /// The core's time is divided anew: by windows, or by weights alone.
    Divide(bool),
}

fn event() -> impl Strategy<Value = Event> {
    let time = || 0..2 * SLICE;
    prop_oneof![
        4 => time().prop_map(Event::Decide),
        4 => (0_usize..5).prop_map(Event::Wake),
        4 => (time(), 0..10 * SLICE).prop_map(|(ran, nap)| Event::Sleep(ran, nap)),
        1 => (0_usize..5, 1_u16..1000).prop_map(|(task, weight)| Event::Weigh(task, weight)),
        1 => (0_usize..5).prop_map(Event::Replace),
        1 => any::<bool>().prop_map(Event::Divide),
    ]
}

/// Makes an event happen at `now`, and returns the time behind it.
fn happen(scheduler: &mut Scheduler, event: Event, now: u64) -> u64 {
    match event {
        Event::Decide(ticks) => return now + ticks,
        Event::Wake(task) => {
            let _ = scheduler.wake(task, || now);
        }
        Event::Sleep(ran, nap) => {
            if let Some(current) = scheduler.current() {
                let _ = scheduler.sleep(current, now + ran + nap, now + ran);
                return now + ran;
            }
        }
        Event::Weigh(task, weight) => scheduler.set_weight(task, weight, now),
        Event::Replace(task) => {
            if scheduler.remove(task) {
                assert_eq!(scheduler.add("a", 100), task);
            }
        }
        Event::Divide(windows) => {
            scheduler.divide_anew(windows.then(window_of_a).as_ref(), FREQUENCY, now);
        }
    }
    now
}

/// Checks a decision at `now` by a look at all tasks.
fn check(scheduler: &Scheduler, turn: Turn, now: u64) {
    let tasks = || scheduler.tasks.iter().enumerate();
    let candidates = || tasks().filter(|(_, task)| task.group == scheduler.group);
    let runnable = || candidates().filter(|(_, task)| task.state == State::Runnable);
    let others = || runnable().filter(|(id, _)| Some(*id) != turn.task);
    assert_eq!(turn.task.is_some(), runnable().next().is_some());
    assert_eq!(turn.is_contended, others().next().is_some());
    if let Some(current) = turn.task {
        let current = &scheduler.tasks[current];
        assert_eq!((current.state, current.group), (State::Runnable, scheduler.group));
        let begins = scheduler.slice_end == now + scheduler.slice;
        assert!(!begins || others().all(|(_, task)| task.had >= current.had), "not the least");
    }
    for (id, task) in tasks() {
        let queue = scheduler.groups[task.group].ready.clone();
        let mut queued = core::iter::successors(Some(queue), |queue| {
            let mut queue = queue.clone();
            queue.pop().map(|_| queue)
        });
        let places = queued.by_ref().filter(|queue| queue.first().is_some_and(|one| one.id == id));
        let is_current = scheduler.groups[task.group].current.task() == Some(id);
        assert!(!is_current || task.state == State::Runnable);
        let waits = task.state == State::Runnable && !is_current;
        assert_eq!(places.count(), usize::from(waits), "task {id}");
        if let State::Asleep(until) = task.state {
            assert!(until > now && scheduler.quiet_until <= until, "task {id} is due at {until}");
            assert!(task.group != scheduler.group || turn.until <= until);
        }
    }
}

proptest! {
    #[test]
    fn the_decision_is_that_of_a_look_at_all_tasks(
        events in prop::collection::vec(event(), 0..100),
    ) {
        let mut scheduler = Scheduler::new(FREQUENCY);
        for guest in ["a", "a", "b", "c", "c"] {
            scheduler.add(guest, 100);
        }
        let mut now = 0;
        for event in events {
            now = happen(&mut scheduler, event, now);
            let turn = scheduler.decide(now);
            check(&scheduler, turn, now);
        }
    }
}
