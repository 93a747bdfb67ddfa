//! [`Pipe`]: the machine's end of a stream. What the stream leads to reads and writes bytes; what has the line makes frames of them.

use crate::flow::{FlowError, Incoming, MAX_DATA, Outgoing};
use crate::frame::Kind;
use alloc::collections::VecDeque;
use alloc::vec::Vec;

/// Bytes that wait in each direction, at most.
pub const WINDOW: usize = 16 << 10;

/// The bytes of a stream that wait to be read, and those that wait to be sent.
#[derive(Debug, Default)]
pub struct Pipe {
    input: VecDeque<u8>,
    output: VecDeque<u8>,
    incoming: Incoming,
    outgoing: Outgoing,
    /// The client sends no more.
    has_ended: bool,
    /// What the stream leads to writes no more; the client is told once all is sent.
    is_finished: bool,
    /// The client was told.
    end_is_sent: bool,
    /// What is granted must be told again.
    must_remind: bool,
}

impl Pipe {
    /// Returns the oldest byte that the client has sent and nobody has read, and takes it.
    pub fn read(&mut self) -> Option<u8> {
        self.input.pop_front()
    }

    /// Reads as many bytes as have come, and returns their number.
    pub fn read_some(&mut self, into: &mut [u8]) -> usize {
        let count = into.len().min(self.input.len());
        into.iter_mut().zip(self.input.drain(..count)).for_each(|(place, byte)| *place = byte);
        count
    }

    /// Returns how many bytes can be read.
    pub fn waiting(&self) -> usize {
        self.input.len()
    }

    /// Returns whether the client has ended its direction, and all of it was read.
    pub fn is_at_end(&self) -> bool {
        self.has_ended && self.input.is_empty()
    }

    /// Writes as many of `bytes` as there is room for, and returns their number.
    pub fn write(&mut self, bytes: &[u8]) -> usize {
        let count = bytes.len().min(self.room());
        self.output.extend(&bytes[..count]);
        count
    }

    /// Returns how many bytes can be written.
    pub fn room(&self) -> usize {
        WINDOW - self.output.len()
    }

    /// Ends the machine's direction behind what was written.
    pub fn finish(&mut self) {
        self.is_finished = true;
    }

    /// Returns whether all that was written is sent.
    pub fn is_sent(&self) -> bool {
        self.output.is_empty()
    }

    /// Takes bytes of the client's, the first of which has this offset.
    ///
    /// # Errors
    ///
    /// [`FlowError`]: bytes are lost, or more came than were granted.
    pub fn receive(&mut self, offset: u32, bytes: &[u8]) -> Result<(), FlowError> {
        self.incoming.take(offset, bytes.len())?;
        self.input.extend(bytes);
        Ok(())
    }

    /// Notes that the client sends no more than these `total` bytes, modulo 2^32.
    ///
    /// # Errors
    ///
    /// [`FlowError`]: not all of them have come.
    pub fn receive_end(&mut self, total: u32) -> Result<(), FlowError> {
        self.incoming.take(total, 0)?;
        self.has_ended = true;
        Ok(())
    }

    /// Notes that bytes up to this offset may be sent.
    pub fn grant(&mut self, limit: u32) {
        self.outgoing.grant(limit);
    }

    /// Makes the next frame tell again what is granted.
    pub fn remind(&mut self) {
        self.must_remind = !self.has_ended;
    }

    /// Returns the next frame that the client must get, as its kind and its payload; `None` if
    /// there is none at the moment.
    pub fn next_frame(&mut self) -> Option<(Kind, Vec<u8>)> {
        let room = WINDOW - self.input.len();
        if !self.has_ended
            && let Some(limit) = self.incoming.grant(room, WINDOW as u32)
        {
            self.must_remind = false;
            return Some((Kind::Grant, limit.to_le_bytes().to_vec()));
        }
        if core::mem::take(&mut self.must_remind) {
            return Some((Kind::Grant, self.incoming.limit().to_le_bytes().to_vec()));
        }
        let len = self.output.len().min(self.outgoing.room()).min(MAX_DATA);
        if len > 0 {
            let mut payload = self.outgoing.send(len).to_le_bytes().to_vec();
            payload.extend(self.output.drain(..len));
            return Some((Kind::Data, payload));
        }
        if self.is_finished && self.output.is_empty() && !self.end_is_sent {
            self.end_is_sent = true;
            return Some((Kind::End, self.outgoing.sent().to_le_bytes().to_vec()));
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_goes_both_ways_within_what_is_granted() {
        let mut pipe = Pipe::default();
        assert_eq!(pipe.next_frame(), Some((Kind::Grant, (WINDOW as u32).to_le_bytes().to_vec())));
        pipe.receive(0, b"abc").unwrap();
        assert_eq!((pipe.read(), pipe.waiting()), (Some(b'a'), 2));
        assert_eq!(pipe.write(&[7; WINDOW + 9]), WINDOW);
        assert_eq!(pipe.next_frame(), None, "nothing was granted");
        pipe.remind();
        assert_eq!(pipe.next_frame(), Some((Kind::Grant, (WINDOW as u32).to_le_bytes().to_vec())));
        assert_eq!(pipe.next_frame(), None);
        pipe.grant(2);
        assert_eq!(pipe.next_frame(), Some((Kind::Data, vec![0, 0, 0, 0, 7, 7])));
        pipe.grant(WINDOW as u32);
        let mut sent = 2;
        while let Some((kind, payload)) = pipe.next_frame() {
            assert_eq!((kind, &payload[..4]), (Kind::Data, &(sent as u32).to_le_bytes()[..]));
            sent += payload.len() - 4;
        }
        assert!(sent == WINDOW && pipe.is_sent());
        pipe.finish();
        assert_eq!(pipe.next_frame(), Some((Kind::End, (WINDOW as u32).to_le_bytes().to_vec())));
        assert_eq!(pipe.next_frame(), None);
    }

    #[test]
    fn an_end_before_all_bytes_have_come_is_a_loss() {
        let mut pipe = Pipe::default();
        pipe.next_frame();
        pipe.receive(0, b"abc").unwrap();
        assert_eq!(pipe.receive_end(4), Err(FlowError::Gap { expected: 3, found: 4 }));
        pipe.receive_end(3).unwrap();
        assert!(!pipe.is_at_end());
        pipe.read_some(&mut [0; 8]);
        assert!(pipe.is_at_end());
    }
}
