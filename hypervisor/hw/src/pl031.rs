//! The machine's real-time clock, where it has one: a PL031 (ARM DDI 0224B).

use crate::mmio::{Frame, Offset};
use tock_registers::interfaces::Readable;

const DR: Offset<u32> = Offset::new(0x000);

/// Bytes of the frame.
const LEN: usize = 0x1000;

/// A PL031, which this driver only reads.
#[derive(Clone, Copy, Debug)]
pub struct Pl031 {
    frame: Frame<LEN>,
}

impl Pl031 {
    /// Returns the driver of the clock in `frame`.
    pub const fn new(frame: Frame<LEN>) -> Self {
        Self { frame }
    }

    /// Returns the seconds since 1970: RTCDR.
    pub fn seconds(&self) -> u32 {
        self.frame.at(DR).get()
    }
}
