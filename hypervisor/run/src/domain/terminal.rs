//! A guest's terminal, the virtio console, as others reach it: what is typed there, and where a
//! text stands that the guest prints.

use super::Domain;
use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::vec;
use spin::mutex::SpinMutex;
use stasis_devices::virtio::console::MOST_TEXT;
use stasis_guest::Guest;
use stasis_vgic::VcpuMask;

/// Most bytes that wait for a buffer of the guest's.
const MAX_TYPED: usize = 4096;

/// What is between a guest's terminal and those who use it. Its locks are taken behind that of the
/// guest, and nothing is waited for under them.
#[derive(Debug, Default)]
pub(super) struct Terminal {
    /// Bytes that were typed and that the guest has not taken.
    typed: SpinMutex<VecDeque<u8>>,
    /// Place of a text, while nobody uses it.
    place: SpinMutex<Option<Box<[u8]>>>,
}

impl Terminal {
    /// Copies the first bytes that were typed, as many as there are or `into` has room for. Returns
    /// their number.
    pub fn typed(&self, into: &mut [u8]) -> usize {
        let typed = self.typed.lock();
        let pairs = into.iter_mut().zip(typed.iter());
        pairs.map(|(into, byte)| *into = *byte).count()
    }

    /// Drops the first `count` bytes that were typed.
    pub fn take_typed(&self, count: usize) {
        let mut typed = self.typed.lock();
        let count = count.min(typed.len());
        typed.drain(..count);
    }

    /// Takes the place of a text, of [`MOST_TEXT`] bytes. A second core that serves the guest
    /// meanwhile gets another one.
    pub fn take_place(&self) -> Box<[u8]> {
        let place = self.place.lock().take();
        place.unwrap_or_else(|| vec![0; MOST_TEXT].into_boxed_slice())
    }

    /// Keeps the place of a text for the next one.
    pub fn put_back(&self, place: Box<[u8]>) {
        let before = self.place.lock().replace(place);
        drop(before);
    }
}

impl Domain {
    /// Types a byte at the guest's terminal. If there is no room, it is lost, as on a wire.
    pub fn type_at_terminal(&self, byte: u8) {
        let mut typed = self.terminal.typed.lock();
        if typed.len() < MAX_TYPED {
            typed.push_back(byte);
        }
        drop(typed);
        self.news.announce();
        self.kick(VcpuMask::only(0));
    }

    /// Returns how many bytes can be typed at the guest's terminal before one is lost.
    pub fn room_at_terminal(&self) -> usize {
        MAX_TYPED - self.terminal.typed.lock().len()
    }

    /// Drops what was typed at the guest's terminal and for its UART, and the frames that have come
    /// for its cards, and were not taken: they were for a guest that is no longer.
    pub(super) fn drop_arrived(&self) {
        self.terminal.typed.lock().clear();
        self.input.lock().clear();
        self.inbox.clear();
    }

    /// Returns whether the guest has a terminal. A caller that has the guest parked must not call
    /// this: it has the lock that this takes.
    pub fn has_terminal(&self) -> bool {
        self.resident.lock().guest.has_terminal()
    }

    /// Returns whether the guest has a terminal; None if somebody has its lock at the moment.
    pub fn try_has_terminal(&self) -> Option<bool> {
        self.resident.try_lock().map(|resident| resident.guest.has_terminal())
    }

    /// Tells the guest's console of bytes that were typed and that it has not taken.
    pub(super) fn pass_typed(&self, guest: &mut Guest) {
        if !self.terminal.typed.lock().is_empty() {
            guest.note_typed();
        }
    }
}
