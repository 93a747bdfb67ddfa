//! The volumes behind guests' disks: [`provide`] makes those that are not there, [`check_kept`]
//! looks whether a guest that is resumed can have those that are, and [`check_stored`] whether its
//! checkpoint has them. [`origin_of`] tells whose a volume is that a resume has set aside.
//!
//! All functions work on the store, so they run on any [`BlockDevice`]. Which guest has a volume,
//! the machine knows: `boot` asks its guests.

mod origin;

pub use origin::{Origin, origin_of};

use alloc::collections::BTreeMap;
use alloc::string::{String, ToString};
use core::fmt::{Debug, Display};

use stasis_devices::virtio::block::SECTOR;
use stasis_state::virtio::Virtio;
use stasis_store::layout::BLOCK;
use stasis_store::{BlockDevice, Error, Store};

use crate::archive::{Archive, ArchiveError};
use crate::config::DiskConfig;

/// Bytes of an image that are written to a new volume at once.
const IMAGE_PIECE: usize = 128 << 10;

/// Why a disk does not get its volume.
#[derive(Debug, thiserror::Error)]
pub enum NotProvided<E: Debug + Display> {
    /// The store has failed, or has no room.
    #[error("{0}")]
    Store(Error<E>),
    /// The boot archive has no such image.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// The volume is smaller than the disk.
    #[error("volume \"{volume}\" has {length} bytes, fewer than the {size} of the disk")]
    TooSmall {
        /// The volume's name.
        volume: String,
        /// Length in bytes.
        length: u64,
        /// Bytes that the configuration says.
        size: u64,
    },
}

impl<E: Debug + Display> From<Error<E>> for NotProvided<E> {
    fn from(error: Error<E>) -> Self {
        Self::Store(error)
    }
}

/// Returns a volume that is behind two of these disks, each with the name of its guest, and the
/// guest of the first of them; `None` if each disk has its own.
pub fn in_common<'n>(
    disks: impl IntoIterator<Item = (&'n str, &'n str)>,
) -> Option<(&'n str, &'n str)> {
    let mut guests = BTreeMap::new();
    disks.into_iter().find_map(|(volume, guest)| Some((volume, guests.insert(volume, guest)?)))
}

/// Makes the volume behind a disk if it is not there: of the disk's image in `files`, or of zeros,
/// at the time `created` in seconds since 1970. Sets the disk's size to the volume's, which may be
/// larger than the configuration says. `pause` is called between the pieces of the image.
///
/// # Errors
///
/// [`NotProvided`]. A volume that could not be written whole is not there.
pub fn provide<D: BlockDevice>(
    store: &mut Store<D>,
    disk: &mut DiskConfig,
    files: &Archive<'_>,
    created: u64,
    pause: &mut dyn FnMut(&mut Store<D>),
) -> Result<(), NotProvided<D::Error>> {
    let volume = disk.volume.as_str();
    if let Ok(found) = store.find_volume(volume) {
        if found.length < disk.size {
            let (volume, length, size) = (volume.to_string(), found.length, disk.size);
            return Err(NotProvided::TooSmall { volume, length, size });
        }
        disk.size = found.length;
        return Ok(());
    }
    let image = match &disk.from {
        Some(name) => files.file(name)?,
        None => &[],
    };
    let size = disk.size.max((image.len() as u64).next_multiple_of(BLOCK as u64));
    store.begin_volume(volume, size, created)?;
    let made = fill(store, volume, image, pause).and_then(|()| store.volumes_mut().flush(volume));
    if made.is_err() {
        store.volumes_mut().close(volume);
    }
    disk.size = size;
    Ok(made?)
}

/// Writes an image to a volume, but for what is zeros in it.
fn fill<D: BlockDevice>(
    store: &mut Store<D>,
    volume: &str,
    image: &[u8],
    pause: &mut dyn FnMut(&mut Store<D>),
) -> Result<(), Error<D::Error>> {
    let mut last = [0; BLOCK];
    for (at, piece) in (0..).step_by(IMAGE_PIECE).zip(image.chunks(IMAGE_PIECE)) {
        let (whole, rest) = piece.as_chunks::<BLOCK>();
        if whole.iter().flatten().any(|byte| *byte != 0) {
            store.volumes_mut().write(volume, at, whole.as_flattened())?;
        }
        if !rest.is_empty() {
            last[..rest.len()].copy_from_slice(rest);
            let at = at + (whole.len() * BLOCK) as u64;
            store.volumes_mut().write(volume, at, &last)?;
        }
        pause(store);
    }
    Ok(())
}

/// Why a guest that is resumed can't have its disks as they are now.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotKept {
    /// The volume was deleted.
    #[error(
        "volume \"{0}\" is not there any more; without --keep-disks, it is made as it was then"
    )]
    Gone(String),
    /// The volume is another one by now.
    #[error(
        "volume \"{volume}\" has {length} bytes, fewer than the {size} of the guest's disk; without --keep-disks, it is made as it was then"
    )]
    TooSmall {
        /// The volume's name.
        volume: String,
        /// Bytes of the volume.
        length: u64,
        /// Bytes of the guest's disk.
        size: u64,
    },
}

/// Checks that the volumes of a guest that is resumed with its disks as they are now are there, and
/// no smaller than it knows them.
///
/// # Errors
///
/// [`NotKept`], of the first that is not.
pub fn check_kept<D: BlockDevice>(store: &Store<D>, virtio: &Virtio) -> Result<(), NotKept> {
    for (n, volume) in virtio.disks() {
        let size = virtio.capacity[n] * SECTOR;
        match store.find_volume(volume) {
            Err(_) => return Err(NotKept::Gone(volume.to_string())),
            Ok(found) if found.length < size => {
                let (volume, length) = (volume.to_string(), found.length);
                return Err(NotKept::TooSmall { volume, length, size });
            }
            Ok(_) => {}
        }
    }
    Ok(())
}

/// Why a guest can't have its disks as they were at the instant of its checkpoint.
#[derive(Debug, thiserror::Error)]
pub enum NotStored<E: Debug + Display> {
    /// The store has failed.
    #[error("{0}")]
    Store(Error<E>),
    /// The checkpoint came without the disk.
    #[error(
        "checkpoint {number} came without disk \"{volume}\" of its guest: put it with --disks, or resume it with --keep-disks if the disk is as it was then"
    )]
    Lacks {
        /// The checkpoint's number.
        number: u64,
        /// The volume's name.
        volume: String,
    },
}

/// Checks that the checkpoint with this number has all disks of its guest. One that was put into
/// the store without them has none: its guest would go on with a file system in memory that the
/// disk does not have.
///
/// # Errors
///
/// [`NotStored`], of the first disk that is lacking.
pub fn check_stored<D: BlockDevice>(
    store: &mut Store<D>,
    number: u64,
    virtio: &Virtio,
) -> Result<(), NotStored<D::Error>> {
    if virtio.volumes().next().is_none() {
        return Ok(());
    }
    let instants = store.instants(number).map_err(NotStored::Store)?;
    let is_lacking = |volume: &&str| !instants.iter().any(|one| one.name.as_str() == *volume);
    match virtio.volumes().find(is_lacking) {
        Some(volume) => Err(NotStored::Lacks { number, volume: volume.to_string() }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests;
