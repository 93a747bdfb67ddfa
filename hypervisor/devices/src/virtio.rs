//! A virtio-mmio slot without a device, as QEMU's `virt` shows it: guests that look for devices at the
//! slots' addresses find that there are none, where an external abort would end them.

/// MagicValue: "virt".
const MAGIC: u32 = 0x7472_6976;
/// Version: the legacy interface, QEMU's default.
const VERSION: u32 = 1;
/// VendorID: "QEMU".
const VENDOR: u32 = 0x554d_4551;

/// A register of an empty slot. DeviceID 0 says that it is empty; writes are ignored.
pub fn read_empty(offset: u64) -> u32 {
    match offset {
        0x000 => MAGIC,
        0x004 => VERSION,
        0x00c => VENDOR,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_slot_has_the_magic_value_and_no_device() {
        assert_eq!(&read_empty(0).to_le_bytes(), b"virt");
        assert_eq!(read_empty(8), 0);
        assert_eq!(read_empty(0x100), 0);
    }
}
