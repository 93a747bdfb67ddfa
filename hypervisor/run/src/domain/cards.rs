//! A guest's network cards, as others reach them: frames that come, the link, and what was moved.
//!
//! A frame is put into the guest's memory by whoever brings it. If somebody keeps the guest's lock,
//! or what the card needs is still to be loaded, the frame waits ([`Inbox`]), and a vCPU of the
//! guest's puts it there when it can. So nobody waits for another guest, and no frame is lost to a
//! checkpoint, or because its buffer was not there.

use super::{Domain, Resident};
use crate::network;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use spin::mutex::SpinMutex;
use stasis_cores::sync::LockGuard;
use stasis_devices::virtio::address::Address;
use stasis_devices::virtio::arrivals::{Arrival, Arrivals, Waiting};
use stasis_devices::virtio::net::Traffic;
use stasis_guest::Whole;
use stasis_host::run_state::RunState;
use stasis_memory::GuestMemory;

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
    /// What it has moved. Lost is also what came while the guest did not run, or too much waited
    /// for it, and what it sent under an address that is not its own.
    pub traffic: Traffic,
}

/// What others have brought for a guest's cards: frames that wait, and how many did not get there.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    /// The lock is held while a frame is put there or taken, and no other is taken under it.
    arrivals: SpinMutex<Arrivals>,
    /// [`Arrivals::waiting`]. Changed under the lock of these; read relaxed, for whoever brings one
    /// announces it, and so does who lets them go on.
    waiting: AtomicU8,
    /// Frames that have lost their place to others, or that came while the guest did not run, and
    /// those that it sent under an address that is not its own. Added to and read relaxed: it is a
    /// number for people.
    missed: AtomicU64,
}

impl Inbox {
    /// Returns whether a frame waits that the guest can be given if it is served.
    #[inline]
    pub fn is_ready(&self) -> bool {
        // A test of one bit, on the way into the guest.
        const { assert!(Waiting::Ready as u8 == 1 && Waiting::Held as u8 == 2) };
        self.waiting.load(Ordering::Relaxed) & Waiting::Ready as u8 != 0
    }

    /// Returns whether no frame waits.
    #[inline]
    fn is_empty(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) == Waiting::None as u8
    }

    /// Changes what waits.
    fn change<R>(&self, with: impl FnOnce(&mut Arrivals) -> R) -> R {
        let mut arrivals = self.arrivals.lock();
        let result = with(&mut arrivals);
        self.waiting.store(arrivals.waiting() as u8, Ordering::Relaxed);
        result
    }

    /// Keeps a frame. If there are too many, the oldest one is lost.
    fn keep(&self, slot: u8, frame: &[u8]) {
        let arrival = Arrival::new(slot, frame);
        let is_kept = arrival.is_some_and(|arrival| self.change(|frames| frames.keep(arrival)));
        if !is_kept {
            self.miss();
        }
    }

    /// Takes the frame that has waited longest.
    fn take(&self) -> Option<Arrival> {
        self.change(Arrivals::take)
    }

    /// Puts back the frame that was taken last, or was not kept yet and is the first one.
    fn put_back(&self, arrival: Option<Arrival>) {
        let is_kept = arrival.is_some_and(|arrival| self.change(|frames| frames.put_back(arrival)));
        if !is_kept {
            self.miss();
        }
    }

    /// Makes the frames wait until some of the guest's memory [has arrived](Self::go_on).
    fn hold(&self) {
        self.change(Arrivals::hold);
    }

    /// Notes that some of the guest's memory has arrived. The caller announces it.
    pub fn go_on(&self) {
        self.change(Arrivals::go_on);
    }

    /// Drops all frames: they were for a guest that is no longer.
    pub fn clear(&self) {
        self.change(Arrivals::clear);
    }

    fn miss(&self) {
        self.missed.fetch_add(1, Ordering::Relaxed);
    }
}

impl Domain {
    /// Gives the guest's card in `slot` a frame, behind those that wait. The frame is lost if the
    /// guest does not run, but for memory that it waits for.
    pub(crate) fn receive_frame(&self, slot: u8, frame: &[u8]) {
        let lock = (0..PATIENCE).find_map(|_| {
            core::hint::spin_loop();
            self.resident.try_lock()
        });
        let Some(mut resident) = lock else {
            self.inbox.keep(slot, frame);
            return self.tell();
        };
        if !matches!(resident.state, RunState::Running | RunState::Starved) {
            return self.lose_frame();
        }
        if !resident.is_served() || !self.inbox.is_empty() || resident.frame_must_wait(slot) {
            // Under the lock: what the guest lacks may come at any time, and then it is told.
            self.inbox.keep(slot, frame);
            return;
        }
        self.put_frame(resident, slot, frame);
    }

    /// Gives the guest the frame that has waited longest, if one does, and it can take it. Returns
    /// whether it got one.
    pub(super) fn take_arrival(&self) -> bool {
        let mut resident = self.resident.lock();
        if !resident.is_served() {
            return false;
        }
        let Some(arrival) = self.inbox.take() else { return false };
        if resident.frame_must_wait(arrival.slot) {
            self.inbox.hold();
            self.inbox.put_back(Some(arrival));
            return false;
        }
        self.put_frame(resident, arrival.slot, &arrival.frame);
        true
    }

    /// Puts a frame into the guest's memory, which it can take, and releases the guest's lock.
    fn put_frame(&self, mut resident: LockGuard<'_, Resident>, slot: u8, frame: &[u8]) {
        let (guest, ram) = resident.parts();
        let kick = guest.receive_frame(ram, slot, frame);
        if resident.ram.has_unseen() && resident.ram.lacks_frame() {
            // The guest was served, so it was this frame. It comes before all that wait.
            self.inbox.put_back(Arrival::new(slot, frame));
        }
        self.release(resident, kick);
    }

    /// Counts a frame that was lost beside the cards' own count: for the guest, or by it under an
    /// address that is not its own.
    pub(crate) fn lose_frame(&self) {
        self.inbox.miss();
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
        let mut missed = self.inbox.missed.load(Ordering::Relaxed);
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
