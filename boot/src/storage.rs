//! The disk and the store of checkpoints on it.

use crate::machine::Machine;
use alloc::string::{String, ToString};
use spin::mutex::SpinMutex;
use spin::{Mutex, MutexGuard};
use stasis_arch::timer;
use stasis_hw::virtio_blk::{self, Deadline, DmaMemory, Slot, VirtioBlk};
use stasis_store::{BlockDevice, Store, partition};

/// Seconds that the disk may take for one request.
const PATIENCE: u64 = 10;

/// The disk as the store wants it.
pub struct Disk(VirtioBlk);

impl BlockDevice for Disk {
    type Error = virtio_blk::Error;

    fn block_count(&self) -> u64 {
        self.0.capacity()
    }

    fn read(&mut self, lba: u64, buf: &mut [u8]) -> Result<(), Self::Error> {
        self.0.read(lba, buf)
    }

    fn write(&mut self, lba: u64, data: &[u8]) -> Result<(), Self::Error> {
        self.0.write(lba, data)
    }

    fn flush(&mut self) -> Result<(), Self::Error> {
        self.0.flush()
    }
}

/// What the disk shares with its driver, for ever.
static DMA: Mutex<DmaMemory> = Mutex::new(DmaMemory::new());

/// The store, or why there is none.
static STORE: SpinMutex<Option<Result<Store<Disk>, String>>> = SpinMutex::new(None);

/// Finds the disk, its partition and the store. What is missing is said when somebody wants it.
pub fn init(machine: &Machine) {
    for host in &machine.sd_hosts {
        log::debug!("SD host: {} at {}", host.compatible, host.device.frame);
    }
    let store = open(machine);
    match &store {
        Ok(store) => {
            let usage = store.usage();
            log::info!(
                "store: {} checkpoints, {} of {} MiB free",
                store.list().len(),
                usage.free >> 20,
                usage.capacity >> 20
            );
        }
        Err(error) => log::warn!("no store: {error}"),
    }
    *STORE.lock() = Some(store);
}

fn open(machine: &Machine) -> Result<Store<Disk>, String> {
    let slots = machine.virtio.iter().map(|device| Slot {
        address: device.frame.start as usize,
        size: device.frame.len() as usize,
    });
    let memory = MutexGuard::leak(DMA.lock());
    let deadline = Deadline { now: timer::counter, limit: PATIENCE * timer::frequency() };
    // SAFETY: 1. The slots are the device tree's, mapped as devices; only this driver uses them.
    // 2. The memory is mapped one to one.
    let disk = unsafe { VirtioBlk::find(slots, memory, deadline) }.map_err(|e| e.to_string())?;
    let mut disk = Disk(disk);
    let partition = partition::find(&mut disk).map_err(|e| e.to_string())?;
    Store::open(disk, partition).map_err(|e| e.to_string())
}

/// Does something with the store, or says why there is none.
pub fn with_store<T>(
    action: impl FnOnce(&mut Store<Disk>) -> Result<T, String>,
) -> Result<T, String> {
    match STORE.lock().as_mut() {
        Some(Ok(store)) => action(store),
        Some(Err(error)) => Err(error.clone()),
        None => Err("the disk was not looked for".to_string()),
    }
}
