//! `stasis volume`: the disks of guests in the store of a disk image or a card, without a
//! hypervisor.
//!
//! [`image`] moves bytes between a volume and a file, in both directions so that holes stay holes.

pub mod image;

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::Result;
use clap::Subcommand;
use serde_json::{Value, json};
use stasis_host::volumes::{Origin, origin_of};
use stasis_store::volume::Source;
use stasis_store::{Instant, Store, Volume};

use crate::checkpoint::on_disk::guest_of;
use crate::disk::{self, FileDisk};
use crate::report;

/// The text behind the command's help.
pub const DETAILS: &str = "\
DISK is a disk image, or the device of a card or of its partition. A guest has a volume as its disk if its configuration says
`disks = [{ volume = \"NAME\" }]`. With --checkpoint, NAME is the volume as it was at the instant of a checkpoint.";

/// What is done to volumes.
#[derive(Debug, Subcommand)]
pub enum Action {
    /// List the volumes of a disk, and those that its checkpoints have
    List {
        /// A disk image, or a device
        disk: PathBuf,
        /// For programs
        #[arg(long)]
        json: bool,
    },
    /// Make a volume of zeros, which takes no room until something is written to it
    Create {
        /// A disk image, or a device
        disk: PathBuf,
        /// The new volume
        name: String,
        /// How large it is, such as 1G: a multiple of 4096 bytes
        #[arg(value_parser = report::size_from)]
        size: u64,
    },
    /// Make a volume of a raw image; what is zeros in it takes no room
    Import {
        /// A disk image, or a device
        disk: PathBuf,
        /// A raw image
        file: PathBuf,
        /// The new volume
        name: String,
        /// How large the volume is, if it is to be larger than the image
        #[arg(long, value_parser = report::size_from)]
        size: Option<u64>,
    },
    /// Write a volume to a raw image, which is sparse where the volume is
    Export {
        /// A disk image, or a device
        disk: PathBuf,
        /// The volume
        name: String,
        /// The image that is made
        file: PathBuf,
        /// The checkpoint that has the volume: its number, or the name of the newest one
        #[arg(long, value_name = "WHICH")]
        checkpoint: Option<String>,
    },
    /// Make a volume that shares all of its blocks with another one, until one of them is written
    Copy {
        /// A disk image, or a device
        disk: PathBuf,
        /// The volume
        name: String,
        /// The new volume
        to: String,
        /// The checkpoint that has the volume: its number, or the name of the newest one
        #[arg(long, value_name = "WHICH")]
        checkpoint: Option<String>,
    },
    /// Delete a volume, for good; checkpoints that have it keep it as it was
    Delete {
        /// A disk image, or a device
        disk: PathBuf,
        /// The volume
        name: String,
    },
}

impl Action {
    /// Carries out the command.
    pub fn run(self) -> Result<()> {
        match self {
            Self::List { disk, json } => list(&disk, json),
            Self::Create { disk, name, size } => {
                change(&disk, |store| Ok(store.create_volume(&name, size, now())?))?;
                report::step(format_args!("volume \"{name}\": {} of zeros", report::size(size)));
                Ok(())
            }
            Self::Import { disk, file, name, size } => {
                change(&disk, |store| image::import(store, &file, &name, size, now()))
            }
            Self::Export { disk, name, file, checkpoint } => {
                let mut store = disk::store(&disk, false)?;
                let number = number_of(&store, checkpoint.as_deref())?;
                if let Some(number) = number {
                    store.volumes_mut().open_instant(number, &name)?;
                }
                image::export(&mut store, &name, &disk, &file)
            }
            Self::Copy { disk, name, to, checkpoint } => {
                change(&disk, |store| {
                    let source = match number_of(store, checkpoint.as_deref())? {
                        Some(number) => Source::Instant(number, &name),
                        None => Source::Volume(&name),
                    };
                    Ok(store.copy_volume(source, &to, now())?)
                })?;
                report::step(format_args!("volume \"{to}\": it shares all of its blocks"));
                Ok(())
            }
            Self::Delete { disk, name } => {
                change(&disk, |store| Ok(store.delete_volume(&name)?))?;
                report::step(format_args!("deleted volume \"{name}\""));
                Ok(())
            }
        }
    }
}

/// Returns the number of the checkpoint that a person means, if any is meant.
fn number_of(store: &Store<FileDisk>, which: Option<&str>) -> Result<Option<u64>> {
    Ok(which.map(|which| store.find(which).map(|one| one.number)).transpose()?)
}

/// Changes the store of a disk. Warns if that has changed the store's version.
fn change(disk: &Path, action: impl FnOnce(&mut Store<FileDisk>) -> Result<()>) -> Result<()> {
    let mut store = disk::store(disk, true)?;
    let before = store.version();
    action(&mut store)?;
    disk::warn_of_version(&store, before);
    Ok(())
}

/// Returns the time in seconds since 1970.
fn now() -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    now.map_or(0, |time| time.as_secs())
}

fn list(disk: &Path, json: bool) -> Result<()> {
    let mut store = disk::store(disk, false)?;
    let frees = store.freed_by_each_volume();
    let instants = instants(&mut store)?;
    let usage = store.usage();
    let names: Vec<String> = store.volumes().iter().map(|one| one.name.to_string()).collect();
    let origins: Vec<Option<Origin>> =
        names.iter().map(|name| origin_of(&mut store, name, guest_of)).collect();
    let volumes = store.volumes().iter().zip(frees);
    if json {
        let damaged: Vec<String> =
            store.damaged_volumes().iter().map(|name| name.to_string()).collect();
        let volume = |((volume, frees), origin): ((&Volume, u64), Option<Origin>)| {
            let Volume { name, length, created, .. } = volume;
            json!({
                "name": name.to_string(), "bytes": length, "frees": frees, "created": created,
                "set_aside": origin.map(set_aside),
            })
        };
        let instant = |(number, one): &(u64, Instant)| json!({ "checkpoint": number, "name": one.name.to_string(), "bytes": one.length });
        return report::print_json(&json!({
            "volumes": volumes.zip(origins).map(volume).collect::<Value>(),
            "damaged": damaged,
            "damaged_of_checkpoints": store.with_damaged_volumes(),
            "of_checkpoints": instants.iter().map(instant).collect::<Value>(),
            "free": usage.free,
            "capacity": usage.capacity,
        }));
    }
    report::print(|out| {
        print_head(out)?;
        for (Volume { name, length, created, .. }, frees) in volumes {
            let (size, frees) = (report::size(*length), report::size(frees));
            let created = report::date(*created);
            writeln!(out, "{name:<32}  {size:>12}  {frees:>12}  {created:<23}  -")?;
        }
        for (number, Instant { name, length, .. }) in &instants {
            let size = report::size(*length);
            writeln!(out, "{name:<32}  {size:>12}  {:>12}  {:<23}  {number}", "-", "-")?;
        }
        writeln!(out, "{} of {} free", report::size(usage.free), report::size(usage.capacity))
    })?;
    warn_of_damage(&store);
    Ok(())
}

/// Returns what a resume has set aside, for a program.
fn set_aside(Origin { volume, checkpoint, guest }: Origin) -> Value {
    json!({ "volume": volume, "checkpoint": checkpoint, "guest": guest })
}

/// Names what was found damaged when all maps were looked at.
fn warn_of_damage(store: &Store<FileDisk>) {
    for name in store.damaged_volumes() {
        report::warn(format_args!(
            "the block map of volume \"{name}\" is damaged: some or all of it can't be read"
        ));
    }
    for number in store.with_damaged_volumes() {
        report::warn(format_args!(
            "of the volumes of checkpoint {number}, some or all can't be read: their block maps are damaged"
        ));
    }
}

fn print_head(out: &mut dyn Write) -> io::Result<()> {
    let [name, size, frees, created] = ["NAME", "SIZE", "FREES", "CREATED"];
    writeln!(out, "{name:<32}  {size:>12}  {frees:>12}  {created:<23}  OF CHECKPOINT")
}

/// Returns the volumes that checkpoints have, with the checkpoints' numbers.
fn instants(store: &mut Store<FileDisk>) -> Result<Vec<(u64, Instant)>> {
    let numbers: Vec<u64> = store.list().iter().map(|one| one.number).collect();
    let mut all = Vec::new();
    for number in numbers {
        match store.instants(number) {
            Ok(instants) => all.extend(instants.into_iter().map(|one| (number, one))),
            Err(error) => {
                report::warn(format_args!("the volumes of checkpoint {number}: {error}"));
            }
        }
    }
    Ok(all)
}
