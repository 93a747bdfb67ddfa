//! Checkpoints: storing guests, resuming them, and the commands about what is stored.

mod progress;
mod routines;
mod stream;

use crate::answer::Answer;
use crate::storage::Disk;
use crate::work::Work;
use crate::{care, guests, resume};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt::Write;
use progress::Progress;
use routines::routines;
use stasis_arch::timer;
use stasis_console::table::{self, StoreRow};
use stasis_console::text::Size;
use stasis_host::{periodic, sets};
use stasis_run::domain::{Domain, Parked};
use stasis_run::{clock, shared};
use stasis_state::guest::GuestPowerState;
use stasis_state::{Checkpoint, GuestState, Plan, ReadRam};
use stasis_store::{Store, Usage};
use stream::{StreamError, ToStore, open, why_not_read, why_not_written};

/// Stores guests as they are at one instant; their time stands still while they are stored. One guest is stored under `name`. Several are a
/// set, each under `name/` and its own name, and the store gets either all of them or none. `keep` says which older checkpoints are deleted.
///
/// # Errors
///
/// Why nothing was stored, in one line.
pub fn store(
    work: &mut Work,
    domains: &[&Domain],
    name: Option<&str>,
    keep: Option<Keep>,
    out: &mut Answer,
) -> Result<(), String> {
    for domain in domains {
        domain.given().check_storable(&domain.name).map_err(|error| error.to_string())?;
    }
    let mut parked: Vec<Parked> = domains.iter().map(|domain| domain.park()).collect();
    for (domain, parked) in domains.iter().zip(&parked) {
        parked.state.check_store(&domain.name).map_err(|misfit| misfit.to_string())?;
    }
    let others = shared::others(domains);
    let others: Vec<Parked> = others.iter().map(|domain| domain.park()).collect();
    // Take the instant after all guests were parked: they have seen every earlier one.
    let instant = Instant { counter: timer::counter(), wall_time: clock::date() };
    for parked in &mut parked {
        parked.guest.clock.stop(instant.counter);
        // A doorbell that one guest has rung is then in the state of the guest that hears it.
        parked.listen();
    }
    shared::copy(domains.iter().copied(), &mut || work.task.yield_now());
    drop(others);
    parked.iter().for_each(|parked| parked.begin_reading(&mut || work.task.yield_now()));
    let result = work.with_store(|store| {
        let guests: Vec<&str> = domains.iter().map(|domain| domain.name.as_str()).collect();
        let is_taken = |set: &str| store.find_set(set).is_ok();
        let names = sets::names(&guests, name, store.next_number(), is_taken)
            .map_err(|error| error.to_string())?;
        let guests = domains.iter().copied().zip(&mut parked);
        let result = store_all(store, &names, guests, keep, &instant, out);
        if result.is_err() {
            store.discard_staged();
        }
        result
    });
    parked.iter().for_each(|parked| parked.end_reading(&mut || work.task.yield_now()));
    result
}

/// The instant at which guests are stored.
struct Instant {
    counter: u64,
    /// The host's wall time, in seconds since 1970; 0 if the host has no clock.
    wall_time: u64,
}

/// Returns the milliseconds since the counter read `start`.
fn millis_since(start: u64) -> u64 {
    (timer::counter() - start) * 1000 / timer::frequency()
}

/// The checkpoints of a name that stay when another one is made.
#[derive(Clone, Copy)]
pub struct Keep {
    /// Number of the newest checkpoints that stay, including the new one.
    pub newest: u8,
    /// The number up to which all checkpoints stay.
    pub spared: u64,
}

/// Writes the guests, commits them, and says which numbers the checkpoints have got. Numbers are known only after the commit.
fn store_all<'g, 'p: 'g>(
    store: &mut Store<Disk>,
    names: &[String],
    guests: impl Iterator<Item = (&'g Domain, &'g mut Parked<'p>)>,
    keep: Option<Keep>,
    instant: &Instant,
    out: &mut Answer,
) -> Result<(), String> {
    if let (Some(keep), [name]) = (keep, names) {
        replace_surplus(store, name, keep)?;
    }
    store.check_room_for(names.len()).map_err(|error| error.to_string())?;
    let mut lines = Vec::new();
    let mut last = 0;
    for (name, (domain, parked)) in names.iter().zip(guests) {
        let commit = lines.len() + 1 == names.len();
        let (number, line) = shared::with_copies(domain, |shared| {
            store_one(store, parked, shared, name, instant, commit, out)
        })
        .map_err(|error| match names {
            [_] => error,
            _ => format!("guest \"{}\": {error}", domain.name),
        })?;
        last = number;
        lines.push(line);
    }
    // The numbers of a set are consecutive.
    let first = (last + 1).saturating_sub(lines.len() as u64);
    for (number, line) in (first..).zip(lines) {
        let _ = writeln!(out, "checkpoint {number} {line}");
    }
    Ok(())
}

/// Writes one guest and the regions that it shares. With `commit`, this checkpoint and all that were staged before it are in the store then.
/// Returns the number of the checkpoint, which is 0 before the commit, and the line that describes it.
fn store_one(
    store: &mut Store<Disk>,
    parked: &mut Parked,
    shared: &[&dyn ReadRam],
    name: &str,
    instant: &Instant,
    commit: bool,
    out: &mut Answer,
) -> Result<(u64, String), String> {
    let start = timer::counter();
    let (records, ram) = parked.records_and_ram(instant.counter, instant.wall_time);
    let pause = &mut || store.device_mut().task().yield_now();
    let plan =
        Plan::new(records, ram, shared, routines(), pause).map_err(|error| error.to_string())?;
    let stats = plan.stats();
    StreamError::if_given_up().map_err(|error| error.to_string())?;
    let mut writer =
        store.begin(name, stats.bytes, instant.wall_time).map_err(|error| error.to_string())?;
    writer.set_pages(stats.pages_stored);
    let mut sink = ToStore(writer);
    let mut progress = Progress::new("stored", out);
    plan.write(&mut sink, &mut |done, total| progress.report(done, total))
        .map_err(why_not_written)?;
    let number = if commit {
        sink.0.commit().map(|committed| committed.number)
    } else {
        sink.0.stage().map(|()| 0)
    };
    let line = format!(
        "\"{name}\": {} pages stored, {} zero, {} bytes, {} ms",
        stats.pages_stored,
        stats.pages_zero,
        stats.bytes,
        millis_since(start)
    );
    Ok((number.map_err(|error| error.to_string())?, line))
}

/// Marks the oldest checkpoints with this name to be deleted when the new one is committed, so that no more stay than `keep` says. Those that
/// are surplus already, because they were spared until now, are deleted at once: the new one may find no room beside them.
fn replace_surplus(store: &mut Store<Disk>, name: &str, keep: Keep) -> Result<(), String> {
    let surplus = |store: &Store<Disk>, new: Option<u64>| {
        let all = store.list().iter().map(|one| (one.number, one.name.as_str()));
        let all = all.chain(new.map(|number| (number, name)));
        periodic::surplus(all, name, keep.newest, keep.spared)
    };
    let overdue = surplus(store, None);
    if !overdue.is_empty() {
        store.delete_all(&overdue).map_err(|error| error.to_string())?;
    }
    // Count the new one, too.
    let replaced = surplus(store, Some(store.next_number()));
    store.replace(&replaced).map_err(|error| error.to_string())
}

/// Resumes a guest, beside the stored one under the name `copy` if that is given, or all guests of a set. Nothing is changed before every
/// checkpoint was read and found good, and the machine has what the guests need. With `any_speed`, their counter may have any frequency.
///
/// # Errors
///
/// Why no guest was resumed, in one line.
pub fn resume(
    work: &mut Work,
    which: &str,
    copy: Option<&str>,
    any_speed: bool,
    out: &mut Answer,
) -> Result<(), String> {
    let start = timer::counter();
    if let Some(name) = copy {
        let guests = guests::all();
        let guests = guests.iter().map(|domain| domain.name.as_str());
        sets::check_copy(which, name, guests).map_err(|error| error.to_string())?;
    }
    work.with_store(|store| {
        let mut checkpoints = Vec::new();
        for number in store.meant_whole(which).map_err(|error| error.to_string())? {
            let mut source = open(store, number)?;
            let mut progress = Progress::new("checked", out);
            // Refuse early a guest that the machine can't take, before its memory is read.
            let admits = &mut |state: &GuestState| {
                let mut state = state.clone();
                if let Some(name) = copy {
                    state.guest.set_name(name);
                }
                resume::look(&state, any_speed)
                    .map_err(|refusal| StreamError::Other(refusal.to_string()))
            };
            let mut checkpoint =
                stasis_state::read_if(&mut source, routines(), admits, &mut |done, total| {
                    progress.report(done, total);
                })
                .map_err(why_not_read)?;
            if !checkpoint.skipped.is_empty() {
                let _ = writeln!(
                    out,
                    "checkpoint {number} has {}: the guest goes on without",
                    checkpoint.skipped
                );
            }
            if let Some(name) = copy {
                checkpoint.state.guest.set_name(name);
            }
            checkpoints.push((number, checkpoint));
        }
        let states: Vec<&GuestState> =
            checkpoints.iter().map(|(_, checkpoint)| &checkpoint.state).collect();
        let kept =
            resume::resume(store, &states, any_speed, |store, index, target, can_give_up| {
                let (number, checkpoint) = &checkpoints[index];
                let mut source = open(store, *number)?;
                source.allow_giving_up(can_give_up);
                let mut progress = Progress::new("loaded", out);
                let report = &mut |done, total| progress.report(done, total);
                stasis_state::read_memory(&mut source, checkpoint, target, routines(), report)
                    .map_err(why_not_read)
            })
            .map_err(|error| error.to_string())?;
        for line in kept {
            let _ = writeln!(out, "{line}");
        }
        for (number, Checkpoint { state, stats, .. }) in &checkpoints {
            let name = state.guest.name_text();
            let is_on = state.power_state() == GuestPowerState::On;
            care::resumed(name, *number, is_on);
            let (pages, bytes, millis) = (stats.pages_stored, stats.bytes, millis_since(start));
            let (does, then) = match is_on {
                true => ("goes on", ""),
                false => ("is off, as it was when it was stored", "; start starts it"),
            };
            let _ = writeln!(
                out,
                "guest \"{name}\" {does}: {pages} pages loaded, {bytes} bytes, {millis} ms{then}"
            );
        }
        Ok(())
    })
}

/// Deletes a checkpoint, or the checkpoints of a set. Says so if a set loses some of its members.
pub fn delete(work: &mut Work, which: &str, out: &mut Answer) -> Result<(), String> {
    work.with_store(|store| {
        let numbers = store.meant(which).map_err(|error| error.to_string())?;
        let set =
            store.list().iter().find(|one| numbers.contains(&one.number)).and_then(|one| one.set());
        let set = set.map(|(name, first)| (name.to_string(), first));
        store.delete_all(&numbers).map_err(|error| error.to_string())?;
        if let Some((name, first)) = set
            && let Some(left) = store.list().iter().find(|one| one.set() == Some((&name, first)))
            && let Some(set) = store.set_of(left)
        {
            let (left, count) = (set.members.len(), set.count);
            let _ =
                writeln!(out, "the set \"{}/\" has {left} of {count} checkpoints now", set.name);
        }
        Ok(())
    })
}

/// Returns the numbers of the checkpoints of a guest, the newest first.
pub fn of_guest(work: &mut Work, name: &str) -> Result<Vec<u64>, String> {
    work.with_store(|store| {
        let mut numbers: Vec<u64> = store.list().iter().rev().map(|one| one.number).collect();
        numbers.retain(|number| {
            open(store, *number).is_ok_and(|mut source| {
                let guest = stasis_state::read_name(&mut source, routines());
                guest.is_ok_and(|guest| guest == name)
            })
        });
        Ok(numbers)
    })
}

/// Returns the highest number of a checkpoint; 0 if there is none.
pub fn newest(work: &mut Work) -> Result<u64, String> {
    work.with_store(|store| Ok(store.list().iter().map(|one| one.number).max().unwrap_or(0)))
}

/// Returns the names of all checkpoints; none if there is no store.
pub fn names_in_store(work: &mut Work) -> Vec<String> {
    let names = |store: &mut Store<Disk>| {
        Ok(store.list().iter().map(|checkpoint| checkpoint.name.to_string()).collect())
    };
    work.with_store(names).unwrap_or_default()
}

/// Lists the checkpoints.
pub fn list(work: &mut Work, json: bool, out: &mut Answer) -> Result<(), String> {
    work.with_store(|store| {
        let rows: Vec<StoreRow> = store
            .list()
            .iter()
            .map(|checkpoint| StoreRow {
                number: checkpoint.number,
                name: &checkpoint.name,
                size: checkpoint.length,
                pages: checkpoint.pages.map(|pages| pages.get().into()),
                when: checkpoint.created,
                member: checkpoint.member.map(|member| (member.index, member.count)),
            })
            .collect();
        let usage = store.usage();
        table::store(&rows).write(out, json).map_err(|error| error.to_string())?;
        let Usage { free, capacity, .. } = usage;
        match json {
            true => writeln!(out, "{{\"free\":{free},\"capacity\":{capacity}}}"),
            false => writeln!(out, "{} of {} free", Size(free), Size(capacity)),
        }
        .map_err(|error| error.to_string())
    })
}
