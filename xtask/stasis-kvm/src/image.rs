//! [`Image`]: a checkpoint's file. Its registers are read and checked first; the memory comes to
//! its place when there is one.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use anyhow::{Context, Error, Result, anyhow, bail, ensure};
use stasis_devices::inventory;
use stasis_devices::list::Devices;
use stasis_devices::machine::{RAM_BASE, RAM_END};
use stasis_state::guest::GuestPowerState;
use stasis_state::machine::DeviceKind;
use stasis_state::virtio::device_id;
use stasis_state::{
    Checkpoint, GuestState, Index, LoadError, PAGE_SIZE, PageContent, Piece, ReadRam, Source,
};
use stasis_state::{Routines, WriteRam};

use crate::memory::Memory;

/// An open checkpoint, of which all but the memory was read and checked.
#[derive(Debug)]
pub struct Image {
    source: Bytes,
    index: Index,
    /// What is in the checkpoint besides the memory.
    pub checkpoint: Checkpoint,
}

#[derive(Debug)]
struct Bytes {
    file: File,
    len: u64,
}

impl Source for Bytes {
    type Error = Error;

    fn len(&self) -> u64 {
        self.len
    }

    fn read_at(&mut self, offset: u64, buf: &mut [u8]) -> Result<()> {
        Ok(self.file.read_exact_at(buf, offset)?)
    }
}

/// Returns the inner loop of the format, by the processor's own instruction.
pub fn routines() -> Routines {
    Routines { crc32c: crc32c::crc32c_append }
}

/// Returns the error, with what a person can do.
fn plain(error: LoadError<Error>) -> Error {
    use stasis_state::Error::{NoDirectory, NotACheckpoint, Truncated};
    let error = match error {
        LoadError::Format(error) => error,
        LoadError::Source(error) | LoadError::Refused(error) => return error,
    };
    let advice = match error {
        NoDirectory => {
            return anyhow!(
                "it is of a version of the format before 1.5, which is not run here: resume it under Stasis, and store the guest anew"
            );
        }
        NotACheckpoint => "`stasis checkpoint get DISK NAME FILE` writes one of a disk's",
        Truncated { .. } => "it is cut: copy it anew",
        _ if error.is_of_newer() => "the stasis-kvm of the release that has written it can run it",
        _ => return error.into(),
    };
    anyhow!("{error}; {advice}")
}

impl Image {
    /// Opens a checkpoint, of a guest that can run here as far as its file tells.
    ///
    /// # Errors
    ///
    /// The file can't be read, is damaged, or has a guest with something that is not there with
    /// KVM.
    pub fn open(path: &Path) -> Result<Self> {
        let opened = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
        let image = Self::read(opened);
        image.with_context(|| format!("{} can't be run", path.display()))
    }

    fn read(file: File) -> Result<Self> {
        let len = file.metadata()?.len();
        let mut source = Bytes { file, len };
        let (checkpoint, index) = Index::open(&mut source, routines()).map_err(plain)?;
        ensure!(checkpoint.skipped.is_empty(), "it has {}", checkpoint.skipped);
        admit(&checkpoint.state)?;
        Ok(Self { source, index, checkpoint })
    }

    /// Returns the guest's memory, each page of which is what the checkpoint says.
    ///
    /// # Errors
    ///
    /// The file is damaged, or can't be read; or there is no room.
    pub fn load(&mut self) -> Result<Memory> {
        let guest = &self.checkpoint.state.guest;
        let (base, size) = (*guest.ram_base, *guest.ram_size);
        let memory = Memory::new(usize::try_from(size)?)?;
        for entry in self.index.entries() {
            let piece = self.index.piece(&mut self.source, entry.address).map_err(plain)?;
            let Some(piece) = piece else { continue };
            load_piece(&piece, base, &mut memory.clone(), &mut self.source.file)?;
        }
        Ok(memory)
    }
}

/// The devices that are here, of those that a guest can have.
const THERE: [DeviceKind; 14] = [
    DeviceKind::GICD,
    DeviceKind::GICC,
    DeviceKind::VIRTUAL_TIMER,
    DeviceKind::PHYSICAL_TIMER,
    DeviceKind::PL011,
    DeviceKind::PL031,
    DeviceKind::PL061,
    DeviceKind::WATCHDOG,
    DeviceKind::GENERATION_ID,
    DeviceKind::EMPTY_SLOT,
    DeviceKind::EMPTY_FLASH,
    DeviceKind::virtio(device_id::NETWORK as u8),
    DeviceKind::virtio(device_id::BLOCK as u8),
    DeviceKind::virtio(device_id::ENTROPY as u8),
];

/// Refuses a guest by what it has and a machine of KVM's does not have.
fn admit(state: &GuestState) -> Result<()> {
    match state.power_state() {
        GuestPowerState::On => {}
        GuestPowerState::Off => bail!("the guest is off: there is nothing to go on"),
        GuestPowerState::Reset => {
            bail!("the guest has reset its machine, and was not started since")
        }
    }
    ensure!(
        state.devices.shared.is_none(),
        "the guest shares memory with others, which are not here"
    );
    let devices = Devices::restored(state.devices.clone(), *state.clock.wall_time);
    inventory::check(&state.machine(), &devices.machine())?;
    for entry in state.machine().entries() {
        ensure!(THERE.contains(&entry.kind), "the guest has a device that is not here: {entry}");
    }
    let (base, size) = (*state.guest.ram_base, *state.guest.ram_size);
    let fits = base >= RAM_BASE && base.checked_add(size).is_some_and(|end| end <= RAM_END);
    ensure!(fits, "the guest's memory is at {base:#x}, {size:#x} bytes of it, where none can be");
    Ok(())
}

/// Brings the pages of a block to their place. Pages that stand in the file one behind the other
/// are read at once, and then checked one by one.
fn load_piece(piece: &Piece, base: u64, memory: &mut Memory, file: &mut File) -> Result<()> {
    let count = piece.block.contents().len();
    let address = |page: usize| piece.block.address() + (page * PAGE_SIZE) as u64;
    let place = |page: usize| (address(page) - base) as usize;
    let mut page = 0;
    while page < count {
        let first = page;
        match piece.page(address(page)) {
            PageContent::Zero => page += 1,
            PageContent::Word(word) => {
                let words: Vec<u8> = word.to_le_bytes().repeat(PAGE_SIZE / size_of::<u64>());
                memory.write(place(page), &words)?;
                page += 1;
            }
            PageContent::Raw { offset, .. } => {
                let mut crcs = Vec::new();
                while page < count
                    && let PageContent::Raw { offset: at, crc } = piece.page(address(page))
                    && at == offset + ((page - first) * PAGE_SIZE) as u64
                {
                    crcs.push(crc);
                    page += 1;
                }
                let start = place(first);
                memory.read_from(start..start + crcs.len() * PAGE_SIZE, file, offset)?;
                check_pages(memory, start, &crcs).with_context(|| {
                    format!("the pages from {:#x} on are damaged", address(first))
                })?;
            }
        }
    }
    Ok(())
}

fn check_pages(memory: &Memory, start: usize, crcs: &[u32]) -> Result<()> {
    for (at, crc) in (start..).step_by(PAGE_SIZE).zip(crcs) {
        let found = memory.crc32c(0, at..at + PAGE_SIZE)?;
        ensure!(found == *crc, "the CRC of a page is {found:#010x} and should be {crc:#010x}");
    }
    Ok(())
}

#[cfg(test)]
mod tests;
