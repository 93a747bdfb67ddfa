//! `list`, `get`, `put` and `delete`: the checkpoints of a disk, and the sets among them.
//!
//! The store's catalog, not the checkpoint's file, says that a checkpoint is a member of a set. So
//! a member that is moved alone is no longer a member, and a person is told so. A set that is moved
//! as a whole stays a set.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use stasis_console::text::Harmless;
use stasis_state::Source;
use stasis_store::set::SET_MARK;
use stasis_store::{Checkpoint, Compression, Identity, Set, Store, Usage};

use super::source::{Copied, Loaded, Opened, anyhow_of, check, routines};
use super::with_disks;
use crate::disk::{self, FileDisk};
use crate::output::Output;
use crate::report;

/// The extension of the file of a member of a set, behind its guest's name.
const EXTENSION: &str = "stasis";

/// Prints the list of a disk's checkpoints.
pub fn list(disk: &Path, json: bool) -> Result<()> {
    let mut store = disk::store(disk, false)?;
    let (usage, frees) = (store.usage(), store.freed_by_each());
    let guests = guests_of(&mut store);
    let damaged = store.damaged().to_vec();
    if json {
        let all = store.list().iter().zip(frees.iter().zip(&guests));
        return report::print_json(&json!({
            "checkpoints": all.map(|(one, (frees, guest))| as_json(&store, one, *frees, guest.as_deref())).collect::<Value>(),
            "damaged": damaged,
            "free": usage.free,
            "capacity": usage.capacity,
            "version": store.version(),
            "compress": store.compression().name(),
        }));
    }
    warn_of_alignment(&store);
    for number in damaged {
        report::warn(format_args!(
            "the block map of checkpoint {number} is damaged: some or all of it can't be read"
        ));
    }
    report::print(|out| print_list(&store, usage, (&frees, &guests), out))
}

/// Prints a line for each checkpoint, and what is free.
fn print_list(
    store: &Store<FileDisk>,
    usage: Usage,
    (frees, guests): (&[u64], &[Option<String>]),
    out: &mut dyn Write,
) -> io::Result<()> {
    let head = ["NUMBER", "NAME", "GUEST", "SIZE", "FREES", "PARENT", "CREATED"];
    let [number, name, guest, size, freed, parent, created] = head;
    writeln!(
        out,
        "{number:>6}  {name:<32}  {guest:<16}  {size:>12}  {freed:>12}  {parent:>6}  {created:<23}  OF SET"
    )?;
    for (checkpoint, (freed, guest)) in store.list().iter().zip(frees.iter().zip(guests)) {
        let parent = store.parent_of(checkpoint).map_or("-".to_owned(), |one| one.to_string());
        let Checkpoint { number, name, length, created, member, .. } = checkpoint;
        let member = member.map_or("-".to_owned(), |member| {
            format!("{} of {}", u16::from(member.index) + 1, member.count)
        });
        let guest =
            guest.as_deref().map_or_else(|| "-".to_owned(), |guest| Harmless(guest).to_string());
        writeln!(
            out,
            "{number:>6}  {name:<32}  {guest:<16}  {:>12}  {:>12}  {parent:>6}  {:<23}  {member}",
            report::size(*length),
            report::size(*freed),
            report::date(*created)
        )?;
    }
    writeln!(out, "{} of {} free", report::size(usage.free), report::size(usage.capacity))?;
    match store.compression() {
        Compression::None => Ok(()),
        _ => writeln!(out, "{}", compression_of(store)),
    }
}

/// Returns the guest whose state each checkpoint is, in their order; `None` where that can't be
/// read.
fn guests_of(store: &mut Store<FileDisk>) -> Vec<Option<String>> {
    let numbers: Vec<u64> = store.list().iter().map(|one| one.number).collect();
    numbers.into_iter().map(|number| guest_of(store, number)).collect()
}

/// Returns the guest whose state a checkpoint is; `None` if that can't be read.
pub fn guest_of(store: &mut Store<FileDisk>, number: u64) -> Option<String> {
    let mut opened = Opened::Disk(Box::new(store.open_checkpoint(number).ok()?));
    stasis_state::read_name(&mut opened, routines()).ok()
}

fn as_json(
    store: &Store<FileDisk>,
    checkpoint: &Checkpoint,
    frees: u64,
    guest: Option<&str>,
) -> Value {
    let Checkpoint { number, name, length, created, member, .. } = checkpoint;
    let set = member.zip(checkpoint.set()).map(|(member, (name, first))| {
        json!({ "name": name, "first": first, "index": member.index, "count": member.count })
    });
    let parent = store.parent_of(checkpoint);
    json!({
        "number": number, "name": name.to_string(), "guest": guest, "bytes": length, "frees": frees, "created": created,
        "set": set, "parent": parent, "identity": hex(&checkpoint.identity),
    })
}

/// Returns an identity as a program reads it; `None` if there is none.
fn hex(identity: &Identity) -> Option<String> {
    let text = || identity.iter().map(|byte| format!("{byte:02x}")).collect();
    (*identity != [0; 16]).then(text)
}

/// Takes the store of a disk to the newest version.
pub fn upgrade(disk: &Path) -> Result<()> {
    let mut store = disk::store(disk, true)?;
    let (before, version) = (store.upgrade()?, store.version());
    if before == version {
        report::step(format_args!("{}: the store has version {version} already", disk.display()));
    } else {
        report::step(format_args!("{}: the store had version {before}", disk.display()));
    }
    disk::warn_of_version(&store, before);
    Ok(())
}

/// Sets how the store of a disk compresses the checkpoints that it gets.
pub fn compress(disk: &Path, compression: Compression) -> Result<()> {
    let mut store = disk::store(disk, true)?;
    let before = store.version();
    store.set_compression(compression)?;
    report::step(format_args!("{}: {}", disk.display(), compression_of(&store)));
    disk::warn_of_version(&store, before);
    Ok(())
}

/// Returns how a store compresses, in words.
fn compression_of(store: &Store<FileDisk>) -> String {
    match store.compression() {
        Compression::None => "new checkpoints are not compressed".to_owned(),
        other => format!("new checkpoints are compressed by {}", other.name()),
    }
}

/// Writes a checkpoint to a file, or a set to a folder. `with_disks`: also the disks of the guests.
pub fn get(disk: &Path, which: &str, to: &Path, with_disks: bool) -> Result<()> {
    let mut store = disk::store(disk, false)?;
    let from = From { disk, with_disks };
    if let Some(set) = which.strip_suffix(SET_MARK) {
        return get_set(&mut store, from, set, to);
    }
    let number = store.find(which)?.number;
    get_one(&mut store, from, number, to)?;
    if let Some(Set { name, count, .. }) = store.set_of(store.find(number)?) {
        report::note(format_args!(
            "it is one of the {count} of the set \"{name}/\", which the file does not say; `get DISK {name}/ FOLDER` takes all"
        ));
    }
    Ok(())
}

/// Where checkpoints are read from.
#[derive(Clone, Copy)]
struct From<'p> {
    disk: &'p Path,
    /// Whether the disks of their guests are read, too.
    with_disks: bool,
}

/// Copies the bytes of a checkpoint to a file, without checking them, and the disks that it has to
/// images beside it, if they are wanted.
fn get_one(store: &mut Store<FileDisk>, from: From, number: u64, to: &Path) -> Result<()> {
    let mut opened = Opened::Disk(Box::new(store.open_checkpoint(number)?));
    let mut output = Output::create(to)?;
    opened
        .copy_to(&mut |bytes| output.put(bytes))
        .with_context(|| format!("cannot get checkpoint {number}"))?;
    output.finish_and_tell()?;
    report::step(format_args!("{}: {}", to.display(), report::size(opened.len())));
    match from.with_disks {
        true => with_disks::get(store, number, from.disk, to),
        false => with_disks::tell_of_disks(store, number),
    }
}

/// Writes each member of a set to a file in a folder, under its guest's name.
fn get_set(store: &mut Store<FileDisk>, from: From, name: &str, folder: &Path) -> Result<()> {
    let set = store.find_set(name)?;
    if !set.is_complete() {
        warn_of_loss(&set);
    }
    let members = set.members.iter().map(|one| {
        let guest = one.name.as_str().split_once(SET_MARK).map_or("", |(_, guest)| guest);
        (one.number, guest.to_owned())
    });
    let members: Vec<(u64, String)> = members.collect();
    std::fs::create_dir_all(folder)
        .with_context(|| format!("cannot make the folder {}", folder.display()))?;
    for (number, guest) in members {
        // The name in a store may be anything that can be typed.
        ensure!(!guest.contains('/'), "checkpoint {number} is called as no guest is: \"{guest}\"");
        get_one(store, from, number, &folder.join(format!("{guest}.{EXTENSION}")))?;
    }
    Ok(())
}

/// Adds the checkpoint in a file to a disk, or those in several files as a set. `with_disks`: with
/// the disks of the guests, whose images are beside the files.
pub fn put(disk: &Path, files: Vec<PathBuf>, name: &str, with_disks: bool) -> Result<()> {
    let set = name.strip_suffix(SET_MARK);
    let files = match (&files[..], set) {
        ([folder], Some(_)) if folder.is_dir() => files_in(folder)?,
        ([_], None) | (_, Some(_)) => files,
        (_, None) => bail!("several files are a set, whose name ends with \"{SET_MARK}\""),
    };
    let mut loaded =
        files.iter().map(|path| Loaded::from_file(path)).collect::<Result<Vec<_>>>()?;
    let names = match set {
        Some(set) => members(set, &loaded)?,
        None => vec![name.to_owned()],
    };
    let mut store = disk::store(disk, true)?;
    warn_of_alignment(&store);
    if let Some(set) = set {
        ensure!(
            store.find_set(set).is_err(),
            "there is a set \"{name}\" already; delete it first, or take another name"
        );
    }
    let version = store.version();
    let images = with_disks.then_some(&files[..]);
    let last = put_all(&mut store, &names, &mut loaded, images)?;
    let first = last + 1 - loaded.len() as u64;
    for ((number, name), loaded) in (first..).zip(&names).zip(&loaded) {
        let size = report::size(loaded.checkpoint.stats.bytes);
        report::step(format_args!("checkpoint {number} \"{name}\": {size}"));
    }
    disk::warn_of_version(&store, version);
    Ok(())
}

/// Returns the files in a folder into which `get` has written a set.
fn files_in(folder: &Path) -> Result<Vec<PathBuf>> {
    let name = || format!("cannot read {}", folder.display());
    let entries = std::fs::read_dir(folder).with_context(name)?;
    let mut files = entries
        .map(|entry| Ok(entry?.path()))
        .collect::<io::Result<Vec<_>>>()
        .with_context(name)?;
    files.retain(|path| path.extension().is_some_and(|extension| extension == EXTENSION));
    files.sort();
    Ok(files)
}

/// Returns the names of the members of a set. Fails if these checkpoints can be no set.
fn members(set: &str, loaded: &[Loaded]) -> Result<Vec<String>> {
    ensure!(!set.contains(SET_MARK), "a set's name has no \"{SET_MARK}\"");
    ensure!(loaded.len() > 1, "a set has two checkpoints at least, not {}", loaded.len());
    let guests: BTreeSet<String> = loaded.iter().map(Loaded::guest).collect();
    ensure!(guests.len() == loaded.len(), "two of them are of one guest");
    let times: BTreeSet<u64> =
        loaded.iter().map(|one| *one.checkpoint.state.clock.wall_time).collect();
    if let (Some(first), Some(last)) = (times.first(), times.last())
        && first != last
    {
        let (first, last) = (report::date(*first), report::date(*last));
        bail!("they were not stored at one instant, but from {first} to {last}: they are no set");
    }
    Ok(loaded.iter().map(|one| format!("{set}{SET_MARK}{}", one.guest())).collect())
}

/// Adds all checkpoints or none, and checks them again while copying: with the disks of their
/// guests, if the `images` are beside these files. Returns the number of the last one; the numbers
/// before it are the others'.
fn put_all(
    store: &mut Store<FileDisk>,
    names: &[String],
    loaded: &mut [Loaded],
    images: Option<&[PathBuf]>,
) -> Result<u64> {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let now = now.map_or(0, |time| time.as_secs());
    store.check_room_for(names.len())?;
    for (place, (name, loaded)) in names.iter().zip(loaded).enumerate() {
        let file = loaded.name.clone();
        let (source, checkpoint) = loaded.open()?;
        let instants = match images {
            Some(files) => with_disks::take(store, &checkpoint.state, &files[place], now)?,
            None => Vec::new(),
        };
        let mut writer = store.begin(name, checkpoint.stats.bytes, now)?;
        writer.set_instants(instants)?;
        let mut out = |bytes: &[u8]| writer.write(bytes).context("the disk cannot be written");
        let again = check(&mut Copied { source, out: &mut out, done: 0 }).map_err(anyhow_of);
        let again = again.with_context(|| format!("cannot put {file}"))?;
        ensure!(again == *checkpoint, "{file} has changed meanwhile");
        if place + 1 == names.len() {
            return Ok(writer.commit()?.number);
        }
        writer.stage()?;
    }
    bail!("there is nothing to put")
}

/// Deletes a checkpoint, or the checkpoints of a set, for good.
pub fn delete(disk: &Path, which: &str) -> Result<()> {
    let mut store = disk::store(disk, true)?;
    let version = store.version();
    let numbers = store.meant(which)?;
    let gone: Vec<Checkpoint> =
        store.list().iter().filter(|one| numbers.contains(&one.number)).cloned().collect();
    store.delete_all(&numbers)?;
    for Checkpoint { number, name, .. } in &gone {
        report::step(format_args!("deleted checkpoint {number} \"{name}\""));
    }
    if let Some((name, _)) = gone.first().and_then(Checkpoint::set)
        && let Ok(set) = store.find_set(name)
        && !set.is_complete()
    {
        warn_of_loss(&set);
    }
    disk::warn_of_version(&store, version);
    Ok(())
}

fn warn_of_loss(set: &Set) {
    let Set { name, count, members, .. } = set;
    report::warn(format_args!(
        "the set \"{name}/\" has lost members: {} of {count} are there",
        members.len()
    ));
}

fn warn_of_alignment(store: &Store<FileDisk>) {
    let partition = store.partition();
    if !partition.is_aligned() {
        report::warn(format_args!(
            "the store begins at sector {}, no multiple of 8: on a disk with blocks of 4096 bytes, a loss of power can hurt a checkpoint",
            partition.first()
        ));
    }
}
