//! Carries out the console's commands.

use super::error::{Failure, NotCarriedOut};
use super::find::{NoTerminal, cores_of, find, find_all, guests_are_free, row};
use super::{lifecycle, sharing, top};
use crate::answer::Answer;
use crate::resume::way::{Disks, Way};
use crate::work::Work;
use crate::{
    catalog, checkpoint, clone, disks, firmware, registry, resume, terminal, typed, volumes,
};
use alloc::vec::Vec;
use core::fmt::Write;
use stasis_console::Port;
use stasis_console::command::{self, Command};
use stasis_console::table::{self, CardRow, GuestRow};
use stasis_devices::list::interrupt_name;
use stasis_devices::pl011::Character;
use stasis_hw::gic::write_filled;
use stasis_run::domain::{Card, Domain};
use stasis_run::network::uplink;
use stasis_run::turns::Task;

/// Carries out a command line, and sends its answer except for its end.
///
/// # Errors
///
/// What is wrong, for the end of the answer.
pub fn execute(work: &mut Work, line: &str, answer: &mut Answer) -> Result<(), NotCarriedOut> {
    let command = command::parse(line).map_err(NotCarriedOut::Mistyped)?;
    let result = match show(work.task, &command, answer) {
        Some(result) => result,
        None => perform(work, command, answer),
    };
    answer.send(work.task);
    Ok(result?)
}

/// Writes the answer to a command that only looks, and returns its result; `None` if it is another
/// command, or one that looks at a guest that is parked.
pub fn look(task: &Task, command: &Command, out: &mut Answer) -> Option<Result<(), Failure>> {
    guests_are_free().then(|| show(task, command, out)).flatten()
}

/// Writes the answer to a command that only looks, and returns its result; `None` if it is another
/// command. The caller has no guest parked.
fn show(task: &Task, command: &Command, out: &mut Answer) -> Option<Result<(), Failure>> {
    Some(match command {
        Command::Help(topic) => command::write_help(out, *topic).map_err(Failure::from),
        Command::Guests { json } => list_guests(*json, out),
        Command::Top { seconds: None, json, .. } => top::show_all(*json, out),
        Command::Log { guest, lines } => find(guest)
            .map_err(Failure::from)
            .and_then(|domain| Ok(terminal::write_log(task, &domain, *lines, out)?)),
        Command::Dmesg { lines } => {
            terminal::write_own_log(task, *lines, out).map_err(Failure::from)
        }
        Command::Network { json } => list_cards(*json, out),
        Command::Weights { json } => sharing::list_weights(*json, out),
        Command::Windows { json } => sharing::list_windows(*json, out),
        Command::Gic(guest) => find(guest).map_err(Failure::from).and_then(|domain| {
            Ok(write!(out, "{}", domain.gic().table(write_filled, interrupt_name))?)
        }),
        _ => return None,
    })
}

fn perform(work: &mut Work, command: Command, out: &mut Answer) -> Result<(), Failure> {
    match command {
        Command::Top { seconds, times, json } => top::show(work, seconds, times, json, out),
        Command::Pause(guests) => lifecycle::pause(&guests),
        Command::Unpause(guests) => lifecycle::unpause(&guests),
        Command::Shutdown(guests) => lifecycle::shutdown(&guests),
        Command::Stop(guests) => lifecycle::stop(work, &guests),
        Command::Start(guests) => lifecycle::start(work, &guests),
        Command::Restart(guests) => lifecycle::restart(work, &guests),
        Command::Remove(guests) => lifecycle::remove(work, &guests),
        Command::Attach { guest, terminal } => attach(work, &*find(guest)?, terminal),
        Command::SendBreak(guest) => {
            find(guest)?.type_in(Character::BREAK);
            Ok(())
        }
        Command::Checkpoint { guests, name } => {
            let domains = find_all(&guests)?;
            let domains: Vec<&Domain> = domains.iter().map(|domain| &**domain).collect();
            Ok(checkpoint::store(work, &domains, name, None, out)?)
        }
        Command::Resume { which, copy, any_speed, whole, keep_disks } => {
            let disks = if keep_disks { Disks::Stay } else { Disks::BroughtBack };
            Ok(resume::resume(work, which, copy, Way { any_speed, whole, disks }, out)?)
        }
        Command::Clone { guest, name } => {
            let domain = find(guest)?;
            Ok(clone::clone(work, &domain, name, out)?)
        }
        Command::Delete(which) => Ok(catalog::delete(work, which, out)?),
        Command::Store { json } => Ok(catalog::list(work, json, out)?),
        Command::Volumes { json } => Ok(volumes::list(work, json, out)?),
        Command::CreateVolume { name, size } => Ok(volumes::create(work, name, size)?),
        Command::CopyVolume { name, to } => Ok(volumes::copy(work, name, to)?),
        Command::DeleteVolume(name) => Ok(volumes::delete(work, name)?),
        Command::SetWeight { guests, weight } => sharing::set_weight(&guests, weight),
        Command::Divide { core, frame } => sharing::divide(core, frame),
        Command::SetLinks { guest, up } => {
            find(guest)?.set_links(up);
            Ok(())
        }
        Command::UpgradeStore => Ok(catalog::upgrade(work, out)?),
        Command::CompressStore(how) => Ok(catalog::compress(work, how)?),
        Command::Cancel if typed::has_cancelled() => Ok(()),
        Command::Cancel => Err(Failure::NothingToCancel),
        Command::Quit => quit(work),
        Command::Help(_)
        | Command::Guests { .. }
        | Command::Log { .. }
        | Command::Dmesg { .. }
        | Command::Network { .. }
        | Command::Weights { .. }
        | Command::Windows { .. }
        | Command::Gic(_) => Err(Failure::Answered),
    }
}

/// Turns the machine off. What guests have written to their disks is flushed before.
///
/// # Errors
///
/// Why the firmware did not.
fn quit(work: &mut Work) -> Result<(), Failure> {
    let has_disks = registry::all().iter().any(|domain| !domain.volumes().is_empty());
    if has_disks && let Err(why) = disks::flush(work) {
        log::warn!("{why}");
    }
    terminal::show_waiting();
    Err(firmware::system_off().into())
}

/// Attaches the console to a guest's UART, or to its terminal.
fn attach(work: &mut Work, domain: &Domain, is_terminal: bool) -> Result<(), Failure> {
    if is_terminal && !domain.has_terminal() {
        return Err(NoTerminal::of(domain).into());
    }
    terminal::attach(work.task, domain, Port { guest: domain.number, is_terminal });
    Ok(())
}

fn list_cards(json: bool, out: &mut Answer) -> Result<(), Failure> {
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
    Ok(table::cards(&rows).write(out, json)?)
}

fn list_guests(json: bool, out: &mut Answer) -> Result<(), Failure> {
    let domains = registry::all();
    let cores: Vec<Vec<u32>> = domains.iter().map(|domain| cores_of(domain)).collect();
    let rows: Vec<GuestRow> = domains
        .iter()
        .zip(&cores)
        .map(|(domain, cores)| row(domain, Some(domain.look()), cores))
        .collect();
    Ok(table::guests(&rows).write(out, json)?)
}
