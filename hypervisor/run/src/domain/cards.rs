//! A guest's network cards, as others reach them: frames that come, the link, and what was moved.

use super::Domain;
use crate::network;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};
use stasis_devices::virtio::address::Address;
use stasis_devices::virtio::net::Traffic;
use stasis_guest::Whole;

/// Tries to get the lock of a guest for which a frame has come: as many as an answer to one of its
/// exits takes.
const PATIENCE: usize = 1000;

/// A network card of a guest, as it is now.
#[derive(Clone, Debug)]
pub struct Card {
    /// Name of the network.
    pub network: String,
    /// Address of the card, which the guest may have overridden.
    pub address: Address,
    /// Whether its link is up.
    pub is_up: bool,
    /// What it has moved. Lost is also what came while the guest did not run, and what it sent
    /// under an address that is not its own.
    pub traffic: Traffic,
}

/// The number of frames for a guest that came while it did not run or somebody kept its lock, and
/// of those that it sent under an address that is not its own. Added to and read relaxed: it is a
/// number for people.
#[derive(Debug, Default)]
pub(super) struct Missed(AtomicU64);

impl Domain {
    /// Gives the guest's card in `slot` a frame. It is lost if the guest does not run, or somebody
    /// keeps its lock.
    pub(crate) fn receive_frame(&self, slot: u8, frame: &[u8]) {
        let lock = (0..PATIENCE).find_map(|_| {
            core::hint::spin_loop();
            self.resident.try_lock()
        });
        let Some(mut resident) = lock.filter(|resident| resident.is_served()) else {
            self.lose_frame();
            return;
        };
        let (guest, ram) = resident.parts();
        let kick = guest.receive_frame(ram, slot, frame);
        self.release(resident, kick);
    }

    /// Counts a frame that was lost beside the cards' own count: for the guest, or by it under an
    /// address that is not its own.
    pub(crate) fn lose_frame(&self) {
        self.missed.0.fetch_add(1, Ordering::Relaxed);
    }

    /// Plugs the network cards of a guest that does not run yet into their networks.
    pub fn plug_in(self: &Arc<Self>) {
        network::plug(self, &self.resident.lock().guest);
    }

    /// Sets the links of the guest's network cards up or down, and tells the guest. Panics if the
    /// caller has the guest parked.
    pub fn set_links(&self, up: bool) {
        let kick = self.resident.lock().guest.set_links(up);
        self.kick(kick);
    }

    /// Returns the guest's network cards. What was missed counts for the first one. Panics if the
    /// caller has the guest parked.
    pub fn cards(&self) -> Vec<Card> {
        let mut missed = self.missed.0.load(Ordering::Relaxed);
        let resident = self.resident.lock();
        let cards = resident.guest.cards().map(|card| {
            let lost = card.traffic.lost + core::mem::take(&mut missed);
            Card {
                network: card.network.to_string(),
                address: card.address,
                is_up: card.is_up,
                traffic: Traffic { lost, ..card.traffic },
            }
        });
        cards.collect()
    }
}
