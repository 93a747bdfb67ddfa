//! The flow of a stream's bytes in one direction: [`Outgoing`] at the side that sends, [`Incoming`]
//! at the side that receives.
//!
//! Both count the bytes from the stream's beginning, modulo 2^32. A frame of data says which byte
//! it begins with, so one that was lost is noticed. A grant says up to which byte the receiver has
//! room, so one that was lost does no harm as soon as another one comes.

use crate::frame::MAX_PAYLOAD;

/// Bytes of the offset before the bytes of a frame of data.
pub const OFFSET: usize = 4;

/// The most bytes of a stream in one frame.
pub const MAX_DATA: usize = MAX_PAYLOAD - OFFSET;

/// The most bytes that a receiver may grant beyond what has come.
pub const MAX_WINDOW: u32 = 1 << 20;

/// The side that sends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outgoing {
    sent: u32,
    limit: u32,
}

impl Outgoing {
    /// Takes a grant: bytes up to `limit` may be sent. One that takes back what was granted, or
    /// grants more than the other side may, has no effect.
    pub fn grant(&mut self, limit: u32) {
        let (new, old) = (limit.wrapping_sub(self.sent), self.room() as u32);
        if new > old && new <= MAX_WINDOW {
            self.limit = limit;
        }
    }

    /// Returns how many bytes may be sent.
    pub fn room(&self) -> usize {
        self.limit.wrapping_sub(self.sent) as usize
    }

    /// Returns how many bytes were sent.
    pub fn sent(&self) -> u32 {
        self.sent
    }

    /// Notes that `len` bytes are sent, which were granted, and returns the offset of the first.
    pub fn send(&mut self, len: usize) -> u32 {
        debug_assert!(len <= self.room(), "only what was granted is sent");
        let offset = self.sent;
        self.sent = self.sent.wrapping_add(len as u32);
        offset
    }
}

/// Why the bytes of a frame of data are not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FlowError {
    /// Bytes before these have not come.
    #[error(
        "the line has lost bytes of the stream: {expected} were expected next, and {found} came"
    )]
    Gap {
        /// Offset of the byte that was expected.
        expected: u32,
        /// Offset of the byte that came.
        found: u32,
    },
    /// The other side has sent more than it was granted.
    #[error("more bytes of the stream came than were granted")]
    NotGranted,
}

/// The side that receives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Incoming {
    received: u32,
    limit: u32,
}

impl Incoming {
    /// Takes `len` bytes from `offset` on.
    ///
    /// # Errors
    ///
    /// [`FlowError`]: the stream has come to its end.
    pub fn take(&mut self, offset: u32, len: usize) -> Result<(), FlowError> {
        if offset != self.received {
            return Err(FlowError::Gap { expected: self.received, found: offset });
        }
        if len > self.limit.wrapping_sub(self.received) as usize {
            return Err(FlowError::NotGranted);
        }
        self.received = self.received.wrapping_add(len as u32);
        Ok(())
    }

    /// Returns how many bytes have come.
    pub fn received(&self) -> u32 {
        self.received
    }

    /// Returns the last grant.
    pub fn limit(&self) -> u32 {
        self.limit
    }

    /// Returns the next grant, if there is room for `room` bytes and that is worth a frame: half of
    /// `window` more than was granted.
    pub fn grant(&mut self, room: usize, window: u32) -> Option<u32> {
        let room = (room as u64).min(window.into()).min(MAX_WINDOW.into()) as u32;
        let granted = self.limit.wrapping_sub(self.received);
        if room < granted.saturating_add(window / 2) {
            return None;
        }
        self.limit = self.received.wrapping_add(room);
        Some(self.limit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_granted_is_neither_sent_nor_taken() {
        let (mut out, mut incoming) = (Outgoing::default(), Incoming::default());
        assert_eq!(out.room(), 0);
        assert_eq!(incoming.take(0, 1), Err(FlowError::NotGranted));
        out.grant(incoming.grant(100, 100).unwrap());
        assert_eq!((out.room(), out.send(60)), (100, 0));
        incoming.take(0, 60).unwrap();
        assert_eq!(incoming.take(60, 41), Err(FlowError::NotGranted));
        assert_eq!(incoming.take(61, 1), Err(FlowError::Gap { expected: 60, found: 61 }));
    }

    #[test]
    fn a_grant_is_made_when_half_of_the_window_is_free_again() {
        let mut incoming = Incoming::default();
        assert_eq!(incoming.grant(100, 100), Some(100));
        incoming.take(0, 40).unwrap();
        assert_eq!(incoming.grant(100, 100), None);
        incoming.take(40, 10).unwrap();
        assert_eq!(incoming.grant(100, 100), Some(150));
        assert_eq!(incoming.grant(100, 100), None);
    }

    #[test]
    fn a_grant_that_takes_back_or_grants_the_world_has_no_effect() {
        let mut out = Outgoing::default();
        out.grant(50);
        out.grant(10);
        out.grant(u32::MAX);
        assert_eq!(out.room(), 50);
    }

    #[test]
    fn a_stream_of_more_than_4_gib_goes_on() {
        let start = u32::MAX - 9;
        let mut out = Outgoing { sent: start, limit: start };
        let mut incoming = Incoming { received: start, limit: start };
        out.grant(incoming.grant(100, 100).unwrap());
        assert_eq!((out.room(), out.send(20)), (100, start));
        incoming.take(start, 20).unwrap();
        assert_eq!((incoming.received(), out.sent()), (10, 10));
    }
}
