//! [`Mux`]: which port of which guest has the console, and what each guest has sent.

use alloc::string::{String, ToString};
use alloc::vec::Vec;

pub use crate::port::Port;
use crate::readers::{ReaderId, Readers};
use crate::ring::Ring;
use crate::terminal::{Terminal, say};

/// Bytes that are shown at once: as many as a UART takes without waiting for the line (the FIFO of
/// a PL011 of revision r1p4).
pub const PIECE: usize = 16;

/// The port that the console is attached to, and the last bytes that each guest has sent.
#[derive(Debug, Default)]
pub struct Mux {
    attached: Option<(Port, String)>,
    /// The bytes of each port.
    rings: Vec<(Port, Ring)>,
    readers: Readers,
}

impl Mux {
    /// Returns a multiplexer without an attached guest and without output.
    pub const fn new() -> Self {
        Self { attached: None, rings: Vec::new(), readers: Readers::new() }
    }

    /// Returns the attached port, and the name of its guest.
    pub fn attached(&self) -> Option<(Port, &str)> {
        self.attached.as_ref().map(|(port, name)| (*port, name.as_str()))
    }

    /// Attaches the console to a port of the guest with this name. It is no longer attached to any
    /// other.
    pub fn attach(&mut self, port: Port, name: &str) {
        self.attached = Some((port, name.to_string()));
    }

    /// Detaches the console. Returns the name of the guest that was attached.
    pub fn detach(&mut self) -> Option<String> {
        self.attached.take().map(|(_, name)| name)
    }

    /// Keeps bytes that a guest has sent and that were not shown.
    #[inline(never)]
    pub fn keep(&mut self, port: Port, bytes: &[u8]) {
        self.ring(port).push(bytes);
    }

    /// Returns the last `count` lines that a guest has sent, shown or not.
    pub fn last_lines(&self, port: Port, count: usize) -> Vec<String> {
        self.kept(port).map(|ring| ring.last_lines(count)).unwrap_or_default()
    }

    /// Adds one who reads what a guest sends, and begins with what is kept of it.
    pub fn add_reader(&mut self, port: Port) -> ReaderId {
        self.readers.add(port)
    }

    /// Removes a reader.
    pub fn remove_reader(&mut self, id: ReaderId) {
        self.readers.remove(id);
    }

    /// Returns the next bytes for a reader, at most `most`, whether they were shown or not. Bytes
    /// that are not kept any more are passed over. Of a guest that `is_gone`, these are the bytes
    /// that were left for the reader: another guest may have its number.
    pub fn read(&mut self, id: ReaderId, is_gone: bool, most: usize) -> Vec<u8> {
        let port = self.readers.port(id).filter(|_| !is_gone);
        let ring = self.rings.iter().find(|(of, _)| Some(*of) == port).map(|(_, ring)| ring);
        self.readers.read(id, ring, most)
    }

    /// Shows the next piece of what the attached guest has sent and was not shown. Returns whether
    /// there is more of it.
    pub fn show(&mut self, terminal: &mut impl Terminal) -> bool {
        let Some((port, _)) = self.attached else {
            return false;
        };
        let ring = self.ring(port);
        if ring.lost() > 0 {
            say(terminal, format_args!("[{} bytes before this are lost]\n", ring.lost()));
        }
        ring.show(PIECE, terminal);
        ring.has_unseen()
    }

    /// Leaves out what the attached guest has sent and was not shown, and says how much that is.
    pub fn skip(&mut self, terminal: &mut impl Terminal) {
        let Some((port, _)) = self.attached else { return };
        match self.ring(port).skip() {
            0 => {}
            lost => say(terminal, format_args!("\n[{lost} bytes are lost]\n")),
        }
    }

    /// Returns the line that the attached guest has begun, as far as it was shown.
    pub fn begun(&self) -> Vec<u8> {
        let ring = self.attached.as_ref().and_then(|(port, _)| self.kept(*port));
        ring.map(Ring::begun).unwrap_or_default()
    }

    /// Returns whether a guest has sent anything that was not shown yet.
    pub fn has_unseen(&self, port: Port) -> bool {
        self.kept(port).is_some_and(Ring::has_unseen)
    }

    /// Forgets the bytes of a guest. Readers get what they have not read, and all that comes next.
    pub fn forget(&mut self, guest: usize) {
        for (port, ring) in self.rings.iter_mut().filter(|(of, _)| of.guest == guest) {
            self.readers.keep(*port, ring);
            ring.forget();
        }
    }

    fn kept(&self, port: Port) -> Option<&Ring> {
        self.rings.iter().find(|(of, _)| *of == port).map(|(_, ring)| ring)
    }

    /// Returns the bytes that are kept of a port; creates an empty ring for a new one.
    #[inline(always)]
    pub(super) fn ring(&mut self, port: Port) -> &mut Ring {
        let known = self.rings.iter().position(|(of, _)| *of == port);
        let place = known.unwrap_or_else(|| self.add(port));
        &mut self.rings[place].1
    }

    /// Creates an empty ring for a port, and returns its place.
    #[inline(never)]
    fn add(&mut self, port: Port) -> usize {
        self.rings.push((port, Ring::new()));
        self.rings.len() - 1
    }
}
