//! The registers of a virtio-mmio transport. VIRTIO 1.2, 4.2.2.
//!
//! Drivers differ in what they do in which order, so little is insisted on: U-Boot never sets
//! ACKNOWLEDGE again, EDK2 reads the configuration before it accepts features. What a register does
//! not know is ignored, as QEMU does.

use stasis_state::virtio::{MAX_VIRTIO, VIRTIO_QUEUES, device_id};

use super::queue::{OFFERED, queue_count};
use super::status::Status;
use super::{QueueId, Slots, VERSION_1, net, queues_of};
use crate::access::{Width, read_words, write_words};
use crate::context::Access;

/// Value of MagicValue: "virt".
const MAGIC: u32 = 0x7472_6976;
/// Value of Version: the legacy interface, QEMU's default.
const LEGACY: u32 = 1;
/// Value of Version: the interface of VIRTIO 1.0 and later.
const MODERN: u32 = 2;
/// Value of VendorID: "QEMU".
const VENDOR: u32 = 0x554d_4551;

/// Offsets of the registers.
mod offset {
    pub const MAGIC: u64 = 0x000;
    pub const VERSION: u64 = 0x004;
    pub const DEVICE_ID: u64 = 0x008;
    pub const VENDOR_ID: u64 = 0x00c;
    pub const DEVICE_FEATURES: u64 = 0x010;
    pub const DEVICE_FEATURES_SEL: u64 = 0x014;
    pub const DRIVER_FEATURES: u64 = 0x020;
    pub const DRIVER_FEATURES_SEL: u64 = 0x024;
    pub const QUEUE_SEL: u64 = 0x030;
    pub const QUEUE_NUM_MAX: u64 = 0x034;
    pub const QUEUE_NUM: u64 = 0x038;
    pub const QUEUE_READY: u64 = 0x044;
    pub const QUEUE_NOTIFY: u64 = 0x050;
    pub const INTERRUPT_STATUS: u64 = 0x060;
    pub const INTERRUPT_ACK: u64 = 0x064;
    pub const STATUS: u64 = 0x070;
    pub const QUEUE_DESC: u64 = 0x080;
    pub const QUEUE_DRIVER: u64 = 0x090;
    pub const QUEUE_DEVICE: u64 = 0x0a0;
    pub const SHM_LEN: u64 = 0x0b0;
    pub const SHM_END: u64 = 0x0c0;
    pub const CONFIG_GENERATION: u64 = 0x0fc;
    pub const CONFIG: u64 = 0x100;
}

/// Returns half of a number: the high one if `sel` is 1, and 0 if it is above that.
fn half(of: u64, sel: u32) -> u32 {
    match sel {
        0 => of as u32,
        1 => (of >> 32) as u32,
        _ => 0,
    }
}

/// Sets half of a number: the high one if `is_high`.
fn set_half(of: &mut u64, is_high: bool, value: u32) {
    let shift = 32 * u32::from(is_high);
    *of = *of & !(0xffff_ffff << shift) | u64::from(value) << shift;
}

impl Slots {
    /// Reads a register. A narrow read is 0 below the configuration, as of QEMU's transport.
    pub fn read_register(&self, access: Access) -> u64 {
        let Access { n, offset, width } = access;
        if offset >= offset::CONFIG {
            return self.read_config(n.into(), offset - offset::CONFIG, width);
        }
        match width {
            Width::Byte | Width::Halfword => 0,
            _ => read_words(offset, width, |offset| self.word(n.into(), offset)),
        }
    }

    /// Writes a register, and the configuration not at all: no device has a field there that its
    /// driver writes.
    pub(super) fn write_register(&mut self, access: Access, value: u64) {
        let Access { n, offset, width } = access;
        let n = usize::from(n);
        let is_device = self.record.device_id.get(n).is_some_and(|id| *id != device_id::NONE);
        if is_device && offset < offset::CONFIG && width >= Width::Word {
            write_words(offset, width, value, |offset, word| self.set_word(n, offset, word));
        }
    }

    /// Returns the word at `offset` of slot `n`, which may be empty.
    fn word(&self, n: usize, offset: u64) -> u32 {
        let record = &self.record;
        let has_devices = record.slots().next().is_some();
        match offset {
            offset::MAGIC => return MAGIC,
            offset::VERSION if has_devices => return MODERN,
            offset::VERSION => return LEGACY,
            offset::VENDOR_ID => return VENDOR,
            _ if n >= MAX_VIRTIO || record.device_id[n] == device_id::NONE => return 0,
            _ => {}
        }
        let queue = self.selected(n);
        match offset {
            offset::DEVICE_ID => record.device_id[n],
            offset::DEVICE_FEATURES => half(record.features[n], record.features_sel[n]),
            offset::QUEUE_NUM_MAX => queue.map_or(0, |_| OFFERED.into()),
            offset::QUEUE_READY => {
                queue.map_or(0, |queue| record.queue_ready[queue.index()].into())
            }
            offset::INTERRUPT_STATUS => record.interrupt_status[n],
            offset::STATUS => record.status[n],
            offset::SHM_LEN..offset::SHM_END => u32::MAX,
            offset::CONFIG_GENERATION => record.config_generation[n],
            _ => 0,
        }
    }

    /// Writes the word at `offset` of slot `n`, which has a device.
    fn set_word(&mut self, n: usize, offset: u64, word: u32) {
        let record = &mut self.record;
        match offset {
            offset::DEVICE_FEATURES_SEL => record.features_sel[n] = word,
            offset::DRIVER_FEATURES_SEL => record.driver_features_sel[n] = word,
            offset::DRIVER_FEATURES => self.accept(n, word),
            offset::QUEUE_SEL => record.queue_sel[n] = word,
            offset::QUEUE_NOTIFY => self.notify(n, word),
            offset::INTERRUPT_ACK => record.interrupt_status[n] &= !word,
            offset::STATUS => self.set_status(n, word),
            _ => self.set_queue(n, offset, word),
        }
    }

    /// Notes which features the driver accepts. Those that the device does not offer are dropped,
    /// and FEATURES_OK tells.
    fn accept(&mut self, n: usize, word: u32) {
        let record = &mut self.record;
        let sel = record.driver_features_sel[n];
        if sel > 1 || record.status[n] & Status::FEATURES_OK != 0 {
            return;
        }
        let mut accepted = record.driver_features[n];
        set_half(&mut accepted, sel == 1, word);
        record.driver_features[n] = accepted & record.features[n];
    }

    /// Returns the queue that QueueSel selects, if the device has it.
    fn selected(&self, n: usize) -> Option<QueueId> {
        let queue = self.record.queue_sel[n];
        let count = queue_count(self.record.device_id[n]);
        (queue < count).then_some(QueueId { slot: n as u8, queue: queue as u8 })
    }

    /// Writes a register of the selected queue. A queue that is ready stays as it is until it is
    /// not.
    fn set_queue(&mut self, n: usize, offset: u64, word: u32) {
        let Some(id) = self.selected(n) else { return };
        let (record, at) = (&mut self.record, id.index());
        let is_high = offset & 4 != 0;
        match offset {
            offset::QUEUE_READY => self.set_ready(id, word),
            _ if record.queue_ready[at] != 0 => {}
            offset::QUEUE_NUM => record.queue_num[at] = u16::try_from(word).unwrap_or(0),
            offset::QUEUE_DESC | 0x084 => set_half(&mut record.queue_desc[at], is_high, word),
            offset::QUEUE_DRIVER | 0x094 => set_half(&mut record.queue_driver[at], is_high, word),
            offset::QUEUE_DEVICE | 0x0a4 => set_half(&mut record.queue_device[at], is_high, word),
            _ => {}
        }
    }

    /// Makes a queue ready, if it is possible, or makes the device leave it alone.
    fn set_ready(&mut self, id: QueueId, word: u32) {
        let (record, at) = (&mut self.record, id.index());
        let queue = super::queue::Queue {
            num: record.queue_num[at],
            desc: record.queue_desc[at],
            driver: record.queue_driver[at],
            device: record.queue_device[at],
            ..Default::default()
        };
        let was_ready = record.queue_ready[at] != 0;
        let is_ready = word & 1 != 0 && queue.is_possible();
        record.queue_ready[at] = is_ready.into();
        if is_ready != was_ready {
            // What was begun on the queue before is not completed on this one.
            self.resets[usize::from(id.slot)] += 1;
            self.writes[usize::from(id.slot)].forget();
            (record.queue_next_avail[at], record.queue_used[at]) = (0, 0);
        }
    }

    /// Notes that the driver has put requests into a queue.
    pub(super) fn notify(&mut self, n: usize, queue: u32) {
        let device = self.record.device_id[n];
        let is_there = device != device_id::NONE && (queue as usize) < VIRTIO_QUEUES;
        // Buffers for frames are used when something comes.
        let waits = device == device_id::NETWORK && queue == net::RECEIVE.into();
        let id = QueueId { slot: n as u8, queue: queue as u8 };
        if is_there && !waits && self.queue(id).is_some() {
            self.notified |= id.bit();
        }
    }

    /// Notes that each queue of a device that is ready may have requests.
    pub(super) fn notify_all(&mut self, n: usize) {
        (0..VIRTIO_QUEUES as u32).for_each(|queue| self.notify(n, queue));
    }

    fn set_status(&mut self, n: usize, word: u32) {
        if word == 0 {
            return self.reset(n);
        }
        let record = &mut self.record;
        let before = record.status[n];
        let mut status = word & 0xff & !Status::NEEDS_RESET | before & Status::NEEDS_RESET;
        if status & Status::FEATURES_OK != 0 && record.driver_features[n] & VERSION_1 == 0 {
            // The driver is one of the legacy interface, which this device does not have.
            status &= !Status::FEATURES_OK;
        }
        record.status[n] = status;
        if status & !before & Status::DRIVER_OK != 0 {
            self.notify_all(n);
        }
    }

    /// Resets a device: VIRTIO 1.2, 2.4. What it offers, and its configuration, stay.
    fn reset(&mut self, n: usize) {
        let record = &mut self.record;
        record.driver_features[n] = 0;
        record.features_sel[n] = 0;
        record.driver_features_sel[n] = 0;
        record.queue_sel[n] = 0;
        record.status[n] = 0;
        record.interrupt_status[n] = 0;
        for at in n * VIRTIO_QUEUES..(n + 1) * VIRTIO_QUEUES {
            record.queue_num[at] = 0;
            record.queue_ready[at] = 0;
            record.queue_desc[at] = 0;
            record.queue_driver[at] = 0;
            record.queue_device[at] = 0;
            record.queue_next_avail[at] = 0;
            record.queue_used[at] = 0;
        }
        self.forget_notified(n);
        self.under_way &= !queues_of(n);
        self.ahead[n].forget();
        self.writes[n].forget();
        self.resets[n] += 1;
    }
}
