//! Which guest has the terminal, and what each has sent.

use alloc::string::{String, ToString};
use alloc::vec::Vec;

use crate::ring::Ring;
use crate::terminal::{Terminal, say};

/// Bytes that are shown at once: what a UART takes without waiting for the line (a PL011's FIFO of revision r1p4).
pub const PIECE: usize = 16;

/// Which guest is attached, and what each has sent last.
#[derive(Debug, Default)]
pub struct Mux {
    attached: Option<(usize, String)>,
    /// Each with its guest's number.
    rings: Vec<(usize, Ring)>,
}

impl Mux {
    /// Nobody is attached, and nothing kept.
    pub fn new() -> Self {
        Self::default()
    }

    /// The attached guest and its name.
    pub fn attached(&self) -> Option<(usize, &str)> {
        self.attached.as_ref().map(|(guest, name)| (*guest, name.as_str()))
    }

    /// Attaches a guest.
    pub fn attach(&mut self, guest: usize, name: &str) {
        self.attached = Some((guest, name.to_string()));
    }

    /// Detaches. Returns the name of the guest that was attached.
    pub fn detach(&mut self) -> Option<String> {
        self.attached.take().map(|(_, name)| name)
    }

    /// Keeps what a guest has sent while it was not shown.
    pub fn keep(&mut self, guest: usize, bytes: &[u8]) {
        self.ring(guest).push(bytes);
    }

    /// Keeps what a guest has sent and was shown.
    pub fn keep_shown(&mut self, guest: usize, bytes: &[u8]) {
        self.ring(guest).push_seen(bytes);
    }

    /// The last lines that a guest has sent, shown or not.
    pub fn last_lines(&self, guest: usize, count: usize) -> Vec<String> {
        self.kept(guest).map(|ring| ring.last_lines(count)).unwrap_or_default()
    }

    /// Shows a piece of what the attached guest has sent while it was not shown, and returns whether there is more of it.
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

    /// Passes over what the attached guest has sent that was not shown, and says how much that is.
    pub fn skip(&mut self, terminal: &mut impl Terminal) {
        let Some((guest, _)) = self.attached else { return };
        match self.ring(guest).skip() {
            0 => {}
            lost => say(terminal, format_args!("\n[{lost} bytes are lost]\n")),
        }
    }

    /// The line that the attached guest has begun, as far as it was shown.
    pub fn begun(&self) -> Vec<u8> {
        let ring = self.attached.as_ref().and_then(|(guest, _)| self.kept(*guest));
        ring.map(Ring::begun).unwrap_or_default()
    }

    /// Whether a guest has sent anything that was not shown yet.
    pub fn has_unseen(&self, guest: usize) -> bool {
        self.kept(guest).is_some_and(Ring::has_unseen)
    }

    /// Forgets what was kept of a guest.
    pub fn forget(&mut self, guest: usize) {
        self.rings.retain(|(of, _)| *of != guest);
    }

    fn kept(&self, guest: usize) -> Option<&Ring> {
        self.rings.iter().find(|(of, _)| *of == guest).map(|(_, ring)| ring)
    }

    /// What is kept of a guest: nothing yet, if it is a new one.
    fn ring(&mut self, guest: usize) -> &mut Ring {
        let known = self.rings.iter().position(|(of, _)| *of == guest);
        let place = known.unwrap_or_else(|| {
            self.rings.push((guest, Ring::default()));
            self.rings.len() - 1
        });
        &mut self.rings[place].1
    }
}
