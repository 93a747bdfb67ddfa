//! [`Image`]: a checkpoint's file. Its registers are read and checked first; the memory comes to its place when there is one.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use anyhow::{Context, Error, Result, bail, ensure};
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

fn plain(error: LoadError<Error>) -> Error {
    match error {
        LoadError::Format(stasis_state::Error::NoDirectory) => anyhow::anyhow!(
            "it is of an older version of the format: `stasis checkpoint upgrade` makes it one of today's"
        ),
        LoadError::Format(error) => error.into(),
        LoadError::Source(error) | LoadError::Refused(error) => error,
    }
}

impl Image {
    /// Opens a checkpoint, of a guest that can run here as far as its file tells.
    ///
    /// # Errors
    ///
    /// The file can't be read, is damaged, or has a guest with something that is not there with KVM.
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

/// Brings the pages of a block to their place. Pages that stand in the file one behind the other are read at once, and then checked one by one.
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
mod tests {
    use std::path::PathBuf;

    use stasis_state::device::SharedMemory;
    use stasis_state::{Capture, GuestState};
    use stasis_tool::output::Output;
    use tempfile::TempDir;

    use super::*;
    use crate::file::Sink;

    const PAGES: usize = 512;

    /// Returns the checkpoint of a guest with a page of each kind, after `edit`.
    fn checkpoint(folder: &TempDir, edit: impl FnOnce(&mut GuestState)) -> PathBuf {
        let mut state = GuestState::reset(1);
        state.guest.set_name("guest");
        (*state.guest.ram_base, *state.guest.ram_size) = (RAM_BASE, (PAGES * PAGE_SIZE) as u64);
        *state.clock.cntfrq = 62_500_000;
        *state.vcpus[0].core.pstate = 0x3c5;
        *state.distributor.nr_irqs = 288;
        edit(&mut state);
        let path = folder.path().join("guest.stasis");
        let mut output = Output::create(&path).unwrap();
        let memory = memory();
        let capture = Capture::new(state.records(), &memory, &[], routines());
        capture.unwrap().write(&mut Sink(&mut output), &mut |_, _| ()).unwrap();
        output.finish().unwrap();
        path
    }

    fn memory() -> Vec<u8> {
        let mut memory = vec![0; PAGES * PAGE_SIZE];
        memory[3 * PAGE_SIZE..4 * PAGE_SIZE].fill(0x5a);
        for page in [5, 6, 8, PAGES - 1] {
            memory[page * PAGE_SIZE + 17] = page as u8;
        }
        memory
    }

    #[test]
    fn the_memory_that_is_loaded_is_that_of_the_checkpoint() {
        let folder = TempDir::new().unwrap();
        let mut image = Image::open(&checkpoint(&folder, |_| ())).unwrap();
        let mut loaded = vec![0; PAGES * PAGE_SIZE];
        image.load().unwrap().read(0, &mut loaded).unwrap();
        assert!(loaded == memory());
    }

    #[test]
    fn a_damaged_page_is_refused_by_its_address() {
        let folder = TempDir::new().unwrap();
        let path = checkpoint(&folder, |_| ());
        let mut bytes = std::fs::read(&path).unwrap();
        // The page has nothing else but this byte in its first 32.
        let page = [[0; 17].as_slice(), &[5], &[0; 14]].concat();
        let pages = bytes.chunks(PAGE_SIZE);
        let at = pages.map(|bytes| bytes.starts_with(&page)).position(|found| found).unwrap();
        bytes[at * PAGE_SIZE + 100] ^= 1;
        std::fs::write(&path, bytes).unwrap();
        let error = format!("{:#}", Image::open(&path).unwrap().load().unwrap_err());
        assert!(error.contains("0x40005000"), "{error}");
    }

    #[test]
    fn what_is_not_here_is_refused_by_its_name() {
        let folder = TempDir::new().unwrap();
        let refused = |edit: fn(&mut GuestState)| {
            let path = checkpoint(&folder, edit);
            format!("{:#}", Image::open(&path).unwrap_err())
        };
        let error = refused(|state| *state.guest.ram_base = 0x1000_0000);
        assert!(error.contains("the guest's memory is at 0x10000000"), "{error}");
        let error = refused(|state| *state.vcpus[0].power.state = 1);
        assert!(error.contains("the guest is off"), "{error}");
        let mut state = GuestState::reset(1);
        state.devices.shared = Some(SharedMemory::default());
        let error = admit(&state).unwrap_err().to_string();
        assert!(error.contains("shares memory"), "{error}");
    }
}
