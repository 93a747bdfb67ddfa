//! The records of the emulated devices, each with the rules for its values. The levels of their
//! interrupt lines are not saved, but computed from the records. The rules of [`SharedMemory`] are
//! more, and have a file of their own.

use core::ops::Range;

use crate::{
    devices::DeviceRecord,
    guest::Guest,
    invariants::{Violation, each, rule},
    name::{self, BadName, NAME_LEN, Shown},
    record,
};

/// The result of checking a record's rules.
type Rule = Result<(), Violation>;

/// Entries of a PL011's receive FIFO.
pub const PL011_FIFO: usize = 16;
/// The greatest number of memory regions that a guest shares with others.
pub const MAX_SHARED: usize = 4;
/// The greatest number of guests that share a region.
pub const MAX_PEERS: usize = 8;

record! {
    /// A PL011 UART (ARM DDI 0183G). There is no transmit FIFO: what the guest has written is sent.
    pub struct Pl011 in pl011: DevicePl011, home (record "EL2 emulates the device") {
        /// The receive FIFO, oldest first; bits [11:8] are the error flags of UARTDR.
        rx_fifo: [u16; PL011_FIFO] = 0x01;
        /// Number of entries of `rx_fifo` that are in use.
        rx_count: u8 = 0x02;
        /// UARTRSR.
        rsr: u32 = 0x03;
        /// UARTILPR.
        ilpr: u32 = 0x04;
        /// UARTIBRD.
        ibrd: u32 = 0x05;
        /// UARTFBRD.
        fbrd: u32 = 0x06;
        /// UARTLCR_H.
        lcr_h: u32 = 0x07;
        /// UARTCR.
        cr: u32 = 0x08, reset 0x300;
        /// UARTIFLS.
        ifls: u32 = 0x09, reset 0x12;
        /// UARTIMSC.
        imsc: u32 = 0x0a;
        /// UARTRIS.
        ris: u32 = 0x0b;
        /// UARTDMACR.
        dmacr: u32 = 0x0c;
    }
}

impl DeviceRecord for Pl011 {
    fn check(&self, _: &Guest) -> Rule {
        let count = *self.rx_count;
        let fits = usize::from(count) <= PL011_FIFO;
        rule(fits, "rx_count", count, "the FIFO has 16 entries")?;
        let why = "it has a byte and four flags";
        each("rx_fifo", &self.rx_fifo[..], why, |_, entry| entry <= 0xfff)
    }
}

record! {
    /// A generic watchdog (Arm Base System Architecture, appendix A). Only some guests have one.
    pub struct Watchdog in watchdog: DeviceWatchdog, home (record "EL2 emulates the device") {
        /// WCS: bit 0 is set while the watchdog runs, bit 1 is WS0, bit 2 is WS1.
        wcs: u32 = 0x01;
        /// WOR, in ticks: the time from a refresh to WS0, and from WS0 to WS1.
        wor: u32 = 0x02;
        /// WCV, as a value of CNTVCT_EL0: when WS0 or WS1 is raised next.
        wcv: u64 = 0x03;
    }
}

impl DeviceRecord for Watchdog {
    fn check(&self, _: &Guest) -> Rule {
        let wcs = *self.wcs;
        rule(wcs & !0b111 == 0, "wcs", wcs, "it has three bits")
    }
}

record! {
    /// A PL031 real-time clock (ARM DDI 0224B).
    pub struct Pl031 in pl031: DevicePl031, home (record "EL2 emulates the device") {
        /// RTCDR minus the host's wall time, in seconds: how far ahead the guest has set its clock.
        offset: u32 = 0x01;
        /// RTCMR.
        mr: u32 = 0x02;
        /// RTCLR.
        lr: u32 = 0x03;
        /// RTCIMSC.
        imsc: u32 = 0x04;
        /// RTCRIS.
        ris: u32 = 0x05;
    }
}

impl DeviceRecord for Pl031 {
    /// Checks nothing: a guest can bring about every value of this record.
    fn check(&self, _: &Guest) -> Rule {
        Ok(())
    }
}

record! {
    /// A PL061 GPIO controller (ARM DDI 0190B) with a power key at line 3.
    pub struct Pl061 in pl061: DevicePl061, home (record "EL2 emulates the device") {
        /// GPIODATA of the lines that are outputs.
        data: u8 = 0x01;
        /// GPIODIR.
        dir: u8 = 0x02;
        /// GPIOIS.
        is: u8 = 0x03;
        /// GPIOIBE.
        ibe: u8 = 0x04;
        /// GPIOIEV.
        iev: u8 = 0x05;
        /// GPIOIE.
        ie: u8 = 0x06;
        /// GPIORIS without the lines that are level-sensitive: the edges that were not cleared.
        edges: u8 = 0x07;
        /// GPIOAFSEL.
        afsel: u8 = 0x08;
        /// The power key is down until CNTVCT_EL0 reads this; 0 if it is up.
        key_until: u64 = 0x09;
    }
}

impl DeviceRecord for Pl061 {
    /// Checks nothing: no value of this record does more than another.
    fn check(&self, _: &Guest) -> Rule {
        Ok(())
    }
}

record! {
    /// The regions of memory that a guest shares with others, each with a doorbell. MEMORY records
    /// hold their content.
    pub struct SharedMemory in shared_memory: DeviceSharedMemory, home (record "EL2 emulates the device") {
        /// The regions' names, 32 bytes each. The rule is that of a guest's name.
        name: [u8; MAX_SHARED * NAME_LEN] = 0x01;
        /// Guest-physical address of each region.
        base: [u64; MAX_SHARED] = 0x02;
        /// Bytes of each region: a multiple of 4096, or 0 if the guest does not have the region.
        size: [u64; MAX_SHARED] = 0x03;
        /// The guest's own number among the guests that share the region.
        index: [u8; MAX_SHARED] = 0x04;
        /// Number of guests that share the region.
        peers: [u8; MAX_SHARED] = 0x05;
        /// STATUS of the region's doorbell: one bit for each guest that has rung.
        status: [u32; MAX_SHARED] = 0x06;
    }
}

impl SharedMemory {
    /// Returns whether the guest has region `n`.
    pub fn has(&self, n: usize) -> bool {
        self.size.get(n).is_some_and(|size| *size != 0)
    }

    /// Returns the name of region `n` without the padding, or `?` if the register holds no name.
    /// Only files before version 1.3 have such names.
    ///
    /// # Panics
    ///
    /// If `n` is not below [`MAX_SHARED`].
    pub fn name_text(&self, n: usize) -> &str {
        self.checked_name(n).unwrap_or("?")
    }

    /// Returns the name of region `n` without the padding.
    ///
    /// # Errors
    ///
    /// The rule that the content of the register breaks.
    ///
    /// # Panics
    ///
    /// If `n` is not below [`MAX_SHARED`].
    pub fn checked_name(&self, n: usize) -> Result<&str, BadName> {
        name::stored(self.name_bytes(n))
    }

    /// Returns the content of the register of region `n`'s name in a form that can be printed,
    /// whatever it is.
    ///
    /// # Panics
    ///
    /// If `n` is not below [`MAX_SHARED`].
    pub fn shown_name(&self, n: usize) -> Shown {
        Shown::new(self.name_bytes(n))
    }

    /// Returns the name of region `n` with the padding.
    pub(crate) fn name_bytes(&self, n: usize) -> &[u8] {
        &self.name[n * NAME_LEN..][..NAME_LEN]
    }

    /// Sets the name of region `n` to the first [`NAME_LEN`] bytes of `name`.
    ///
    /// # Panics
    ///
    /// If `n` is not below [`MAX_SHARED`].
    pub fn set_name(&mut self, n: usize, name: &str) {
        let kept = &name.as_bytes()[..name.len().min(NAME_LEN)];
        let place = &mut self.name[n * NAME_LEN..][..NAME_LEN];
        place.fill(0);
        place[..kept.len()].copy_from_slice(kept);
    }

    /// Returns the range of guest-physical addresses of each region that the guest has.
    pub fn ranges(&self) -> impl Iterator<Item = Range<u64>> {
        let regions = self.base.iter().zip(self.size.iter()).filter(|(_, size)| **size != 0);
        regions.map(|(base, size)| *base..base.saturating_add(*size))
    }
}
