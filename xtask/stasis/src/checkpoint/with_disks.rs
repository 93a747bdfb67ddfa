//! The disks of a checkpoint's guest as raw images beside its file, so that a guest moves to
//! another store whole: `get --disks`, `put --disks`.
//!
//! Of the checkpoint in `it.stasis`, the volume `root` is in `it.stasis.root.img`. [`put`](take)
//! makes no volume: the checkpoint has the disks as of its instant, in the same commit, and a
//! resume makes the volumes of that.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use stasis_state::GuestState;
use stasis_state::virtio::device_id;
use stasis_store::volume::Name;
use stasis_store::{Instant, Store};

use crate::disk::FileDisk;
use crate::report;
use crate::volume::image;

/// Bytes of a sector.
const SECTOR: u64 = 512;

/// Returns the path of the image of a volume, beside the checkpoint's file.
pub fn image_of(file: &Path, volume: &str) -> Result<PathBuf> {
    // The name in a store, or a file, may be anything that can be typed.
    ensure!(!volume.contains('/'), "a volume is called \"{volume}\", which no file can be");
    let mut path = file.as_os_str().to_owned();
    path.push(format!(".{volume}.img"));
    Ok(path.into())
}

/// Writes the disks that a checkpoint has to images beside its `file`. The store is that of `disk`.
pub fn get(store: &mut Store<FileDisk>, number: u64, disk: &Path, file: &Path) -> Result<()> {
    for Instant { name, .. } in store.instants(number)? {
        let image = image_of(file, &name)?;
        store.volumes_mut().open_instant(number, &name)?;
        let written = image::export(store, &name, disk, &image);
        store.volumes_mut().close(&name);
        written?;
    }
    Ok(())
}

/// Copies the images that are beside a checkpoint's `file` to images beside `to`.
pub fn copy(state: &GuestState, file: &Path, to: &Path) -> Result<()> {
    for volume in state.devices.virtio.volumes() {
        let image = image_of(file, volume)?;
        image::copy(&image, &image_of(to, volume)?)
            .with_context(|| format!("disk \"{volume}\" is lacking; `get --disks` writes it"))?;
    }
    Ok(())
}

/// Says that the disks of a checkpoint were not written, if it has any.
pub fn tell_of_disks(store: &mut Store<FileDisk>, number: u64) -> Result<()> {
    let names: Vec<String> =
        store.instants(number)?.iter().map(|one| format!("\"{}\"", one.name)).collect();
    if !names.is_empty() {
        report::note(format_args!(
            "its guest has disks, which the file does not have: {}; `get --disks` writes them, too",
            names.join(", ")
        ));
    }
    Ok(())
}

/// Reads the images of the guest's disks beside its checkpoint's `file` into a store, as what a
/// checkpoint has that is committed next.
///
/// # Errors
///
/// An image is not there or has not the size of its disk, and what the store says. Nothing of them
/// is in the store then.
pub fn take(
    store: &mut Store<FileDisk>,
    state: &GuestState,
    file: &Path,
    created: u64,
) -> Result<Vec<Instant>> {
    let virtio = &state.devices.virtio;
    let disks = virtio.slots().filter(|(_, id)| *id == device_id::BLOCK);
    disks
        .map(|(n, _)| {
            let (name, length) = (virtio.name_text(n), virtio.capacity[n] * SECTOR);
            take_one(store, name, length, &image_of(file, name)?, created)
        })
        .collect()
}

/// Reads the image of a disk called `name`, of `length` bytes.
fn take_one(
    store: &mut Store<FileDisk>,
    name: &str,
    length: u64,
    image: &Path,
    created: u64,
) -> Result<Instant> {
    let there = std::fs::metadata(image);
    let there =
        there.with_context(|| format!("disk \"{name}\" is lacking: {}", image.display()))?;
    ensure!(
        there.len() == length,
        "{} has {} bytes, and disk \"{name}\" of the checkpoint {length}",
        image.display(),
        there.len()
    );
    // The disk is a volume for as long as it is written, and never in the catalog: the name is
    // nobody else's.
    let passing = (0..).map(|n| format!("put-{n}")).find(|name| store.find_volume(name).is_err());
    let passing = passing.context("no name is free")?;
    image::load(store, image, &passing, None, created)?;
    let taken = store.take_instants(&[&passing]);
    store.volumes_mut().close(&passing);
    let mut instant = taken?.pop().context("the volume was not taken")?;
    instant.name = Name::from(name).map_err(|_| anyhow::anyhow!("\"{name}\" is too long"))?;
    report::step(format_args!(
        "disk \"{name}\": {} from {}",
        report::size(length),
        image.display()
    ));
    Ok(instant)
}
