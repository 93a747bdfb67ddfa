//! The console device: a second terminal of a guest's, for programs. VIRTIO 1.2, 5.3.
//!
//! The device has one port. What a guest writes is kept outside of it, whoever reads; nothing is
//! held back for a reader, for a Linux spins until its text is taken. What is typed waits outside
//! until the guest has a buffer for it.

use stasis_state::virtio::{Virtio, device_id};

use super::chain::Measured;
use super::view::Broken;
use super::{Outward, QueueId, Slots};
use crate::context::Memory;

/// What the terminal of a guest is called in its record.
pub(super) const NAME: &str = "terminal";
/// The most bytes of a request that are kept: its last ones. As many are kept of all that a guest
/// has written.
pub const MOST_TEXT: usize = 16 << 10;
/// The most typed bytes that are put into one buffer.
const MOST_TYPED: usize = 256;

/// The queues' numbers.
const RECEIVE: u8 = 0;
const TRANSMIT: u8 = 1;

/// Serves a request of a queue, and returns whether there may be another one now.
pub(super) fn serve(
    slots: &mut Slots,
    id: QueueId,
    memory: &mut Memory<'_>,
    outward: &mut impl Outward,
) -> Result<bool, Broken> {
    match id.queue {
        TRANSMIT => transmit(slots, id, memory, outward),
        RECEIVE => receive(slots, id, memory, outward),
        _ => Ok(false),
    }
}

fn transmit(
    slots: &mut Slots,
    id: QueueId,
    memory: &mut Memory<'_>,
    outward: &mut impl Outward,
) -> Result<bool, Broken> {
    let Some(chain) = slots.first(id, memory)? else { return Ok(false) };
    let Measured { lengths, read: mut text, .. } = chain.measure(memory)?;
    let kept = lengths.read.min(MOST_TEXT as u64);
    text.skip(memory, lengths.read - kept)?;
    text.read(memory, outward.text(kept as usize))?;
    slots.complete(id, memory, &chain, 0)?;
    // Not before: a request that is not completed is done again.
    outward.print(kept as usize);
    Ok(true)
}

fn receive(
    slots: &mut Slots,
    id: QueueId,
    memory: &mut Memory<'_>,
    outward: &mut impl Outward,
) -> Result<bool, Broken> {
    let Some(chain) = slots.first(id, memory)? else { return Ok(false) };
    let mut typed = [0; MOST_TYPED];
    let count = outward.typed(&mut typed);
    if count == 0 {
        return Ok(false);
    }
    let written = chain.to_write().write(memory, &typed[..count])?;
    if written == 0 {
        return Err(Broken::Short);
    }
    slots.complete(id, memory, &chain, written as u32)?;
    outward.take_typed(written);
    Ok(true)
}

impl Slots {
    /// Returns whether the guest has a terminal.
    pub fn has_terminal(&self) -> bool {
        terminal(&self.record).is_some()
    }

    /// Notes that something was typed at the guest's terminal.
    pub fn note_typed(&mut self) {
        if let Some(n) = terminal(&self.record) {
            self.notify(n, RECEIVE.into());
        }
    }
}

/// Returns the slot of the guest's terminal.
fn terminal(record: &Virtio) -> Option<usize> {
    record.slots().find(|(_, id)| *id == device_id::CONSOLE).map(|(n, _)| n)
}
