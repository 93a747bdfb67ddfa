//! The record of a guest's virtio devices, [`Virtio`], with the rules for its values; and that of
//! its generation ID.
//!
//! One record has all slots, as arrays: an element for each slot, or for each queue of each slot. A
//! request that was not completed is in the available ring behind `queue_next_avail`, and is in no
//! register.

use crate::{
    devices::DeviceRecord,
    guest::Guest,
    invariants::{Violation, each, rule},
    name::{self, NAME_LEN},
    record,
    register::Record,
};

/// The result of checking a record's rules.
type Rule = Result<(), Violation>;

/// The greatest number of virtio devices of a guest: the first slots have them.
pub const MAX_VIRTIO: usize = 8;
/// The greatest number of queues of a device.
pub const VIRTIO_QUEUES: usize = 3;
/// The number of queues of all devices. Queue `q` of slot `n` is number `n * VIRTIO_QUEUES + q`.
pub const ALL_QUEUES: usize = MAX_VIRTIO * VIRTIO_QUEUES;
/// The most descriptors of a queue: what QEMU's devices offer.
pub const MAX_QUEUE: u16 = 1024;
/// The most descriptors of a queue in a file before minor [`LONG_QUEUES_SINCE`].
const SHORT_QUEUE: u16 = 256;
/// The first minor version of the format in which a queue may have more than 256 descriptors.
const LONG_QUEUES_SINCE: u16 = 7;
/// The first minor version of the format in which a console has a name. A reader before it has no
/// console, and refuses the name.
pub(crate) const TERMINALS_SINCE: u16 = 8;

/// The device IDs of the devices that there are. Virtual I/O Device (VIRTIO) Version 1.2, 5.
pub mod device_id {
    /// No device: the slot is empty.
    pub const NONE: u32 = 0;
    /// A network card.
    pub const NETWORK: u32 = 1;
    /// A disk.
    pub const BLOCK: u32 = 2;
    /// A console.
    pub const CONSOLE: u32 = 3;
    /// A source of random bytes.
    pub const ENTROPY: u32 = 4;
}

record! {
    /// The virtio devices of a guest, behind virtio-mmio transports of version 2. VIRTIO 1.2,
    /// 4.2.2.
    pub struct Virtio in virtio: DeviceVirtio, home (record "EL2 emulates the device") {
        /// DeviceID of each slot; 0 if the slot is empty.
        device_id: [u32; MAX_VIRTIO] = 0x01;
        /// Name of what is behind each device, 32 bytes each: the volume of a disk, the network of
        /// a card, the terminal of a console.
        name: [u8; MAX_VIRTIO * NAME_LEN] = 0x02;
        /// The features that each device offers.
        features: [u64; MAX_VIRTIO] = 0x03;
        /// The features that the driver has accepted.
        driver_features: [u64; MAX_VIRTIO] = 0x04;
        /// DeviceFeaturesSel.
        features_sel: [u32; MAX_VIRTIO] = 0x05;
        /// DriverFeaturesSel.
        driver_features_sel: [u32; MAX_VIRTIO] = 0x06;
        /// QueueSel.
        queue_sel: [u32; MAX_VIRTIO] = 0x07;
        /// Status.
        status: [u32; MAX_VIRTIO] = 0x08;
        /// InterruptStatus.
        interrupt_status: [u32; MAX_VIRTIO] = 0x09;
        /// ConfigGeneration.
        config_generation: [u32; MAX_VIRTIO] = 0x0a;
        /// QueueNum of each queue.
        queue_num: [u16; ALL_QUEUES] = 0x0b;
        /// QueueReady.
        queue_ready: [u8; ALL_QUEUES] = 0x0c;
        /// QueueDescLow and QueueDescHigh.
        queue_desc: [u64; ALL_QUEUES] = 0x0d;
        /// QueueDriverLow and QueueDriverHigh.
        queue_driver: [u64; ALL_QUEUES] = 0x0e;
        /// QueueDeviceLow and QueueDeviceHigh.
        queue_device: [u64; ALL_QUEUES] = 0x0f;
        /// Index of the first entry of the available ring whose request is not completed.
        queue_next_avail: [u16; ALL_QUEUES] = 0x10;
        /// Index of the entry of the used ring that is written next.
        queue_used: [u16; ALL_QUEUES] = 0x11;
        /// Sectors of 512 bytes of a disk.
        capacity: [u64; MAX_VIRTIO] = 0x12;
        /// Address of a network card, the first byte lowest.
        mac: [u64; MAX_VIRTIO] = 0x13;
        /// `status` of a network card's configuration.
        net_status: [u16; MAX_VIRTIO] = 0x14;
    }
}

impl Virtio {
    /// Returns the name of what is behind the device of slot `n`, without the padding; empty if it
    /// has none.
    ///
    /// # Panics
    ///
    /// If `n` is not below [`MAX_VIRTIO`].
    pub fn name_text(&self, n: usize) -> &str {
        name::stored(self.name_bytes(n)).unwrap_or("")
    }

    /// Returns the names of the volumes behind the disks, in the order of their slots.
    pub fn volumes(&self) -> impl Iterator<Item = &str> {
        self.disks().map(|(_, volume)| volume)
    }

    /// Returns the slots of the disks, each with the name of the volume behind it.
    pub fn disks(&self) -> impl Iterator<Item = (usize, &str)> {
        let disks = self.slots().filter(|(_, id)| *id == device_id::BLOCK);
        disks.map(|(n, _)| (n, self.name_text(n)))
    }

    fn name_bytes(&self, n: usize) -> &[u8] {
        &self.name[n * NAME_LEN..][..NAME_LEN]
    }

    /// Sets the name of what is behind the device of slot `n` to the first [`NAME_LEN`] bytes of
    /// `name`.
    ///
    /// # Panics
    ///
    /// If `n` is not below [`MAX_VIRTIO`].
    pub fn set_name(&mut self, n: usize, name: &str) {
        let kept = &name.as_bytes()[..name.len().min(NAME_LEN)];
        let place = &mut self.name[n * NAME_LEN..][..NAME_LEN];
        place.fill(0);
        place[..kept.len()].copy_from_slice(kept);
    }

    /// Returns the slots that have a device, each with its device ID.
    pub fn slots(&self) -> impl Iterator<Item = (usize, u32)> {
        self.device_id.iter().copied().enumerate().filter(|(_, id)| *id != device_id::NONE)
    }
}

impl DeviceRecord for Virtio {
    fn since(&self) -> u16 {
        let mut queues = self.queue_num.iter().zip(&self.queue_ready[..]);
        let has_long = queues.any(|(num, ready)| *ready != 0 && *num > SHORT_QUEUE);
        let is_named = |(n, id)| id == device_id::CONSOLE && !self.name_text(n).is_empty();
        match self.slots().any(is_named) {
            true => TERMINALS_SINCE,
            false if has_long => LONG_QUEUES_SINCE,
            false => Self::TYPE.since(),
        }
    }

    fn check(&self, _: &Guest) -> Rule {
        let known = |_, id: u32| id <= device_id::ENTROPY;
        each("device_id", &self.device_id[..], "it is a device that there is", known)?;
        let why = "the driver takes no feature that the device does not offer";
        let taken = |n: usize, driver: u64| driver & !self.features[n] == 0;
        each("driver_features", &self.driver_features[..], why, taken)?;
        let why = "it has two bits";
        each("interrupt_status", &self.interrupt_status[..], why, |_, status| status <= 3)?;
        each("status", &self.status[..], "it has eight bits", |_, status| status <= 0xff)?;
        let why = "it is a power of two, 1024 at most";
        let size = |num: u16| num.is_power_of_two() && num <= MAX_QUEUE;
        each("queue_num", &self.queue_num[..], why, |n, num| {
            self.queue_ready[n] == 0 || size(num)
        })?;
        each("queue_ready", &self.queue_ready[..], "it is 0 or 1", |_, ready| ready <= 1)?;
        let why = "the capacity in bytes is below 2^63";
        each("capacity", &self.capacity[..], why, |_, sectors| sectors < 1 << 54)?;
        each("mac", &self.mac[..], "it has 48 bits", |_, mac| mac < 1 << 48)
    }

    fn check_names(&self) -> Rule {
        let why = "it is a name where the device needs one, and else 0";
        each("name", &self.name[..], why, |at, _| {
            at % NAME_LEN != 0 || self.has_right_name(at / NAME_LEN)
        })
    }
}

impl Virtio {
    fn has_right_name(&self, n: usize) -> bool {
        let is_name = || name::stored(self.name_bytes(n)).is_ok();
        let is_empty = || self.name_bytes(n).iter().all(|byte| *byte == 0);
        match self.device_id[n] {
            device_id::BLOCK | device_id::NETWORK => is_name(),
            device_id::CONSOLE => is_name() || is_empty(),
            _ => is_empty(),
        }
    }
}

record! {
    /// A generation ID (binding `microsoft,vmgenid`): 128 bits that no two guests that were resumed
    /// from one checkpoint have in common.
    pub struct GenerationId in generation_id: DeviceGenerationId, home (record "EL2 emulates the device") {
        /// The ID.
        id: [u8; 16] = 0x01;
        /// 1 from the moment when the ID is new to the moment when the guest reads it; then the
        /// interrupt's line is high.
        is_new: u8 = 0x02;
    }
}

impl DeviceRecord for GenerationId {
    fn check(&self, _: &Guest) -> Rule {
        let why = "it is 0 or 1";
        rule(*self.is_new <= 1, "is_new", *self.is_new, why)
    }
}
