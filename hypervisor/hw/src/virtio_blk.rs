//! The disk of QEMU's `virt`: virtio-blk over virtio-mmio, legacy and modern (virtio 1.2, 4.2 and 5.2).
//!
//! The queue and the transport are those of `virtio-drivers`. Its block driver is not used, for it polls without a limit. Here one request is under
//! way at a time, and a device that does not answer in time is reset and not used again.
//!
//! The device is never told of any memory but [`DmaMemory`]: data pass through a buffer there. So a device that goes on writing after it was given up
//! can't hurt anything.

mod dma;
mod request;

use crate::time::Wait;
use core::fmt;
use core::ptr::NonNull;
use core::sync::atomic::{Ordering, fence};
pub use dma::DmaMemory;
use dma::{Identity, Shared};
pub use request::{Error, Request};
use virtio_drivers::queue::VirtQueue;
use virtio_drivers::transport::mmio::MmioTransport;
use virtio_drivers::transport::{DeviceStatus, DeviceType, Transport};

/// Bytes of a sector, whatever the device's own blocks are (5.2.6).
pub const SECTOR: usize = 512;
/// Most bytes that one request transfers. More take several requests.
pub const MAX_TRANSFER: usize = 128 * 1024;

/// Number of the only queue (5.2.2).
const QUEUE: u16 = 0;
/// Length of the queue: a power of two, with room for the three descriptors of a request.
const QUEUE_LEN: usize = 4;

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
pub struct VirtioBlk {
    slot: Slot,
    transport: MmioTransport<'static>,
    queue: VirtQueue<Identity, QUEUE_LEN>,
    memory: NonNull<DmaMemory>,
    shared: NonNull<Shared>,
    /// Milliseconds that a request may take.
    patience_ms: u64,
    capacity: u64,
    read_only: bool,
    has_cache: bool,
    given_up: Option<Request>,
}

// SAFETY: 1. `memory` and `shared` point to memory that nobody but this driver and its device uses, and that is mapped on every core. 2. The
// transport and the queue depend on no state of one core.
unsafe impl Send for VirtioBlk {}

impl VirtioBlk {
    /// Sets up the first disk in the slots, whose requests may take `patience_ms` milliseconds, and returns its driver. A slot without a disk is left
    /// as it is.
    ///
    /// # Safety
    ///
    /// 1. Each slot is the address of a virtio-mmio device's registers, mapped as device memory for
    ///    as long as the machine runs; nobody else uses those of the disk.
    /// 2. The MMU maps `memory` at its physical address.
    pub unsafe fn find(
        slots: impl IntoIterator<Item = Slot>,
        memory: &'static mut DmaMemory,
        patience_ms: u64,
    ) -> Result<Self, Error> {
        let mut seen = 0;
        for slot in slots {
            seen += 1;
            let Some(header) = NonNull::new(slot.address as *mut _) else {
                continue;
            };
            // SAFETY: `header` points to the registers of a virtio-mmio device, `slot.size` bytes of device memory that stay mapped, by condition 1.
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

    /// Initializes the device (3.1.1), and returns its driver.
    fn new(
        slot: Slot,
        mut transport: MmioTransport<'static>,
        memory: &'static mut DmaMemory,
        patience_ms: u64,
    ) -> Result<Self, Error> {
        let address = slot.address;
        let setup = |error| Error::Setup { address, error };
        let mut status = DeviceStatus::empty();
        transport.set_status(status);
        status |= DeviceStatus::ACKNOWLEDGE | DeviceStatus::DRIVER;
        transport.set_status(status);
        let features = transport.read_device_features() & feature::WANTED;
        transport.write_driver_features(features);
        if transport.requires_legacy_layout() {
            transport.set_guest_page_size(virtio_drivers::PAGE_SIZE as u32);
        } else {
            status |= DeviceStatus::FEATURES_OK;
            transport.set_status(status);
            if !transport.get_status().contains(DeviceStatus::FEATURES_OK) {
                return Err(Error::Features { address, features });
            }
        }
        if features & feature::BLK_SIZE != 0 {
            let found = transport.read_config_space(config::BLK_SIZE);
            let found: u32 = found.map_err(setup)?;
            if found as usize != SECTOR {
                return Err(Error::BlockSize { address, found });
            }
        }
        let capacity = read_capacity(&transport).map_err(setup)?;
        let (memory, shared) = memory.hand_over();
        let mut queue = VirtQueue::new(&mut transport, QUEUE, false, false).map_err(setup)?;
        // The driver polls for completion.
        queue.set_dev_notify(false);
        transport.set_status(status | DeviceStatus::DRIVER_OK);
        Ok(Self {
            slot,
            transport,
            queue,
            memory,
            shared,
            patience_ms,
            capacity,
            read_only: features & feature::RO != 0,
            has_cache: features & feature::FLUSH != 0,
            given_up: None,
        })
    }

    /// Resets the disk, and returns the memory for another one.
    pub fn release(self) -> &'static mut DmaMemory {
        let mut memory = self.memory;
        // The transport resets the device, which ends its use of the memory.
        drop(self);
        // SAFETY: 1. The pointer is that of the `&'static mut` that was handed over, so it is valid for ever. 2. The driver was dropped, which has
        // reset the device, so neither uses the memory any more.
        unsafe { memory.as_mut() }
    }

    /// Returns the slot that the disk is in.
    pub fn slot(&self) -> Slot {
        self.slot
    }

    /// Returns the number of sectors.
    pub fn capacity(&self) -> u64 {
        self.capacity
    }

    /// Returns whether every write will be refused.
    pub fn is_read_only(&self) -> bool {
        self.read_only
    }

    /// Checks that the disk was not given up.
    pub fn check(&self) -> Result<(), Error> {
        self.given_up.map_or(Ok(()), |since| Err(Error::GivenUp { since }))
    }

    /// Reads whole sectors, from number `sector` on, into `buf`. Waits for the disk by `wait`.
    pub fn read(
        &mut self,
        wait: &mut dyn Wait,
        sector: u64,
        mut buf: &mut [u8],
    ) -> Result<(), Error> {
        self.read_with(wait, sector, buf.len(), &mut |piece| {
            let (now, later) = core::mem::take(&mut buf).split_at_mut(piece.len());
            now.copy_from_slice(piece);
            buf = later;
        })
    }

    /// Reads `len` bytes, whole sectors, and passes them to `take` in pieces of the driver's buffer, in their order.
    pub fn read_with(
        &mut self,
        wait: &mut dyn Wait,
        sector: u64,
        len: usize,
        take: &mut dyn FnMut(&[u8]),
    ) -> Result<(), Error> {
        self.check_range(Request::Read(sector, len / SECTOR), sector, len)?;
        for (first, len) in transfers(sector, len) {
            self.perform(wait, Request::Read(first, len / SECTOR))?;
            // SAFETY: 1. `self.shared` came from `hand_over`. 2. The request was completed, so the device does not use the buffer. 3. The reference
            // ends with this statement, and there is no other one.
            take(unsafe { Shared::data(self.shared, len) });
        }
        Ok(())
    }

    /// Writes whole sectors, from number `sector` on. Waits for the disk by `wait`. What was written lasts after [`flush`](Self::flush).
    pub fn write(
        &mut self,
        wait: &mut dyn Wait,
        sector: u64,
        mut data: &[u8],
    ) -> Result<(), Error> {
        self.write_with(wait, sector, data.len(), &mut |piece| {
            let (now, later) = data.split_at(piece.len());
            piece.copy_from_slice(now);
            data = later;
        })
    }

    /// Writes `len` bytes, whole sectors, which `fill` puts into pieces of the driver's buffer, in their order. They last after
    /// [`flush`](Self::flush).
    pub fn write_with(
        &mut self,
        wait: &mut dyn Wait,
        sector: u64,
        len: usize,
        fill: &mut dyn FnMut(&mut [u8]),
    ) -> Result<(), Error> {
        let request = Request::Write(sector, len / SECTOR);
        if self.read_only {
            return Err(Error::ReadOnly(request));
        }
        self.check_range(request, sector, len)?;
        for (first, len) in transfers(sector, len) {
            // SAFETY: 1. `self.shared` came from `hand_over`. 2. No request is under way, so the device does not use the buffer. 3. The reference
            // ends with this statement, and there is no other one.
            fill(unsafe { Shared::data(self.shared, len) });
            self.perform(wait, Request::Write(first, len / SECTOR))?;
        }
        Ok(())
    }

    /// Makes what was written last. A device that does not offer a flush has no cache.
    pub fn flush(&mut self, wait: &mut dyn Wait) -> Result<(), Error> {
        if self.has_cache && !self.read_only {
            self.perform(wait, Request::Flush)?;
        }
        Ok(())
    }

    fn check_range(&self, request: Request, sector: u64, len: usize) -> Result<(), Error> {
        if !len.is_multiple_of(SECTOR) {
            return Err(Error::Length { len });
        }
        match sector.checked_add((len / SECTOR) as u64) {
            Some(end) if end <= self.capacity => Ok(()),
            _ => Err(Error::BeyondEnd { request, capacity: self.capacity }),
        }
    }

    /// Makes the device carry out a request on the shared buffer, and waits for its end.
    fn perform(&mut self, mut wait: &mut dyn Wait, request: Request) -> Result<(), Error> {
        self.check()?;
        // SAFETY: 1. `self.shared` came from `hand_over`. 2. No request is under way, so the device does not use the memory. 3. There is no other
        // reference, and from here to the end of this function nothing but the queue uses these.
        let (header, status, data) = unsafe { Shared::parts(self.shared) };
        *header = request.header();
        *status = [0xff];
        let confused = |error| Error::Confused { request, error };

        type Buffers<'a> = (&'a [&'a [u8]], &'a mut [&'a mut [u8]]);
        let (inputs, outputs): Buffers<'_> = match request {
            Request::Read(_, sectors) => (&[header], &mut [&mut data[..sectors * SECTOR], status]),
            Request::Write(_, sectors) => (&[header, &data[..sectors * SECTOR]], &mut [status]),
            Request::Flush => (&[header], &mut [status]),
        };
        // SAFETY: the buffers are those of `DmaMemory`, which lives for ever. They are not accessed again until the request was popped. If that never
        // comes, `given_up` makes every later access fail before it happens.
        let token = unsafe { self.queue.add(inputs, outputs) }.map_err(confused)?;
        // The device must see the request in memory before it is notified.
        fence(Ordering::SeqCst);
        self.transport.notify(QUEUE);

        let is_done = || (self.queue.peek_used() == Some(token)).then_some(());
        if Wait::poll_ms(&mut wait, self.patience_ms, is_done).is_none() {
            self.given_up = Some(request);
            // Reset the device, which ends its use of the memory.
            self.transport.set_status(DeviceStatus::empty());
            return Err(Error::TimedOut { request, ms: self.patience_ms });
        }
        // SAFETY: these are the buffers that were added under this token, and they were not popped before.
        unsafe { self.queue.pop_used(token, inputs, outputs) }.map_err(confused)?;
        self.transport.ack_interrupt();
        // SAFETY: 1. `self.shared` came from `hand_over`. 2. The request was popped, so the device does not use the status any more.
        match unsafe { Shared::status(self.shared) } {
            0 => Ok(()),
            status => Err(Error::Failed { request, status }),
        }
    }
}

/// Returns the requests that `len` bytes from `sector` on take: the first sector of each, and its bytes.
fn transfers(sector: u64, len: usize) -> impl Iterator<Item = (u64, usize)> {
    let offsets = (0..len).step_by(MAX_TRANSFER);
    offsets.map(move |offset| (sector + (offset / SECTOR) as u64, MAX_TRANSFER.min(len - offset)))
}

/// Returns the capacity in sectors. It is read in two halves, which may change between one read and the next.
fn read_capacity(transport: &MmioTransport<'_>) -> Result<u64, virtio_drivers::Error> {
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

impl fmt::Debug for VirtioBlk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VirtioBlk")
            .field("capacity", &self.capacity)
            .field("read_only", &self.read_only)
            .field("given_up", &self.given_up)
            .finish_non_exhaustive()
    }
}
