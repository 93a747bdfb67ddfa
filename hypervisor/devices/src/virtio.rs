//! The virtio-mmio slots of QEMU's `virt`, without a device. Guests that look for devices at the slots' addresses find that there are none; an
//! external abort would end these guests. Virtual I/O Device (VIRTIO) Version 1.2, 4.2.2.

use alloc::format;

use crate::access::read_words;
use crate::device::{Access, Context, Device, Effects, Window};
use crate::equipment::Equipment;
use crate::tree::{EDGE_RISING, Writer};
use stasis_state::machine::DeviceKind;

/// Value of MagicValue: "virt".
const MAGIC: u32 = 0x7472_6976;
/// Value of Version: the legacy interface, QEMU's default.
const VERSION: u32 = 1;
/// Value of VendorID: "QEMU".
const VENDOR: u32 = 0x554d_4551;

/// All slots, none of which has a device.
#[derive(Clone, Copy, Debug)]
pub struct EmptySlots;

impl Device for EmptySlots {
    const WINDOW: Window = Window { base: 0x0a00_0000, size: 0x200, count: 32, spi: Some(16) };
    const KIND: DeviceKind = DeviceKind::EMPTY_SLOT;
    type Record = ();

    fn fitted(_: &Equipment<'_>) -> Option<()> {
        Some(())
    }

    fn restored((): (), _: u64) -> Self {
        Self
    }

    fn record(&self) -> &() {
        &()
    }

    fn read(&mut self, access: Access, _: &mut impl Context) -> u64 {
        // DeviceID 0 says that the slot is empty.
        read_words(access.offset, access.width, |offset| match offset {
            0x000 => MAGIC,
            0x004 => VERSION,
            0x00c => VENDOR,
            _ => 0,
        })
    }

    fn write(&mut self, _: Access, _: u64, _: &mut impl Context) -> Effects {
        Effects::NONE
    }

    fn describe(equipment: &Equipment<'_>, tree: &mut Writer) {
        for slot in 0..equipment.virtio_slots as u8 {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::Width;
    use crate::device::tests::{access, at};

    #[test]
    fn an_empty_slot_has_the_magic_value_and_no_device() {
        let read = |offset| EmptySlots.read(access(offset, Width::Word), &mut at(0)) as u32;
        assert_eq!(&read(0).to_le_bytes(), b"virt");
        assert_eq!(read(8), 0);
        assert_eq!(read(0x100), 0);
    }
}
