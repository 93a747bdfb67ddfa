//! Bits of a device's Status and InterruptStatus.

/// Bits of Status. VIRTIO 1.2, 2.1.
pub(super) struct Status;

impl Status {
    pub const FEATURES_OK: u32 = 8;
    pub const DRIVER_OK: u32 = 4;
    pub const NEEDS_RESET: u32 = 0x40;
}

/// Bits of InterruptStatus.
pub(super) struct Interrupt;

impl Interrupt {
    /// A request was completed.
    pub const USED: u32 = 1;
    /// The configuration has changed.
    pub const CONFIG: u32 = 2;
}
