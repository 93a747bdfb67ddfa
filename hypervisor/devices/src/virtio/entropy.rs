//! The entropy device: it fills what its driver gives it with random bytes. VIRTIO 1.2, 5.4.

use super::chain::Measured;
use super::view::Broken;
use super::{Outward, QueueId, Slots};
use crate::context::Memory;

/// The most bytes of one request: a driver that wants more asks again. No request may keep its core
/// for long.
const MOST: usize = 256;

/// Serves a request, and returns whether there may be another one now. A request that no source
/// serves stays where it is.
pub(super) fn serve(
    slots: &mut Slots,
    id: QueueId,
    memory: &mut Memory<'_>,
    outward: &mut impl Outward,
) -> Result<bool, Broken> {
    let Some(chain) = slots.first(id, memory)? else { return Ok(false) };
    let Measured { lengths, written: mut room, .. } = chain.measure(memory)?;
    let wanted = lengths.written.min(MOST as u64) as usize;
    let mut bytes = [0; MOST];
    if !outward.random(&mut bytes[..wanted]) {
        return Ok(false);
    }
    let written = room.write(memory, &bytes[..wanted])?;
    slots.complete(id, memory, &chain, written as u32)?;
    Ok(true)
}
