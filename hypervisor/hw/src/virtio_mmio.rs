//! A virtio-mmio device that a guest drives (virtio 1.2, 4.2). The driver can only stop it.

use crate::mmio::{Frame, Offset};
use tock_registers::interfaces::{Readable, Writeable};

/// Status: writing 0 resets the device, and 0 is read once the reset is complete (4.2.2.1).
const STATUS: Offset<u32> = Offset::new(0x70);
/// Most reads of the status that a reset may take.
const READS: usize = 1_000_000;

/// Bytes of the registers that every device has.
const LEN: usize = 0x100;

/// A virtio-mmio device, or an empty slot.
#[derive(Clone, Copy, Debug)]
pub struct VirtioMmio {
    frame: Frame<LEN>,
}

impl VirtioMmio {
    /// Returns the driver of the device in `frame`.
    pub const fn new(frame: Frame<LEN>) -> Self {
        Self { frame }
    }

    /// Resets the device, so that it accesses no memory any more. Returns whether the device says
    /// that the reset is complete.
    pub fn reset(&self) -> bool {
        self.reset_within(READS)
    }

    /// Does as [`Self::reset`] says, with that many reads of the status at most.
    fn reset_within(&self, reads: usize) -> bool {
        let status = self.frame.at(STATUS);
        status.set(0);
        (0..reads).any(|_| status.get() == 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mmio::fake::{Bus, Device, frame};

    /// A device whose reset takes this many reads of its status.
    struct Resets {
        status: u64,
        reads_left: usize,
    }

    impl Device for Resets {
        fn read(&mut self, offset: usize, _: usize) -> u64 {
            assert_eq!(offset, 0x70);
            match self.reads_left.checked_sub(1) {
                Some(left) => self.reads_left = left,
                None => self.status = 0,
            }
            self.status
        }

        fn write(&mut self, offset: usize, _: usize, value: u64) {
            assert_eq!(
                (offset, value),
                (0x70, 0),
                "a device of a guest's is reset, and nothing else"
            );
        }
    }

    #[test]
    fn a_reset_is_waited_for_and_not_for_ever() {
        let device = Bus::attach(0x1000, LEN, Resets { status: 7, reads_left: 5 });
        let slot = VirtioMmio::new(frame(0x1000));
        assert!(slot.reset());
        assert_eq!(device.borrow().reads_left, 0, "it was looked at until it was done");
        device.replace(Resets { status: 7, reads_left: 100 });
        assert!(!slot.reset_within(100));
        assert_eq!(device.borrow().reads_left, 0, "all were made");
    }
}
