//! `cargo xtask checkpoint`: checkpoints in files, on a disk image or a card, without a hypervisor.
//!
//! - [`on_disk`]: the checkpoints of a disk, and its sets.
//! - [`source`]: where a checkpoint is; [`registers`], [`interrupts`], [`memory`]: what is in it, by name and number.
//! - [`show`], [`diff`], [`json`]: for people and for programs.
//! - [`elf_core`], [`symbol_file`]: as a core file that a debugger opens, over [`translation`] and [`symbols`].

mod diff;
mod elf;
mod elf_core;
mod interrupts;
mod json;
mod memory;
mod on_disk;
mod registers;
mod show;
mod source;
mod symbol_file;
mod symbols;
mod translation;
mod verdict;

use std::ffi::OsString;
use std::path::Path;

use anyhow::{Context, Result, anyhow, bail};
use serde_json::Value;
use stasis_store::{Store, Which};

use crate::cli::nearest;
use crate::disk;
use crate::report;
use crate::workspace::read;
use diff::Difference;
use memory::Memory;
pub use source::check;
use source::{Loaded, contents, is_checkpoint};
use verdict::{Tally, Verdict};

/// What a person reads about it.
pub const DETAILS: &str = "\
DISK is a disk image, or the device of a card or of its partition. WHICH is a checkpoint's number, or the name of the
newest one. CHECKPOINT is DISK WHICH, or a file that `get` has written. SET/ is the name of a set, with a slash behind it.

  list DISK                   every checkpoint, and what is free
  get DISK WHICH FILE         write a checkpoint to a file
  get DISK SET/ FOLDER        write the checkpoints of a set to a folder, each as its guest's name and .stasis
  put DISK FILE NAME          add the checkpoint in a file to the disk
  put DISK FOLDER SET/        add the checkpoints in a folder, or in several files, to the disk as a set
  show CHECKPOINT             every register by its name, and the interrupts as a table
  diff CHECKPOINT CHECKPOINT  what differs: registers, interrupts, pages; `diff DISK 1 2` on one disk
  core CHECKPOINT FILE        write an ELF core file, for gdb-multiarch; of a Linux also its functions, FILE.symbols
  verify CHECKPOINT           read every byte and check it; `verify DISK` takes all
  delete DISK WHICH           delete a checkpoint, or those of a set, for good
  format DISK                 make an empty store on a disk's Stasis partition, or on a partition

list, show and diff have --json, for programs. core has --vcpu N: whose page tables tell where the guest has its memory.
format has --force, for a store that has checkpoints.";

/// What was typed behind the action.
struct Arguments<'a> {
    words: Vec<&'a str>,
    json: bool,
    force: bool,
    vcpu: usize,
}

struct Action {
    name: &'static str,
    arguments: &'static str,
    /// None if the words are too few or too many.
    run: fn(&Arguments) -> Result<Option<()>>,
}

const ACTIONS: &[Action] = &[
    Action { name: "list", arguments: "DISK [--json]", run: on_disk::list },
    Action { name: "get", arguments: "DISK WHICH FILE | DISK SET/ FOLDER", run: on_disk::get },
    Action {
        name: "put",
        arguments: "DISK FILE NAME | DISK (FOLDER | FILE FILE...) SET/",
        run: on_disk::put,
    },
    Action { name: "show", arguments: "FILE | DISK WHICH [--json]", run: show },
    Action {
        name: "diff",
        arguments: "CHECKPOINT CHECKPOINT [--json], each FILE | DISK WHICH",
        run: diff,
    },
    Action { name: "core", arguments: "(FILE | DISK WHICH) CORE [--vcpu N]", run: core },
    Action { name: "verify", arguments: "FILE | DISK [WHICH | SET/]", run: verify },
    Action { name: "delete", arguments: "DISK (WHICH | SET/)", run: on_disk::delete },
    Action { name: "format", arguments: "DISK [--force]", run: format },
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
    let usage = || anyhow!("usage: cargo xtask checkpoint {name} {}", action.arguments);
    let arguments = parse(words, action).ok_or_else(usage)?;
    (action.run)(&arguments)?.ok_or_else(usage)
}

/// Takes the options out. None if one is not the action's.
fn parse<'a>(words: &[&'a str], action: &Action) -> Option<Arguments<'a>> {
    let mut arguments = Arguments { words: Vec::new(), json: false, force: false, vcpu: 0 };
    let mut words = words.iter();
    while let Some(&word) = words.next() {
        if word.starts_with("--") && !action.arguments.contains(word) {
            return None;
        }
        match word {
            "--json" => arguments.json = true,
            "--force" => arguments.force = true,
            "--vcpu" => arguments.vcpu = words.next()?.parse().ok()?,
            word => arguments.words.push(word),
        }
    }
    Some(arguments)
}

fn show(arguments: &Arguments) -> Result<Option<()>> {
    let words = &mut &arguments.words[..];
    let Some((_, loaded)) = Loaded::take(words)? else { return Ok(None) };
    if !words.is_empty() {
        return Ok(None);
    }
    let memory = Memory::read(&loaded)?;
    if arguments.json {
        print_json(&json::show(&loaded, &memory));
    } else {
        print(&show::show(&loaded, &memory)?);
    }
    Ok(Some(()))
}

fn diff(arguments: &Arguments) -> Result<Option<()>> {
    let words = &mut &arguments.words[..];
    let Some((path, old)) = Loaded::take(words)? else { return Ok(None) };
    let new = match words[..] {
        // `diff DISK 1 2`.
        [which] if arguments.words.len() == 3 && !Path::new(which).exists() => {
            Loaded::from_disk(path, which)?
        }
        _ => match Loaded::take(words)? {
            Some((_, new)) if words.is_empty() => new,
            _ => return Ok(None),
        },
    };
    let memories = (Memory::read(&old)?, Memory::read(&new)?);
    let difference = Difference::between((&old, &memories.0), (&new, &memories.1));
    if arguments.json {
        print_json(&json::diff(&difference));
    } else {
        print(&difference.text()?);
    }
    Ok(Some(()))
}

fn core(arguments: &Arguments) -> Result<Option<()>> {
    let words = &mut &arguments.words[..];
    let Some((_, loaded)) = Loaded::take(words)? else { return Ok(None) };
    let [file] = words[..] else { return Ok(None) };
    let elf_core::Written { summary, symbols } =
        elf_core::write(&loaded, arguments.vcpu, Path::new(file))?;
    report::step(format_args!("{file}: {summary}"));
    let mut program = String::new();
    if let Some(symbols) = symbols {
        report::step(format_args!("{}: the kernel's functions, for names", symbols.display()));
        program = format!(" {}", symbols.display());
    }
    report::note(format_args!(
        "gdb-multiarch --core {file}{program} -ex 'thread apply all backtrace'"
    ));
    Ok(Some(()))
}

fn verify(arguments: &Arguments) -> Result<Option<()>> {
    let (path, which) = match arguments.words[..] {
        [path] => (path, None),
        [path, which] => (path, Some(which)),
        _ => return Ok(None),
    };
    if is_checkpoint(Path::new(path))? {
        if which.is_some() {
            return Ok(None);
        }
        let verdict = Verdict::of(read(Path::new(path)));
        println!("{path}  {verdict}");
        verdict.blame(path)?;
        return Ok(Some(()));
    }
    let mut store = disk::store(Path::new(path), false)?;
    let numbers: Vec<u64> = match which {
        Some(which) => store.meant(which)?,
        None => store.list().iter().map(|checkpoint| checkpoint.number).collect(),
    };
    let mut tally = Tally::default();
    for &number in &numbers {
        let name = store.find(number)?.name;
        let verdict = Verdict::of(contents(&mut store, Which::Number(number)));
        println!("{number:>6}  {name:<32}  {verdict}");
        tally.add(&verdict);
    }
    tally.result()?;
    Ok(Some(()))
}

fn format(arguments: &Arguments) -> Result<Option<()>> {
    let [path] = arguments.words[..] else { return Ok(None) };
    let path = Path::new(path);
    // Opened once: nobody puts a checkpoint there between the look and the deed.
    let (mut disk, partition) = disk::stasis_partition(path, true, arguments.force)?;
    let count = Store::open(&mut disk, partition).map_or(0, |store| store.list().len());
    if count > 0 && !arguments.force {
        bail!("{} has {count} checkpoints; --force if they may go", path.display());
    }
    Store::format(disk, partition)?;
    report::step(format_args!(
        "{}: an empty store, {}",
        path.display(),
        report::size(partition.bytes())
    ));
    Ok(Some(()))
}

fn print_json(value: &Value) {
    print(&format!("{value:#}\n"));
}

/// Prints; that nobody reads to the end is no error.
fn print(text: &str) {
    use std::io::Write;
    let _ = std::io::stdout().write_all(text.as_bytes());
}
