//! The state of the emulated devices. Their interrupt lines are recomputed from it.

use crate::record;

/// Depth of a PL011's receive FIFO.
pub const PL011_FIFO: usize = 16;

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
