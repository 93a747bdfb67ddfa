//! Which devices a guest's machine has, and where: the [`Inventory`] from which its record is made,
//! and [`check`] of a stored one.
//!
//! [`Devices::machine`](crate::list::Devices::machine) makes the record from the list of devices. A
//! guest that is resumed must find the machine that it had, so [`check`] compares the stored one
//! with what this version makes of the guest's records, and says of which device they differ.

use alloc::vec::Vec;

use stasis_state::machine::{DeviceKind, Entry, Machine};

use crate::device::{Device, Window};
use crate::machine::{
    FIRST_SPI, GICC_BASE, GICC_SIZE, GICD_BASE, GICD_SIZE, PHYSICAL_TIMER, VIRTUAL_TIMER,
};

/// What no device of the list is, and every guest has: the GIC and the timers.
const GIC_AND_TIMERS: [Entry; 4] = [
    Entry { kind: DeviceKind::GICD, base: GICD_BASE, size: GICD_SIZE, count: 1, intid: 0 },
    Entry { kind: DeviceKind::GICC, base: GICC_BASE, size: GICC_SIZE, count: 1, intid: 0 },
    timer(DeviceKind::VIRTUAL_TIMER, VIRTUAL_TIMER),
    timer(DeviceKind::PHYSICAL_TIMER, PHYSICAL_TIMER),
];

const fn timer(kind: DeviceKind, intid: u16) -> Entry {
    Entry { kind, base: 0, size: 0, count: 1, intid }
}

/// The devices of a guest, to which one after the other is added.
#[derive(Debug)]
pub(crate) struct Inventory(Vec<Entry>);

impl Inventory {
    /// Returns the inventory that has the GIC and the timers.
    pub(crate) fn new() -> Self {
        Self(Vec::from(GIC_AND_TIMERS))
    }

    /// Adds the windows of a device that the guest has.
    pub(crate) fn add<D: Device>(&mut self, device: &D) {
        for n in (0..D::WINDOW.count).filter(|n| device.has(*n)) {
            self.add_window(&D::WINDOW, n, device.kind(n));
        }
    }

    /// Adds the `n`th window: to the entry before, if it goes on there.
    fn add_window(&mut self, window: &Window, n: u8, kind: DeviceKind) {
        let Window { size, spi, .. } = *window;
        let base = window.base + u64::from(n) * size;
        match self.0.last_mut() {
            Some(last) if last.kind == kind && last.base + u64::from(last.count) * size == base => {
                last.count += 1;
            }
            _ => {
                let intid = spi.map_or(0, |first| FIRST_SPI + first + u16::from(n));
                self.0.push(Entry { kind, base, size, count: 1, intid });
            }
        }
    }

    /// Returns the record.
    pub(crate) fn into_machine(mut self) -> Machine {
        Machine::of(&mut self.0)
    }
}

/// How a stored machine differs from the one that this version makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OtherMachine {
    /// The guest would lack a device.
    #[error("the guest's machine has: {0}; this version of Stasis can't make that")]
    Lacking(Entry),
    /// A device would be another one for the guest.
    #[error("the guest's machine has: {stored}; this version of Stasis can make: {made}")]
    Other {
        /// The device as it is stored.
        stored: Entry,
        /// The device of that kind which this version makes.
        made: Entry,
    },
    /// The guest would find a device where nothing was.
    #[error("the guest's machine lacks: {0}; this version of Stasis can't leave that out")]
    Additional(Entry),
}

/// Checks that a guest finds the machine that it had. `made` is what this version makes of its
/// records.
///
/// # Errors
///
/// [`OtherMachine`] with the first device that differs.
pub fn check(stored: &Machine, made: &Machine) -> Result<(), OtherMachine> {
    let has = |machine: &Machine, entry: &Entry| machine.entries().any(|other| other == *entry);
    if let Some(stored) = stored.entries().find(|entry| !has(made, entry)) {
        let same = made.entries().find(|other| other.kind == stored.kind);
        return Err(match same {
            Some(made) => OtherMachine::Other { stored, made },
            None => OtherMachine::Lacking(stored),
        });
    }
    let additional = made.entries().find(|entry| !has(stored, entry));
    additional.map_or(Ok(()), |entry| Err(OtherMachine::Additional(entry)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::list::{self, Devices};
    use stasis_state::devices::Devices as Stored;
    use std::string::{String, ToString};

    fn made(records: Stored) -> Machine {
        Devices::restored(records, 0).machine()
    }

    #[test]
    fn the_machine_is_the_one_that_files_before_1_6_mean() {
        let older = Stored { generation: None, ..every() };
        for records in [Stored::default(), older] {
            assert_eq!(made(records.clone()), Machine::before(&records.records()));
        }
    }

    /// Returns the records of a guest that has all devices, and two regions of shared memory.
    fn every() -> Stored {
        let mut records = Stored::every();
        let shared = records.shared.as_mut().unwrap();
        shared.size[..2].fill(0x1000);
        records
    }

    #[test]
    fn each_window_and_interrupt_of_the_list_is_in_the_machine() {
        let machine = made(every());
        for (kind, name, window) in list::PLACES {
            let is_there = |n: u8| {
                let base = window.base + u64::from(n) * window.size;
                machine.entries().any(|entry| {
                    let end = entry.base + entry.size * u64::from(entry.count);
                    let n = (base - entry.base.min(base)) / entry.size.max(1);
                    let intid = entry.intid + n as u16;
                    (entry.base..end).contains(&base)
                        && window.spi.is_none_or(|spi| {
                            intid - FIRST_SPI - spi == ((base - window.base) / window.size) as u16
                        })
                })
            };
            let count = if *kind == list::Kind::Doorbell { 2 } else { window.count };
            assert!((0..count).all(is_there), "{name}");
        }
    }

    /// Returns what is said of a machine like that of `every`, but for what `change` does with its
    /// entries.
    fn said(change: impl FnOnce(&mut Vec<Entry>)) -> String {
        let made = made(every());
        let mut entries: Vec<Entry> = made.entries().collect();
        change(&mut entries);
        check(&Machine::of(&mut entries), &made).map_or_else(|why| why.to_string(), |()| "".into())
    }

    #[test]
    fn a_machine_that_this_version_does_not_make_is_refused_by_name() {
        assert_eq!(said(|_| {}), "");
        let device = |kind| Entry { kind, base: 0xa00_0000, size: 0x200, count: 1, intid: 48 };
        assert_eq!(
            said(|entries| entries.push(device(DeviceKind::virtio(42)))),
            "the guest's machine has: virtio device of ID 42 at 0xa000000 with interrupt 48; this version of Stasis can't make that"
        );
        assert_eq!(
            said(|entries| entries.push(device(DeviceKind(0x77)))),
            "the guest's machine has: device of kind 0x77 at 0xa000000 with interrupt 48; this version of Stasis can't make that"
        );
        let is = |kind| move |entry: &&mut Entry| entry.kind == kind;
        let moved = |entries: &mut Vec<Entry>| {
            entries.iter_mut().find(is(DeviceKind::PL031)).unwrap().intid = 40;
        };
        assert_eq!(
            said(moved),
            "the guest's machine has: PL031 at 0x9010000 with interrupt 40; this version of Stasis can make: PL031 at 0x9010000 with interrupt 34"
        );
        assert_eq!(
            said(|entries| entries.retain(|entry| entry.kind != DeviceKind::EMPTY_SLOT)),
            "the guest's machine lacks: 32 times empty virtio-mmio slot at 0xa000000 with interrupts 48 to 79; this version of Stasis can't leave that out"
        );
    }
}
