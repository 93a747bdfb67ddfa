//! What goes between a device and the guest's machine: the [`Access`] that reaches a device, the
//! [`Context`] that the device reaches, and the [`Effects`] of a write.

use core::fmt;

use stasis_memory::GuestMemory;

use crate::access::Width;

/// An aligned load or store that reaches a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access {
    /// Number of the device's window, from 0 on.
    pub n: u8,
    /// Bytes from the beginning of that window.
    pub offset: u64,
    /// Width of the access.
    pub width: Width,
}

/// The clocks that a device can read. A device reads them only when it needs them: the clocks'
/// registers are slow.
pub trait Clocks {
    /// Returns the guest's CNTVCT_EL0, in ticks of its counter.
    fn guest_time(&self) -> u64;

    /// Returns the machine's time in seconds since 1970.
    fn wall_time(&self) -> u64;
}

/// What a device reaches while a vCPU accesses its registers: the clocks, and the guest's RAM.
pub trait Context: Clocks {
    /// Returns the guest's RAM.
    fn memory(&mut self) -> Memory<'_>;
}

/// A guest's RAM, as a device that transfers data by itself reaches it.
#[derive(Debug)]
pub struct Memory<'a> {
    /// Guest-physical address of the first byte.
    pub base: u64,
    /// The bytes, by their offset from the first. What is written to them is marked as written.
    pub ram: &'a mut dyn GuestMemory,
}

/// What a write to a device entails, besides the level of its interrupt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Effects {
    /// What the caller must do outside of the guest.
    pub outside: Option<Outside>,
    /// Whether [`Device::due`](crate::device::Device::due) may return something else now.
    pub due_changed: bool,
}

/// What a device does outside of its guest. One access causes at most one of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outside {
    /// The UART sends a byte to the console.
    Transmit(u8),
    /// The guest rings the doorbell of the guest with this number, among those that share the
    /// memory of the window.
    Ring(u8),
    /// A virtio device has requests, which are served when the access is over.
    Work,
    /// The guest can't go on.
    Crash(Verdict),
}

/// Why a device says that its guest can't go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The guest has not fed its watchdog.
    NotFed,
}

/// Writes the end of a sentence that begins with the guest's name.
impl fmt::Display for Verdict {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::NotFed => "has not fed its watchdog",
        })
    }
}

impl Effects {
    /// No effects.
    pub const NONE: Self = Self { outside: None, due_changed: false };
    /// The only effect: [`Device::due`](crate::device::Device::due) may return something else now.
    pub const DUE_CHANGED: Self = Self { outside: None, due_changed: true };
}

impl From<Option<Outside>> for Effects {
    fn from(outside: Option<Outside>) -> Self {
        Self { outside, due_changed: false }
    }
}

/// When a device changes by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Due {
    /// Nothing of the device changes by itself before this time.
    pub change: Deadline,
    /// The device's interrupt does not rise by itself before this time.
    pub line: Deadline,
}

impl Due {
    /// The device never changes by itself.
    pub const NEVER: Self = Self::at(Deadline::Never);

    /// Returns one time for both: the interrupt may rise as soon as anything changes.
    pub const fn at(deadline: Deadline) -> Self {
        Self { change: deadline, line: deadline }
    }
}

/// A time on one of the clocks that devices use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deadline {
    /// A time that never comes.
    Never,
    /// The time at which the guest's CNTVCT_EL0 reads this, in ticks.
    GuestTime(u64),
    /// The machine's time, in seconds since 1970.
    WallTime(u64),
}
