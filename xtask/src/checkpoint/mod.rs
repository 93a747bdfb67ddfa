//! `cargo xtask checkpoint`: the checkpoints of a disk image or a card, without a hypervisor.

mod show;

use std::convert::Infallible;
use std::ffi::OsString;
use std::path::Path;
use std::time::SystemTime;

use anyhow::{Context, Result, anyhow, bail};
use stasis_state::{Error, LoadError, Routines, Source};
use stasis_store::{Checkpoint, Store, Which};

use crate::cli::nearest;
use crate::disk::{self, FileDisk};
use crate::report;
use crate::workspace::{read, write};

/// What a person reads about it.
pub const DETAILS: &str = "\
DISK is a disk image, or the device of a card. WHICH is a checkpoint's number, or the name of the newest one.

  list DISK                  every checkpoint, and what is free
  get DISK WHICH FILE        write a checkpoint to a file
  put DISK FILE NAME         add the checkpoint in a file to the disk
  show DISK WHICH            what is in it: every register by its name
  verify DISK [WHICH]        read every byte and check it
  delete DISK WHICH          delete a checkpoint, for good";

struct Action {
    name: &'static str,
    arguments: &'static str,
    run: fn(&Path, &[&str]) -> Result<()>,
}

const ACTIONS: &[Action] = &[
    Action { name: "list", arguments: "", run: |disk, _| list(disk) },
    Action {
        name: "get",
        arguments: "WHICH FILE",
        run: |disk, words| get(disk, words[0], Path::new(words[1])),
    },
    Action {
        name: "put",
        arguments: "FILE NAME",
        run: |disk, words| put(disk, Path::new(words[0]), words[1]),
    },
    Action { name: "show", arguments: "WHICH", run: |disk, words| show(disk, words[0]) },
    Action {
        name: "verify",
        arguments: "[WHICH]",
        run: |disk, words| verify(disk, words.first().copied()),
    },
    Action { name: "delete", arguments: "WHICH", run: |disk, words| delete(disk, words[0]) },
];

/// Runs the command.
pub fn main(arguments: &[OsString]) -> Result<()> {
    let words: Vec<&str> = arguments
        .iter()
        .map(|word| word.to_str().with_context(|| format!("{word:?} is not UTF-8")))
        .collect::<Result<_>>()?;
    let Some((name, words)) = words.split_first() else {
        bail!("`checkpoint` lacks what to do; `cargo xtask checkpoint --help` tells more");
    };
    let action = ACTIONS.iter().find(|action| action.name == *name).ok_or_else(|| {
        let near = nearest(name, ACTIONS.iter().map(|action| action.name));
        anyhow!("`checkpoint` cannot \"{name}\"{near}; `cargo xtask checkpoint --help` tells what it can")
    })?;
    let usage = || anyhow!("usage: cargo xtask checkpoint {name} DISK {}", action.arguments);
    let (disk, words) = words.split_first().ok_or_else(usage)?;
    let all = action.arguments.split_whitespace().count();
    let required =
        action.arguments.split_whitespace().filter(|word| !word.starts_with('[')).count();
    if !(required..=all).contains(&words.len()) {
        return Err(usage());
    }
    (action.run)(Path::new(disk), words)
}

fn list(disk: &Path) -> Result<()> {
    let store = disk::store(disk, false)?;
    println!("{:>6}  {:<32}  {:>12}  CREATED", "NUMBER", "NAME", "SIZE");
    for checkpoint in store.list() {
        let Checkpoint { number, name, length, created, .. } = checkpoint;
        println!(
            "{number:>6}  {name:<32}  {:>12}  {}",
            report::size(*length),
            report::date(*created)
        );
    }
    let usage = store.usage();
    println!("{} of {} free", report::size(usage.free), report::size(usage.capacity));
    Ok(())
}

fn get(disk: &Path, which: &str, file: &Path) -> Result<()> {
    let bytes = contents(&mut disk::store(disk, false)?, which.into())?;
    write(file, &bytes)?;
    report::step(format_args!("{}: {}", file.display(), report::size(bytes.len() as u64)));
    Ok(())
}

fn show(disk: &Path, which: &str) -> Result<()> {
    let bytes = contents(&mut disk::store(disk, false)?, which.into())?;
    print!("{}", show::show(&check(&bytes)?)?);
    Ok(())
}

/// All bytes of a checkpoint, unchecked.
fn contents(store: &mut Store<FileDisk>, which: Which<'_>) -> Result<Vec<u8>> {
    let mut reader = store.open_checkpoint(which)?;
    let mut bytes = vec![0; usize::try_from(reader.length())?];
    reader.read_at(0, &mut bytes)?;
    Ok(bytes)
}

/// A checkpoint in memory.
struct Bytes<'a>(&'a [u8]);

impl Source for Bytes<'_> {
    type Error = Infallible;

    fn len(&self) -> u64 {
        self.0.len() as u64
    }

    fn read_at(&mut self, offset: u64, buf: &mut [u8]) -> std::result::Result<(), Infallible> {
        // What is asked for lies below `len`.
        let start = offset as usize;
        buf.copy_from_slice(&self.0[start..start + buf.len()]);
        Ok(())
    }
}

/// Reads a checkpoint to its end, by every rule of the format.
pub fn check(bytes: &[u8]) -> std::result::Result<stasis_state::Checkpoint, Error> {
    stasis_state::read(&mut Bytes(bytes), Routines::default(), &mut |_, _| ()).map_err(|error| {
        match error {
            LoadError::Format(error) => error,
            LoadError::Source(never) => match never {},
        }
    })
}

fn put(disk: &Path, file: &Path, name: &str) -> Result<()> {
    let bytes = read(file)?;
    check(&bytes).with_context(|| format!("{} is no good checkpoint", file.display()))?;
    let mut store = disk::store(disk, true)?;
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let mut writer = store.begin(name, bytes.len() as u64, now.map_or(0, |time| time.as_secs()))?;
    writer.write(&bytes)?;
    let number = writer.commit()?.number;
    report::step(format_args!(
        "checkpoint {number} \"{name}\": {}",
        report::size(bytes.len() as u64)
    ));
    Ok(())
}

fn verify(disk: &Path, which: Option<&str>) -> Result<()> {
    let mut store = disk::store(disk, false)?;
    let numbers: Vec<u64> = match which {
        Some(which) => vec![store.find(which)?.number],
        None => store.list().iter().map(|checkpoint| checkpoint.number).collect(),
    };
    let mut bad = 0;
    for &number in &numbers {
        let name = store.find(number)?.name;
        let verdict = contents(&mut store, Which::Number(number))
            .and_then(|bytes| Ok(check(&bytes).map(drop)?))
            .map_or_else(|error| format!("{error:#}"), |()| "good".to_owned());
        bad += usize::from(verdict != "good");
        println!("{number:>6}  {name:<32}  {verdict}");
    }
    if bad > 0 {
        bail!("{bad} of {} checkpoints are damaged", numbers.len());
    }
    Ok(())
}

fn delete(disk: &Path, which: &str) -> Result<()> {
    let mut store = disk::store(disk, true)?;
    let Checkpoint { number, name, .. } = store.find(which)?.clone();
    store.delete(number)?;
    report::step(format_args!("deleted checkpoint {number} \"{name}\""));
    Ok(())
}
