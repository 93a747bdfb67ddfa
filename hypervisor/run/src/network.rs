//! The networks of guests: frames go from the guest that sends them into the receive queues of
//! others, by way of one [`Switch`].
//!
//! A frame is moved by the vCPU that has sent it, in its own guest's time, with one lock at a time:
//! that of the sender while the frame is copied out, that of the switch while its ports are looked
//! up, and that of each receiver while the frame is copied in. For a receiver whose lock somebody
//! keeps, such as a checkpoint, the frame waits ([`Domain::receive_frame`]): nobody waits for
//! another guest. What leaves the machine is copied into a buffer of the machine's card, and what
//! comes from there is moved by the console's task ([`uplink`]).

pub mod uplink;

use crate::clock;
use crate::domain::Domain;
use alloc::sync::Arc;
use arrayvec::ArrayVec;
use spin::mutex::SpinMutex;
use stasis_devices::virtio::address::address_of;
use stasis_devices::virtio::switch::{Dropped, Plug, Switch};
use stasis_guest::Guest;

/// The most cards of guests that get a frame for all: whoever is next on a core waits for no more.
pub const MOST: usize = 32;

/// The cards of guests that get a frame.
type Receivers = ArrayVec<(Arc<Domain>, u8), MOST>;

/// All networks. The lock is held for a look-up, and no other is taken under it.
static SWITCH: SpinMutex<Switch<Arc<Domain>>> = SpinMutex::new(Switch::new());

/// Plugs in the network cards of `guest`, which is or will be that of `domain`, in place of those
/// that the domain had.
pub fn plug(domain: &Arc<Domain>, guest: &Guest) {
    let cards = guest.cards().map(|card| Plug {
        slot: card.slot,
        address: card.address,
        network: card.network,
        is_original: card.address == address_of(guest.name(), card.network),
    });
    SWITCH.lock().plug(domain, |other| other.number == domain.number, cards);
}

/// Returns whether a network has more cards than get a frame for all, besides the one that sends
/// it.
pub fn is_crowded(network: &str) -> bool {
    SWITCH.lock().port_count(network) > MOST + 1
}

/// Unplugs the network cards of a guest that is removed.
pub fn unplug(domain: &Domain) {
    SWITCH.lock().unplug(|other| other.number == domain.number);
}

/// Moves a frame that the card in `slot` of the guest in `from` sends. The caller has no lock of a
/// guest but its vCPU's.
pub(crate) fn forward(from: &Domain, slot: u8, frame: &[u8]) {
    let mut receivers = Receivers::new();
    let mut card = None;
    let now = clock::uptime();
    match SWITCH.lock().forward(|other| other.number == from.number, slot, frame, now) {
        Ok(to) => {
            card = to.card;
            receivers.extend(to.ports.take(MOST).map(|port| (port.guest.clone(), port.slot)));
        }
        Err(Dropped::Spoofed) => from.lose_frame(),
        Err(_) => {}
    }
    give(receivers, frame);
    if let Some(card) = card {
        uplink::send(card, frame);
    }
}

/// Moves a frame that has come to the machine's card of this number. The caller has no lock of a
/// guest that runs.
fn admit(card: usize, frame: &[u8]) {
    let mut receivers = Receivers::new();
    if let Ok(ports) = SWITCH.lock().admit(card, frame, clock::uptime()) {
        receivers.extend(ports.take(MOST).map(|port| (port.guest.clone(), port.slot)));
    }
    give(receivers, frame);
}

fn give(receivers: Receivers, frame: &[u8]) {
    for (domain, slot) in receivers {
        domain.receive_frame(slot, frame);
    }
}
