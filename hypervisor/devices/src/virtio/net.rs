//! The network device: a guest's network card. VIRTIO 1.2, 5.1.
//!
//! What a guest sends is taken frame by frame ([`serve`]) and handed to whoever has the network.
//! What comes for it is put into its receive queue at once ([`Slots::receive`]); a frame for which
//! there is no buffer is lost, as on a wire.

use stasis_state::virtio::{Virtio, device_id};

use super::address::{ADDRESS, Address};
use super::chain::Measured;
use super::config::Config;
use super::status::{Interrupt, Status};
use super::view::Broken;
use super::{Outward, QueueId, Slots};
use crate::context::Memory;

/// Bytes of the longest frame: 1500 and the header, with a tag of 802.1Q.
pub const MAX_FRAME: usize = 1518;
/// Bytes of the shortest frame: both addresses and the type.
const MIN_FRAME: usize = 14;
/// Bytes of the header before each frame.
const HEADER: u64 = 12;

/// The queues' numbers.
pub(super) const RECEIVE: u8 = 0;
const TRANSMIT: u8 = 1;
const CONTROL: u8 = 2;

/// Features: MTU, MAC, STATUS, CTRL_VQ, GUEST_ANNOUNCE.
pub(super) const FEATURES: u64 = 1 << 3 | 1 << 5 | 1 << 16 | 1 << 17 | GUEST_ANNOUNCE;
const GUEST_ANNOUNCE: u64 = 1 << 21;
/// Value of `mtu`.
const MTU: u16 = 1500;

/// Bits of `status`.
pub(super) const LINK_UP: u16 = 1;
const ANNOUNCE: u16 = 2;
/// Class of the command by which the driver says that it has announced itself.
const CLASS_ANNOUNCE: u8 = 3;

/// Frames of a network card since its guest was made here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Frames that the guest has sent.
    pub sent: u64,
    /// Frames that were put into the guest's buffers.
    pub received: u64,
    /// Frames that came while the guest had no buffer for them.
    pub lost: u64,
}

/// A guest's network card.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Card<'a> {
    /// Slot of the device.
    pub slot: u8,
    /// Address of the card, which the guest may have overridden.
    pub address: Address,
    /// Name of the network.
    pub network: &'a str,
    /// Whether its link is up.
    pub is_up: bool,
    /// What it has moved.
    pub traffic: Traffic,
}

/// Returns whether the link of the card in slot `n` is up.
fn is_up(record: &Virtio, n: usize) -> bool {
    record.net_status[n] & LINK_UP != 0
}

/// Sets the links of all network cards of a guest up or down, as if their cables were plugged in or
/// pulled out, and tells the drivers.
pub fn set_links(record: &mut Virtio, up: bool) {
    for n in 0..record.device_id.len() {
        if record.device_id[n] == device_id::NETWORK && is_up(record, n) != up {
            record.net_status[n] ^= LINK_UP;
            tell_of_status(record, n);
        }
    }
}

/// Tells the driver of the card in slot `n` that `status` has changed, if it drives the card.
fn tell_of_status(record: &mut Virtio, n: usize) {
    record.config_generation[n] = record.config_generation[n].wrapping_add(1);
    if record.status[n] & Status::DRIVER_OK != 0 {
        record.interrupt_status[n] |= Interrupt::CONFIG;
    }
}

/// Returns the configuration of the card in slot `n`.
pub(super) fn config(record: &Virtio, n: usize) -> Config {
    let mut config = Config::zeros(12);
    config.set(0, &record.mac[n].to_le_bytes()[..ADDRESS]);
    config.set(6, &record.net_status[n].to_le_bytes());
    config.set(8, &1u16.to_le_bytes());
    config.set(10, &MTU.to_le_bytes());
    config
}

/// Serves a request of a queue, and returns whether there may be another one now.
pub(super) fn serve(
    slots: &mut Slots,
    id: QueueId,
    memory: &mut Memory<'_>,
    outward: &mut impl Outward,
) -> Result<bool, Broken> {
    match id.queue {
        TRANSMIT => transmit(slots, id, memory, outward),
        CONTROL => control(slots, id, memory),
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
    let Measured { lengths, read: mut bytes, .. } = chain.measure(memory)?;
    let len = lengths.read.saturating_sub(HEADER);
    let n = usize::from(id.slot);
    // What is no frame is lost, as on a wire; so is what is sent without one.
    let frame = usize::try_from(len).ok().filter(|len| (MIN_FRAME..=MAX_FRAME).contains(len));
    let frame = frame.filter(|_| is_up(&slots.record, n));
    if let Some(len) = frame {
        bytes.skip(memory, HEADER)?;
        bytes.read(memory, outward.frame(len))?;
    }
    slots.complete(id, memory, &chain, 0)?;
    // Not before: a request that is not completed is done again.
    if let Some(len) = frame {
        outward.send(id.slot, len);
        slots.traffic[n].sent += 1;
    }
    // Behind the last one, another step would find no more: the driver notifies for what it has
    // published since.
    Ok(!chain.is_last)
}

/// Answers a command: the driver has announced itself. There are no others.
fn control(slots: &mut Slots, id: QueueId, memory: &mut Memory<'_>) -> Result<bool, Broken> {
    let Some(chain) = slots.first(id, memory)? else { return Ok(false) };
    let mut command = [0; 2];
    chain.to_read().read(memory, &mut command)?;
    let is_known = command == [CLASS_ANNOUNCE, 0];
    if is_known {
        slots.record.net_status[usize::from(id.slot)] &= !ANNOUNCE;
    }
    let written = chain.to_write().write(memory, &[u8::from(!is_known)])?;
    slots.complete(id, memory, &chain, written as u32)?;
    Ok(true)
}

impl Slots {
    /// Returns the network cards.
    pub fn cards(&self) -> impl Iterator<Item = Card<'_>> {
        let cards = self.record.slots().filter(|(_, id)| *id == device_id::NETWORK);
        cards.map(|(n, _)| {
            let [a, b, c, d, e, f, ..] = self.record.mac[n].to_le_bytes();
            Card {
                slot: n as u8,
                address: [a, b, c, d, e, f],
                network: self.record.name_text(n),
                is_up: is_up(&self.record, n),
                traffic: self.traffic[n],
            }
        })
    }

    /// Sets the links of all network cards up or down, as [`set_links`] says.
    pub fn set_links(&mut self, up: bool) {
        set_links(&mut self.record, up);
    }

    /// Puts a frame that has come for the card in `slot` into its receive queue. Returns whether
    /// there was a buffer for it. If no [frame of memory](Broken::NoFrame) is free for that, it is
    /// not lost: the caller keeps it. Without a link, nothing comes.
    pub fn receive(&mut self, slot: u8, memory: &mut Memory<'_>, frame: &[u8]) -> bool {
        let id = QueueId { slot, queue: RECEIVE };
        let n = usize::from(slot);
        if self.record.device_id.get(n) != Some(&device_id::NETWORK) || !is_up(&self.record, n) {
            return false;
        }
        match self.put(id, memory, frame) {
            Ok(true) => {
                self.traffic[n].received += 1;
                return true;
            }
            Err(Broken::NoFrame) => return false,
            // The driver has changed the request behind the look at what it needs.
            Ok(false) | Err(Broken::NotThere) => {}
            Err(_) => self.fail(n),
        }
        self.traffic[n].lost += 1;
        false
    }

    fn put(&mut self, id: QueueId, memory: &mut Memory<'_>, frame: &[u8]) -> Result<bool, Broken> {
        let Some(chain) = self.first(id, memory)? else { return Ok(false) };
        // num_buffers is 1.
        let mut header = [0; HEADER as usize];
        header[10] = 1;
        let mut bytes = chain.to_write();
        let written = bytes.write(memory, &header)? + bytes.write(memory, frame)?;
        if written < header.len() + frame.len() {
            return Err(Broken::Short);
        }
        self.complete(id, memory, &chain, written as u32)?;
        Ok(true)
    }

    /// Makes the drivers of network cards announce their guest to their networks: after a resume,
    /// when these may know it elsewhere.
    pub fn announce(&mut self) {
        let record = &mut self.record;
        for n in 0..record.device_id.len() {
            if record.driver_features[n] & GUEST_ANNOUNCE == 0
                || record.device_id[n] != device_id::NETWORK
            {
                continue;
            }
            record.net_status[n] |= ANNOUNCE;
            tell_of_status(record, n);
        }
    }
}
