//! [`Window`]: where a device is in a guest's map. The device says it, and the device tree tells the guest.

/// The addresses of a device: `count` windows, one behind the other, each with a shared peripheral
/// interrupt (SPI) of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Guest-physical address of the first window.
    pub base: u64,
    /// Bytes of each window.
    pub size: u64,
    /// Number of windows.
    pub count: u8,
    /// Number of the first window's SPI: its INTID less 32. The windows behind it have the numbers
    /// that follow. None if the device has no interrupt.
    pub spi: Option<u16>,
}

impl Window {
    /// Returns the first address behind the last window.
    pub const fn end(&self) -> u64 {
        self.base + self.size * self.count as u64
    }
}
