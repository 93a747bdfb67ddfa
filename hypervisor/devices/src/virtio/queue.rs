//! A split virtqueue in a guest's RAM, as the device sees it: [`Queue`]. VIRTIO 1.2, 2.7.
//!
//! The driver is hostile. It may change everything while it is read, so each number is loaded once
//! and checked before it is used. What can't be right is [`Broken`]: the device then asks for a
//! reset and leaves the queue alone. [`crate::virtio::chain`] has the buffers of a request.

use stasis_state::virtio::device_id;
use zerocopy::IntoBytes;

use super::chain::{Chain, DESCRIPTOR, LONG};
use super::view::{Broken, View};
use crate::context::Memory;

/// The most entries of a queue that a driver sets up here.
pub(super) const OFFERED: u16 = LONG;
/// Offset of `idx` in the available and in the used ring; `flags` stands before it.
const IDX: u64 = 2;
/// Offset of the entries of either ring.
const RING: u64 = 4;
/// Bytes of an entry of the available ring.
const AVAILABLE_ELEMENT: u64 = 2;
/// Bytes of an entry of the used ring.
const USED_ELEMENT: u64 = 8;
/// Bit of the available ring's `flags`: the driver wants no interrupt.
const NO_INTERRUPT: u16 = 1;

/// A queue, as its driver has set it up, and how far the device is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Queue {
    /// Number of entries: a power of two, [`OFFERED`] at most, or
    /// [`stasis_state::virtio::MAX_QUEUE`] of a guest that came from elsewhere.
    pub num: u16,
    /// Guest-physical address of the descriptors.
    pub desc: u64,
    /// Guest-physical address of the available ring.
    pub driver: u64,
    /// Guest-physical address of the used ring.
    pub device: u64,
    /// Index of the first request that is not completed.
    pub next_avail: u16,
    /// Index of the entry of the used ring that is written next.
    pub used: u16,
}

impl Queue {
    /// Returns whether a driver can make the queue ready: its size is possible, and its parts are
    /// aligned (VIRTIO 1.2, 2.7).
    pub fn is_possible(&self) -> bool {
        let aligned = |address: u64, to: u64| address.is_multiple_of(to);
        self.num.is_power_of_two()
            && self.num <= OFFERED
            && aligned(self.desc, 16)
            && aligned(self.driver, 2)
            && aligned(self.device, 4)
    }

    /// Returns the descriptors, the available and the used ring: each by its guest-physical address
    /// and its bytes, without the index at a ring's end that no device here looks at.
    pub(super) fn parts(&self) -> [(u64, u64); 3] {
        let num = u64::from(self.num);
        [
            (self.desc, num * DESCRIPTOR),
            (self.driver, RING + num * AVAILABLE_ELEMENT),
            (self.device, RING + num * USED_ELEMENT),
        ]
    }

    /// Returns the first request that is not completed, or None if there is none.
    ///
    /// # Errors
    ///
    /// [`Broken`], if the available ring is not in RAM, or its index has run away.
    pub fn first(&self, memory: &impl View) -> Result<Option<Chain>, Broken> {
        let idx = memory.u16(self.driver.wrapping_add(IDX))?;
        let count = idx.wrapping_sub(self.next_avail);
        if count == 0 {
            return Ok(None);
        }
        if count > self.num {
            return Err(Broken::RunAway(count));
        }
        let entry = u64::from(self.next_avail & (self.num - 1));
        let head = memory.u16(self.driver.wrapping_add(RING + entry * AVAILABLE_ELEMENT))?;
        if head >= self.num {
            return Err(Broken::NoDescriptor(head.into()));
        }
        Ok(Some(Chain { table: self.desc, num: self.num, head, is_last: count == 1 }))
    }

    /// Completes the first request, `chain`, of which the device has written `written` bytes.
    /// Returns whether the driver wants an interrupt.
    ///
    /// # Errors
    ///
    /// [`Broken`], if the used ring is not in RAM; then the request is not completed.
    pub fn complete(
        &mut self,
        memory: &mut Memory<'_>,
        chain: &Chain,
        written: u32,
    ) -> Result<bool, Broken> {
        let entry = u64::from(self.used & (self.num - 1));
        let at = self.device.wrapping_add(RING + entry * USED_ELEMENT);
        let element = [u32::from(chain.head), written].map(u32::to_le);
        // The index behind it is stored with release: who sees that sees the element.
        memory.write(at, element.as_bytes())?;
        memory.set_u16(self.device.wrapping_add(IDX), self.used.wrapping_add(1))?;
        self.used = self.used.wrapping_add(1);
        self.next_avail = self.next_avail.wrapping_add(1);
        let flags = memory.u16(self.driver)?;
        Ok(flags & NO_INTERRUPT == 0)
    }
}

/// Returns the number of queues of a device with this ID.
pub(super) fn queue_count(id: u32) -> u32 {
    match id {
        device_id::BLOCK | device_id::ENTROPY => 1,
        device_id::CONSOLE => 2,
        device_id::NETWORK => 3,
        _ => 0,
    }
}
