//! Every emulated device, in one list: [`devices!`]. What a guest's machine is comes from it: which device an address reaches
//! ([`lookup`]), reads and writes, interrupts' lines and names, what is due when, what is stored, and the nodes of the device tree.
//!
//! A device is a file with its [`Device`], a line here, its section in `docs/guest-machine.md`, and, if it has a state, its record in
//! [`stasis_state::device`] with a line in [`stasis_state::devices`]. The two lists are held together by the fields' names: a record
//! without a device, or the reverse, does not compile.

use stasis_state::devices::{DeviceRecords, Devices as Stored};

use crate::access::Width;
use crate::device::{Access, Context, Deadline, Device, Due, Effects, Verdict, Window};
use crate::equipment::Equipment;
use crate::machine::{
    FIRST_SPI, GICC_BASE, GICC_MAPPED, GICC_SIZE, GICD_BASE, GICD_REGISTERS, PHYSICAL_TIMER,
    VIRTUAL_TIMER,
};
use crate::tree::Writer;
use crate::{flash, pl031, virtio};
use stasis_state::device::{Pl011, SharedMemory, Watchdog};

/// What a load or store reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    /// Which device.
    pub kind: Kind,
    /// Which of its registers.
    pub access: Access,
}

/// The level of an interrupt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line {
    /// The interrupt.
    pub intid: u16,
    /// Whether it is high.
    pub level: bool,
}

impl Line {
    /// Returns that of the `n`th window of a device, if it has an interrupt.
    #[inline]
    pub fn of<D: Device>(device: &D, n: u8) -> Option<Self> {
        let spi = const { D::WINDOW.spi }?;
        Some(Self { intid: FIRST_SPI + spi + u16::from(n), level: device.line(n) })
    }
}

/// Returns what an access reaches in a device's windows, if it is there.
#[inline]
fn within<D: Device>(kind: Kind, ipa: u64, width: Width) -> Option<Target> {
    let from_base = ipa.wrapping_sub(D::WINDOW.base);
    if from_base >= const { D::WINDOW.end() - D::WINDOW.base } {
        return None;
    }
    let n = (from_base / D::WINDOW.size) as u8;
    Some(Target { kind, access: Access { n, offset: from_base % D::WINDOW.size, width } })
}

/// Returns the device at an address, and where in it that is.
///
/// None where there is nothing, and for an access that is not aligned, which no device takes. The first page
/// of the guest's GICC is not among them: it is the physical GICV, and its accesses do not trap. Whether the guest has that device
/// says [`Devices::has`].
#[inline]
pub fn lookup(ipa: u64, width: Width) -> Option<Target> {
    const GICD_END: u64 = GICD_BASE + GICD_REGISTERS;
    const GICC_DIR: u64 = GICC_BASE + GICC_MAPPED;
    const GICC_END: u64 = GICC_BASE + GICC_SIZE;
    if !width.is_aligned(ipa) {
        return None;
    }
    let of_gic = |kind, base| Target { kind, access: Access { n: 0, offset: ipa - base, width } };
    match ipa {
        GICD_BASE..GICD_END => Some(of_gic(Kind::Gicd, GICD_BASE)),
        GICC_DIR..GICC_END => Some(of_gic(Kind::GiccDir, GICC_DIR)),
        _ => lookup_device(ipa, width),
    }
}

/// Runs `$body` with `$device` being the device in a field, or gives `$or` if the guest does not have it.
macro_rules! with {
    (always, $field:expr, |$device:ident| $body:expr, $or:expr) => {{
        let $device = $field;
        $body
    }};
    (optional, $field:expr, |$device:ident| $body:expr, $or:expr) => {
        match $field {
            Some($device) => $body,
            None => $or,
        }
    };
}

macro_rules! field {
    (always $Device:ty) => { $Device };
    (optional $Device:ty) => { Option<$Device> };
}

macro_rules! borrowed {
    (always, $field:expr) => {
        $field.record()
    };
    (optional, $field:expr) => {
        $field.as_ref().map(Device::record)
    };
}

macro_rules! restored {
    (always, $record:expr, $wall_time:expr) => {
        Device::restored($record, $wall_time)
    };
    (optional, $record:expr, $wall_time:expr) => {
        $record.map(|record| Device::restored(record, $wall_time))
    };
}

macro_rules! fit {
    (always, $Device:ty, $field:expr, $equipment:expr) => {
        if let Some(record) = <$Device as Device>::fitted($equipment) {
            $field = record;
        }
    };
    (optional, $Device:ty, $field:expr, $equipment:expr) => {
        $field = <$Device as Device>::fitted($equipment)
    };
}

macro_rules! devices {
    (
        stored { $( $(#[$doc:meta])* $field:ident: $Kind:ident $name:literal = $Device:ty, $presence:ident; )* }
        stateless { $( $(#[$sdoc:meta])* $sfield:ident: $SKind:ident $sname:literal = $SDevice:ty; )* }
    ) => {
        /// The emulated devices, and the two parts of the GIC that the vGIC answers for.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Kind {
            /// The distributor.
            Gicd,
            /// The second page of the CPU interface: GICC_DIR at its start, and nothing else.
            GiccDir,
            $( $(#[$doc])* $Kind, )*
            $( $(#[$sdoc])* $SKind, )*
        }

        /// A guest's devices.
        #[derive(Clone, Debug)]
        pub struct Devices {
            $( $(#[$doc])* pub $field: field!($presence $Device), )*
            $( $sfield: $SDevice, )*
        }

        /// Where each device is, in the order of the list.
        #[cfg(test)]
        const WINDOWS: &[Window] =
            &[ $( <$Device as Device>::WINDOW, )* $( <$SDevice as Device>::WINDOW, )* ];

        #[inline]
        fn lookup_device(ipa: u64, width: Width) -> Option<Target> {
            $( if let found @ Some(_) = within::<$Device>(Kind::$Kind, ipa, width) {
                return found;
            } )*
            $( if let found @ Some(_) = within::<$SDevice>(Kind::$SKind, ipa, width) {
                return found;
            } )*
            None
        }

        /// Makes the records of a new guest's devices those of this equipment.
        pub fn fit(records: &mut Stored, equipment: &Equipment<'_>) {
            $( fit!($presence, $Device, records.$field, equipment); )*
        }

        /// Writes the devices' nodes into the device tree of a guest with this equipment. The root is open.
        pub fn describe(equipment: &Equipment<'_>, tree: &mut Writer) {
            $( <$Device as Device>::describe(equipment, tree); )*
            $( <$SDevice as Device>::describe(equipment, tree); )*
        }

        /// Returns what raises an interrupt, for people; None if no guest has anything there.
        pub fn interrupt_name(intid: u16) -> Option<&'static str> {
            match intid {
                VIRTUAL_TIMER => return Some("virtual timer"),
                PHYSICAL_TIMER => return Some("physical timer"),
                _ => {}
            }
            $( if raises(&<$Device as Device>::WINDOW, intid) {
                return Some($name);
            } )*
            $( if raises(&<$SDevice as Device>::WINDOW, intid) {
                return Some($sname);
            } )*
            None
        }

        impl Devices {
            /// Returns the devices with the records of a guest that was stored at `wall_time`, in seconds since 1970, or 0 where nobody
            /// knew the time.
            pub fn restored(records: Stored, wall_time: u64) -> Self {
                Self {
                    $( $field: restored!($presence, records.$field, wall_time), )*
                    $( $sfield: Device::restored((), wall_time), )*
                }
            }

            /// Returns what is stored of them.
            pub fn records(&self) -> DeviceRecords<'_> {
                DeviceRecords { $( $field: borrowed!($presence, self.$field), )* }
            }

            /// Returns whether the guest has the device of a target that [`lookup`] has found.
            #[inline]
            pub fn has(&self, target: Target) -> bool {
                let n = target.access.n;
                match target.kind {
                    Kind::Gicd | Kind::GiccDir => true,
                    $( Kind::$Kind => {
                        with!($presence, &self.$field, |device| Device::has(device, n), false)
                    } )*
                    $( Kind::$SKind => Device::has(&self.$sfield, n), )*
                }
            }

            /// Reads from the device of a target that is not the GIC's. Returns the value, and the level of that device's interrupt.
            #[inline]
            pub fn read(&mut self, target: Target, context: &impl Context) -> (u64, Option<Line>) {
                let access = target.access;
                match target.kind {
                    Kind::Gicd | Kind::GiccDir => (0, None),
                    $( Kind::$Kind => with!($presence, &mut self.$field, |device| {
                        (device.read(access, context), Line::of(device, access.n))
                    }, (0, None)), )*
                    $( Kind::$SKind => (self.$sfield.read(access, context), None), )*
                }
            }

            /// Writes to the device of a target that is not the GIC's. Returns what that entails, and the level of that device's
            /// interrupt.
            #[inline]
            pub fn write(
                &mut self,
                target: Target,
                value: u64,
                context: &impl Context,
            ) -> (Effects, Option<Line>) {
                let access = target.access;
                match target.kind {
                    Kind::Gicd | Kind::GiccDir => (Effects::NONE, None),
                    $( Kind::$Kind => with!($presence, &mut self.$field, |device| {
                        (device.write(access, value, context), Line::of(device, access.n))
                    }, (Effects::NONE, None)), )*
                    $( Kind::$SKind => (self.$sfield.write(access, value, context), None), )*
                }
            }

            /// Tells `set` the level of each interrupt of each device that the guest has.
            pub fn lines(&self, mut set: impl FnMut(Line)) {
                $( with!($presence, &self.$field, |device| {
                    (0..<$Device as Device>::WINDOW.count)
                        .filter(|n| Device::has(device, *n))
                        .filter_map(|n| Line::of(device, n))
                        .for_each(&mut set);
                }, ()); )*
            }

            /// Lets time have come to that of `context`, and tells `set` the level of each interrupt that may have changed so.
            #[inline]
            pub fn tick(&mut self, context: &impl Context, mut set: impl FnMut(Line)) {
                $( if const { <$Device as Device>::HAS_CLOCK } {
                    with!($presence, &mut self.$field, |device| {
                        device.tick(context);
                        Line::of(device, 0).map(&mut set);
                    }, ());
                } )*
            }

            /// Returns when the first of them is due: before when nothing changes by itself, and before when no interrupt rises,
            /// both as `to_ticks` has it.
            #[inline]
            pub fn due(&self, to_ticks: impl Fn(Deadline) -> u64) -> (u64, u64) {
                let mut first = (u64::MAX, u64::MAX);
                $( if const { <$Device as Device>::HAS_CLOCK } {
                    with!($presence, &self.$field, |device| {
                        let Due { change, line } = device.due();
                        let ticks = to_ticks(change);
                        let line = if line == change { ticks } else { to_ticks(line) };
                        first = (first.0.min(ticks), first.1.min(line));
                    }, ());
                } )*
                first
            }

            /// Returns why the guest can't go on, if a device says so.
            #[inline]
            pub fn verdict(&self) -> Option<Verdict> {
                $( with!($presence, &self.$field, |device| {
                    if let verdict @ Some(_) = device.verdict() {
                        return verdict;
                    }
                }, ()); )*
                None
            }
        }
    };
}

/// Returns whether one of these windows has this interrupt.
fn raises(window: &Window, intid: u16) -> bool {
    let Some(first) = window.spi.map(|spi| FIRST_SPI + spi) else { return false };
    (first..first + u16::from(window.count)).contains(&intid)
}

devices! {
    // In the order of the device tree. `field: Kind "name" = type, presence`: the fields are those of `stasis_state::devices`.
    stored {
        /// The UART.
        pl011: Uart "PL011" = Pl011, always;
        /// The real-time clock.
        pl031: Rtc "PL031" = pl031::Rtc, always;
        /// The watchdog.
        watchdog: Watchdog "watchdog" = Watchdog, optional;
        /// The doorbells of the memory that the guest shares with others, a window for each region.
        shared: Doorbell "doorbell" = SharedMemory, optional;
    }
    stateless {
        /// The virtio-mmio transports, a window for each slot.
        virtio: Virtio "virtio" = virtio::EmptySlots;
        /// The second flash bank.
        flash: Flash "flash" = flash::EmptyFlash;
    }
}

#[cfg(test)]
mod tests;
