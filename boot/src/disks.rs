//! The disks of guests: the console's task does their requests, one at a time, while the guests go on.
//!
//! A volume is in RAM as yet: it begins as zeros, and is lost with the power. So a guest with a disk can't be stored.

use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;
use stasis_devices::virtio::block::{Request, SECTOR};
use stasis_devices::virtio::volume::{Volume, VolumeError};
use stasis_host::config::DiskConfig;
use stasis_host::task::TaskLock;
use stasis_memory::range::NoRam;
use stasis_memory::{ReadRam, WriteRam};
use stasis_run::domain::devices::{DiskTransfer, announce_disk_work, take_disk_work};
use stasis_run::domain::{Domain, Ram};
use stasis_run::turns::Task;

use crate::registry;

/// Bytes of a disk's data that are moved at once: for so long the guest is locked.
const PIECE: usize = 64 << 10;

/// Most requests of a guest that are done before it is the next one's turn.
const BATCH: usize = 8;

/// A guest has a disk, and can't be stored.
#[derive(Debug, thiserror::Error)]
#[error(
    "guest \"{guest}\" has the disk \"{volume}\", whose content is in RAM alone and in no checkpoint"
)]
pub struct Unstorable {
    guest: String,
    volume: String,
}

/// Checks that a guest has no disk. A caller that has the guest parked must not call this.
///
/// # Errors
///
/// [`Unstorable`] with its first disk.
pub fn check_storable(domain: &Domain) -> Result<(), Unstorable> {
    let volume = domain.first_volume();
    volume.map_or(Ok(()), |volume| Err(Unstorable { guest: domain.name.clone(), volume }))
}

/// A volume in RAM.
struct RamVolume {
    name: String,
    ram: Ram,
}

/// All volumes. Only the console's task uses them.
static VOLUMES: TaskLock<Vec<RamVolume>> = TaskLock::new(Vec::new());

/// Makes the volumes behind a guest's disks, as far as they are not there.
///
/// # Errors
///
/// [`NoRam`], if there is no RAM for one.
pub fn provide(task: &mut Task, disks: &[DiskConfig]) -> Result<(), NoRam> {
    for disk in disks {
        let is_there = VOLUMES.lock(task).iter().any(|volume| volume.name == disk.volume);
        if !is_there {
            let ram = Ram::take(0, disk.size.next_multiple_of(2 << 20), &mut || task.yield_now())?;
            VOLUMES.lock(task).push(RamVolume { name: disk.volume.to_string(), ram });
        }
    }
    Ok(())
}

/// Does some requests of each guest that has any. Returns whether there may be more.
pub fn serve(task: &mut Task) -> bool {
    if !take_disk_work() {
        return false;
    }
    let mut is_more = false;
    let mut buffer = vec![0; PIECE];
    for domain in registry::all() {
        // Whoever has the guest parked lets it go on later, and then each of its queues is looked at.
        if domain.is_parked() {
            is_more = true;
            continue;
        }
        for _ in 0..BATCH {
            let Some(request) = domain.take_disk_request() else { break };
            serve_request(task, &domain, &request, &mut buffer);
            is_more = true;
            task.yield_now();
        }
    }
    if is_more {
        announce_disk_work();
    }
    is_more
}

fn serve_request(task: &mut Task, domain: &Domain, request: &Request, buffer: &mut [u8]) {
    let name = domain.with_volume_name(request, ToString::to_string);
    let mut volumes = VOLUMES.lock(task);
    let volume = volumes.iter_mut().find(|volume| volume.name == name);
    let mut transfer = DiskTransfer { domain, request };
    let (outcome, failed) = match volume {
        Some(volume) => request.perform(volume, &name, &mut transfer, buffer),
        None => request.perform(&mut Missing, &name, &mut transfer, buffer),
    };
    drop(volumes);
    if let Some(why) = failed {
        log::warn!("guest \"{}\": a request of disk \"{name}\" has failed: {why}", domain.name);
    }
    domain.complete_disk_request(request, outcome);
}

impl Volume for RamVolume {
    fn sectors(&self) -> u64 {
        self.ram.len() as u64 / SECTOR
    }

    fn read(&mut self, offset: u64, into: &mut [u8]) -> Result<(), VolumeError> {
        self.ram.read(offset as usize, into).map_err(|_| VolumeError::Io)
    }

    fn write(&mut self, offset: u64, from: &[u8]) -> Result<(), VolumeError> {
        self.ram.write(offset as usize, from).map_err(|_| VolumeError::Io)
    }

    fn flush(&mut self) -> Result<(), VolumeError> {
        Ok(())
    }

    fn discard(&mut self, _: u64, _: u64) -> Result<(), VolumeError> {
        Ok(())
    }

    fn write_zeroes(&mut self, offset: u64, len: u64) -> Result<(), VolumeError> {
        const ZEROS: [u8; 4096] = [0; 4096];
        for at in (0..len).step_by(ZEROS.len()) {
            let count = (len - at).min(ZEROS.len() as u64) as usize;
            self.write(offset + at, &ZEROS[..count])?;
        }
        Ok(())
    }
}

/// A volume that is not there.
struct Missing;

impl Volume for Missing {
    fn sectors(&self) -> u64 {
        0
    }

    fn read(&mut self, _: u64, _: &mut [u8]) -> Result<(), VolumeError> {
        Err(VolumeError::Io)
    }

    fn write(&mut self, _: u64, _: &[u8]) -> Result<(), VolumeError> {
        Err(VolumeError::Io)
    }

    fn flush(&mut self) -> Result<(), VolumeError> {
        Err(VolumeError::Io)
    }

    fn discard(&mut self, _: u64, _: u64) -> Result<(), VolumeError> {
        Err(VolumeError::Io)
    }

    fn write_zeroes(&mut self, _: u64, _: u64) -> Result<(), VolumeError> {
        Err(VolumeError::Io)
    }
}
