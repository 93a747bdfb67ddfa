//! Carries out the console's commands.

use super::find::{NoTerminal, cores_of, find, find_all, guests_are_free, row};
use super::{lifecycle, sharing, top};
use crate::answer::{Answer, said, written};
use crate::resume::way::{Disks, Way};
use crate::work::Work;
use crate::{
    catalog, checkpoint, clone, disks, firmware, registry, resume, terminal, typed, volumes,
};
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt::Write;
use stasis_console::Port;
use stasis_console::command::{self, Command, CommandError};
use stasis_console::table::{self, CardRow, GuestRow};
use stasis_devices::list::interrupt_name;
use stasis_devices::pl011::Character;
use stasis_hw::gic::write_filled;
use stasis_run::domain::{Card, Domain};
use stasis_run::network::uplink;
use stasis_run::turns::Task;

/// Why a command was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum NotCarriedOut {
    /// The line is no command.
    #[error(transparent)]
    Mistyped(#[from] CommandError),
    /// The command was refused, or has failed, for this reason.
    #[error("{0}")]
    Failed(String),
}

impl From<NotCarriedOut> for String {
    fn from(refusal: NotCarriedOut) -> Self {
        match refusal {
            NotCarriedOut::Mistyped(error) => error.to_string(),
            NotCarriedOut::Failed(why) => why,
        }
    }
}

/// Carries out a command line, and sends its answer except for its end.
///
/// # Errors
///
/// What is wrong, for the end of the answer.
pub fn execute(work: &mut Work, line: &str, answer: &mut Answer) -> Result<(), NotCarriedOut> {
    let command = command::parse(line)?;
    let result = match show(work.task, &command, answer) {
        Some(result) => result,
        None => perform(work, command, answer),
    };
    answer.send(work.task);
    result.map_err(NotCarriedOut::Failed)
}

/// Writes the answer to a command that only looks, and returns its result; `None` if it is another
/// command, or one that looks at a guest that is parked.
pub fn look(task: &Task, command: &Command, out: &mut Answer) -> Option<Result<(), String>> {
    guests_are_free().then(|| show(task, command, out)).flatten()
}

/// Writes the answer to a command that only looks, and returns its result; `None` if it is another
/// command. The caller has no guest parked.
fn show(task: &Task, command: &Command, out: &mut Answer) -> Option<Result<(), String>> {
    Some(match command {
        Command::Help(topic) => written(command::write_help(out, *topic)),
        Command::Guests { json } => list_guests(*json, out),
        Command::Top { seconds: None, json, .. } => top::show_all(*json, out),
        Command::Log { guest, lines } => said(find(guest))
            .and_then(|domain| written(terminal::write_log(task, &domain, *lines, out))),
        Command::Dmesg { lines } => written(terminal::write_own_log(task, *lines, out)),
        Command::Network { json } => list_cards(*json, out),
        Command::Weights { json } => sharing::list_weights(*json, out),
        Command::Windows { json } => sharing::list_windows(*json, out),
        Command::Gic(guest) => said(find(guest)).and_then(|domain| {
            written(write!(out, "{}", domain.gic().table(write_filled, interrupt_name)))
        }),
        _ => return None,
    })
}

fn perform(work: &mut Work, command: Command, out: &mut Answer) -> Result<(), String> {
    match command {
        Command::Top { seconds, times, json } => top::show(work, seconds, times, json, out),
        Command::Pause(guests) => lifecycle::pause(&guests),
        Command::Unpause(guests) => lifecycle::unpause(&guests),
        Command::Shutdown(guests) => lifecycle::shutdown(&guests),
        Command::Stop(guests) => lifecycle::stop(work, &guests),
        Command::Start(guests) => lifecycle::start(work, &guests),
        Command::Restart(guests) => lifecycle::restart(work, &guests),
        Command::Remove(guests) => lifecycle::remove(work, &guests),
        Command::Attach { guest, terminal } => attach(work, &*said(find(guest))?, terminal),
        Command::SendBreak(guest) => {
            said(find(guest))?.type_in(Character::BREAK);
            Ok(())
        }
        Command::Checkpoint { guests, name } => {
            let domains = said(find_all(&guests))?;
            let domains: Vec<&Domain> = domains.iter().map(|domain| &**domain).collect();
            said(checkpoint::store(work, &domains, name, None, out))
        }
        Command::Resume { which, copy, any_speed, whole, keep_disks } => {
            let disks = if keep_disks { Disks::Stay } else { Disks::BroughtBack };
            said(resume::resume(work, which, copy, Way { any_speed, whole, disks }, out))
        }
        Command::Clone { guest, name } => {
            let domain = said(find(guest))?;
            said(clone::clone(work, &domain, name, out))
        }
        Command::Delete(which) => said(catalog::delete(work, which, out)),
        Command::Store { json } => said(catalog::list(work, json, out)),
        Command::Volumes { json } => said(volumes::list(work, json, out)),
        Command::CreateVolume { name, size } => said(volumes::create(work, name, size)),
        Command::CopyVolume { name, to } => said(volumes::copy(work, name, to)),
        Command::DeleteVolume(name) => said(volumes::delete(work, name)),
        Command::SetWeight { guests, weight } => sharing::set_weight(&guests, weight),
        Command::Divide { core, frame } => sharing::divide(core, frame),
        Command::SetLinks { guest, up } => {
            said(find(guest))?.set_links(up);
            Ok(())
        }
        Command::UpgradeStore => said(catalog::upgrade(work, out)),
        Command::CompressStore(how) => said(catalog::compress(work, how)),
        Command::Cancel if typed::has_cancelled() => Ok(()),
        Command::Cancel => Err("there was no command to give up, or it was too late".to_string()),
        Command::Quit => quit(work),
        Command::Help(_)
        | Command::Guests { .. }
        | Command::Log { .. }
        | Command::Dmesg { .. }
        | Command::Network { .. }
        | Command::Weights { .. }
        | Command::Windows { .. }
        | Command::Gic(_) => Err("it was answered before".to_string()),
    }
}

/// Turns the machine off. What guests have written to their disks is flushed before.
///
/// # Errors
///
/// Why the firmware did not.
fn quit(work: &mut Work) -> Result<(), String> {
    if let Err(why) = disks::flush(work) {
        log::warn!("{why}");
    }
    terminal::show_waiting();
    Err(firmware::system_off().to_string())
}

/// Attaches the console to a guest's UART, or to its terminal.
fn attach(work: &mut Work, domain: &Domain, is_terminal: bool) -> Result<(), String> {
    if is_terminal && !domain.has_terminal() {
        return said(Err(NoTerminal::of(domain)));
    }
    terminal::attach(work.task, domain, Port { guest: domain.number, is_terminal });
    Ok(())
}

fn list_cards(json: bool, out: &mut Answer) -> Result<(), String> {
    let domains = registry::all();
    let cards: Vec<(&str, Card)> = domains
        .iter()
        .flat_map(|domain| domain.cards().into_iter().map(|card| (&*domain.name, card)))
        .collect();
    let uplinks = uplink::statuses().map(|it| CardRow {
        network: it.network,
        guest: "(uplink)",
        address: it.address,
        is_up: it.works,
        sent: it.traffic.sent,
        received: it.traffic.received,
        lost: it.traffic.lost,
    });
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
        .chain(uplinks)
        .collect();
    written(table::cards(&rows).write(out, json))
}

fn list_guests(json: bool, out: &mut Answer) -> Result<(), String> {
    let domains = registry::all();
    let cores: Vec<Vec<u32>> = domains.iter().map(|domain| cores_of(domain)).collect();
    let rows: Vec<GuestRow> = domains
        .iter()
        .zip(&cores)
        .map(|(domain, cores)| row(domain, Some(domain.look()), cores))
        .collect();
    written(table::guests(&rows).write(out, json))
}
