//! Which device an address belongs to, and how wide an access it takes.
//!
//! The answer to an access that [`lookup`] does not know is [`crate::inject::external_abort`], and one
//! line in the log for each page ([`Unclaimed`]).

use stasis_state::device::MAX_SHARED;

use crate::once::Once;
use stasis_devices::access::Width;
use stasis_devices::machine::{
    DOORBELL_BASE, DOORBELL_STRIDE, FLASH_BASE, FLASH_SIZE, GICC_BASE, GICC_MAPPED, GICC_SIZE,
    GICD_BASE, GICD_REGISTERS, PRIMECELL_SIZE, RTC_BASE, UART_BASE, VIRTIO_BASE, VIRTIO_SLOTS,
    VIRTIO_STRIDE, WATCHDOG_BASE, WATCHDOG_SIZE,
};

/// An emulated device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Device {
    /// The second flash bank. It reads as zeros, as QEMU's does while no file is given for it, and
    /// takes no command.
    Flash,
    /// The distributor.
    Gicd,
    /// The second page of the CPU interface: GICC_DIR at its start, and nothing else.
    GiccDir,
    /// The PL011.
    Uart,
    /// The PL031.
    Rtc,
    /// The watchdog, if the guest has one.
    Watchdog,
    /// The doorbell of a region that the guest shares with others, by its place among them.
    Doorbell(u8),
    /// A virtio-mmio transport, by its slot.
    Virtio(u8),
}

/// The device at an address, and the offset within it.
///
/// None where there is nothing, and for an access that is not aligned, which no device takes. The first page
/// of the guest's GICC is not among them: it is the physical GICV, and its accesses do not trap.
#[inline]
pub fn lookup(ipa: u64, width: Width) -> Option<(Device, u64)> {
    const GICD_END: u64 = GICD_BASE + GICD_REGISTERS;
    const GICC_DIR: u64 = GICC_BASE + GICC_MAPPED;
    const GICC_END: u64 = GICC_BASE + GICC_SIZE;
    const UART_END: u64 = UART_BASE + PRIMECELL_SIZE;
    const RTC_END: u64 = RTC_BASE + PRIMECELL_SIZE;
    const WATCHDOG_END: u64 = WATCHDOG_BASE + WATCHDOG_SIZE;
    const DOORBELL_END: u64 = DOORBELL_BASE + MAX_SHARED as u64 * DOORBELL_STRIDE;
    const VIRTIO_END: u64 = VIRTIO_BASE + VIRTIO_SLOTS * VIRTIO_STRIDE;
    const FLASH_END: u64 = FLASH_BASE + FLASH_SIZE;
    if !width.is_aligned(ipa) {
        return None;
    }
    let (device, base) = match ipa {
        GICD_BASE..GICD_END => (Device::Gicd, GICD_BASE),
        GICC_DIR..GICC_END => (Device::GiccDir, GICC_DIR),
        UART_BASE..UART_END => (Device::Uart, UART_BASE),
        RTC_BASE..RTC_END => (Device::Rtc, RTC_BASE),
        WATCHDOG_BASE..WATCHDOG_END => (Device::Watchdog, WATCHDOG_BASE),
        DOORBELL_BASE..DOORBELL_END => {
            let n = (ipa - DOORBELL_BASE) / DOORBELL_STRIDE;
            (Device::Doorbell(n as u8), DOORBELL_BASE + n * DOORBELL_STRIDE)
        }
        VIRTIO_BASE..VIRTIO_END => {
            let slot = (ipa - VIRTIO_BASE) / VIRTIO_STRIDE;
            (Device::Virtio(slot as u8), VIRTIO_BASE + slot * VIRTIO_STRIDE)
        }
        FLASH_BASE..FLASH_END => (Device::Flash, FLASH_BASE),
        _ => return None,
    };
    Some((device, ipa - base))
}

/// The pages without a device that a guest was reported to have touched.
#[derive(Clone, Debug, Default)]
pub struct Unclaimed(Once<16>);

impl Unclaimed {
    /// Whether an access to `ipa` is to be reported: once for each page, and not for ever.
    pub fn report(&mut self, ipa: u64) -> bool {
        self.0.is_first(ipa >> 12)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_device_is_found_at_both_its_ends() {
        for (ipa, expected) in [
            (0x0400_0000, (Device::Flash, 0)),
            (0x07ff_fffc, (Device::Flash, 0x3ff_fffc)),
            (0x0800_0000, (Device::Gicd, 0)),
            (0x0800_0ffc, (Device::Gicd, 0xffc)),
            (0x0801_1000, (Device::GiccDir, 0)),
            (0x0801_1ffc, (Device::GiccDir, 0xffc)),
            (0x0900_0000, (Device::Uart, 0)),
            (0x0900_0ffc, (Device::Uart, 0xffc)),
            (0x0901_0000, (Device::Rtc, 0)),
            (0x0901_0ffc, (Device::Rtc, 0xffc)),
            (0x0910_0000, (Device::Watchdog, 0)),
            (0x0910_1ffc, (Device::Watchdog, 0x1ffc)),
            (0x0911_0000, (Device::Doorbell(0), 0)),
            (0x0911_3ffc, (Device::Doorbell(3), 0xffc)),
            (0x0a00_0000, (Device::Virtio(0), 0)),
            (0x0a00_01fc, (Device::Virtio(0), 0x1fc)),
            (0x0a00_3e00, (Device::Virtio(31), 0)),
            (0x0a00_3ffc, (Device::Virtio(31), 0x1fc)),
        ] {
            assert_eq!(lookup(ipa, Width::Word), Some(expected), "{ipa:#x}");
        }
    }

    #[test]
    fn nothing_is_found_beside_the_devices() {
        for ipa in [
            0,
            0x03ff_fffc,
            0x0800_1000,
            0x0800_fffc,
            0x0801_0000,
            0x0801_2000,
            0x08ff_fffc,
            0x0900_1000,
            0x0901_1000,
            0x0910_2000,
            0x0911_4000,
            0x1000_0000,
            0x0a00_4000,
            0x4000_0000,
            u64::MAX - 3,
        ] {
            assert_eq!(lookup(ipa, Width::Word), None, "{ipa:#x}");
        }
    }

    #[test]
    fn an_access_that_is_not_aligned_finds_nothing() {
        assert_eq!(lookup(0x0900_0001, Width::Byte), Some((Device::Uart, 1)));
        assert_eq!(lookup(0x0900_0001, Width::Halfword), None);
        assert_eq!(lookup(0x0900_0002, Width::Word), None);
        assert_eq!(lookup(0x0900_0004, Width::Doubleword), None);
    }

    #[test]
    fn a_page_without_a_device_is_reported_once() {
        let mut unclaimed = Unclaimed::default();
        assert!(unclaimed.report(0x0b00_0000));
        assert!(!unclaimed.report(0x0b00_0ffc));
        assert!(unclaimed.report(0x0b00_1000));
    }
}
