//! What a device is to the guest's machine: [`Device`].
//!
//! A device is its record and, at the most, what follows from it. It does nothing by itself: it is asked when a guest reads or writes
//! its registers, and when time has passed. What it entails outside, it returns as a value ([`Effects`]), which the caller carries out;
//! the level of its interrupt is a function of its state. [`crate::list`] has every device.

use core::fmt;

use crate::access::Width;
use crate::equipment::Equipment;
use crate::tree::Writer;

/// An emulated device. All methods are called while the caller holds the lock of what the vCPUs of the guest share.
pub trait Device: Sized {
    /// Where guests find it.
    const WINDOW: Window;
    /// Whether the device has a clock: whether [`Device::tick`] and [`Device::due`] do anything.
    const HAS_CLOCK: bool = false;
    /// Its whole state, as it is stored: a record of [`stasis_state::device`], or `()`.
    type Record;

    /// Returns the record of a new guest's device, or None if that `equipment` has no such device.
    fn fitted(equipment: &Equipment<'_>) -> Option<Self::Record>;

    /// Returns the device with the `record` of one that was stored at `wall_time`, in seconds since 1970, or 0 where nobody knew the
    /// time; also of a new one.
    fn restored(record: Self::Record, wall_time: u64) -> Self;

    /// Returns its state.
    fn record(&self) -> &Self::Record;

    /// Returns whether its `n`th window is there.
    fn has(&self, _n: u8) -> bool {
        true
    }

    /// Reads from a register. Returns the value in the low bits; what is above the access's width is 0.
    fn read(&mut self, access: Access, context: &impl Context) -> u64;

    /// Writes `value`, of the access's width, to a register. What is in the bits above does not count.
    fn write(&mut self, access: Access, value: u64, context: &impl Context) -> Effects;

    /// Returns the level of the interrupt of its `n`th window.
    fn line(&self, _n: u8) -> bool {
        false
    }

    /// Lets time have come to that of `context`.
    fn tick(&mut self, _context: &impl Context) {}

    /// Returns when a [`Device::tick`] is due.
    fn due(&self) -> Due {
        Due::NEVER
    }

    /// Returns why the guest can't go on, if the device says so.
    fn verdict(&self) -> Option<Verdict> {
        None
    }

    /// Writes the device's nodes into the device tree of a guest with this `equipment`. The root is open.
    fn describe(equipment: &Equipment<'_>, tree: &mut Writer);
}

/// Where guests find a device: `count` windows, one behind the other, each with a shared peripheral interrupt of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// The guest-physical address of the first one.
    pub base: u64,
    /// Bytes of each.
    pub size: u64,
    /// How many there are.
    pub count: u8,
    /// The number of the first one's shared peripheral interrupt: its INTID less 32. None if it raises none.
    pub spi: Option<u16>,
}

impl Window {
    /// Returns the address behind the last one.
    pub const fn end(&self) -> u64 {
        self.base + self.size * self.count as u64
    }
}

/// A load or store that reaches a device. It is aligned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access {
    /// Which of the device's windows.
    pub n: u8,
    /// Bytes from the beginning of that window.
    pub offset: u64,
    /// How wide it is.
    pub width: Width,
}

/// What a device can ask of its surroundings. It is asked only when it is needed: the clock's registers are slow.
pub trait Context {
    /// Returns the guest's CNTVCT_EL0, in ticks of its counter.
    fn guest_time(&self) -> u64;

    /// Returns the machine's time in seconds since 1970.
    fn wall_time(&self) -> u64;
}

/// What a write to a device entails, but for the level of its interrupt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Effects {
    /// What is to be done outside of the guest.
    pub outside: Option<Outside>,
    /// What [`Device::due`] returns may have changed.
    pub due_changed: bool,
}

/// What a device does outside of its guest. One access does at most one of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outside {
    /// It sends a byte to the console.
    Transmit(u8),
    /// It rings the guest with this number, of those that share the memory behind its window.
    Ring(u8),
    /// The guest can't go on.
    Crash(Verdict),
}

/// Why a device says that its guest can't go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The guest has not fed its watchdog.
    NotFed,
}

/// The end of a sentence that begins with the guest's name.
impl fmt::Display for Verdict {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::NotFed => "has not fed its watchdog",
        })
    }
}

impl Effects {
    /// Nothing.
    pub const NONE: Self = Self { outside: None, due_changed: false };
    /// [`Device::due`] may return something else now.
    pub const DUE_CHANGED: Self = Self { outside: None, due_changed: true };
}

impl From<Option<Outside>> for Effects {
    fn from(outside: Option<Outside>) -> Self {
        Self { outside, due_changed: false }
    }
}

/// When a device has something to do by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Due {
    /// Before this nothing changes by itself.
    pub change: Deadline,
    /// Before this its interrupt does not rise by itself.
    pub line: Deadline,
}

impl Due {
    /// Nothing ever changes by itself.
    pub const NEVER: Self = Self::at(Deadline::Never);

    /// Returns that the line may rise as soon as anything changes.
    pub const fn at(deadline: Deadline) -> Self {
        Self { change: deadline, line: deadline }
    }
}

/// A time, on one of the clocks that devices go by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deadline {
    /// It never comes.
    Never,
    /// When the guest's CNTVCT_EL0 reads this.
    GuestTime(u64),
    /// When it is this second since 1970.
    WallTime(u64),
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A moment: CNTVCT_EL0, and seconds since 1970.
    pub struct Moment {
        pub guest_time: u64,
        pub wall_time: u64,
    }

    impl Context for Moment {
        fn guest_time(&self) -> u64 {
            self.guest_time
        }

        fn wall_time(&self) -> u64 {
            self.wall_time
        }
    }

    /// Returns the moment at which both clocks read `now`.
    pub fn at(now: u64) -> Moment {
        Moment { guest_time: now, wall_time: now }
    }

    /// Returns an access to the first window.
    pub fn access(offset: u64, width: Width) -> Access {
        Access { n: 0, offset, width }
    }
}
