//! Carries out the console's commands.

use super::top;
use crate::answer::{Answer, written};
use crate::resume::{Disks, Way};
use crate::work::Work;
use crate::{
    archive, catalog, checkpoint, clone, disks, firmware, guests, notes, registry, resume,
    terminal, typed, volumes,
};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt::{self, Write};
use stasis_arch::timer;
use stasis_console::command::{self, Command, CommandError};
use stasis_console::table::{self, CardRow, GuestRow};
use stasis_devices::list::interrupt_name;
use stasis_devices::pl011::Character;
use stasis_host::run_state::{Misfit, RunState};
use stasis_hw::gic::write_filled;
use stasis_run::domain::{Card, Domain, Look};
use stasis_run::turns::Task;

/// Why a command was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// The line is no command.
    #[error(transparent)]
    Mistyped(#[from] CommandError),
    /// The command was refused, or has failed, for this reason.
    #[error("{0}")]
    Failed(String),
}

impl From<Refusal> for String {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Mistyped(error) => error.to_string(),
            Refusal::Failed(why) => why,
        }
    }
}

/// Carries out a command line, and sends its answer except for its end.
///
/// # Errors
///
/// What is wrong, for the end of the answer.
pub fn execute(work: &mut Work, line: &str, answer: &mut Answer) -> Result<(), Refusal> {
    let command = command::parse(line)?;
    let result = match show(work.task, &command, answer) {
        Some(result) => result,
        None => perform(work, command, answer),
    };
    answer.send(work.task);
    result.map_err(Refusal::Failed)
}

/// Returns whether no guest is parked, and so each can be looked at: by the caller, or by who has called it.
pub fn guests_are_free() -> bool {
    /// A vCPU has a guest's lock for less than as many tries to take it.
    const PATIENCE: usize = 10_000;
    let is_free = |domain: &Arc<Domain>| (0..PATIENCE).any(|_| !domain.is_parked());
    registry::all().iter().all(is_free)
}

/// Writes the answer to a command that only looks, and returns its result; `None` if it is another command, or one that looks at a guest that is parked.
pub fn look(task: &Task, command: &Command, out: &mut Answer) -> Option<Result<(), String>> {
    guests_are_free().then(|| show(task, command, out)).flatten()
}

/// Writes the answer to a command that only looks, and returns its result; `None` if it is another command. The caller has no guest parked.
fn show(task: &Task, command: &Command, out: &mut Answer) -> Option<Result<(), String>> {
    Some(match command {
        Command::Help(topic) => written(command::write_help(out, *topic)),
        Command::Guests { json } => list_guests(*json, out),
        Command::Top { seconds: None, json, .. } => top::show_all(*json, out),
        Command::Log { guest, lines } => {
            find(guest).and_then(|domain| written(terminal::write_log(task, &domain, *lines, out)))
        }
        Command::Gic(guest) => find(guest).and_then(|domain| {
            written(write!(out, "{}", domain.gic().table(write_filled, interrupt_name)))
        }),
        _ => return None,
    })
}

fn perform(work: &mut Work, command: Command, out: &mut Answer) -> Result<(), String> {
    match command {
        Command::Top { seconds, times, json } => top::show(work, seconds, times, json, out),
        Command::Pause(guest) => pause(&*find(guest)?),
        Command::Unpause(guest) => unpause(&*find(guest)?),
        Command::Shutdown(guest) => shutdown(&*find(guest)?),
        Command::Stop(guest) => stop(work, &*find(guest)?),
        Command::Start(guest) => start(work, guest),
        Command::Restart(guest) => said(guests::restart(work, &*find(guest)?)),
        Command::Remove(guest) => said(guests::remove(work.task, &find(guest)?)),
        Command::Attach(guest) => {
            terminal::attach(work.task, &*find(guest)?);
            Ok(())
        }
        Command::SendBreak(guest) => {
            find(guest)?.type_in(Character::BREAK);
            Ok(())
        }
        Command::Checkpoint { guests, name } => {
            let domains = find_all(&guests)?;
            let domains: Vec<&Domain> = domains.iter().map(|domain| &**domain).collect();
            said(checkpoint::store(work, &domains, name, None, out))
        }
        Command::Resume { which, copy, any_speed, whole, keep_disks } => {
            let disks = if keep_disks { Disks::Stay } else { Disks::BroughtBack };
            said(resume::resume(work, which, copy, Way { any_speed, whole, disks }, out))
        }
        Command::Clone { guest, name } => {
            let domain = find(guest)?;
            said(clone::clone(work, &domain, name, out))
        }
        Command::Delete(which) => said(catalog::delete(work, which, out)),
        Command::Store { json } => said(catalog::list(work, json, out)),
        Command::Volumes { json } => said(volumes::list(work, json, out)),
        Command::CreateVolume { name, size } => said(volumes::create(work, name, size)),
        Command::CopyVolume { name, to } => said(volumes::copy(work, name, to)),
        Command::DeleteVolume(name) => said(volumes::delete(work, name)),
        Command::Network { json } => list_cards(json, out),
        Command::SetLinks { guest, up } => {
            find(guest)?.set_links(up);
            Ok(())
        }
        Command::UpgradeStore => said(catalog::upgrade(work, out)),
        Command::CompressStore(how) => said(catalog::compress(work, how)),
        Command::Cancel if typed::has_cancelled() => Ok(()),
        Command::Cancel => Err("there was no command to give up, or it was too late".to_string()),
        Command::Quit => {
            if let Err(why) = disks::flush(work) {
                log::warn!("{why}");
            }
            terminal::show_waiting();
            Err(firmware::system_off().to_string())
        }
        Command::Help(_) | Command::Guests { .. } | Command::Log { .. } | Command::Gic(_) => {
            Err("it was answered before".to_string())
        }
    }
}

/// Turns an error into the text for the last line of an answer.
fn said<T, E: fmt::Display>(result: Result<T, E>) -> Result<T, String> {
    result.map_err(|error| error.to_string())
}

/// Returns the guest that a command names, by name or number.
pub fn find(word: &str) -> Result<Arc<Domain>, String> {
    let domains = registry::all();
    let place = said(command::find_guest(&rows(&domains), word))?;
    Ok(domains[place].clone())
}

/// Returns the guests that a command names; all guests if it names none.
fn find_all(words: &[&str]) -> Result<Vec<Arc<Domain>>, String> {
    let domains = registry::all();
    let places = said(command::find_guests(&rows(&domains), words))?;
    Ok(places.into_iter().map(|place| domains[place].clone()).collect())
}

/// Returns rows with only what never changes of guests: number and name.
fn rows(domains: &[Arc<Domain>]) -> Vec<GuestRow<'_>> {
    domains.iter().map(|domain| row(domain, None, &[])).collect()
}

/// Returns a guest's row. Without a `look`, only its number and its name are right.
fn row<'a>(domain: &'a Domain, look: Option<Look>, cores: &'a [u32]) -> GuestRow<'a> {
    GuestRow {
        number: domain.number,
        name: &domain.name,
        state: look.map_or("", |look| look.state.name()),
        vcpus: cores.len() as u8,
        memory: look.map_or(0, |look| look.ram.len()),
        own: look.map_or(0, |look| look.usage.own),
        shared: look.map_or(0, |look| look.usage.shared),
        to_load: look.map_or(0, |look| look.missing),
        cores,
    }
}

fn list_cards(json: bool, out: &mut Answer) -> Result<(), String> {
    let domains = registry::all();
    let cards: Vec<(&str, Card)> = domains
        .iter()
        .flat_map(|domain| domain.cards().into_iter().map(|card| (&*domain.name, card)))
        .collect();
    let rows: Vec<CardRow> = cards
        .iter()
        .map(|(guest, Card { network, address, is_up, traffic })| CardRow {
            network,
            guest,
            address: *address,
            is_up: *is_up,
            sent: traffic.sent,
            received: traffic.received,
            lost: traffic.lost,
        })
        .collect();
    written(table::cards(&rows).write(out, json))
}

fn list_guests(json: bool, out: &mut Answer) -> Result<(), String> {
    let domains = registry::all();
    let cores: Vec<Vec<u32>> =
        domains.iter().map(|domain| domain.cores().map(|core| core as u32).collect()).collect();
    let rows: Vec<GuestRow> = domains
        .iter()
        .zip(&cores)
        .map(|(domain, cores)| row(domain, Some(domain.look()), cores))
        .collect();
    written(table::guests(&rows).write(out, json))
}

fn pause(domain: &Domain) -> Result<(), String> {
    changed(domain, RunState::paused).map(|()| notes::rests(domain))
}

fn unpause(domain: &Domain) -> Result<(), String> {
    changed(domain, RunState::unpaused).map(|()| notes::runs(domain))
}

fn shutdown(domain: &Domain) -> Result<(), String> {
    let mut parked = domain.park();
    let hears = parked.guest.hears_power_key();
    said(parked.state.check_shutdown(&domain.name, hears))?;
    parked.guest.press_power_key(timer::counter());
    Ok(())
}

fn stop(work: &mut Work, domain: &Domain) -> Result<(), String> {
    changed(domain, RunState::stopped).map(|()| notes::rests(domain))?;
    // Nobody would do it for the guest any more.
    said(disks::flush(work)).map_err(|why| format!("guest \"{}\" is off, but {why}", domain.name))
}

/// Gives a guest the state that a command makes of its present one.
///
/// # Errors
///
/// Why the command does not fit the guest's present state.
fn changed(
    domain: &Domain,
    command: fn(RunState, &str) -> Result<RunState, Misfit>,
) -> Result<(), String> {
    let mut parked = domain.park();
    let state = command(parked.state, &domain.name).map_err(|misfit| misfit.to_string())?;
    parked.set_state(state);
    Ok(())
}

/// Starts a guest that is off, or one that the configuration has and the machine does not.
fn start(work: &mut Work, word: &str) -> Result<(), String> {
    let domain = match find(word) {
        Ok(domain) => domain,
        Err(_) if archive::guest(word).is_some() => {
            return said(guests::start(work, word));
        }
        Err(error) => return Err(error),
    };
    said(domain.look().state.check_start(&domain.name))?;
    said(guests::restart(work, &domain))
}
