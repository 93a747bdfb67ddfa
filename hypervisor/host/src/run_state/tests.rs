use super::RunState::{Crashed, Debugged, Lost, Off, Paused, Removed, Reset, Running, Starved};
use super::*;
use alloc::string::ToString;
use stasis_devices::device::Verdict;
use stasis_guest::stop::Crash;

const ALL: [RunState; 9] = [Running, Paused, Debugged, Starved, Off, Reset, Crashed, Lost, Removed];

/// Asserts which states a command refuses, and in which words.
fn refuses<T>(command: impl Fn(RunState) -> Result<T, Misfit>, expected: &[(RunState, &str)]) {
    for state in ALL {
        let said = command(state).err().map(|misfit| misfit.to_string());
        let words = expected.iter().find(|(refused, _)| *refused == state).map(|(_, words)| *words);
        assert_eq!(said.as_deref(), words, "{state:?}");
    }
}

#[test]
fn a_guest_that_runs_can_be_paused_and_no_other() {
    assert_eq!(Running.paused("rt"), Ok(Paused));
    assert_eq!(Starved.paused("rt"), Ok(Paused));
    refuses(
        |state| state.paused("rt"),
        &[
            (Paused, "guest \"rt\" is paused"),
            (Debugged, "guest \"rt\" is debugged"),
            (Off, "guest \"rt\" is off"),
            (Reset, "guest \"rt\" is off"),
            (Crashed, "guest \"rt\" is crashed"),
            (Lost, "guest \"rt\" is lost"),
            (Removed, "guest \"rt\" is removed"),
        ],
    );
}

#[test]
fn a_guest_that_is_paused_can_go_on_and_no_other() {
    assert_eq!(Paused.unpaused("rt"), Ok(Running));
    refuses(
        |state| state.unpaused("rt"),
        &[
            (Running, "guest \"rt\" is running, not paused"),
            (Debugged, "guest \"rt\" is debugged, not paused"),
            (Starved, "guest \"rt\" is waiting, not paused"),
            (Off, "guest \"rt\" is off, not paused"),
            (Reset, "guest \"rt\" is off, not paused"),
            (Crashed, "guest \"rt\" is crashed, not paused"),
            (Lost, "guest \"rt\" is lost, not paused"),
            (Removed, "guest \"rt\" is removed, not paused"),
        ],
    );
}

#[test]
fn a_guest_that_runs_and_hears_its_power_key_can_be_asked_to_shut_down() {
    assert_eq!(Running.check_shutdown("rt", true), Ok(()));
    let deaf = "guest \"rt\" has no driver for its power key: line 3 of its PL061 can't interrupt; stop switches it off without asking";
    for (hears, expected) in [(true, None), (false, Some((Running, deaf)))] {
        let mut refused = vec![
            (Paused, "guest \"rt\" is paused"),
            (Debugged, "guest \"rt\" is debugged"),
            (Starved, "guest \"rt\" is waiting"),
            (Off, "guest \"rt\" is off"),
            (Reset, "guest \"rt\" is off"),
            (Crashed, "guest \"rt\" is crashed"),
            (Lost, "guest \"rt\" is lost"),
            (Removed, "guest \"rt\" is removed"),
        ];
        refused.extend(expected);
        refuses(|state| state.check_shutdown("rt", hears), &refused);
    }
}

#[test]
fn a_guest_that_is_alive_can_be_stopped_and_no_other() {
    assert_eq!(Running.stopped("rt"), Ok(Off));
    assert_eq!(Paused.stopped("rt"), Ok(Off));
    assert_eq!(Starved.stopped("rt"), Ok(Off));
    refuses(
        |state| state.stopped("rt"),
        &[
            (Off, "guest \"rt\" is off already"),
            (Reset, "guest \"rt\" is off already"),
            (Crashed, "guest \"rt\" is crashed already"),
            (Lost, "guest \"rt\" is lost already"),
            (Removed, "guest \"rt\" is removed already"),
        ],
    );
}

#[test]
fn a_guest_that_is_alive_is_not_started_anew_by_start() {
    refuses(
        |state| state.check_start("rt"),
        &[
            (Running, "guest \"rt\" is running; restart starts it again"),
            (Paused, "guest \"rt\" is paused; unpause lets it go on, restart starts it again"),
            (Debugged, "guest \"rt\" is debugged; restart starts it again"),
            (Starved, "guest \"rt\" is waiting; restart starts it again"),
            (Removed, "guest \"rt\" is not there any more"),
        ],
    );
}

#[test]
fn a_guest_that_runs_is_not_removed() {
    refuses(
        |state| state.check_remove("rt"),
        &[
            (Running, "guest \"rt\" is running; stop it first"),
            (Removed, "guest \"rt\" is not there any more"),
        ],
    );
}

#[test]
fn a_guest_whose_state_is_lost_is_not_stored() {
    refuses(
        |state| state.check_store("rt"),
        &[(Lost, "guest \"rt\" is lost since a resume failed; resume or restart it first")],
    );
}

#[test]
fn a_guest_that_was_started_or_removed_meanwhile_needs_no_care() {
    let in_need: Vec<_> = ALL.into_iter().filter(|state| state.needs_care()).collect();
    assert_eq!(in_need, [Off, Reset, Crashed, Lost]);
}

#[test]
fn a_guest_that_stops_by_itself_is_off_reset_or_crashed() {
    assert_eq!(RunState::stopped_by_itself(Stopped::Off), Off);
    assert_eq!(RunState::stopped_by_itself(Stopped::Reset), Reset);
    assert_eq!(
        RunState::stopped_by_itself(Stopped::Crash(Crash::Device(Verdict::NotFed))),
        Crashed
    );
}

#[test]
fn a_guest_is_resumed_as_it_was_stored() {
    let mut state = GuestState::reset(1);
    *state.vcpus[0].power.state = stasis_state::vcpu::PowerState::On as u8;
    assert_eq!(RunState::resumed(&state), Running);
    for (power, expected) in [(GuestPowerState::Off, Off), (GuestPowerState::Reset, Reset)] {
        state.power = stasis_state::guest::GuestPower::of(power);
        assert_eq!(RunState::resumed(&state), expected);
    }
}

#[test]
fn a_guest_waits_for_a_person_unless_it_starts_by_itself() {
    assert_eq!(RunState::made(true), Running);
    assert_eq!(RunState::made(false), Paused);
}

#[test]
fn a_debugger_stops_a_guest_that_is_alive_and_has_no_other_debugger() {
    for state in [Running, Paused, Starved] {
        assert_eq!(state.debugged("rt", false), Ok(Debugged));
        let refused = state.debugged("rt", true).unwrap_err().to_string();
        assert_eq!(refused, "guest \"rt\" has a debugger already");
    }
    refuses(
        |state| state.debugged("rt", false),
        &[
            (Debugged, "guest \"rt\" is debugged"),
            (Off, "guest \"rt\" is off"),
            (Reset, "guest \"rt\" is off"),
            (Crashed, "guest \"rt\" is crashed"),
            (Lost, "guest \"rt\" is lost"),
            (Removed, "guest \"rt\" is removed"),
        ],
    );
    assert_eq!(Debugged.stopped("rt"), Ok(Off));
}

#[test]
fn a_guest_goes_on_as_it_was_when_its_debugger_leaves() {
    for (now, before, after) in [
        (Debugged, Running, Running),
        (Debugged, Paused, Paused),
        // Nobody would wake one that waits: its note is gone.
        (Debugged, Starved, Running),
        // The debugger has let it go on, or a person has paused it since.
        (Running, Running, Running),
        (Running, Paused, Paused),
        (Starved, Running, Starved),
        (Paused, Running, Paused),
        (Off, Paused, Off),
        (Removed, Running, Removed),
    ] {
        assert_eq!(now.after_debugger(before), after, "{now:?}, {before:?}");
    }
}

#[test]
fn a_clone_of_a_guest_that_a_debugger_holds_can_be_let_go_on() {
    assert_eq!(Debugged.of_clone(Running).unpaused("twin"), Ok(Running));
}

#[test]
fn a_clone_goes_on_as_its_registers_say_only_if_its_original_does() {
    for state in [Running, Starved] {
        assert_eq!((state.of_clone(Running), state.of_clone(Off)), (Running, Off));
    }
    for state in ALL.into_iter().filter(|state| ![Running, Starved, Debugged].contains(state)) {
        assert_eq!(state.of_clone(Running), state);
    }
}
