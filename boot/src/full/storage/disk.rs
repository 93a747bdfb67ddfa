//! The disk that has the store: virtio-blk if the machine has one, else an SD card.

use super::error::{DiskError, NoStore};
use crate::machine::Machine;
use crate::stream::routines::routines;
use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;
use spin::mutex::SpinMutex;
use spin::{Mutex, MutexGuard};
use stasis_arch::cache::clean_and_invalidate_to_poc;
use stasis_console::text::Size;
use stasis_host::board::{Device, SdHost};
use stasis_hw::mmio::Frame;
use stasis_hw::sd::{self, Card};
use stasis_hw::sdhci::{self, Dma, Sdhci};
use stasis_hw::virtio_blk::{self, DiskMemory, Slot, VirtioBlk};
use stasis_memory::range::Range;
use stasis_run::turns::Task;
use stasis_store::block::{SECTOR, pieces};
use stasis_store::partition::{self, Partition};
use stasis_store::{BlockDevice, Request};

/// Milliseconds that a virtio disk may take for one request.
const PATIENCE_MS: u64 = 10_000;

/// Bytes of a piece for a card, of data that comes in pieces: those of its largest command.
const CARD_PIECE: usize = sd::MAX_BLOCKS * sd::BLOCK;

/// The memory that a virtio disk shares with its driver, for ever. It lies behind all other
/// variables, which the code reaches within 1 MiB.
#[unsafe(link_section = ".large")]
static DMA: Mutex<DiskMemory> = Mutex::new(DiskMemory::new());

/// The memory that SD hosts move data to and from. It lies where [`DMA`] does.
#[unsafe(link_section = ".large")]
static CARD_DMA: SpinMutex<sdhci::CardMemory> = SpinMutex::new(sdhci::CardMemory::new());

/// The driver of a disk that nobody uses at the moment.
pub enum Driver {
    Virtio(Box<VirtioBlk>),
    /// An SD card, and a buffer for data that comes or goes in pieces.
    Card(Card<Sdhci>, Vec<u8>),
}

/// A disk that the store can use: a driver, and the task that waits for the disk and lets others
/// run meanwhile.
pub enum Disk<'t> {
    Virtio(Box<VirtioBlk>, &'t mut Task),
    Card(Card<Sdhci<&'t mut Task>>, Vec<u8>),
}

impl Driver {
    /// Returns the disk with this driver, which uses the task until [`Disk::keep`].
    #[inline(never)]
    pub fn lend(self, task: &mut Task) -> Disk<'_> {
        match self {
            Self::Virtio(disk) => Disk::Virtio(disk, task),
            Self::Card(card, buffer) => Disk::Card(card.map_bus(|slot| slot.with(task)), buffer),
        }
    }

    /// Returns the disk's registers and interrupt, if it is a virtio disk.
    pub fn device(&self, machine: &Machine) -> Option<Device> {
        match self {
            Self::Virtio(disk) => {
                let is_the_disk =
                    |device: &&Device| device.frame.start == disk.slot().address as u64;
                machine.virtio.iter().find(is_the_disk).copied()
            }
            Self::Card(..) => None,
        }
    }
}

impl<'t> Disk<'t> {
    /// Returns the machine's first virtio disk with a partition for checkpoints, and that
    /// partition. If no disk has such a partition, returns what is wrong with the first one; `None`
    /// if the machine has no virtio disk.
    ///
    /// Must be called only once, because the disk keeps the memory `DMA`.
    pub fn virtio(
        machine: &Machine,
        task: &mut Task,
    ) -> Option<Result<(Driver, Partition), NoStore>> {
        let mut slots = machine.virtio.iter().map(|device| Slot {
            address: device.frame.start as usize,
            size: device.frame.len() as usize,
        });
        let mut memory = MutexGuard::leak(DMA.lock());
        let mut failure = None;
        loop {
            // SAFETY: 1. `Machine` is proof that these are virtio slots, mapped as devices for
            // ever. Only this driver uses them: no guest has one yet.
            // 2. `DMA` is part of the image, which the final translation maps one to one.
            let disk = match unsafe { VirtioBlk::find(&mut slots, memory, PATIENCE_MS) } {
                Ok(disk) => disk,
                Err(virtio_blk::Error::NoDisk { .. }) => return failure.map(Err),
                Err(error) => return Some(Err(failure.unwrap_or(error.into()))),
            };
            let mut disk = Disk::Virtio(Box::new(disk), task);
            match partition::find(&mut disk) {
                Ok(partition) => return Some(Ok((disk.keep(), partition))),
                Err(error) => failure = failure.or(Some(error.into())),
            }
            let Driver::Virtio(disk) = disk.keep() else { unreachable!("it was made one") };
            let address = disk.slot().address;
            match disk.release() {
                Some(released) => memory = released,
                None => {
                    log::warn!(
                        "the disk at {address:#x} does not end its reset, and may be using its memory: no further disk is looked for"
                    );
                    return failure.map(Err);
                }
            }
        }
    }

    /// Returns the card in the first slot that has one, and its partition for checkpoints.
    pub fn card(slots: &[Sdhci], task: &mut Task) -> Result<(Driver, Partition), NoStore> {
        let mut failure = None;
        for slot in slots {
            match Card::start(slot.with(&mut *task)) {
                Ok(mut card) => {
                    // The slot knows only after a read whether DMA reaches its memory. What fails
                    // here fails again when the partition is looked for.
                    let _ = card.read(0, &mut vec![0; SECTOR]);
                    let engine = card.bus_mut().engine();
                    let size = Size(card.capacity() * SECTOR as u64);
                    let mhz = card.speed().hertz() / 1_000_000;
                    log::info!("SD card: {size}, at {mhz} MHz, {engine}");
                    let mut disk = Disk::Card(card, vec![0; CARD_PIECE]);
                    let partition = partition::find(&mut disk)?;
                    return Ok((disk.keep(), partition));
                }
                Err(sd::Error::NoCard) => {}
                Err(error) => failure = failure.or(Some(error)),
            }
        }
        Err(failure.unwrap_or(sd::Error::NoCard).into())
    }

    /// Returns the driver, to keep it, and gives the task back.
    #[inline(never)]
    pub fn keep(self) -> Driver {
        match self {
            Self::Virtio(disk, _) => Driver::Virtio(disk),
            Self::Card(card, buffer) => Driver::Card(card.map_bus(|slot| slot.with(())), buffer),
        }
    }

    /// Returns the task that waits for the disk, so that a user of the disk can yield.
    pub fn task(&mut self) -> &mut Task {
        match self {
            Self::Virtio(_, task) => task,
            Self::Card(card, _) => card.bus_mut().wait_mut(),
        }
    }

    /// Sets whether what is written is read again and compared. Virtio disks never do that.
    pub fn verify_writes(&mut self, verify: bool) {
        if let Self::Card(card, _) = self {
            card.verify(verify);
        }
    }

    /// Checks that the disk is still the one that was set up. Finds out what went wrong while
    /// nobody used it.
    pub fn check(&mut self) -> Result<(), DiskError> {
        match self {
            Self::Virtio(disk, _) => Ok(disk.check()?),
            Self::Card(card, _) => Ok(card.check()?),
        }
    }
}

/// Returns the machine's slots for SD cards.
pub fn card_slots(machine: &Machine) -> Vec<Sdhci> {
    let slot = |host: &SdHost| {
        let to_bus = |start, len| host.reach.to_bus(Range::new(start as u64, len as u64));
        // SAFETY: 1. `Machine` is proof of what the device tree says: where the host's bus has
        // memory; and the final translation maps all memory one to one. 2.
        // `clean_and_invalidate_to_poc` writes the lines back to the point of coherency, and drops
        // them.
        let dma = unsafe { Dma::new(&CARD_DMA, to_bus, clean_and_invalidate_to_poc) };
        // SAFETY: 1. `Machine` is proof that the frame is an SD host's, and mapped as a device for
        // ever. 2. Only this driver uses it, and of the program's memory the host writes what `dma`
        // leads to alone.
        Sdhci::new(unsafe { Frame::new(host.device.frame.start as usize) }, dma)
    };
    machine.sd_hosts.iter().map(slot).collect()
}

impl BlockDevice for Disk<'_> {
    type Error = DiskError;

    fn block_count(&self) -> u64 {
        match self {
            Self::Virtio(disk, _) => disk.capacity(),
            Self::Card(card, _) => card.capacity(),
        }
    }

    fn read(&mut self, lba: u64, buf: &mut [u8]) -> Result<(), DiskError> {
        match self {
            Self::Virtio(disk, task) => Ok(disk.read(*task, lba, buf)?),
            Self::Card(card, _) => Ok(card.read(lba, buf)?),
        }
    }

    fn write(&mut self, lba: u64, data: &[u8]) -> Result<(), DiskError> {
        match self {
            Self::Virtio(disk, task) => Ok(disk.write(*task, lba, data)?),
            Self::Card(card, _) => Ok(card.write(lba, data)?),
        }
    }

    fn read_with(
        &mut self,
        lba: u64,
        len: usize,
        take: &mut dyn FnMut(&[u8]),
    ) -> Result<(), DiskError> {
        match self {
            Self::Virtio(disk, task) => Ok(disk.read_with(*task, lba, len, take)?),
            Self::Card(card, buffer) => {
                for (lba, len) in pieces(lba, len, buffer.len()) {
                    card.read(lba, &mut buffer[..len])?;
                    take(&buffer[..len]);
                }
                Ok(())
            }
        }
    }

    fn begin_write_while(
        &mut self,
        lba: u64,
        len: usize,
        fill: &mut dyn FnMut(&mut [u8]) -> bool,
    ) -> Result<bool, DiskError> {
        match self {
            Self::Virtio(disk, task) => Ok(disk.begin_write_while(*task, lba, len, fill)?),
            Self::Card(card, buffer) => {
                for (lba, len) in pieces(lba, len, buffer.len()) {
                    if !fill(&mut buffer[..len]) {
                        return Ok(false);
                    }
                    card.write(lba, &buffer[..len])?;
                }
                Ok(true)
            }
        }
    }

    fn end_writes(&mut self) -> Result<(), DiskError> {
        match self {
            Self::Virtio(disk, task) => Ok(disk.end_requests(*task)?),
            Self::Card(..) => Ok(()),
        }
    }

    fn flush(&mut self) -> Result<(), DiskError> {
        match self {
            Self::Virtio(disk, task) => Ok(disk.flush(*task)?),
            // A card that has said that it is ready again has written everything. Its cache (SD
            // specification 6.00) is never switched on.
            Self::Card(card, _) => Ok(card.check()?),
        }
    }

    fn pause(&mut self) {
        self.task().yield_now();
    }

    fn crc32c(&self, bytes: &[u8]) -> u32 {
        (routines().crc32c)(0, bytes)
    }

    fn request_of(&self, error: &DiskError) -> Option<Request> {
        let DiskError::Virtio(error) = error else { return None };
        match error.request()? {
            virtio_blk::Request::Read(sector, _) => Some(Request::Read(sector)),
            virtio_blk::Request::Write(sector, _) => Some(Request::Write(sector)),
            virtio_blk::Request::Flush => None,
        }
    }
}
