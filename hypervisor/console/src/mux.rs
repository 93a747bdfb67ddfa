//! [`Mux`]: which guest has the terminal, and what each guest has sent.

use alloc::string::{String, ToString};
use alloc::vec::Vec;

use crate::ring::Ring;
use crate::terminal::{Terminal, say};

/// Bytes that are shown at once: as many as a UART takes without waiting for the line (the FIFO of a PL011 of revision r1p4).
pub const PIECE: usize = 16;

/// The guest that the terminal is attached to, and the last bytes that each guest has sent.
#[derive(Debug, Default)]
pub struct Mux {
    attached: Option<(usize, String)>,
    /// The bytes of each guest, with the guest's number.
    rings: Vec<(usize, Ring)>,
}

impl Mux {
    /// Returns a multiplexer without an attached guest and without output.
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns the number and the name of the attached guest.
    pub fn attached(&self) -> Option<(usize, &str)> {
        self.attached.as_ref().map(|(guest, name)| (*guest, name.as_str()))
    }

    /// Attaches the terminal to a guest, which is no longer attached to any other.
    pub fn attach(&mut self, guest: usize, name: &str) {
        self.attached = Some((guest, name.to_string()));
    }

    /// Detaches the terminal. Returns the name of the guest that was attached.
    pub fn detach(&mut self) -> Option<String> {
        self.attached.take().map(|(_, name)| name)
    }

    /// Keeps bytes that a guest has sent and that were not shown.
    pub fn keep(&mut self, guest: usize, bytes: &[u8]) {
        self.ring(guest).push(bytes);
    }

    /// Keeps bytes that a guest has sent and that were shown.
    pub fn keep_shown(&mut self, guest: usize, bytes: &[u8]) {
        self.ring(guest).push_seen(bytes);
    }

    /// Returns the last `count` lines that a guest has sent, shown or not.
    pub fn last_lines(&self, guest: usize, count: usize) -> Vec<String> {
        self.kept(guest).map(|ring| ring.last_lines(count)).unwrap_or_default()
    }

    /// Returns what a guest has sent from `position` on, at most `most` bytes of it, shown or not, and moves `position` behind it. Bytes that are not kept any more are passed
    /// over.
    pub fn read_from(&self, guest: usize, position: &mut u64, most: usize) -> Vec<u8> {
        self.kept(guest).map(|ring| ring.read_from(position, most)).unwrap_or_default()
    }

    /// Shows the next piece of what the attached guest has sent and was not shown. Returns whether there is more of it.
    pub fn show(&mut self, terminal: &mut impl Terminal) -> bool {
        let Some((guest, _)) = self.attached else {
            return false;
        };
        let ring = self.ring(guest);
        if ring.lost() > 0 {
            say(terminal, format_args!("[{} bytes before this are lost]\n", ring.lost()));
        }
        ring.show(PIECE, terminal);
        ring.has_unseen()
    }

    /// Leaves out what the attached guest has sent and was not shown, and says how much that is.
    pub fn skip(&mut self, terminal: &mut impl Terminal) {
        let Some((guest, _)) = self.attached else { return };
        match self.ring(guest).skip() {
            0 => {}
            lost => say(terminal, format_args!("\n[{lost} bytes are lost]\n")),
        }
    }

    /// Returns the line that the attached guest has begun, as far as it was shown.
    pub fn begun(&self) -> Vec<u8> {
        let ring = self.attached.as_ref().and_then(|(guest, _)| self.kept(*guest));
        ring.map(Ring::begun).unwrap_or_default()
    }

    /// Returns whether a guest has sent anything that was not shown yet.
    pub fn has_unseen(&self, guest: usize) -> bool {
        self.kept(guest).is_some_and(Ring::has_unseen)
    }

    /// Forgets the bytes of a guest.
    pub fn forget(&mut self, guest: usize) {
        self.rings.retain(|(of, _)| *of != guest);
    }

    fn kept(&self, guest: usize) -> Option<&Ring> {
        self.rings.iter().find(|(of, _)| *of == guest).map(|(_, ring)| ring)
    }

    /// Returns the bytes that are kept of a guest; creates an empty ring for a new guest.
    fn ring(&mut self, guest: usize) -> &mut Ring {
        let known = self.rings.iter().position(|(of, _)| *of == guest);
        let place = known.unwrap_or_else(|| {
            self.rings.push((guest, Ring::default()));
            self.rings.len() - 1
        });
        &mut self.rings[place].1
    }
}
