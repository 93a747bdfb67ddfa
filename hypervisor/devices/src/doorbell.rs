//! The doorbell of memory that guests share: one guest rings, and the interrupt of the other is
//! raised until that guest has looked who rang.
//!
//! The interrupt is level-sensitive: it is high as long as [`STATUS`](offset::STATUS) is not 0. So
//! a ring that is not yet answered is in the record, and a checkpoint loses none.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use stasis_state::device::{MAX_SHARED, SharedMemory};

use crate::access::{read_words, write_words};
use crate::device::{Access, Context, Device, Effects, Outside, Window};
use crate::equipment::{Connection, Equipment, shared_address};
use crate::tree::{LEVEL_HIGH, Writer};
use stasis_state::machine::DeviceKind;

/// The registers' offsets. Each has 32 bits.
mod offset {
    /// The guest's own number; read only.
    pub const INDEX: u64 = 0x00;
    /// The number of guests that share the region; read only.
    pub const PEERS: u64 = 0x04;
    /// A write of a guest's number rings that guest. Reads as 0.
    pub const RING: u64 = 0x08;
    /// One bit for each guest that has rung. A write of 1 clears the bit.
    pub const STATUS: u64 = 0x0c;
}

impl Device for SharedMemory {
    /// One page for each region. QEMU's `virt` has nothing at these addresses, and uses none of the
    /// interrupts, INTID 43 and up.
    const WINDOW: Window =
        Window { base: 0x0911_0000, size: 0x1000, count: MAX_SHARED as u8, spi: Some(11) };
    const KIND: DeviceKind = DeviceKind::DOORBELL;
    type Record = Self;

    /// Returns a record with the guest's regions, in which nobody has rung yet. None if the guest
    /// shares nothing.
    fn fitted(equipment: &Equipment<'_>) -> Option<Self> {
        let mut record = Self::default();
        let connections = equipment.shared.iter().take(MAX_SHARED);
        for (n, Connection { region, index }) in connections.enumerate() {
            record.set_name(n, &region.name);
            record.base[n] = shared_address(n);
            record.size[n] = region.size;
            record.index[n] = *index;
            record.peers[n] = region.guests.len() as u8;
        }
        (!equipment.shared.is_empty()).then_some(record)
    }

    fn restored(record: Self, _: u64) -> Self {
        record
    }

    fn record(&self) -> &Self {
        self
    }

    fn has(&self, n: u8) -> bool {
        Self::has(self, n.into())
    }

    fn read(&mut self, access: Access, _: &mut impl Context) -> u64 {
        let n = usize::from(access.n);
        read_words(access.offset, access.width, |offset| match offset {
            offset::INDEX => self.index[n].into(),
            offset::PEERS => self.peers[n].into(),
            offset::STATUS => self.status[n],
            _ => 0,
        })
    }

    /// Returns [`Outside::Ring`] if the number of a guest is written to RING. A number that no
    /// guest has is ignored.
    fn write(&mut self, access: Access, value: u64, _: &mut impl Context) -> Effects {
        let n = usize::from(access.n);
        let mut rung = None;
        write_words(access.offset, access.width, value, |offset, word| match offset {
            offset::RING => rung = u8::try_from(word).ok().filter(|peer| *peer < self.peers[n]),
            offset::STATUS => self.status[n] &= !word,
            _ => {}
        });
        rung.map(Outside::Ring).into()
    }

    fn line(&self, n: u8) -> bool {
        self.status[usize::from(n)] != 0
    }

    /// Writes a node for each region. `generic-uio` is for Linux's `uio_pdrv_genirq`, which gives
    /// both windows and the interrupt to a program.
    fn describe(equipment: &Equipment<'_>, tree: &mut Writer) {
        for (n, Connection { region, index }) in (0..).zip(equipment.shared) {
            let base = shared_address(n.into());
            let doorbell = Self::WINDOW.base + u64::from(n) * Self::WINDOW.size;
            let guests: Vec<&str> = region.guests.iter().map(String::as_str).collect();
            tree.begin(&format!("shared-memory@{base:x}"));
            tree.strings("compatible", &["stasis,shared-memory", "generic-uio"]);
            tree.reg(&[(base, region.size), (doorbell, Self::WINDOW.size)]);
            tree.strings("reg-names", &["memory", "doorbell"]);
            tree.interrupt(&Self::WINDOW, n, LEVEL_HIGH);
            tree.string("label", &region.name);
            tree.string("linux,uio-name", &region.name);
            tree.cell("stasis,index", (*index).into());
            tree.strings("stasis,guests", &guests);
            tree.end();
        }
    }
}

/// Notes that guests have rung the doorbell of the `n`th region. `by` has one bit for each guest;
/// bits of guests that do not exist are ignored.
///
/// # Panics
///
/// If `n` is not below [`MAX_SHARED`].
pub fn rung(shared: &mut SharedMemory, n: usize, by: u32) {
    shared.status[n] |= by & ((1 << shared.peers[n]) - 1);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::Width;
    use crate::device::tests::at;

    fn shared() -> SharedMemory {
        let mut shared = SharedMemory::default();
        (shared.size[1], shared.index[1], shared.peers[1]) = (4096, 2, 3);
        shared
    }

    fn write_word(shared: &mut SharedMemory, offset: u64, value: u64) -> Option<u8> {
        let access = Access { n: 1, offset, width: Width::Word };
        match shared.write(access, value, &mut at(0)).outside {
            Some(Outside::Ring(peer)) => Some(peer),
            _ => None,
        }
    }

    fn read(shared: &SharedMemory, n: u8, offset: u64, width: Width) -> u64 {
        shared.clone().read(Access { n, offset, width }, &mut at(0))
    }

    #[test]
    fn a_guest_finds_out_its_number_and_who_has_rung() {
        let mut shared = shared();
        assert_eq!(read(&shared, 1, 0x00, Width::Doubleword), 3 << 32 | 2);
        rung(&mut shared, 1, 0b011);
        assert!(shared.line(1) && !shared.line(0));
        assert_eq!(read(&shared, 1, 0x0c, Width::Word), 0b011);
        assert!(write_word(&mut shared, 0x0c, 0b001).is_none());
        assert!(shared.line(1), "somebody else has rung, too");
        write_word(&mut shared, 0x0c, 0xffff_ffff);
        assert!(!shared.line(1));
    }

    #[test]
    fn only_guests_that_there_are_can_be_rung() {
        let mut shared = shared();
        assert_eq!(write_word(&mut shared, 0x08, 0), Some(0));
        assert_eq!(write_word(&mut shared, 0x08, 2), Some(2), "itself");
        for nobody in [3, 8, 255, 256, 0x1_0000, 0xffff_ffff] {
            assert!(write_word(&mut shared, 0x08, nobody).is_none(), "{nobody:#x}");
        }
        rung(&mut shared, 1, !0);
        assert_eq!(shared.status[1], 0b111, "a guest that there is not has no bit");
    }

    #[test]
    fn what_is_no_register_reads_as_zero_and_ignores_writes() {
        let (mut shared, before) = (shared(), shared());
        for offset in [0x00, 0x04, 0x10, 0xffc] {
            assert!(write_word(&mut shared, offset, 0xffff_ffff).is_none());
        }
        assert_eq!(shared, before);
        assert_eq!(read(&shared, 1, 0x08, Width::Word), 0);
        assert_eq!(read(&shared, 1, 0xff8, Width::Doubleword), 0);
    }
}
