//! The store of checkpoints, on the disk that the machine has.
//!
//! A card can be pulled, put back and exchanged. So before each command Stasis asks the card
//! whether it is still the one that was set up. If it is not, or if there was none, Stasis looks
//! into the slots again and opens the store anew. As after a loss of power, every committed
//! checkpoint is there.
//!
//! While nobody uses the store, it is kept on a [`Driver`], which can't read or write. A user of
//! the store lends it the task, which waits for the disk; that makes the driver a [`Disk`].

pub mod disk;
pub mod error;

use crate::machine::Machine;
use alloc::vec::Vec;
use disk::{Disk, Driver};
use error::NoStore;
use stasis_console::text::Size;
use stasis_host::board::Device;
pub use stasis_host::config::lean::Unserved;
use stasis_host::config::{self, Configuration, StoreConfig};
use stasis_hw::sdhci::Sdhci;
use stasis_hw::virtio_blk;
use stasis_run::interrupts;
use stasis_run::turns::Task;
use stasis_store::Store;
use stasis_store::partition::Partition;
use stasis_store::volume::Name;

/// The place where checkpoints are kept.
pub struct Storage {
    /// The store, or the reason why there is none.
    store: Result<Store<Driver>, NoStore>,
    /// The slots in which a card may appear; none if the disk is no card.
    slots: Vec<Sdhci>,
    /// The volumes of which unflushed writes went with a card that was pulled. The next store that
    /// is opened refuses them.
    lost: Vec<Name>,
    /// Whether what is written to a card is read again and compared.
    verify_writes: bool,
}

/// Opens the store in a partition of a disk, and logs how full it is. `lost` are the volumes that
/// have lost writes: the store takes them.
fn open(
    (driver, partition): (Driver, Partition),
    task: &mut Task,
    lost: &mut Vec<Name>,
) -> Result<Store<Driver>, NoStore> {
    let mut store = Store::open(driver.lend(task), partition)?;
    store.lose_writes(core::mem::take(lost));
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
    Ok(store.map_device(Disk::keep))
}

/// Returns that this image can serve all that a configuration asks for.
///
/// # Errors
///
/// None.
pub fn check(_: &Configuration) -> Result<(), Unserved> {
    Ok(())
}

impl Storage {
    /// Returns whether there is a store, or a card with one may be put in.
    pub fn may_have_a_store(&self) -> bool {
        matches!(self.store, Ok(_) | Err(NoStore::InUse)) || !self.slots.is_empty()
    }

    /// Finds the disk, its partition and the store. If one of them is missing, that is logged, and
    /// said again to whoever wants the store. Returns also the registers and the interrupt of the
    /// disk, if it is a virtio disk that is used; the interrupt wakes the task from now on.
    pub fn find(machine: &Machine, task: &mut Task) -> (Self, Option<Device>) {
        for host in &machine.sd_hosts {
            log::debug!("SD host: {} at {}", host.compatible, host.device.frame);
        }
        let (disk, slots) = match (Disk::virtio(machine, task), disk::card_slots(machine)) {
            (None, slots) if !slots.is_empty() => (Disk::card(&slots, task), slots),
            (None, _) => {
                let slots = machine.virtio.len();
                (Err(virtio_blk::Error::NoDisk { slots }.into()), Vec::new())
            }
            (Some(disk), _) => (disk, Vec::new()),
        };
        let device = disk.as_ref().ok().and_then(|(driver, _)| driver.device(machine));
        if let Some(Device { intid: intid @ 1.., .. }) = device {
            interrupts::open_disk(intid);
        }
        let mut lost = Vec::new();
        let store = disk.and_then(|disk| open(disk, task, &mut lost));
        if let Err(error) = &store {
            log::warn!("no store: {error}");
        }
        (Self { store, slots, lost, verify_writes: true }, device)
    }

    /// Takes over what the boot archive says of the store: whether what is written to a card is
    /// read again and compared. At first it is.
    pub fn configure(&mut self, config: &StoreConfig) {
        self.verify_writes = config.verify_writes;
        if !self.verify_writes && !self.slots.is_empty() {
            log::warn!(
                "what is written to the SD card is not read again, as verify-writes = false wants it"
            );
        }
    }

    /// Warns of guests whose configuration asks for checkpoints, if there is no store.
    pub fn warn_if_lacking(&mut self, configuration: &Configuration, task: &mut Task) {
        let in_need = config::in_need_of_a_store(configuration);
        if in_need.is_empty() {
            return;
        }
        if let Err(why) = self.with_store(task, |_| Ok::<_, NoStore>(())) {
            for (guest, key) in in_need {
                log::warn!("guest \"{}\": {key} comes to nothing: {why}", guest.name);
            }
        }
    }

    /// Calls `action` with the store, and returns its result.
    ///
    /// # Errors
    ///
    /// Why there is no store, or the error of `action`.
    pub fn with_store<T, E: From<NoStore>>(
        &mut self,
        task: &mut Task,
        action: impl FnOnce(&mut Store<Disk>) -> Result<T, E>,
    ) -> Result<T, E> {
        let mut store = self.lend(task)?;
        let older = store.version();
        let result = action(&mut store);
        self.keep(store, older);
        result
    }

    /// Takes the store out and lends it the task, or returns why there is no store.
    #[inline(never)]
    fn lend<'t>(&mut self, task: &'t mut Task) -> Result<Store<Disk<'t>>, NoStore> {
        let mut store = self.take(task)?.map_device(|driver| driver.lend(task));
        store.device_mut().verify_writes(self.verify_writes);
        Ok(store)
    }

    /// Puts the store back. `older` is the version that the store had when it was lent.
    #[inline(never)]
    fn keep(&mut self, store: Store<Disk>, older: u32) {
        let version = store.version();
        self.store = Ok(store.map_device(Disk::keep));
        if version != older {
            log::warn!("the store has version {version} now: older versions of Stasis refuse it");
        }
    }

    /// Takes the store out if its disk is fit for use, or returns why there is none. Looks for a
    /// card again if there are slots.
    fn take(&mut self, task: &mut Task) -> Result<Store<Driver>, NoStore> {
        let taken = core::mem::replace(&mut self.store, Err(NoStore::InUse));
        let mut store = taken.and_then(|store| {
            let mut store = store.map_device(|driver| driver.lend(task));
            if let Err(error) = store.device_mut().check() {
                self.lost.extend(store.unflushed_volumes());
                return Err(error.into());
            }
            Ok(store.map_device(Disk::keep))
        });
        if store.is_err() && !self.slots.is_empty() {
            let disk = Disk::card(&self.slots, task);
            store = disk.and_then(|disk| open(disk, task, &mut self.lost));
        }
        store.inspect_err(|error| self.store = Err(error.clone()))
    }
}
