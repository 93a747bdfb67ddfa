//! The disk of QEMU's `virt`: virtio-blk over virtio-mmio, legacy and modern (virtio 1.2, 4.2 and
//! 5.2).
//!
//! The queue and the transport are those of `virtio-drivers`. Its block driver is not used, for it
//! polls without a limit. Here the device has up to [`DEPTH`] requests at a time (`requests.rs`),
//! so that the next piece is copied while it writes the ones before, and the piece before is used
//! while it reads (`transfers.rs`). A device that ends none of them in time, or one that it does
//! not have, is reset and not used again.
//!
//! The device is never told of any memory but [`DiskMemory`]: data pass through buffers there. So a
//! device that goes on writing after it was given up can't hurt anything.

mod dma;
#[cfg(test)]
mod fake;
mod request;
mod requests;
#[cfg(test)]
mod tests;
mod transfers;

use crate::time::Wait;
use crate::virtio_setup::negotiate;
use core::fmt;
use core::ptr::NonNull;
pub use dma::DiskMemory;
pub use request::{Error, Request};
use requests::Requests;
use virtio_drivers::transport::mmio::MmioTransport;
use virtio_drivers::transport::{DeviceStatus, DeviceType, Transport};

/// Bytes of a sector, whatever the device's own blocks are (5.2.6).
pub const SECTOR: usize = 512;
/// Most bytes that one request transfers. More take several requests. Miri takes too long for many.
pub const MAX_TRANSFER: usize = if cfg!(miri) { 8 * SECTOR } else { 64 * 1024 };
/// Most requests that the device has at a time.
pub const DEPTH: usize = 4;
/// Milliseconds for which the driver sleeps until the disk interrupts; from then on it polls. A
/// clock that leaves out the time in which all cores sleep, as QEMU's with `-icount sleep=off`,
/// does not tell how long the disk takes.
const NAP_MS: u64 = 10;

/// Feature bits (5.2.3 and 6).
mod feature {
    /// The device can't be written to.
    pub const RO: u64 = 1 << 5;
    /// The device tells the size of its blocks.
    pub const BLK_SIZE: u64 = 1 << 6;
    /// The device has a cache that must be flushed.
    pub const FLUSH: u64 = 1 << 9;
    /// The device is not a legacy device.
    pub const VERSION_1: u64 = 1 << 32;
    /// Features that this driver accepts.
    pub const WANTED: u64 = RO | BLK_SIZE | FLUSH | VERSION_1;
}

/// Offsets in the configuration space (5.2.4).
mod config {
    pub const CAPACITY_LOW: usize = 0x00;
    pub const CAPACITY_HIGH: usize = 0x04;
    pub const BLK_SIZE: usize = 0x14;
}

/// A virtio-mmio slot of the device tree.
#[derive(Clone, Copy, Debug)]
pub struct Slot {
    /// Address of the slot's registers.
    pub address: usize,
    /// Bytes of the slot's registers.
    pub size: usize,
}

/// A virtio disk.
pub struct VirtioBlk<T: Transport = MmioTransport<'static>> {
    slot: Slot,
    requests: Requests<T>,
    /// Milliseconds in which the device must end a request, whenever it has some.
    patience_ms: u64,
    capacity: u64,
    read_only: bool,
    has_cache: bool,
    /// Error of the first write that failed since the last
    /// [`end_requests`](VirtioBlk::end_requests); of the first read, while that is under way.
    failed: Option<Error>,
    given_up: Option<Request>,
}

impl VirtioBlk {
    /// Sets up the first disk in the slots, whose requests may take `patience_ms` milliseconds, and
    /// returns its driver. A slot without a disk is left as it is.
    ///
    /// # Errors
    ///
    /// [`Error::NoDisk`] if no slot has a disk; what is wrong with the first disk, if it can't be
    /// used.
    ///
    /// # Safety
    ///
    /// 1. Each slot is the address of a virtio-mmio device's registers, mapped as device memory for
    ///    as long as the machine runs; nobody else uses those of the disk.
    /// 2. The MMU maps `memory` at its physical address.
    pub unsafe fn find(
        slots: impl IntoIterator<Item = Slot>,
        memory: &'static mut DiskMemory,
        patience_ms: u64,
    ) -> Result<Self, Error> {
        let mut seen = 0;
        for slot in slots {
            seen += 1;
            let Some(header) = NonNull::new(slot.address as *mut _) else {
                continue;
            };
            // SAFETY: `header` points to the registers of a virtio-mmio device, `slot.size` bytes
            // of device memory that stay mapped, by condition 1.
            let Ok(transport) = (unsafe { MmioTransport::new(header, slot.size) }) else {
                continue;
            };
            if transport.device_type() == DeviceType::Block {
                return Self::new(slot, transport, memory, patience_ms);
            }
            // Do not drop the transport: that would reset a device that is not ours.
            core::mem::forget(transport);
        }
        Err(Error::NoDisk { slots: seen })
    }
}

impl<T: Transport> VirtioBlk<T> {
    /// Initializes the device (3.1.1), and returns its driver.
    fn new(
        slot: Slot,
        mut transport: T,
        memory: &'static mut DiskMemory,
        patience_ms: u64,
    ) -> Result<Self, Error> {
        let address = slot.address;
        let setup = |error| Error::Setup { address, error };
        let (status, features) = negotiate(&mut transport, feature::WANTED)
            .map_err(|features| Error::Features { address, features })?;
        if features & feature::BLK_SIZE != 0 {
            let found = transport.read_config_space(config::BLK_SIZE);
            let found: u32 = found.map_err(setup)?;
            if found as usize != SECTOR {
                return Err(Error::BlockSize { address, found });
            }
        }
        let capacity = read_capacity(&transport).map_err(setup)?;
        let mut requests = Requests::new(transport, memory).map_err(setup)?;
        requests.transport().set_status(status | DeviceStatus::DRIVER_OK);
        Ok(Self {
            slot,
            requests,
            patience_ms,
            capacity,
            read_only: features & feature::RO != 0,
            has_cache: features & feature::FLUSH != 0,
            failed: None,
            given_up: None,
        })
    }

    /// Resets the disk, and returns the memory for another one; `None` if the disk does not say
    /// that it was reset: it may be using the memory for ever.
    pub fn release(self) -> Option<&'static mut DiskMemory> {
        self.requests.release()
    }

    /// Returns the slot that the disk is in.
    pub fn slot(&self) -> Slot {
        self.slot
    }

    /// Returns the number of sectors.
    pub fn capacity(&self) -> u64 {
        self.capacity
    }

    /// Checks that the disk was not given up.
    ///
    /// # Errors
    ///
    /// [`Error::GivenUp`], with the request that the disk had then.
    pub fn check(&self) -> Result<(), Error> {
        self.given_up.map_or(Ok(()), |since| Err(Error::GivenUp { since }))
    }

    /// Gives the device a request on buffer `n`, which is the driver's. Lets others run before,
    /// also if the device is always faster than the driver.
    // Neither this nor `end_one` is inlined: `cargo xtask bench` finds them in the image by their
    // names.
    #[inline(never)]
    fn submit(&mut self, wait: &mut dyn Wait, n: usize, request: Request) -> Result<(), Error> {
        self.check()?;
        wait.pause();
        self.requests.submit(n, request).map_err(|error| Error::Confused { request, error })
    }

    /// Waits until the device has no request any more.
    ///
    /// # Errors
    ///
    /// What a request has failed with, also an earlier one that was begun and not ended.
    fn settle(&mut self, wait: &mut dyn Wait) -> Result<(), Error> {
        while self.requests.any().is_some() {
            self.end_one(wait)?;
        }
        self.failed.map_or(Ok(()), Err)
    }

    /// Waits until the device has ended one of the requests that it has.
    #[inline(never)]
    fn end_one(&mut self, wait: &mut dyn Wait) -> Result<(), Error> {
        self.check()?;
        let ticks = |ms: u64| ms * wait.frequency() / 1000;
        let (start, limit, nap) = (wait.now(), ticks(self.patience_ms), ticks(NAP_MS));
        let mut is_late = false;
        while !self.take_back()? {
            if is_late {
                return Err(self.give_up(|request, ms| Error::TimedOut { request, ms }));
            }
            if wait.now().wrapping_sub(start) > nap {
                wait.pause();
            } else if self.requests.prepare_to_sleep() {
                wait.sleep(start.wrapping_add(nap));
            }
            // A driver that was kept from asking until it was late asks once more.
            is_late = wait.now().wrapping_sub(start) > limit;
        }
        self.requests.stay_awake();
        Ok(())
    }

    /// Takes back a request that the device has ended. Returns whether there was one.
    fn take_back(&mut self) -> Result<bool, Error> {
        match self.requests.poll() {
            Ok(None) => Ok(false),
            Ok(Some((request, status))) => {
                if status != 0 {
                    self.failed.get_or_insert(Error::Failed { request, status });
                }
                Ok(true)
            }
            Err(error) => Err(self.give_up(|request, _| Error::Confused { request, error })),
        }
    }

    /// Resets the disk, which is not used again, and returns what `error` makes of a request that
    /// it had and of the patience with it.
    #[cold]
    fn give_up(&mut self, error: impl FnOnce(Request, u64) -> Error) -> Error {
        // This is called only while the device has a request.
        let request = self.requests.any().unwrap_or(Request::Flush);
        self.given_up = Some(request);
        // A disk that does not end its reset keeps the memory, as this one does in any case:
        // `release` asks again.
        let _ = self.requests.reset();
        error(request, self.patience_ms)
    }
}

/// Returns the capacity in sectors. It is read in two halves, which may change between one read and
/// the next.
fn read_capacity(transport: &impl Transport) -> Result<u64, virtio_drivers::Error> {
    let half = |offset| transport.read_config_space::<u32>(offset);
    let mut high = half(config::CAPACITY_HIGH)?;
    // Do not wait for a device that changes its capacity without end.
    for _ in 0..8 {
        let low = half(config::CAPACITY_LOW)?;
        let before = core::mem::replace(&mut high, half(config::CAPACITY_HIGH)?);
        if before == high {
            return Ok(u64::from(high) << 32 | u64::from(low));
        }
    }
    Err(virtio_drivers::Error::NotReady)
}

impl<T: Transport> fmt::Debug for VirtioBlk<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VirtioBlk")
            .field("capacity", &self.capacity)
            .field("read_only", &self.read_only)
            .field("given_up", &self.given_up)
            .finish_non_exhaustive()
    }
}
