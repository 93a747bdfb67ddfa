//! The store of checkpoints, on whatever disk the machine has.
//!
//! A card can be pulled, put back and exchanged. So before each command it is asked whether it is still the
//! one that was set up; if it is not, or there was none, the slots are looked into again, and the store
//! is opened anew: as after a loss of power, every committed checkpoint is there.

mod disk;

use crate::machine::Machine;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
pub use disk::Disk;
use spin::mutex::SpinMutex;
use stasis_console::text::Size;
use stasis_hw::sdhci::Sdhci;
use stasis_hw::virtio_blk;
use stasis_memory::range::Range;
use stasis_store::Store;
use stasis_store::partition::Partition;

/// Where checkpoints are kept.
struct Storage {
    /// The store, or why there is none.
    store: Result<Store<Disk>, String>,
    /// Where a card may turn up; nowhere, if the disk is none.
    slots: Vec<Sdhci>,
}

static STORAGE: SpinMutex<Option<Storage>> = SpinMutex::new(None);

/// Finds the disk, its partition and the store. What is missing is said when somebody wants it. Returns the registers of the disk,
/// if it is a virtio one; others of that kind are left alone.
pub fn init(machine: &Machine) -> Option<Range> {
    for host in &machine.sd_hosts {
        log::debug!("SD host: {} at {}", host.compatible, host.device.frame);
    }
    let (disk, slots) = match (Disk::virtio(machine), disk::card_slots(machine)) {
        (None, slots) if !slots.is_empty() => (Disk::card(&slots), slots),
        (None, _) => {
            let slots = machine.virtio.len();
            (Err(virtio_blk::Error::NoDisk { slots }.to_string()), Vec::new())
        }
        (Some(disk), _) => (disk, Vec::new()),
    };
    let frame = disk.as_ref().ok().and_then(|(disk, _)| disk.frame());
    let storage = Storage { store: disk.and_then(open), slots };
    if let Err(error) = &storage.store {
        log::warn!("no store: {error}");
    }
    *STORAGE.lock() = Some(storage);
    frame
}

/// Opens the store in a disk's partition.
fn open((disk, partition): (Disk, Partition)) -> Result<Store<Disk>, String> {
    let store = Store::open(disk, partition).map_err(|error| error.to_string())?;
    let usage = store.usage();
    if !store.partition().is_aligned() {
        log::warn!(
            "the store begins at sector {}, no multiple of 8: on a disk with blocks of 4096 bytes, a loss of power can hurt a checkpoint",
            store.partition().first()
        );
    }
    log::info!(
        "store: {} checkpoints, {} of {} free",
        store.list().len(),
        Size(usage.free),
        Size(usage.capacity)
    );
    Ok(store)
}

impl Storage {
    /// The store, if its disk is fit for use, or why there is none.
    fn store(&mut self) -> Result<&mut Store<Disk>, String> {
        if let Ok(store) = &mut self.store
            && let Err(error) = store.device_mut().check()
        {
            self.store = Err(error.to_string());
        }
        if self.store.is_err() && !self.slots.is_empty() {
            self.store = Disk::card(&self.slots).and_then(open);
        }
        self.store.as_mut().map_err(|error| error.clone())
    }
}

/// Does something with the store, or says why there is none.
pub fn with_store<T>(
    action: impl FnOnce(&mut Store<Disk>) -> Result<T, String>,
) -> Result<T, String> {
    match STORAGE.lock().as_mut() {
        Some(storage) => {
            let store = storage.store()?;
            let older = store.version();
            let result = action(store);
            let version = store.version();
            if version != older {
                log::warn!(
                    "the store has version {version} now: older versions of Stasis refuse it"
                );
            }
            result
        }
        None => Err("the disk was not looked for".to_string()),
    }
}
