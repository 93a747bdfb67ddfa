//! A disk's request that is not completed, as QEMU keeps it in the section of the disk: [`Request`]
//! (hw/virtio/virtio.c, qemu_put_virtqueue_element; hw/block/virtio-blk.c).
//!
//! QEMU writes a structure of C, `VirtQueueElementOld`, as its host has it in memory. That is one
//! layout on all hosts on which it is used here: 64 bits, little-endian. A QEMU that has loaded
//! such a request carries it out when its machine runs.

use alloc::vec::Vec;

use crate::error::Error;

/// Buffers of either kind for which there is room.
const MOST: usize = 1024;
/// Bytes of `index`, `out_num` and `in_num`, and of the gap behind them.
const HEAD: usize = 16;
/// Bytes of the address of a buffer, and of its `iovec`, of which the first half is an address in
/// QEMU.
const ADDRESS: usize = 8;
const IOVEC: usize = 16;
/// Offsets of the arrays: the addresses, then the lengths, in each case of the buffers that the
/// device writes before the others.
const IN_ADDRESS: usize = HEAD;
const OUT_ADDRESS: usize = IN_ADDRESS + MOST * ADDRESS;
const IN_IOVEC: usize = OUT_ADDRESS + MOST * ADDRESS;
const OUT_IOVEC: usize = IN_IOVEC + MOST * IOVEC;
/// Bytes of a request.
pub(crate) const LEN: usize = OUT_IOVEC + MOST * IOVEC;
/// Requests of all disks that a stream takes along: they are put together in memory, where these
/// take 12 MiB. A disk's whole queue is not more.
pub const MOST_REQUESTS: usize = 256;
/// Says that a request follows.
pub(crate) const FOLLOWS: u8 = 1;

/// A request that the device has taken from its only queue.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// The number of the disk's slot.
    pub slot: usize,
    /// The number of the first descriptor.
    pub head: u16,
    /// The buffers that the device reads: guest-physical addresses and bytes, neither of which
    /// is 0.
    pub read: Vec<(u64, u32)>,
    /// The buffers that the device writes.
    pub written: Vec<(u64, u32)>,
}

impl Request {
    /// Returns the request as it stands in the section, with what says that it is there.
    ///
    /// # Errors
    ///
    /// [`Error::LongRequest`] if it has more buffers than there is room for.
    pub(super) fn encode(&self) -> Result<Vec<u8>, Error> {
        let Self { slot, head, read, written } = self;
        if read.len().max(written.len()) > MOST {
            return Err(Error::LongRequest { slot: *slot });
        }
        let mut bytes = Vec::from([FOLLOWS]);
        bytes.resize(1 + LEN, 0);
        let element = &mut bytes[1..];
        for (at, number) in [(0, usize::from(*head)), (4, read.len()), (8, written.len())] {
            element[at..at + 4].copy_from_slice(&(number as u32).to_le_bytes());
        }
        let mut put = |buffers: &[(u64, u32)], addresses: usize, iovecs: usize| {
            for (n, (address, len)) in buffers.iter().enumerate() {
                let (address_at, len_at) = (addresses + n * ADDRESS, iovecs + n * IOVEC + 8);
                element[address_at..address_at + 8].copy_from_slice(&address.to_le_bytes());
                element[len_at..len_at + 8].copy_from_slice(&u64::from(*len).to_le_bytes());
            }
        };
        put(written, IN_ADDRESS, IN_IOVEC);
        put(read, OUT_ADDRESS, OUT_IOVEC);
        Ok(bytes)
    }
}
