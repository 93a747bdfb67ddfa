//! The state of the emulated devices. Their interrupt lines are recomputed from it.

use core::ops::Range;

use crate::{
    name::{self, BadName, NAME_LEN, Shown},
    record,
};

/// Depth of a PL011's receive FIFO.
pub const PL011_FIFO: usize = 16;
/// The most regions of memory that a guest shares with others.
pub const MAX_SHARED: usize = 4;
/// The most guests that share a region.
pub const MAX_PEERS: usize = 8;

record! {
    /// A PL011 UART (ARM DDI 0183G). What was written to it has been sent: there is no transmit FIFO.
    pub struct Pl011 in pl011: DevicePl011 {
        /// The receive FIFO, oldest first; bits [11:8] are the error flags of UARTDR.
        rx_fifo: [u16; PL011_FIFO] = 0x01;
        /// Entries of `rx_fifo` that are in use.
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

record! {
    /// A generic watchdog (Arm Base System Architecture, appendix A), of the guests that have one.
    pub struct Watchdog in watchdog: DeviceWatchdog {
        /// WCS: bit 0 it runs, bit 1 WS0, bit 2 WS1.
        wcs: u32 = 0x01;
        /// WOR: ticks from a refresh to WS0, and from there to WS1.
        wor: u32 = 0x02;
        /// WCV: when the next of the two is raised, as CNTVCT_EL0.
        wcv: u64 = 0x03;
    }
}

record! {
    /// A PL031 real-time clock (ARM DDI 0224B).
    pub struct Pl031 in pl031: DevicePl031 {
        /// RTCDR less the host's wall time, in seconds: what the guest has set it apart by.
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

record! {
    /// The regions of memory that a guest shares with others, each with a doorbell. What is in them are MEMORY records.
    pub struct SharedMemory in shared_memory: DeviceSharedMemory {
        /// The regions' names, 32 bytes each, by the rule of a guest's.
        name: [u8; MAX_SHARED * NAME_LEN] = 0x01;
        /// Guest-physical address of each.
        base: [u64; MAX_SHARED] = 0x02;
        /// Bytes of each: a multiple of 4096; 0 where there is no region.
        size: [u64; MAX_SHARED] = 0x03;
        /// The guest's own number among those that share it.
        index: [u8; MAX_SHARED] = 0x04;
        /// How many guests share it.
        peers: [u8; MAX_SHARED] = 0x05;
        /// STATUS of the doorbell: a bit for each guest that has rung.
        status: [u32; MAX_SHARED] = 0x06;
    }
}

impl SharedMemory {
    /// Whether the guest has region `n`.
    pub fn has(&self, n: usize) -> bool {
        self.size.get(n).is_some_and(|size| *size != 0)
    }

    /// A region's name without the padding; `?` where that is none, which it can be in files before 1.3 alone.
    pub fn name_text(&self, n: usize) -> &str {
        self.checked_name(n).unwrap_or("?")
    }

    /// A region's name without the padding, or why it is none.
    pub fn checked_name(&self, n: usize) -> Result<&str, BadName> {
        name::stored(self.name_bytes(n))
    }

    /// What stands in place of a region's name, for messages.
    pub fn shown_name(&self, n: usize) -> Shown {
        Shown::new(self.name_bytes(n))
    }

    /// A region's name with the padding.
    pub(crate) fn name_bytes(&self, n: usize) -> &[u8] {
        &self.name[n * NAME_LEN..][..NAME_LEN]
    }

    /// Gives region `n` a name, of which [`NAME_LEN`] bytes are kept.
    pub fn set_name(&mut self, n: usize, name: &str) {
        let kept = &name.as_bytes()[..name.len().min(NAME_LEN)];
        let place = &mut self.name[n * NAME_LEN..][..NAME_LEN];
        place.fill(0);
        place[..kept.len()].copy_from_slice(kept);
    }

    /// The guest-physical addresses of each region that there is.
    pub fn ranges(&self) -> impl Iterator<Item = Range<u64>> {
        let regions = self.base.iter().zip(self.size.iter()).filter(|(_, size)| **size != 0);
        regions.map(|(base, size)| *base..base.saturating_add(*size))
    }
}
