//! The generation ID: 16 bytes that are new each time when the guest goes on from a checkpoint, or
//! is made from another guest. A guest that finds other bytes than before makes its random numbers
//! anew. Linux 6.10 and later has a driver for it (`microsoft,vmgenid`).
//!
//! The interrupt is level-sensitive: it is high from the moment when the ID is new until the guest
//! reads the ID. Drivers take an edge as well.

use alloc::format;

use stasis_state::machine::DeviceKind;
use stasis_state::virtio::GenerationId;

use crate::access::read_words;
use crate::device::{Access, Context, Device, Effects, Window};
use crate::equipment::Equipment;
use crate::tree::{LEVEL_HIGH, Writer};

impl Device for GenerationId {
    /// QEMU's `virt` has nothing at this address, and does not use the interrupt, INTID 47.
    const WINDOW: Window = Window { base: 0x0912_0000, size: 0x1000, count: 1, spi: Some(15) };
    const KIND: DeviceKind = DeviceKind::GENERATION_ID;
    type Record = Self;

    /// Returns a record with the first ID of the guest, which the guest reads when it starts.
    fn fitted(equipment: &Equipment<'_>) -> Option<Self> {
        equipment.generation.map(|id| {
            let mut record = Self::default();
            *record.id = id;
            record
        })
    }

    fn restored(record: Self, _: u64) -> Self {
        record
    }

    fn record(&self) -> &Self {
        self
    }

    fn read(&mut self, access: Access, _: &mut impl Context) -> u64 {
        let Access { offset, width, .. } = access;
        if offset < self.id.len() as u64 {
            *self.is_new = 0;
        }
        read_words(offset, width, |offset| {
            let byte = |n: u64| usize::try_from(offset + n).ok().and_then(|at| self.id.get(at));
            u32::from_le_bytes([0, 1, 2, 3].map(|n| byte(n).copied().unwrap_or(0)))
        })
    }

    fn write(&mut self, _: Access, _: u64, _: &mut impl Context) -> Effects {
        Effects::NONE
    }

    fn line(&self, _: u8) -> bool {
        *self.is_new != 0
    }

    fn describe(equipment: &Equipment<'_>, tree: &mut Writer) {
        if equipment.generation.is_none() {
            return;
        }
        tree.begin(&format!("generation-id@{:x}", Self::WINDOW.base));
        tree.string("compatible", "microsoft,vmgenid");
        tree.reg(&[(Self::WINDOW.base, Self::WINDOW.size)]);
        tree.interrupt(&Self::WINDOW, 0, LEVEL_HIGH);
        tree.end();
    }
}

/// Gives the guest a new ID, and raises the interrupt.
pub fn renew(record: &mut GenerationId, id: [u8; 16]) {
    *record.id = id;
    *record.is_new = 1;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::Width;
    use crate::device::tests::{access, at};

    #[test]
    fn a_new_id_raises_the_line_until_it_is_read() {
        let id: [u8; 16] = core::array::from_fn(|n| n as u8 + 1);
        let equipment = Equipment { generation: Some([9; 16]), ..Equipment::default() };
        let mut record = GenerationId::fitted(&equipment).unwrap();
        assert!(!record.line(0), "the first ID is no news");
        renew(&mut record, id);
        assert!(record.line(0));
        let read = |record: &mut GenerationId, offset, width| {
            record.read(access(offset, width), &mut at(0))
        };
        assert_eq!(read(&mut record, 16, Width::Doubleword), 0);
        assert!(record.line(0), "the ID was not read yet");
        assert_eq!(read(&mut record, 0, Width::Doubleword), 0x0807_0605_0403_0201);
        assert!(!record.line(0));
        assert_eq!(read(&mut record, 14, Width::Halfword), 0x100f);
        assert_eq!(read(&mut record, 7, Width::Byte), 8);
    }

    #[test]
    fn a_guest_without_an_id_has_no_device() {
        assert_eq!(GenerationId::fitted(&Equipment::default()), None);
    }
}
