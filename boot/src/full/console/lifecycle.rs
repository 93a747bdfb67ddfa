//! Commands that change what guests do: `pause`, `unpause`, `shutdown`, `stop`, `start`, `restart`
//! and `remove`. Each is for one guest, for several, or for all that it fits;
//! [`stasis_console::several`] says what becomes of the others if it can't be done for one.

use super::error::{Failure, GoneUnflushed, WhyNot};
use super::find::{find, find_all};
use crate::work::Work;
use crate::{archive, disks, guests, notes, registry};
use alloc::boxed::Box;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use stasis_arch::timer;
use stasis_console::command::CommandError;
use stasis_console::several::{Undone, each};
use stasis_host::run_state::{Misfit, RunState};
use stasis_run::domain::Domain;

/// Carries out a command for the guests that `words` name; for all that it fits if they name none.
fn for_each(
    words: &[&str],
    act: impl FnMut(Arc<Domain>) -> Result<(), Undone<WhyNot>>,
) -> Result<(), Failure> {
    Ok(each(find_all(words)?, words.is_empty(), act)?)
}

/// Stops the time and the vCPUs of guests.
pub(super) fn pause(words: &[&str]) -> Result<(), Failure> {
    for_each(words, |domain| {
        changed(&domain, RunState::paused)?;
        notes::rests(&domain);
        Ok(())
    })
}

/// Lets paused guests go on.
pub(super) fn unpause(words: &[&str]) -> Result<(), Failure> {
    for_each(words, |domain| {
        changed(&domain, RunState::unpaused)?;
        notes::runs(&domain);
        Ok(())
    })
}

/// Presses the power keys of guests.
pub(super) fn shutdown(words: &[&str]) -> Result<(), Failure> {
    for_each(words, |domain| {
        let mut parked = domain.park();
        let hears = parked.guest.hears_power_key();
        parked.state.check_shutdown(&domain.name, hears).map_err(Undone::misfit)?;
        parked.guest.press_power_key(timer::counter());
        Ok(())
    })
}

/// Switches guests off, and writes to the disk what they have written to theirs.
pub(super) fn stop(work: &mut Work, words: &[&str]) -> Result<(), Failure> {
    let mut stopped = Vec::new();
    let result = for_each(words, |domain| {
        changed(&domain, RunState::stopped)?;
        notes::rests(&domain);
        stopped.extend(with_disks(&domain));
        Ok(())
    });
    flushed(work, stopped, "off", result)
}

/// Returns the name of a guest, if it has disks.
fn with_disks(domain: &Domain) -> Option<String> {
    (!domain.volumes().is_empty()).then(|| domain.name.clone())
}

/// Flushes what guests of these names, which have disks, have written: nobody else would do it any
/// more. The error says what they are `now`, `result` what the command has come to otherwise.
fn flushed(
    work: &mut Work,
    names: Vec<String>,
    now: &'static str,
    result: Result<(), Failure>,
) -> Result<(), Failure> {
    if names.is_empty() {
        return result;
    }
    match disks::flush(work) {
        Ok(()) => result,
        Err(why) => {
            Err(Box::new(GoneUnflushed { guests: names, now, why, others: result.err() }).into())
        }
    }
}

/// Starts guests that are off, or that the configuration has and the machine does not.
pub(super) fn start(work: &mut Work, words: &[&str]) -> Result<(), Failure> {
    let names = match words {
        [] => known(),
        _ => words.iter().map(|word| named(word)).collect::<Result<_, _>>()?,
    };
    let repeated = names.iter().enumerate().find(|(at, name)| names[..*at].contains(name));
    if let Some((_, guest)) = repeated {
        return Err(CommandError::NamedTwice { guest: guest.clone() }.into());
    }
    Ok(each(names, words.is_empty(), |name| start_one(work, &name))?)
}

/// Returns the names of all guests on the machine and in the configuration.
fn known() -> Vec<String> {
    let mut names: Vec<String> = registry::all().iter().map(|domain| domain.name.clone()).collect();
    let configured = archive::guest_names().into_iter();
    let absent: Vec<String> = configured.filter(|name| !names.contains(name)).collect();
    names.extend(absent);
    names
}

/// Returns the name of a guest that a word names or numbers, on the machine or in the
/// configuration.
fn named(word: &str) -> Result<String, CommandError> {
    match find(word) {
        Ok(domain) => Ok(domain.name.clone()),
        Err(_) if archive::guest(word).is_some() => Ok(word.to_string()),
        Err(error) => Err(error),
    }
}

fn start_one(work: &mut Work, name: &str) -> Result<(), Undone<WhyNot>> {
    let domains = registry::all();
    let Some(domain) = domains.iter().find(|domain| domain.name == name) else {
        return guests::start(work, name).map_err(Undone::failed);
    };
    domain.look().state.check_start(name).map_err(Undone::misfit)?;
    guests::restart(work, domain).map_err(Undone::failed)
}

/// Starts guests anew, whatever they are doing.
pub(super) fn restart(work: &mut Work, words: &[&str]) -> Result<(), Failure> {
    for_each(words, |domain| guests::restart(work, &domain).map_err(Undone::failed))
}

/// Removes guests that do not run, and writes to the disk what they have written to theirs.
pub(super) fn remove(work: &mut Work, words: &[&str]) -> Result<(), Failure> {
    let mut removed = Vec::new();
    let result = for_each(words, |domain| {
        let name = with_disks(&domain);
        guests::remove(work.task, &domain).map_err(Undone::misfit)?;
        removed.extend(name);
        Ok(())
    });
    flushed(work, removed, "removed", result)
}

/// Gives a guest the state that a command makes of its present one.
///
/// # Errors
///
/// Why the command does not fit the guest's present state.
fn changed(
    domain: &Domain,
    command: fn(RunState, &str) -> Result<RunState, Misfit>,
) -> Result<(), Undone<WhyNot>> {
    let mut parked = domain.park();
    let state = command(parked.state, &domain.name).map_err(Undone::misfit)?;
    parked.set_state(state);
    Ok(())
}
