//! Every emulated device, in one list: [`devices!`]. From this list come: which device an address
//! reaches ([`lookup`]), reads and writes, levels and names of interrupts, deadlines, what is
//! stored, and the nodes of the device tree.
//!
//! A device consists of a file that implements [`Device`], a line here, its section in
//! `docs/guest-machine.md`, and, if it has a state, a record in [`stasis_state::device`] with a
//! line in [`stasis_state::devices`]. The fields' names tie the two lists together: a record
//! without a device, or the reverse, does not compile.

use stasis_state::devices::{DeviceRecords, Devices as Stored};

use crate::access::Width;
use crate::device::{Access, Clocks, Context, Deadline, Device, Due, Effects, Verdict, Window};
use crate::equipment::Equipment;
use crate::inventory::Inventory;
use crate::machine::{
    FIRST_SPI, GICC_BASE, GICC_MAPPED, GICC_SIZE, GICD_BASE, GICD_REGISTERS, PHYSICAL_TIMER,
    VIRTUAL_TIMER,
};
use crate::tree::Writer;
use crate::{flash, pl031, virtio};
use stasis_state::device::{Pl011, Pl061, SharedMemory, Watchdog};
use stasis_state::machine::Machine;
use stasis_state::virtio::GenerationId;

/// The device and register that a load or store reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    /// The device.
    pub kind: Kind,
    /// The access, by its offset in the device's window.
    pub access: Access,
}

/// An interrupt and its level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line {
    /// The interrupt's INTID.
    pub intid: u16,
    /// Whether the interrupt is high.
    pub level: bool,
}

impl Line {
    /// Returns the interrupt of a device's `n`th window, and its level. None if the device has no
    /// interrupt.
    #[inline]
    pub fn of<D: Device>(device: &D, n: u8) -> Option<Self> {
        let spi = const { D::WINDOW.spi }?;
        Some(Self { intid: FIRST_SPI + spi + u16::from(n), level: device.line(n) })
    }
}

/// Returns what an access of `width` to `ipa` reaches in the windows of device `D`. None if `ipa`
/// is in none of them.
#[inline]
fn within<D: Device>(kind: Kind, ipa: u64, width: Width) -> Option<Target> {
    let from_base = ipa.wrapping_sub(D::WINDOW.base);
    if from_base >= const { D::WINDOW.end() - D::WINDOW.base } {
        return None;
    }
    let n = (from_base / D::WINDOW.size) as u8;
    Some(Target { kind, access: Access { n, offset: from_base % D::WINDOW.size, width } })
}

/// Returns the device at the guest-physical address `ipa`, and the offset in it.
///
/// None if nothing is there, or if the access is not aligned: no device takes such an access. The
/// first page of the guest's GICC is not found: it is the physical GICV, and accesses to it do not
/// trap. [`Devices::has`] says whether a guest has the device that was found.
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

/// Evaluates `$body` with `$device` bound to the device in a field, or `$or` if the guest does not
/// have the device.
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

        /// Each device, its name and where it is, in the order of the list.
        #[cfg(test)]
        pub(crate) const PLACES: &[(Kind, &str, Window)] = &[
            $( (Kind::$Kind, $name, <$Device as Device>::WINDOW), )*
            $( (Kind::$SKind, $sname, <$SDevice as Device>::WINDOW), )*
        ];

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

        /// Replaces the records of a new guest's devices by those that `equipment` asks for.
        pub fn fit(records: &mut Stored, equipment: &Equipment<'_>) {
            $( fit!($presence, $Device, records.$field, equipment); )*
        }

        /// Writes the nodes of all devices into the device tree of a guest with this `equipment`.
        /// The root node of `tree` is open.
        pub fn describe(equipment: &Equipment<'_>, tree: &mut Writer) {
            $( <$Device as Device>::describe(equipment, tree); )*
            $( <$SDevice as Device>::describe(equipment, tree); )*
        }

        /// Returns the name, for people, of what raises the interrupt `intid`. None if no guest has
        /// anything that raises it.
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
            /// Returns the devices with these records, of a guest that is new or was stored at
            /// `wall_time`, in seconds since 1970, or 0 if the time was not known.
            pub fn restored(records: Stored, wall_time: u64) -> Self {
                Self {
                    $( $field: restored!($presence, records.$field, wall_time), )*
                    $( $sfield: Device::restored((), wall_time), )*
                }
            }

            /// Returns the records of all devices, as they are stored.
            pub fn records(&self) -> DeviceRecords<'_> {
                DeviceRecords { $( $field: borrowed!($presence, self.$field), )* }
            }

            /// Returns which devices the guest has, and where, as it is stored.
            pub fn machine(&self) -> Machine {
                let mut inventory = Inventory::new();
                $( with!($presence, &self.$field, |device| inventory.add(device), ()); )*
                $( inventory.add(&self.$sfield); )*
                inventory.into_machine()
            }

            /// Returns whether the guest has the device, and its window, that [`lookup`] has found.
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

            /// Reads from the device of `target`. Returns the value, and the device's interrupt
            /// with its level. For the GIC it does nothing.
            #[inline]
            pub fn read(&mut self, target: Target, context: &mut impl Context) -> (u64, Option<Line>) {
                let access = target.access;
                match target.kind {
                    Kind::Gicd | Kind::GiccDir => (0, None),
                    $( Kind::$Kind => with!($presence, &mut self.$field, |device| {
                        (device.read(access, context), Line::of(device, access.n))
                    }, (0, None)), )*
                    $( Kind::$SKind => (self.$sfield.read(access, context), None), )*
                }
            }

            /// Writes to the device of `target`. Returns what that entails, and the device's
            /// interrupt with its level. For the GIC it does nothing.
            #[inline]
            pub fn write(
                &mut self,
                target: Target,
                value: u64,
                context: &mut impl Context,
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

            /// Calls `set` with each interrupt of each device that the guest has, and its level.
            pub fn lines(&self, mut set: impl FnMut(Line)) {
                $( with!($presence, &self.$field, |device| {
                    (0..<$Device as Device>::WINDOW.count)
                        .filter(|n| Device::has(device, *n))
                        .filter_map(|n| Line::of(device, n))
                        .for_each(&mut set);
                }, ()); )*
            }

            /// Brings all devices with a clock up to the time of `clocks`. Calls `set` with each
            /// interrupt whose level has changed.
            #[inline]
            pub fn tick(&mut self, clocks: &impl Clocks, mut set: impl FnMut(Line)) {
                $( if const { <$Device as Device>::HAS_CLOCK } {
                    with!($presence, &mut self.$field, |device| {
                        let before = Line::of(device, 0);
                        device.tick(clocks);
                        Line::of(device, 0).filter(|line| Some(*line) != before).map(&mut set);
                    }, ());
                } )*
            }

            /// Returns two times, as `to_ticks` converts them: no device changes by itself before
            /// the first, and no interrupt rises by itself before the second.
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

/// Returns whether one of these windows has the interrupt `intid`.
fn raises(window: &Window, intid: u16) -> bool {
    let Some(first) = window.spi.map(|spi| FIRST_SPI + spi) else { return false };
    (first..first + u16::from(window.count)).contains(&intid)
}

devices! {
    // The order is that of the device tree. `field: Kind "name" = type, presence`: the fields have
    // the names of those of `stasis_state::devices`.
    stored {
        /// The UART.
        pl011: Uart "PL011" = Pl011, always;
        /// The real-time clock.
        pl031: Rtc "PL031" = pl031::Rtc, always;
        /// The GPIO controller with the power key.
        pl061: Gpio "PL061" = Pl061, always;
        /// The watchdog.
        watchdog: Watchdog "watchdog" = Watchdog, optional;
        /// The doorbells of the memory that the guest shares with others: one window for each
        /// region.
        shared: Doorbell "doorbell" = SharedMemory, optional;
        /// The generation ID.
        generation: Generation "generation ID" = GenerationId, optional;
        /// The virtio-mmio transports: one window for each slot.
        virtio: Virtio "virtio" = virtio::Slots, always;
    }
    stateless {
        /// The second flash bank.
        flash: Flash "flash" = flash::EmptyFlash;
    }
}

#[cfg(test)]
mod tests;
