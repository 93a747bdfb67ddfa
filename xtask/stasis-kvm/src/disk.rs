//! The disks of a guest: [`Disk`] is a copy of the image beside its checkpoint, which is left as it
//! is; and [`perform`] does a request of the guest's on one.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use stasis_devices::device::Memory;
use stasis_devices::virtio::Slots;
use stasis_devices::virtio::block::{NotMoved, Outcome, Request, SECTOR, Transfer, Turn};
use stasis_devices::virtio::chain::Bytes;
use stasis_devices::virtio::volume::{Volume, VolumeError};
use stasis_state::virtio::{Virtio, device_id};
use stasis_tool::checkpoint::image_of;
use stasis_tool::disk::lock::{self, Access};
use stasis_tool::output::Output;
use stasis_tool::report;
use stasis_tool::volume::image;

/// Bytes that are moved at once, a multiple of a sector.
const PIECE: u64 = 64 << 10;

/// What a person does who has no right image of a disk.
const WRITES: &str = "`stasis checkpoint get --disks` writes its image beside the checkpoint";

/// A disk of the guest.
#[derive(Debug)]
pub struct Disk {
    /// The number of its slot.
    pub slot: u8,
    /// The name of its volume.
    volume: String,
    /// What the guest has on it. The file has no name, so it ends with this program.
    file: File,
}

impl Disk {
    /// Returns the guest's disks, with what is in the images beside the checkpoint's `file`. They
    /// take their room where `out` will be.
    ///
    /// # Errors
    ///
    /// An image is not there, has not the size of its disk, or a machine writes to it; or there is
    /// no room.
    pub fn all(virtio: &Virtio, file: &Path, out: &Path) -> Result<Vec<Self>> {
        let disks = virtio.slots().filter(|(_, id)| *id == device_id::BLOCK);
        let disk = |(slot, _): (usize, u32)| {
            let volume = virtio.name_text(slot).to_owned();
            let image = image_of(file, &volume)?;
            let of = File::open(&image).with_context(|| {
                format!("disk \"{volume}\" is lacking: {WRITES}: cannot open {}", image.display())
            })?;
            lock::hold(&of, &image, Access::Shared)?;
            let (has, needs) = (of.metadata()?.len(), virtio.capacity[slot] * SECTOR);
            let name = image.display();
            ensure!(
                has == needs,
                "{name} has {has} bytes, and disk \"{volume}\" {needs}: {WRITES}"
            );
            let folder = out.parent().filter(|folder| !folder.as_os_str().is_empty());
            let copy = tempfile::tempfile_in(folder.unwrap_or(Path::new(".")))
                .context("there is no place for a copy of a disk")?;
            image::copy_data(&of, &copy).with_context(|| format!("cannot copy {name}"))?;
            Ok(Self { slot: slot as u8, volume, file: copy })
        };
        disks.map(disk).collect()
    }

    /// Writes what is on the disk to an image beside the checkpoint's file, which is there once it
    /// is [finished](Output::finish).
    ///
    /// # Errors
    ///
    /// There is no room.
    pub fn image(&self, beside: &Path) -> Result<Output> {
        let path: PathBuf = image_of(beside, &self.volume)?;
        let mut output = Output::create(&path)?;
        let copied = image::copy_data(&self.file, output.file());
        copied.with_context(|| format!("cannot write {}", path.display()))?;
        Ok(output)
    }
}

/// Says what has failed. The guest gets an I/O error.
fn failed(error: &io::Error) -> VolumeError {
    report::warn(format_args!("a disk of the guest: {error}"));
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => VolumeError::NoRoom,
        _ => VolumeError::Io,
    }
}

/// Returns the place and the bytes of each piece of `len` bytes.
fn pieces(len: u64) -> impl Iterator<Item = (u64, usize)> {
    (0..len).step_by(PIECE as usize).map(move |at| (at, PIECE.min(len - at) as usize))
}

impl Volume for Disk {
    fn read(
        &mut self,
        offset: u64,
        len: u64,
        take: &mut dyn FnMut(&[u8]) -> bool,
    ) -> Result<(), VolumeError> {
        let mut buffer = vec![0; len.min(PIECE) as usize];
        for (at, count) in pieces(len) {
            let piece = &mut buffer[..count];
            self.file.read_exact_at(piece, offset + at).map_err(|error| failed(&error))?;
            if !take(piece) {
                break;
            }
        }
        Ok(())
    }

    fn write(
        &mut self,
        offset: u64,
        len: u64,
        fill: &mut dyn FnMut(&mut [u8]) -> bool,
    ) -> Result<(), VolumeError> {
        let mut buffer = vec![0; len.min(PIECE) as usize];
        for (at, count) in pieces(len) {
            let piece = &mut buffer[..count];
            if !fill(piece) {
                break;
            }
            self.file.write_all_at(piece, offset + at).map_err(|error| failed(&error))?;
        }
        Ok(())
    }

    /// Does nothing: the copy ends with this program, so a loss of power leaves nothing of it in
    /// any case.
    fn flush(&mut self) -> Result<(), VolumeError> {
        Ok(())
    }

    fn discard(&mut self, _: u64, _: u64) -> Result<(), VolumeError> {
        Ok(())
    }

    fn write_zeroes(&mut self, offset: u64, len: u64) -> Result<(), VolumeError> {
        self.write(offset, len, &mut |piece| {
            piece.fill(0);
            true
        })
    }
}

/// Does a request's next turn on its disk, and completes it if nothing is left. A disk that is not
/// there fails.
pub fn perform(slots: &mut Slots, memory: Memory<'_>, request: &Request, disk: Option<&mut Disk>) {
    let mut guest = Guest { slots, memory, request, data: request.data() };
    let turn = match disk {
        Some(disk) => request.perform(disk, &mut guest),
        None => Turn::Ended(Outcome::Error),
    };
    match turn {
        Turn::Ended(outcome) => guest.slots.disk_done(&mut guest.memory, request, outcome),
        Turn::Part(done) => guest.slots.disk_goes_on(request, done, guest.data),
        Turn::Starved => {}
    }
}

/// The guest's side of a request.
struct Guest<'s, 'm> {
    slots: &'s mut Slots,
    memory: Memory<'m>,
    request: &'s Request,
    data: Bytes,
}

impl Transfer for Guest<'_, '_> {
    fn from_guest(&mut self, into: &mut [u8]) -> Result<(), NotMoved> {
        self.slots.disk_from_guest(&self.memory, self.request, &mut self.data, into)
    }

    fn to_guest(&mut self, from: &[u8]) -> Result<(), NotMoved> {
        self.slots.disk_to_guest(&mut self.memory, self.request, &mut self.data, from)
    }
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    #[test]
    fn a_disk_whose_image_is_not_right_is_refused_with_what_writes_it() {
        let folder = TempDir::new().unwrap();
        let (file, out) = (folder.path().join("in.stasis"), folder.path().join("out.stasis"));
        let mut virtio = Virtio::default();
        (virtio.device_id[1], virtio.capacity[1]) = (device_id::BLOCK, 16);
        virtio.set_name(1, "root");
        let refused = || format!("{:#}", Disk::all(&virtio, &file, &out).unwrap_err());
        let error = refused();
        assert!(
            error.contains("disk \"root\" is lacking: `stasis checkpoint get --disks`"),
            "{error}"
        );
        assert!(error.contains("cannot open") && error.contains("in.stasis.root.img"), "{error}");
        let image = folder.path().join("in.stasis.root.img");
        for bytes in [8191, 8193, 0] {
            std::fs::write(&image, vec![1; bytes]).unwrap();
            let error = refused();
            let has = format!("in.stasis.root.img has {bytes} bytes, and disk \"root\" 8192");
            assert!(error.contains(&has) && error.contains("get --disks"), "{error}");
        }
        std::fs::write(&image, vec![1; 8192]).unwrap();
        let disks = Disk::all(&virtio, &file, &out).unwrap();
        assert_eq!((disks.len(), disks[0].slot), (1, 1));
    }

    #[test]
    fn a_disk_has_a_place_only_in_a_folder_that_is_there() {
        let folder = TempDir::new().unwrap();
        let file = folder.path().join("in.stasis");
        std::fs::write(folder.path().join("in.stasis.root.img"), vec![1; 512]).unwrap();
        let mut virtio = Virtio::default();
        (virtio.device_id[0], virtio.capacity[0]) = (device_id::BLOCK, 1);
        virtio.set_name(0, "root");
        let error = Disk::all(&virtio, &file, &folder.path().join("none/out")).unwrap_err();
        let error = format!("{error:#}");
        assert!(
            error.contains("no place for a copy of a disk") && error.contains("No such file"),
            "{error}"
        );
    }
}
