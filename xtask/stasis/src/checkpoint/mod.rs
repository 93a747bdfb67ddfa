//! `stasis checkpoint`: checkpoints in files, on a disk image or a card, without a hypervisor.
//!
//! - [`on_disk`]: the checkpoints of a disk, and its sets.
//! - [`source`]: where a checkpoint is, and how its bytes are read a piece at a time.
//! - [`registers`], [`interrupts`], [`pages`], [`memory`]: what is in it, by name, number and
//!   address.
//! - [`show`], [`diff`], [`json`]: for people and for programs; [`html`]: as a page for a browser.
//! - [`elf_core`], [`symbol_file`]: as a core file that a debugger opens, over [`translation`] and
//!   [`symbols`].

mod diff;
mod elf;
mod elf_core;
pub mod html;
mod interrupts;
mod json;
pub(crate) mod memory;
pub mod on_disk;
mod pages;
mod registers;
mod show;
mod source;
pub(crate) mod symbol_file;
pub(crate) mod symbols;
pub(crate) mod translation;
mod verdict;
mod with_disks;

use std::fmt::{Debug, Display};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use clap::Subcommand;
use stasis_store::{Compression, Store};

use crate::disk::{self, FileDisk};
use crate::report;
use diff::Difference;
pub use source::{Loaded, Opened, anyhow_of, check_file, only, routines};
use source::{is_checkpoint, open};
use verdict::{Tally, Verdict};
pub use with_disks::image_of;

/// The text behind the command's help.
pub const DETAILS: &str = "\
DISK is a disk image, or the device of a card or of its partition. WHICH is a checkpoint's number, or the name of the
newest one. CHECKPOINT is DISK WHICH, or a file that `get` has written. SET/ is the name of a set, with a slash behind it.";

/// What is done to checkpoints.
#[derive(Debug, Subcommand)]
pub enum Action {
    /// List every checkpoint of a disk, and what is free
    List {
        /// A disk image, or a device
        disk: PathBuf,
        /// For programs
        #[arg(long)]
        json: bool,
    },
    /// Write a checkpoint to a file, or those of a set to a folder, each as its guest's name and
    /// .stasis
    Get {
        /// A disk image, or a device
        disk: PathBuf,
        /// WHICH, or SET/
        which: String,
        /// The file, or the folder of a set
        #[arg(value_name = "FILE")]
        to: PathBuf,
        /// Also write the guest's disks, as of the checkpoint, each to FILE.VOLUME.img
        #[arg(long)]
        disks: bool,
    },
    /// Add the checkpoint in a file to a disk, or those in a folder, or in several files, as a set
    Put {
        /// A disk image, or a device
        disk: PathBuf,
        /// A checkpoint's file, or the files of a set, or their folder
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
        /// NAME, or SET/
        name: String,
        /// Also bring the guest's disks along, from FILE.VOLUME.img, as `get --disks` has written
        /// them
        #[arg(long)]
        disks: bool,
    },
    /// Print every register by its name, and the interrupts as a table
    Show {
        /// FILE, or DISK WHICH
        #[arg(num_args = 1..=2, required = true)]
        checkpoint: Vec<String>,
        /// For programs
        #[arg(long)]
        json: bool,
    },
    /// Print what differs between two: registers, interrupts, pages; `diff DISK 1 2` on one disk
    Diff {
        /// Two of FILE or DISK WHICH, or DISK WHICH WHICH
        #[arg(required = true, value_name = "CHECKPOINT")]
        checkpoints: Vec<String>,
        /// For programs
        #[arg(long)]
        json: bool,
    },
    /// Write an ELF core file, for gdb-multiarch; of a Linux also its functions, FILE.symbols
    #[command(override_usage = "checkpoint core [OPTIONS] <CHECKPOINT> <FILE>")]
    Core {
        /// A checkpoint, which is FILE or DISK WHICH, and behind it the core file
        // One list: clap ends a list with a least length at an option in its midst.
        #[arg(required = true, value_name = "CHECKPOINT FILE")]
        words: Vec<String>,
        /// The vCPU whose page tables tell where the guest has its memory
        #[arg(long, default_value_t = 0, value_name = "N")]
        vcpu: usize,
    },
    /// Read every byte of a checkpoint, or of all of a disk, and check it
    Verify {
        /// A checkpoint's file, or a disk
        #[arg(value_name = "FILE|DISK")]
        path: PathBuf,
        /// Of a disk WHICH, or SET/
        which: Option<String>,
    },
    /// Delete a checkpoint, or those of a set, for good
    Delete {
        /// A disk image, or a device
        disk: PathBuf,
        /// WHICH, or SET/
        which: String,
    },
    /// Make the store of a disk one of the newest version, whose checkpoints share what they have
    /// in common
    #[command(
        after_help = "An older Stasis refuses the disk from then on. Nothing is copied, and power may fail."
    )]
    Upgrade {
        /// A disk image, or a device
        disk: PathBuf,
    },
    /// Set how the store of a disk compresses the checkpoints that it gets from now on
    #[command(
        after_help = "It pays on a slow card. Checkpoints that are there stay as they are. A Stasis that can't read compressed ones refuses the disk from then on."
    )]
    Compress {
        /// A disk image, or a device
        disk: PathBuf,
        /// The way
        #[arg(value_parser = disk::compression())]
        how: Compression,
    },
    /// Make an empty store on a disk's Stasis partition, or on a partition
    Format {
        /// A disk image, or a device
        disk: PathBuf,
        /// Also where there are checkpoints, a store that can't be opened, or no partition table
        #[arg(long)]
        force: bool,
    },
}

impl Action {
    /// Carries out the command.
    pub fn run(self) -> Result<()> {
        match self {
            Self::List { disk, json } => on_disk::list(&disk, json),
            Self::Get { disk, which, to, disks } => on_disk::get(&disk, &which, &to, disks),
            Self::Put { disk, files, name, disks } => on_disk::put(&disk, files, &name, disks),
            Self::Show { checkpoint, json } => show(&checkpoint, json),
            Self::Diff { checkpoints, json } => diff(&checkpoints, json),
            Self::Core { words, vcpu } => core(&words, vcpu),
            Self::Verify { path, which } => verify(&path, which.as_deref()),
            Self::Delete { disk, which } => on_disk::delete(&disk, &which),
            Self::Upgrade { disk } => on_disk::upgrade(&disk),
            Self::Compress { disk, how } => on_disk::compress(&disk, how),
            Self::Format { disk, force } => format(&disk, force),
        }
    }
}

fn show(words: &[String], json: bool) -> Result<()> {
    let mut loaded = only(words)?;
    if json {
        let sha256 = pages::sha256(&mut loaded)?;
        return report::print_json(&json::show(&loaded, &sha256));
    }
    let text = show::show(&loaded)?;
    report::print(|out| out.write_all(text.as_bytes()))
}

/// Reads the checkpoints that the words name: one, or two, which may be `DISK WHICH WHICH`.
fn one_or_two(words: &[String]) -> Result<(Loaded, Option<Loaded>)> {
    let (path, first, rest) = Loaded::take(words)?;
    let second = match rest {
        [] => None,
        // This is `diff DISK 1 2`.
        [which] if words.len() == 3 && !Path::new(which).exists() => {
            Some(Loaded::from_disk(path, which)?)
        }
        rest => Some(only(rest)?),
    };
    Ok((first, second))
}

fn diff(words: &[String], json: bool) -> Result<()> {
    const TWO: &str = "two checkpoints are compared, of which each is FILE or DISK WHICH";
    ensure!((2..=4).contains(&words.len()), TWO);
    let (mut old, new) = one_or_two(words)?;
    let mut new = new.context(TWO)?;
    let difference = Difference::between(&mut old, &mut new)?;
    match json {
        true => report::print_json(&json::Diff::from(&difference)),
        false => report::print(|out| difference.write(out)),
    }
}

fn core(words: &[String], vcpu: usize) -> Result<()> {
    let [checkpoint @ .., file] = words else { bail!("a checkpoint is lacking") };
    ensure!(!checkpoint.is_empty(), "the core file is lacking: say its name behind the checkpoint");
    let mut loaded = only(checkpoint)?;
    let elf_core::Written { summary, symbols } =
        elf_core::write(&mut loaded, vcpu, Path::new(file))?;
    report::step(format_args!("{file}: {summary}"));
    let mut program = String::new();
    if let Some(symbols) = symbols {
        report::step(format_args!("{}: the kernel's functions, for names", symbols.display()));
        program = format!(" {}", symbols.display());
    }
    report::note(format_args!(
        "gdb-multiarch --core {file}{program} -ex 'thread apply all backtrace'"
    ));
    Ok(())
}

fn verify(path: &Path, which: Option<&str>) -> Result<()> {
    if is_checkpoint(path)? {
        if let Some(which) = which {
            bail!("{} is a checkpoint, and has no \"{which}\"", path.display());
        }
        let verdict = Verdict::of(Opened::of(&open(path)?));
        report::print(|out| writeln!(out, "{}  {verdict}", path.display()))?;
        verdict.blame(path.display())?;
        return Ok(());
    }
    let mut store = disk::store(path, false)?;
    let numbers: Vec<u64> = match which {
        Some(which) => store.meant(which)?,
        None => store.list().iter().map(|checkpoint| checkpoint.number).collect(),
    };
    let mut tally = Tally::default();
    for &number in &numbers {
        let name = store.find(number)?.name;
        let opened = store
            .open_checkpoint(number)
            .map(|reader| Opened::Disk(Box::new(reader)))
            .map_err(Into::into);
        let verdict = Verdict::of(opened);
        report::print(|out| writeln!(out, "{number:>6}  {name:<32}  {verdict}"))?;
        tally.add(&verdict);
    }
    tally.result()
}

/// Checks that a disk's partition holds no store, or one with nothing in it.
///
/// # Errors
///
/// The store has something in it, or can't be opened: what it has is not known then.
fn check_empty<E: Display + Debug>(
    path: &Path,
    opened: Result<Store<&mut FileDisk>, stasis_store::Error<E>>,
) -> Result<()> {
    let path = path.display();
    let store = match opened {
        Ok(store) => store,
        Err(stasis_store::Error::Unformatted) => return Ok(()),
        Err(why) => {
            bail!("{path} has a store that can't be opened: {why}; --force if all in it may go")
        }
    };
    let (checkpoints, volumes) = (store.list().len(), store.volumes().len());
    let volumes = if volumes > 0 { format!(" and {volumes} volumes") } else { String::new() };
    ensure!(
        checkpoints == 0 && volumes.is_empty(),
        "{path} has {checkpoints} checkpoints{volumes}; --force if they may go"
    );
    Ok(())
}

fn format(path: &Path, force: bool) -> Result<()> {
    // The disk is opened only once, so that nobody puts a checkpoint there between the check and
    // the formatting.
    let (mut disk, partition) = disk::stasis_partition(path, true, force)?;
    if !force {
        check_empty(path, Store::open(&mut disk, partition))?;
    }
    Store::format(disk, partition)?;
    report::step(format_args!(
        "{}: an empty store, {}",
        path.display(),
        report::size(partition.bytes())
    ));
    Ok(())
}
