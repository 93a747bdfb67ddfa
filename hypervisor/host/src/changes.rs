//! What has changed of guests between two looks, for clients that want to be told: states, and
//! windows that were missed.

use alloc::string::String;
use alloc::vec::Vec;

use crate::run_state::RunState;
use crate::sched::Missed;

/// The guests at one look: their names, and what they were doing.
pub type States = [(String, RunState)];

/// A guest that does something else than at the look before, that is new, or that is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StateChange<'a> {
    /// The guest's name.
    pub guest: &'a str,
    /// What it is doing; `None` if it is gone.
    pub now: Option<RunState>,
    /// What it was doing; `None` if it is new.
    pub was: Option<RunState>,
}

fn state_in(guests: &States, name: &str) -> Option<RunState> {
    guests.iter().find(|(other, _)| other == name).map(|(_, state)| *state)
}

/// Returns what has changed from `before` to `now`: first of the guests that are there, then those
/// that are gone, in the order of the looks.
pub fn of_states<'a>(before: &'a States, now: &'a States) -> impl Iterator<Item = StateChange<'a>> {
    let there = now.iter().map(|(guest, state)| {
        let was = state_in(before, guest);
        StateChange { guest, now: Some(*state), was }
    });
    let gone = before.iter().filter(|(guest, _)| state_in(now, guest).is_none());
    let gone = gone.map(|(guest, was)| StateChange { guest, now: None, was: Some(*was) });
    there.filter(|change| change.now != change.was).chain(gone)
}

/// Returns the guests that have missed windows on a core since the look `before`, with the core,
/// and how many. A core that was divided anew counts from 0.
pub fn of_windows<'a>(
    before: &'a [(u32, Missed)],
    now: &'a [(u32, Missed)],
) -> impl Iterator<Item = (u32, &'a Missed, u64)> {
    now.iter().filter_map(move |(core, one)| {
        let is_it = |(of, other): &&(u32, Missed)| of == core && other.guest == one.guest;
        let counted = before.iter().find(is_it).map_or(0, |(_, other)| other.count);
        let count = one.count.checked_sub(counted).unwrap_or(one.count);
        (count > 0).then_some((*core, one, count))
    })
}

/// Returns the look `now` with the guests of `before` that could not be looked at as they were:
/// `None` stands for their states.
pub fn completed(before: &States, now: Vec<(String, Option<RunState>)>) -> Vec<(String, RunState)> {
    let complete = |(name, state): (String, Option<RunState>)| {
        let state = state.or_else(|| state_in(before, &name))?;
        Some((name, state))
    };
    now.into_iter().filter_map(complete).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guests(states: &[(&str, RunState)]) -> Vec<(String, RunState)> {
        states.iter().map(|(name, state)| (String::from(*name), *state)).collect()
    }

    #[test]
    fn what_changes_is_told_once_and_what_stays_is_not() {
        use RunState::{Crashed, Paused, Running};
        let before = guests(&[("web", Running), ("gone", Crashed), ("same", Paused)]);
        let now = guests(&[("web", Paused), ("same", Paused), ("new", Running)]);
        let change = |guest, now, was| StateChange { guest, now, was };
        let told: Vec<_> = of_states(&before, &now).collect();
        let expected = [
            change("web", Some(Paused), Some(Running)),
            change("new", Some(Running), None),
            change("gone", None, Some(Crashed)),
        ];
        assert_eq!(told, expected);
        assert_eq!(of_states(&now, &now).count(), 0);
    }

    #[test]
    fn a_guest_that_cannot_be_looked_at_is_as_it_was_and_a_new_one_waits_for_the_next_look() {
        let before = guests(&[("parked", RunState::Running)]);
        let now = [("parked", None), ("new", None), ("off", Some(RunState::Off))];
        let now = now.map(|(name, state)| (String::from(name), state)).to_vec();
        let completed = completed(&before, now);
        assert_eq!(completed, guests(&[("parked", RunState::Running), ("off", RunState::Off)]));
    }

    #[test]
    fn windows_are_told_by_core_and_guest_and_from_0_after_a_core_was_divided_anew() {
        let missed = |guest: &str, count| Missed { guest: guest.into(), count, late: 9 };
        let before = [(0, missed("rt", 5)), (1, missed("rt", 5)), (1, missed("other", 2))];
        let now = [(0, missed("rt", 7)), (1, missed("rt", 1)), (1, missed("other", 2))];
        let told: Vec<_> =
            of_windows(&before, &now).map(|(core, _, count)| (core, count)).collect();
        assert_eq!(told, [(0, 2), (1, 1)]);
        assert_eq!(of_windows(&[], &now).count(), 3);
    }
}
