//! The uplinks of networks: frames go between the switch and network cards of the machine.
//!
//! A guest's vCPU copies a frame that leaves the machine into a buffer of the card, in its own
//! guest's time; without a free buffer the frame is lost, and nobody waits. A card interrupts core
//! 0 when frames have come. The interrupt is disabled then, and the console's task is woken; it
//! moves up to [`BATCH`] frames in each of its turns, and none beyond its end ([`serve`]), also
//! while a command yields, and enables the interrupt again when all have been moved. So a flood
//! from outside takes the task's share of core 0 and no other, and what is too much is lost in the
//! card.

use crate::{gic, roster};
use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use spin::Once;
use spin::mutex::SpinMutex;
use stasis_devices::virtio::address::Address;
use stasis_devices::virtio::net::Traffic;
use stasis_hw::network_card::{MAX_FRAME, NetworkCard};

const _: () = assert!(MAX_FRAME == stasis_devices::virtio::net::MAX_FRAME);

/// Most frames of a card that are moved in a turn of the console's task.
const BATCH: usize = 32;

/// A card of the machine's that is the uplink of a network.
pub struct Uplink {
    network: String,
    /// INTID of the card's interrupt.
    intid: u32,
    address: Address,
    /// The lock is held while a frame is copied, and no other is taken under it.
    card: SpinMutex<Box<dyn NetworkCard>>,
    sent: AtomicU64,
    received: AtomicU64,
    lost: AtomicU64,
    /// Whether the card's fault was said.
    is_faulty: AtomicBool,
}

/// What an uplink is, and what it has moved.
#[derive(Clone, Debug)]
pub struct Status<'a> {
    /// Name of the network.
    pub network: &'a str,
    /// Address of the card, which nobody uses.
    pub address: Address,
    /// Whether the card works.
    pub works: bool,
    /// What was sent to the outside, came from there, and was lost on the way out.
    pub traffic: Traffic,
}

/// All uplinks, by their numbers. Core 0 makes them once, before there are guests.
static UPLINKS: Once<Vec<Uplink>> = Once::new();

/// Whether cards may have frames. Written and read by core 0 alone, which takes their interrupts;
/// so relaxed.
static HAS_COME: AtomicBool = AtomicBool::new(false);

impl Uplink {
    /// Returns the uplink of a network by this card, whose interrupt is `intid`.
    pub fn new(network: &str, intid: u32, card: Box<dyn NetworkCard>) -> Self {
        Self {
            network: network.into(),
            intid,
            address: card.address(),
            card: SpinMutex::new(card),
            sent: AtomicU64::new(0),
            received: AtomicU64::new(0),
            lost: AtomicU64::new(0),
            is_faulty: AtomicBool::new(false),
        }
    }

    /// Moves frames that have come: one, and more until the turn is over. Returns whether there may
    /// be more.
    fn receive(&self, number: usize, is_over: &impl Fn() -> bool) -> bool {
        self.card.lock().acknowledge();
        let mut frame = [0; MAX_FRAME];
        for _ in 0..BATCH {
            let received = self.card.lock().receive(&mut frame);
            let Some(len) = received else {
                self.say_fault();
                gic::enable(self.intid);
                return false;
            };
            self.received.fetch_add(1, Ordering::Relaxed);
            super::admit(number, &frame[..len]);
            if is_over() {
                return true;
            }
        }
        true
    }

    fn say_fault(&self) {
        let Some(fault) = self.card.lock().fault() else { return };
        if !self.is_faulty.swap(true, Ordering::Relaxed) {
            log::error!("network \"{}\": the uplink is gone: {fault}", self.network);
        }
    }
}

/// Connects the uplinks, and lets their cards interrupt the calling core, which is the console's.
/// Called at most once.
pub fn init(uplinks: Vec<Uplink>) {
    UPLINKS.call_once(|| uplinks);
    for (number, uplink) in all().iter().enumerate() {
        super::SWITCH.lock().connect(&uplink.network, number);
        gic::route_here(uplink.intid);
    }
}

fn all() -> &'static [Uplink] {
    UPLINKS.get().map_or(&[], Vec::as_slice)
}

/// Returns what the uplinks are.
pub fn statuses() -> impl Iterator<Item = Status<'static>> {
    let load = |number: &AtomicU64| number.load(Ordering::Relaxed);
    all().iter().map(move |uplink| Status {
        network: &uplink.network,
        address: uplink.address,
        works: uplink.card.lock().fault().is_none(),
        traffic: Traffic {
            sent: load(&uplink.sent),
            received: load(&uplink.received),
            lost: load(&uplink.lost),
        },
    })
}

/// Sends a frame by the card of this number.
pub(super) fn send(number: usize, frame: &[u8]) {
    let Some(uplink) = all().get(number) else { return };
    let is_sent = uplink.card.lock().send(frame);
    let count = if is_sent { &uplink.sent } else { &uplink.lost };
    count.fetch_add(1, Ordering::Relaxed);
    if !is_sent {
        // A card that was reset for its fault interrupts no more, so nobody else would say it.
        uplink.say_fault();
    }
}

/// Takes the interrupt of a card, which is disabled until all frames have been moved, and wakes the
/// console's task. Returns `false` if it is no card's.
pub(crate) fn take_interrupt(intid: u32) -> bool {
    let is_a_cards = all().iter().any(|uplink| uplink.intid == intid);
    if is_a_cards {
        gic::disable(intid);
        HAS_COME.store(true, Ordering::Relaxed);
        roster::wake_console();
    }
    is_a_cards
}

/// Returns whether the console's task has frames to move.
pub fn has_work() -> bool {
    HAS_COME.load(Ordering::Relaxed)
}

/// Moves frames that have come, for the console's task in its turn, until `is_over` says that the
/// turn is over: the next one may be a window. The caller has no lock but those of guests that are
/// parked, whose frames wait.
#[inline]
pub(crate) fn serve(is_over: impl Fn() -> bool) {
    if has_work() {
        serve_all(is_over);
    }
}

#[cold]
fn serve_all(is_over: impl Fn() -> bool) {
    let mut is_more = false;
    for (number, uplink) in all().iter().enumerate() {
        is_more |= uplink.receive(number, &is_over);
    }
    HAS_COME.store(is_more, Ordering::Relaxed);
}
