//! What a device is to the guest's machine: [`Device`].
//!
//! A device consists of its record and, at most, of what is computed from it. A device does nothing
//! by itself: it is called when a guest reads or writes its registers, and when time has passed.
//! What must happen outside of the device is returned as a value ([`Effects`]), which the caller
//! carries out. The level of its interrupt is a function of its state. [`crate::list`] has every
//! device.

use stasis_state::machine::DeviceKind;

use crate::equipment::Equipment;
use crate::tree::Writer;

pub use crate::context::{
    Access, Clocks, Context, Deadline, Due, Effects, Memory, Outside, Verdict,
};
pub use crate::window::Window;

/// An emulated device. All methods are called while the caller holds the lock of what the vCPUs of
/// the guest share.
pub trait Device: Sized {
    /// The guest-physical addresses of the device, and its interrupts.
    const WINDOW: Window;
    /// What the device is in the record of a guest's machine.
    const KIND: DeviceKind;
    /// Whether the device has a clock: only then do [`Device::tick`] and [`Device::due`] do
    /// anything.
    const HAS_CLOCK: bool = false;
    /// The whole state of the device, as it is stored: a record of [`stasis_state::device`], or
    /// `()`.
    type Record;

    /// Returns the record of a new guest's device, or None if `equipment` has no such device.
    fn fitted(equipment: &Equipment<'_>) -> Option<Self::Record>;

    /// Returns the device with this `record`, which is a new one, or was stored at `wall_time`.
    /// That is in seconds since 1970, or 0 if the time was not known.
    fn restored(record: Self::Record, wall_time: u64) -> Self;

    /// Returns the device's state.
    fn record(&self) -> &Self::Record;

    /// Returns whether the guest has the device's `n`th window.
    fn has(&self, _n: u8) -> bool {
        true
    }

    /// Returns what is in the device's `n`th window, for the record of the guest's machine.
    fn kind(&self, _n: u8) -> DeviceKind {
        Self::KIND
    }

    /// Reads a register, and changes what a read changes. Returns the value in the low bits; the
    /// bits above the access's width are 0.
    fn read(&mut self, access: Access, context: &mut impl Context) -> u64;

    /// Writes `value` to a register. The bits of `value` above the access's width are ignored.
    /// Returns what the caller must do.
    fn write(&mut self, access: Access, value: u64, context: &mut impl Context) -> Effects;

    /// Returns the level of the interrupt of the device's `n`th window: whether it is high.
    fn line(&self, _n: u8) -> bool {
        false
    }

    /// Brings the device's state up to the time of `clocks`.
    fn tick(&mut self, _clocks: &impl Clocks) {}

    /// Returns when [`Device::tick`] must be called next.
    fn due(&self) -> Due {
        Due::NEVER
    }

    /// Returns why the guest can't go on, if the device says so.
    fn verdict(&self) -> Option<Verdict> {
        None
    }

    /// Writes the device's nodes into the device tree of a guest with this `equipment`. The root
    /// node of `tree` is open.
    fn describe(equipment: &Equipment<'_>, tree: &mut Writer);
}

#[cfg(test)]
pub(crate) mod tests {
    use stasis_memory::{FakeRam, GuestMemory, PAGE_SIZE};

    use super::*;
    use crate::access::Width;
    use crate::machine::RAM_BASE;

    /// A moment: CNTVCT_EL0, and seconds since 1970; and a page of RAM at [`RAM_BASE`].
    pub struct Moment {
        pub guest_time: u64,
        pub wall_time: u64,
        pub ram: FakeRam,
    }

    impl Clocks for Moment {
        fn guest_time(&self) -> u64 {
            self.guest_time
        }

        fn wall_time(&self) -> u64 {
            self.wall_time
        }
    }

    impl Context for Moment {
        fn memory(&mut self) -> Memory<'_> {
            Memory { base: RAM_BASE, ram: &mut *self.ram }
        }
    }

    /// Returns the moment at which both clocks read `now`, beside a page of zeros.
    pub fn at(now: u64) -> Moment {
        Moment { guest_time: now, wall_time: now, ram: FakeRam::new(PAGE_SIZE as usize) }
    }

    /// Returns an access to the first window.
    pub fn access(offset: u64, width: Width) -> Access {
        Access { n: 0, offset, width }
    }

    /// A device that transfers data by itself: it adds 1 to the word at the guest-physical address
    /// that is written to it. What it could not reach, it counts.
    #[derive(Default)]
    struct Adder {
        failures: u32,
    }

    impl Device for Adder {
        const WINDOW: Window = Window { base: 0, size: 8, count: 1, spi: None };
        const KIND: DeviceKind = DeviceKind(0x7fff);
        type Record = ();

        fn fitted(_: &Equipment<'_>) -> Option<()> {
            Some(())
        }

        fn restored(_: (), _: u64) -> Self {
            Self::default()
        }

        fn record(&self) -> &() {
            &()
        }

        fn read(&mut self, _: Access, _: &mut impl Context) -> u64 {
            self.failures.into()
        }

        fn write(&mut self, _: Access, value: u64, context: &mut impl Context) -> Effects {
            let Memory { base, ram } = context.memory();
            let offset = value.wrapping_sub(base) as usize;
            let added = ram.load_u32(offset).and_then(|word| ram.store_u32(offset, word + 1));
            self.failures += u32::from(added.is_err());
            Effects::NONE
        }

        fn describe(_: &Equipment<'_>, _: &mut Writer) {}
    }

    #[test]
    fn a_device_reads_and_writes_its_guests_ram_and_nothing_beside_it() {
        let (mut adder, mut moment) = (Adder::default(), at(0));
        let last = RAM_BASE + PAGE_SIZE - 4;
        for address in [last, RAM_BASE - 4, 0, last + 2, last + 4, u64::MAX, last] {
            adder.write(access(0, Width::Doubleword), address, &mut moment);
        }
        assert_eq!(adder.read(access(0, Width::Word), &mut moment), 5);
        assert_eq!(moment.ram.load_u32(PAGE_SIZE as usize - 4), Ok(2));
    }
}
