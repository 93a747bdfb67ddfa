//! [`Readers`]: those who read what guests send beside the console, each at its own speed.
//!
//! A ring forgets what its guest has sent when another guest comes in its place, or gets its
//! number. What a reader has not read by then is kept for it alone.

use alloc::vec::Vec;

use crate::port::Port;
use crate::ring::{CAPACITY, Ring};

/// What a reader is called by: no two have the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReaderId(u64);

/// Somebody who reads what a guest sends by a port.
#[derive(Debug)]
struct Reader {
    id: ReaderId,
    port: Port,
    /// Bytes that the ring has forgotten and that were not read, as many as a ring has at most.
    left: Vec<u8>,
    /// Number of the bytes of the ring that were read, left for it, or passed over.
    position: u64,
}

/// The readers of all ports.
#[derive(Debug, Default)]
pub(crate) struct Readers {
    all: Vec<Reader>,
    /// How many there were.
    count: u64,
}

impl Readers {
    /// Returns no readers.
    pub const fn new() -> Self {
        Self { all: Vec::new(), count: 0 }
    }

    /// Adds one, who begins with what is kept of what was sent by a port.
    pub fn add(&mut self, port: Port) -> ReaderId {
        self.count += 1;
        let id = ReaderId(self.count);
        self.all.push(Reader { id, port, left: Vec::new(), position: 0 });
        id
    }

    /// Removes one.
    pub fn remove(&mut self, id: ReaderId) {
        self.all.retain(|reader| reader.id != id);
    }

    /// Returns the port that somebody reads.
    pub fn port(&self, id: ReaderId) -> Option<Port> {
        self.all.iter().find(|reader| reader.id == id).map(|reader| reader.port)
    }

    /// Returns the next bytes for a reader, at most `most`: what is left for it, and what the ring
    /// of its port has, if that is given.
    pub fn read(&mut self, id: ReaderId, ring: Option<&Ring>, most: usize) -> Vec<u8> {
        let reader = self.all.iter_mut().find(|reader| reader.id == id);
        let Some(Reader { left, position, .. }) = reader else { return Vec::new() };
        let mut bytes: Vec<u8> = left.drain(..left.len().min(most)).collect();
        if let Some(ring) = ring {
            bytes.extend(ring.read_from(position, most - bytes.len()));
        }
        bytes
    }

    /// Keeps for each reader of a port what it has not read of the ring, which is about to forget
    /// it; of all that is kept for it the newest, as many bytes as the ring has at most. Without
    /// memory for them, they are lost.
    pub fn keep(&mut self, port: Port, ring: &Ring) {
        for Reader { left, position, .. } in
            self.all.iter_mut().filter(|reader| reader.port == port)
        {
            let unread = ring.read_from(position, usize::MAX);
            let surplus = (left.len() + unread.len()).saturating_sub(CAPACITY);
            left.drain(..surplus.min(left.len()));
            if left.try_reserve(unread.len()).is_ok() {
                left.extend(unread);
            }
        }
    }
}
