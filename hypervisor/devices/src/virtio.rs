//! The virtio-mmio slots of QEMU's `virt`: [`Slots`]. The first ones have a guest's virtio devices,
//! the others are empty. VIRTIO 1.2, 4.2.2.
//!
//! A guest without virtio devices finds what QEMU's `virt` has without any: transports of the
//! legacy interface with device ID 0. An external abort would end guests that look there. Otherwise
//! all slots are of version 2.
//!
//! A notification does not make the device work: it is noted, and the device's requests are steps
//! of their own. What a device can do by itself is done by [`Slots::serve`] in its guest's own
//! time; what needs a disk of the machine's is taken by [`block`]'s caller. A request that is not
//! completed is in the available ring, and nowhere else.
//!
//! Devices work while their guest's memory is loaded: [`missing`] says how.
//!
//! - `transport`: the registers; `config`: the configuration of each device; [`fitting`]: which
//!   devices a new guest has; [`fresh`]: their record.
//! - [`queue`], [`chain`]: a queue, and the buffers of a request.
//! - `entropy`, [`block`], [`net`], [`console`]: the devices. [`volume`]: what is behind a disk;
//!   [`ahead`]: what was read of it before it is asked for; [`late`]: what was written and it does
//!   not have yet; [`switch`]: what is between network cards, which have an [`address`];
//!   [`arrivals`]: frames that wait for a guest.
//! - [`missing`]: requests that need memory which is not there yet.

pub mod address;
pub mod ahead;
pub mod arrivals;
mod at_exit;
pub mod block;
pub mod chain;
mod config;
pub mod console;
mod entropy;
pub mod fitting;
pub mod fresh;
pub mod late;
pub mod missing;
pub mod net;
pub mod queue;
mod slot_config;
mod status;
pub mod switch;
mod transport;
pub mod view;
pub mod volume;

use alloc::boxed::Box;
use alloc::format;

use arrayvec::ArrayString;
use stasis_state::machine::DeviceKind;
use stasis_state::name::NAME_LEN;
use stasis_state::virtio::{MAX_VIRTIO, VIRTIO_QUEUES, Virtio, device_id};

use crate::device::{Access, Context, Device, Effects, Memory, Outside, Window};
use crate::equipment::Equipment;
use crate::tree::{EDGE_RISING, Writer};
use ahead::Ahead;
use chain::Chain;
use late::Writes;
use queue::Queue;
use status::{Interrupt, Status};
use view::Broken;

/// Feature: the device is of VIRTIO 1.0 or later.
pub const VERSION_1: u64 = 1 << 32;
/// Feature: a descriptor can have a table of descriptors.
const INDIRECT_DESC: u64 = 1 << 28;

/// A queue of a guest's device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueId {
    /// The device's slot.
    pub slot: u8,
    /// The queue's number in its device.
    pub queue: u8,
}

impl QueueId {
    /// Returns the queue's index in the record.
    fn index(self) -> usize {
        usize::from(self.slot) * VIRTIO_QUEUES + usize::from(self.queue)
    }

    /// Returns the queue with this index.
    fn at(index: u32) -> Self {
        const QUEUES: u32 = VIRTIO_QUEUES as u32;
        Self { slot: (index / QUEUES) as u8, queue: (index % QUEUES) as u8 }
    }

    /// Returns the queue's bit in a [`Queues`].
    fn bit(self) -> Queues {
        1 << self.index()
    }
}

/// Queues of all slots, a bit for each by its index in the record.
type Queues = u32;
const _: () = assert!(MAX_VIRTIO * VIRTIO_QUEUES <= Queues::BITS as usize);

/// Returns all queues of slot `n`.
const fn queues_of(n: usize) -> Queues {
    ((1 << VIRTIO_QUEUES) - 1) << (n * VIRTIO_QUEUES)
}

/// Which devices have requests since a driver's write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// Disks alone: [`Slots::disk_request`] takes the requests.
    Disks,
    /// Others, and perhaps disks: [`Slots::serve`] does the requests of the others.
    Others,
}

/// What devices reach outside of their guest while they serve it. The guest is locked.
pub trait Outward {
    /// Fills `into` with random bytes. Returns `false` if the machine has no source of them; then
    /// nothing was written.
    fn random(&mut self, into: &mut [u8]) -> bool;

    /// Returns the place of a frame of `len` bytes, [`net::MAX_FRAME`] at most, that may be sent.
    fn frame(&mut self, len: usize) -> &mut [u8];

    /// Sends what stands in the first `len` bytes of that place, from the card in `slot`.
    fn send(&mut self, slot: u8, len: usize);

    /// Returns the place of a text of `len` bytes, [`console::MOST_TEXT`] at most, that may be
    /// printed.
    fn text(&mut self, len: usize) -> &mut [u8];

    /// Prints what stands in the first `len` bytes of that place at the guest's terminal.
    fn print(&mut self, len: usize);

    /// Copies the first bytes that were typed at the guest's terminal and are still to be taken, as
    /// many as there are or `into` has room for. Returns their number.
    fn typed(&mut self, into: &mut [u8]) -> usize;

    /// Takes the first `count` of these bytes.
    fn take_typed(&mut self, count: usize);
}

/// A guest's virtio-mmio slots.
#[derive(Clone, Debug)]
pub struct Slots {
    record: Virtio,
    /// The names of what is behind the devices, which never change: [`Virtio::name_text`] checks
    /// one anew each time.
    // In a place of its own, as what else only requests of disks need: whatever an exit looks at in
    // the guest's state lies within the reach of an instruction's offset then.
    names: Box<[ArrayString<NAME_LEN>; MAX_VIRTIO]>,
    /// The queues that may have requests, but for those that stand still.
    notified: Queues,
    /// The queues that stand still until some of the memory has arrived that is still to be loaded.
    waiting: Queues,
    /// The queues of the disks.
    disks: Queues,
    /// The queues of the disks whose first request was taken and is not completed.
    under_way: Queues,
    /// What was read ahead of each disk.
    ahead: Box<[Ahead; MAX_VIRTIO]>,
    /// How each disk is written.
    writes: Box<[Writes; MAX_VIRTIO]>,
    /// Number of resets of each device since the guest was made: what was begun before the last one
    /// is not completed.
    resets: [u32; MAX_VIRTIO],
    /// The request of a disk of which a part was done. It counts for nothing when its device was
    /// reset since.
    begun: Option<block::Request>,
    /// What each network card has moved.
    traffic: [net::Traffic; MAX_VIRTIO],
}

impl Device for Slots {
    const WINDOW: Window = Window { base: 0x0a00_0000, size: 0x200, count: 32, spi: Some(16) };
    const KIND: DeviceKind = DeviceKind::EMPTY_SLOT;
    type Record = Virtio;

    fn fitted(equipment: &Equipment<'_>) -> Option<Virtio> {
        Some(fresh::record(equipment.virtio))
    }

    /// Returns the slots. Each queue that is ready is looked at once: guests rely on it after every
    /// start of the machine.
    fn restored(record: Virtio, _: u64) -> Self {
        let name = |n| ArrayString::from(record.name_text(n)).unwrap_or_default();
        let is_disk = |(_, id): &(usize, u32)| *id == device_id::BLOCK;
        let mut slots = Self {
            names: Box::new(core::array::from_fn(name)),
            disks: record.slots().filter(is_disk).map(|(n, _)| queues_of(n)).sum(),
            record,
            notified: 0,
            waiting: 0,
            under_way: 0,
            ahead: Default::default(),
            writes: Default::default(),
            resets: [0; MAX_VIRTIO],
            begun: None,
            traffic: Default::default(),
        };
        (0..MAX_VIRTIO).for_each(|n| slots.notify_all(n));
        slots
    }

    fn record(&self) -> &Virtio {
        &self.record
    }

    fn kind(&self, n: u8) -> DeviceKind {
        match self.record.device_id.get(usize::from(n)) {
            None | Some(&device_id::NONE) => DeviceKind::EMPTY_SLOT,
            Some(id) => DeviceKind::virtio(*id as u8),
        }
    }

    fn read(&mut self, access: Access, _: &mut impl Context) -> u64 {
        self.read_register(access)
    }

    fn write(&mut self, access: Access, value: u64, _: &mut impl Context) -> Effects {
        self.store(access, value).map(|_| Outside::Work).into()
    }

    fn line(&self, n: u8) -> bool {
        self.record.interrupt_status.get(usize::from(n)).is_some_and(|status| *status != 0)
    }

    fn describe(equipment: &Equipment<'_>, tree: &mut Writer) {
        for slot in 0..equipment.virtio.len().min(MAX_VIRTIO) as u8 {
            let base = Self::WINDOW.base + u64::from(slot) * Self::WINDOW.size;
            tree.begin(&format!("virtio_mmio@{base:x}"));
            tree.string("compatible", "virtio,mmio");
            tree.reg(&[(base, Self::WINDOW.size)]);
            tree.interrupt(&Self::WINDOW, slot, EDGE_RISING);
            tree.empty("dma-coherent");
            tree.end();
        }
    }
}

impl Slots {
    /// Writes a register. Returns which devices have requests that nobody was told of before; None
    /// if there are none.
    pub fn store(&mut self, access: Access, value: u64) -> Option<Work> {
        let before = self.notified;
        self.write_register(access, value);
        // What was notified before is known.
        match self.notified & !before {
            0 => None,
            new if new & !self.disks == 0 => Some(Work::Disks),
            _ => Some(Work::Others),
        }
    }

    /// Returns whether a queue may have requests that can be done now.
    pub fn has_work(&self) -> bool {
        self.notified != 0
    }

    /// Returns whether a disk's queue may have requests that can be done now:
    /// [`Slots::disk_request`] takes them.
    pub fn has_disk_work(&self) -> bool {
        self.notified & self.disks != 0
    }

    /// Does the next step of a device that needs nothing but its guest and `outward`. Returns the
    /// number of its slot, whose line may have changed; None if there is nothing to do.
    pub fn serve(&mut self, memory: &mut Memory<'_>, outward: &mut impl Outward) -> Option<u8> {
        let id = self.next_notified(!self.disks)?;
        let served = match self.record.device_id[usize::from(id.slot)] {
            device_id::ENTROPY => entropy::serve(self, id, memory, outward),
            device_id::NETWORK => net::serve(self, id, memory, outward),
            device_id::CONSOLE => console::serve(self, id, memory, outward),
            _ => Ok(false),
        };
        self.settle(id, served);
        Some(id.slot)
    }

    /// Returns the first of these queues that may have requests.
    fn next_notified(&self, among: Queues) -> Option<QueueId> {
        let notified = self.notified & among;
        (notified != 0).then(|| QueueId::at(notified.trailing_zeros()))
    }

    /// Notes what a step on a queue came to: `Ok(false)` if the queue has nothing more to do now.
    fn settle(&mut self, id: QueueId, served: Result<bool, Broken>) {
        match served {
            Ok(true) => {}
            Ok(false) => self.notified &= !id.bit(),
            // The request is tried again.
            Err(Broken::NoFrame) => {}
            Err(Broken::NotThere) => self.stand_still(id),
            Err(_) => self.fail(id.slot.into()),
        }
    }

    /// Makes a device wait for its reset, as its driver has put something impossible into a queue.
    /// VIRTIO 1.2, 2.1.2.
    fn fail(&mut self, n: usize) {
        self.record.status[n] |= Status::NEEDS_RESET;
        self.forget_notified(n);
        if self.record.status[n] & Status::DRIVER_OK != 0 {
            self.record.interrupt_status[n] |= Interrupt::CONFIG;
        }
    }

    /// Notes that no queue of a device has requests any more.
    fn forget_notified(&mut self, n: usize) {
        self.notified &= !queues_of(n);
        self.waiting &= !queues_of(n);
    }

    /// Returns a queue that is ready, as its driver has set it up; None if it is not ready, or its
    /// device does not work now.
    fn queue(&self, id: QueueId) -> Option<Queue> {
        working_queue(&self.record, id)
    }

    /// Returns the first request of a queue that is not completed; None if there is none, or the
    /// device does not work now.
    fn first(&self, id: QueueId, memory: &Memory<'_>) -> Result<Option<Chain>, Broken> {
        self.queue(id).map_or(Ok(None), |queue| queue.first(memory))
    }

    /// Completes the first request of a queue, of which the device has written `written` bytes, and
    /// raises the interrupt if the driver wants it.
    fn complete(
        &mut self,
        id: QueueId,
        memory: &mut Memory<'_>,
        chain: &Chain,
        written: u32,
    ) -> Result<(), Broken> {
        let Some(mut queue) = self.queue(id) else { return Ok(()) };
        let wants_interrupt = queue.complete(memory, chain, written)?;
        let at = id.index();
        self.record.queue_next_avail[at] = queue.next_avail;
        self.record.queue_used[at] = queue.used;
        if wants_interrupt {
            self.record.interrupt_status[usize::from(id.slot)] |= Interrupt::USED;
        }
        Ok(())
    }
}

/// Returns a queue that is ready, as its driver has set it up; None if it is not ready, or its
/// device does not work now.
///
/// # Panics
///
/// If there is no slot or queue of this number.
pub fn working_queue(record: &Virtio, id: QueueId) -> Option<Queue> {
    let at = id.index();
    let status = record.status[usize::from(id.slot)];
    let works = status & Status::DRIVER_OK != 0 && status & Status::NEEDS_RESET == 0;
    (works && record.queue_ready[at] != 0).then(|| Queue {
        num: record.queue_num[at],
        desc: record.queue_desc[at],
        driver: record.queue_driver[at],
        device: record.queue_device[at],
        next_avail: record.queue_next_avail[at],
        used: record.queue_used[at],
    })
}

#[cfg(test)]
pub(crate) mod tests;
