//! The guest's machine: which devices it has, where they are, and which interrupts they have.
//!
//! What a guest has found when it started, it relies on for ever. So a checkpoint says it, in the
//! record [`Machine`], and a host that would make another machine of the other records refuses the
//! guest. The record is a list of [`Entry`]s in ascending order of kind and address, so that two
//! machines are the same if their records are.
//!
//! Files before version 1.6 do not say it. Their guests' machine is [`Machine::before`].

use alloc::vec::Vec;
use core::fmt;

use crate::{devices::DeviceRecords, record, timer};

/// Most entries of a machine.
pub const MAX_ENTRIES: usize = 64;

record! {
    /// The devices of the guest's machine. Entry `n` consists of element `n` of each register;
    /// those behind the last one are 0.
    pub struct Machine in machine_regs: Machine, home (record "it says which devices there are") {
        /// What the device is: a [`DeviceKind`]; 0 behind the last entry.
        kind: [u16; MAX_ENTRIES] = 0x01;
        /// Guest-physical address of the device's first window; 0 if it has none.
        base: [u64; MAX_ENTRIES] = 0x02;
        /// Bytes of each window, 0 if it has none.
        size: [u64; MAX_ENTRIES] = 0x03;
        /// Number of windows, one behind the other: at least 1.
        count: [u8; MAX_ENTRIES] = 0x04;
        /// INTID of the first window's interrupt; those behind it have the INTIDs that follow. 0 if
        /// there is none.
        intid: [u16; MAX_ENTRIES] = 0x05;
    }
}

/// What a device is, by its number in the format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DeviceKind(pub u16);

/// Declares the kinds of devices, with the names that `docs/format.md` has for them.
macro_rules! kinds {
    ($( $(#[$doc:meta])* $NAME:ident = $number:literal, $name:literal; )*) => {
        impl DeviceKind {
            $( $(#[$doc])* pub const $NAME: Self = Self($number); )*

            /// Every kind that has a name of its own.
            pub const ALL: &[Self] = &[ $( Self::$NAME, )* ];

            /// Returns the device's name; `None` if this version does not know it.
            pub const fn name(self) -> Option<&'static str> {
                match self.0 {
                    $( $number => Some($name), )*
                    _ => None,
                }
            }
        }
    };
}

kinds! {
    /// The distributor of a GICv2.
    GICD = 0x01, "GICD";
    /// The CPU interface of a GICv2.
    GICC = 0x02, "GICC";
    /// The virtual timer.
    VIRTUAL_TIMER = 0x03, "virtual timer";
    /// The physical timer.
    PHYSICAL_TIMER = 0x04, "physical timer";
    /// A UART.
    PL011 = 0x10, "PL011";
    /// A real-time clock.
    PL031 = 0x11, "PL031";
    /// A GPIO controller with a power key.
    PL061 = 0x12, "PL061";
    /// A generic watchdog: control frame and refresh frame.
    WATCHDOG = 0x13, "watchdog";
    /// The doorbell of a region of shared memory.
    DOORBELL = 0x14, "doorbell";
    /// A generation ID.
    GENERATION_ID = 0x15, "generation ID";
    /// A virtio-mmio slot without a device.
    EMPTY_SLOT = 0x20, "empty virtio-mmio slot";
    /// A bank of flash memory that reads as 0.
    EMPTY_FLASH = 0x21, "empty flash bank";
}

impl DeviceKind {
    /// Returns the kind of a virtio-mmio slot with the device of this ID (VIRTIO 1.2, 5).
    pub const fn virtio(device_id: u8) -> Self {
        Self(Self::VIRTIO + device_id as u16)
    }

    /// Returns the ID of the virtio device; `None` if this is none.
    pub const fn virtio_id(self) -> Option<u8> {
        match self.0.checked_sub(Self::VIRTIO) {
            Some(id) if id <= u8::MAX as u16 => Some(id as u8),
            _ => None,
        }
    }

    /// What is added to the ID of a virtio device.
    const VIRTIO: u16 = 0x100;
}

impl fmt::Display for DeviceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.name(), self.virtio_id()) {
            (Some(name), _) => f.write_str(name),
            (None, Some(3)) => f.write_str("virtio console"),
            (None, Some(id)) => write!(f, "virtio device of ID {id}"),
            (None, None) => write!(f, "device of kind {:#x}", self.0),
        }
    }
}

/// A device of a machine: `count` windows of `size` bytes from `base` on, each with an interrupt
/// from `intid` on. 0 says that there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// What the device is.
    pub kind: DeviceKind,
    /// Guest-physical address of the first window.
    pub base: u64,
    /// Bytes of each window.
    pub size: u64,
    /// Number of windows.
    pub count: u8,
    /// INTID of the first window's interrupt.
    pub intid: u16,
}

impl Entry {
    /// Returns what entries are in ascending order of.
    pub(crate) const fn order(&self) -> (u16, u64) {
        (self.kind.0, self.base)
    }
}

/// Writes the entry as a part of a sentence: `PL011 at 0x9000000 with interrupt 33`.
impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, base, size, count, intid } = *self;
        if count > 1 {
            write!(f, "{count} times ")?;
        }
        write!(f, "{kind}")?;
        if size != 0 {
            write!(f, " at {base:#x}")?;
        }
        match (intid, count) {
            (0, _) => Ok(()),
            (first, 0..=1) => write!(f, " with interrupt {first}"),
            (first, _) => {
                write!(f, " with interrupts {first} to {}", u32::from(first) + u32::from(count) - 1)
            }
        }
    }
}

impl Machine {
    /// Returns the entries.
    pub fn entries(&self) -> impl Iterator<Item = Entry> {
        let entry = |n: usize| Entry {
            kind: DeviceKind(self.kind[n]),
            base: self.base[n],
            size: self.size[n],
            count: self.count[n],
            intid: self.intid[n],
        };
        (0..MAX_ENTRIES).map(entry).take_while(|entry| entry.kind.0 != 0)
    }

    /// Returns the machine with these entries, in any order.
    ///
    /// # Panics
    ///
    /// If there are more than [`MAX_ENTRIES`].
    pub fn of(entries: &mut [Entry]) -> Self {
        // The entries are few, and a slice's sorting is much code.
        for n in 1..entries.len() {
            let is_before = |at: &usize| entries[*at].order() > entries[n].order();
            let smaller = (0..n).rev().take_while(is_before).count();
            (n - smaller..n).rev().for_each(|at| entries.swap(at, at + 1));
        }
        let mut machine = Self::default();
        for (n, entry) in entries.iter().enumerate() {
            machine.kind[n] = entry.kind.0;
            machine.base[n] = entry.base;
            machine.size[n] = entry.size;
            machine.count[n] = entry.count;
            machine.intid[n] = entry.intid;
        }
        machine
    }

    /// Returns the machine of a guest with these devices whose file does not say it: that of all
    /// guests before version 1.6. It never changes.
    pub fn before(devices: &DeviceRecords<'_>) -> Self {
        let mut entries = Vec::from(BEFORE);
        if devices.watchdog.is_some() {
            entries.push(WATCHDOG);
        }
        let regions = devices.shared.map_or(0, |shared| shared.ranges().count());
        if regions > 0 {
            entries.push(Entry { count: regions as u8, ..DOORBELL });
        }
        Self::of(&mut entries)
    }
}

/// Returns an entry.
const fn entry(kind: DeviceKind, base: u64, size: u64, count: u8, intid: u16) -> Entry {
    Entry { kind, base, size, count, intid }
}

/// What every guest had before version 1.6.
const BEFORE: [Entry; 9] = [
    entry(DeviceKind::GICD, 0x0800_0000, 0x1_0000, 1, 0),
    entry(DeviceKind::GICC, 0x0801_0000, 0x2000, 1, 0),
    entry(DeviceKind::VIRTUAL_TIMER, 0, 0, 1, timer::VIRTUAL_TIMER),
    entry(DeviceKind::PHYSICAL_TIMER, 0, 0, 1, timer::PHYSICAL_TIMER),
    entry(DeviceKind::PL011, 0x0900_0000, 0x1000, 1, 33),
    entry(DeviceKind::PL031, 0x0901_0000, 0x1000, 1, 34),
    entry(DeviceKind::PL061, 0x0903_0000, 0x1000, 1, 39),
    entry(DeviceKind::EMPTY_SLOT, 0x0a00_0000, 0x200, 32, 48),
    entry(DeviceKind::EMPTY_FLASH, 0x0400_0000, 64 << 20, 1, 0),
];
/// The watchdog of those that had one.
const WATCHDOG: Entry = entry(DeviceKind::WATCHDOG, 0x0910_0000, 0x2000, 1, 42);
/// The first doorbell of those that shared memory: there was one for each region.
const DOORBELL: Entry = entry(DeviceKind::DOORBELL, 0x0911_0000, 0x1000, 1, 43);
