//! The requests of a guest's disks that are not completed. They are in no register but in the
//! guest's memory, where [`waiting`] finds them.

use std::ops::Range;

use anyhow::{Context, Error, Result, bail};
use stasis_convert::Error as Refused;
use stasis_convert::qemu::request::Request;
use stasis_devices::virtio::chain::Chain;
use stasis_devices::virtio::queue::Queue;
use stasis_devices::virtio::view::{Broken, View};
use stasis_devices::virtio::{QueueId, working_queue};
use stasis_state::PAGE_SIZE;
use stasis_state::virtio::{Virtio, device_id};

use crate::checkpoint::Loaded;
use crate::checkpoint::memory::{Index, Memory};

/// The queue by which a driver gives a network card commands.
const COMMANDS: u8 = 2;

/// Returns the requests of all disks, in the order of each queue. Reads the memory only of a guest
/// whose devices work.
///
/// # Errors
///
/// A driver has put something impossible into a queue; a network card has a command that QEMU would
/// not carry out; the checkpoint can't be read.
pub fn waiting(loaded: &mut Loaded) -> Result<Vec<Request>> {
    let queues = working(&loaded.checkpoint.state.devices.virtio);
    if queues.is_empty() {
        return Ok(Vec::new());
    }
    let name = loaded.name.clone();
    let can_not = || format!("cannot read {name}");
    let (mut opened, checkpoint) = loaded.open()?;
    let index = Index::open(&mut opened, checkpoint).with_context(can_not)?;
    let memory = Memory::new(opened, checkpoint, index);
    all_in(memory, queues, &name)
}

/// Returns the requests in these queues of a checkpoint of this name.
fn all_in(
    memory: Memory<'_>,
    queues: Vec<(QueueId, Queue, u32)>,
    name: &str,
) -> Result<Vec<Request>> {
    let found = all(&memory, queues);
    // A page that could not be read was read as zeros, of which nothing is the driver's doing.
    memory.finish().with_context(|| format!("cannot read {name}"))?;
    found
}

/// Returns the requests in these queues.
fn all(memory: &Memory<'_>, queues: Vec<(QueueId, Queue, u32)>) -> Result<Vec<Request>> {
    let mut found = Vec::new();
    for (id, queue, kind) in queues {
        let slot = usize::from(id.slot);
        let broken = |broken| {
            Error::new(broken).context(format!("the driver of the virtio device in slot {slot} has put something impossible into its queue"))
        };
        let chains = chains(queue, memory).map_err(broken)?;
        if kind == device_id::NETWORK && !chains.is_empty() {
            bail!(Refused::Busy { slot });
        }
        for chain in chains {
            found.push(request(slot, &chain, memory).map_err(broken)?);
        }
    }
    Ok(found)
}

/// Returns the queues that QEMU does not look at by itself when it begins: each with the device's
/// ID.
fn working(virtio: &Virtio) -> Vec<(QueueId, Queue, u32)> {
    let unheard = virtio.slots().filter_map(|(slot, kind)| match kind {
        device_id::BLOCK => Some((slot, 0, kind)),
        device_id::NETWORK => Some((slot, COMMANDS, kind)),
        _ => None,
    });
    let ready = unheard.filter_map(|(slot, queue, kind)| {
        let id = QueueId { slot: slot as u8, queue };
        Some((id, working_queue(virtio, id)?, kind))
    });
    ready.collect()
}

/// Returns all requests of a queue that are not completed.
fn chains(mut queue: Queue, memory: &Memory<'_>) -> Result<Vec<Chain>, Broken> {
    let mut chains = Vec::new();
    while let Some(chain) = queue.first(memory)? {
        chains.push(chain);
        queue.next_avail = queue.next_avail.wrapping_add(1);
    }
    Ok(chains)
}

/// Returns a request of a disk. All of its buffers are in RAM.
fn request(slot: usize, chain: &Chain, memory: &Memory<'_>) -> Result<Request, Broken> {
    let mut request = Request { slot, head: chain.head, ..Request::default() };
    let mut outside = None;
    chain.pieces(memory, |piece| {
        let buffers = if piece.is_written { &mut request.written } else { &mut request.read };
        if !is_within(piece.address, u64::from(piece.len), &memory.ram) {
            outside = Some(piece.address);
        } else if piece.len != 0 {
            buffers.push((piece.address, piece.len));
        }
    })?;
    outside.map_or(Ok(request), |address| Err(Broken::NotInRam(address)))
}

fn is_within(address: u64, len: u64, ram: &Range<u64>) -> bool {
    address >= ram.start && address.checked_add(len).is_some_and(|end| end <= ram.end)
}

impl View for Memory<'_> {
    fn u16(&self, address: u64) -> Result<u16, Broken> {
        if !address.is_multiple_of(2) {
            return Err(Broken::Misaligned(address));
        }
        let mut bytes = [0; 2];
        View::read(self, address, &mut bytes)?;
        Ok(u16::from_le_bytes(bytes))
    }

    fn read(&self, address: u64, into: &mut [u8]) -> Result<(), Broken> {
        if !is_within(address, into.len() as u64, &self.ram) {
            return Err(Broken::NotInRam(address));
        }
        for (at, byte) in (address..).zip(into) {
            let offset = at % PAGE_SIZE as u64;
            let page = self.page(at - offset).ok_or(Broken::NotInRam(at))?;
            *byte = page[offset as usize];
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::memory::tests::memory;

    const RAM: u64 = 0x4000_0000;
    const TABLE: u64 = RAM;
    const AVAIL: u64 = RAM + 0x1000;
    const DISK: QueueId = QueueId { slot: 1, queue: 0 };

    /// Returns the record of a disk in slot 1 whose queue of 4 entries works, with the next request
    /// at entry 3.
    fn record() -> Virtio {
        let mut virtio = Virtio::default();
        (virtio.device_id[1], virtio.status[1]) = (device_id::BLOCK, 0xf);
        let at = stasis_state::virtio::VIRTIO_QUEUES;
        (virtio.queue_ready[at], virtio.queue_num[at], virtio.queue_next_avail[at]) = (1, 4, 3);
        (virtio.queue_desc[at], virtio.queue_driver[at]) = (TABLE, AVAIL);
        virtio
    }

    /// Returns RAM with these descriptors, and a ring in which the entries 3 and 4 are there:
    /// descriptors 2 and 0.
    fn ram(descriptors: [(u64, u32, u16, u16); 4]) -> Memory<'static> {
        let (mut table, mut ring) = (Box::new([0; PAGE_SIZE]), Box::new([0; PAGE_SIZE]));
        for (n, (address, len, flags, next)) in descriptors.into_iter().enumerate() {
            let entry = &mut table[n * 16..][..16];
            entry[..8].copy_from_slice(&address.to_le_bytes());
            entry[8..12].copy_from_slice(&len.to_le_bytes());
            entry[12..14].copy_from_slice(&flags.to_le_bytes());
            entry[14..].copy_from_slice(&next.to_le_bytes());
        }
        (ring[2], ring[4], ring[10]) = (5, 0, 2);
        memory(RAM..RAM + 0x10000, [(TABLE, table), (AVAIL, ring)])
    }

    fn found(descriptors: [(u64, u32, u16, u16); 4]) -> Result<Vec<Request>, Broken> {
        let (memory, queues) = (ram(descriptors), working(&record()));
        assert_eq!(queues.len(), 1);
        let (id, queue, kind) = queues[0];
        assert_eq!((id, kind), (DISK, device_id::BLOCK));
        let chains = chains(queue, &memory)?;
        chains.iter().map(|chain| request(1, chain, &memory)).collect()
    }

    #[test]
    fn requests_are_found_in_the_order_of_the_ring() {
        let descriptors = [
            (RAM + 0x2000, 16, 1, 1),
            (RAM + 0x3000, 1, 2, 0),
            (RAM + 0x4000, 16, 1, 3),
            (RAM + 0x5000, 512, 2, 0),
        ];
        let request = |head, read, written| Request {
            slot: 1,
            head,
            read: vec![(read, 16)],
            written: vec![written],
        };
        let wanted = [
            request(2, RAM + 0x4000, (RAM + 0x5000, 512)),
            request(0, RAM + 0x2000, (RAM + 0x3000, 1)),
        ];
        assert_eq!(found(descriptors).unwrap(), wanted);
    }

    #[test]
    fn what_can_not_be_right_is_refused() {
        let good = (RAM + 0x2000, 16, 0, 0);
        let beyond = (RAM + 0xfff8, 16, 0, 0);
        assert_eq!(found([good, good, beyond, good]), Err(Broken::NotInRam(RAM + 0xfff8)));
        let endless = (RAM + 0x2000, 16, 1, 2);
        assert_eq!(found([good, good, endless, good]), Err(Broken::Endless));
        let overflow = (u64::MAX, 16, 0, 0);
        assert_eq!(found([good, good, overflow, good]), Err(Broken::NotInRam(u64::MAX)));
    }

    #[test]
    fn memory_that_can_not_be_read_is_not_the_drivers_doing() {
        // A ring of zeros is behind where the device is.
        let memory = Memory::of(RAM..RAM + 0x10000, |address| bail!("no page {address:#x}"));
        let error = format!("{:#}", all_in(memory, working(&record()), "it").unwrap_err());
        assert_eq!(error, "cannot read it: no page 0x40001000");
    }

    #[test]
    fn a_device_that_does_not_work_has_no_requests() {
        let mut virtio = record();
        virtio.status[1] |= 0x40;
        assert_eq!(working(&virtio).len(), 0);
        virtio.status[1] = 0xb;
        assert_eq!(working(&virtio).len(), 0);
    }
}
