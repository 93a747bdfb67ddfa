//! A virtio-mmio device that a guest drives (virtio 1.2, 4.2): all that is done to it here is to stop it.

use crate::mmio::{Frame, Offset};
use tock_registers::interfaces::{Readable, Writeable};

/// Status: 0, written, resets the device; it reads as 0 when the device is through with it (4.2.2.1).
const STATUS: Offset<u32> = Offset::new(0x70);
/// A device that takes longer than so many reads is not waited for.
const READS: usize = 1_000_000;

/// Bytes of the registers that every device has.
const LEN: usize = 0x100;

/// A virtio-mmio device, or an empty slot.
#[derive(Clone, Copy, Debug)]
pub struct VirtioMmio {
    frame: Frame<LEN>,
}

impl VirtioMmio {
    /// The device in `frame`.
    pub const fn new(frame: Frame<LEN>) -> Self {
        Self { frame }
    }

    /// Resets it: it accesses no memory any more. `false` if it does not say so.
    pub fn reset(&self) -> bool {
        let status = self.frame.at(STATUS);
        status.set(0);
        (0..READS).any(|_| status.get() == 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reset_is_a_status_of_0() {
        let mut registers = [7u32; LEN / 4];
        // SAFETY: the array outlives the frame, and is touched through nothing else meanwhile.
        let frame = unsafe { Frame::new(registers.as_mut_ptr() as usize) };
        assert!(VirtioMmio::new(frame).reset());
        assert_eq!(registers[0x70 / 4], 0);
        assert_eq!(registers.iter().filter(|register| **register == 7).count(), 63);
    }
}
