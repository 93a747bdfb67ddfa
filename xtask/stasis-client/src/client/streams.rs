//! The streams of a session: bytes in both directions, as many as the other side has room for.

use stasis_channel::Kind;
use stasis_channel::flow::{Incoming, MAX_DATA, Outgoing};

use super::Client;
use crate::{Error, Message, Status};

/// Bytes of a stream that the machine may send before the client has taken any.
const WINDOW: u32 = 64 << 10;

/// The flow of a stream.
#[derive(Debug, Default)]
pub(super) struct Flow {
    pub(super) incoming: Incoming,
    pub(super) outgoing: Outgoing,
}

impl Client {
    /// Opens a stream, such as `attach linux`, and returns its id.
    ///
    /// # Errors
    ///
    /// The connection is lost.
    pub fn open(&mut self, name: &str) -> Result<u16, Error> {
        let id = self.next_id();
        self.send(Kind::Open, id, name.as_bytes())?;
        let mut flow = Flow::default();
        let grant = flow.incoming.grant(WINDOW as usize, WINDOW);
        self.flows.insert(id, flow);
        if let Some(limit) = grant {
            self.send(Kind::Grant, id, &limit.to_le_bytes())?;
        }
        Ok(id)
    }

    /// Returns how many bytes of a stream can be sent now.
    pub fn room(&self, id: u16) -> usize {
        self.flows.get(&id).map_or(0, |flow| flow.outgoing.room())
    }

    /// Sends as many of `bytes` as the machine has room for, and returns their number.
    ///
    /// # Errors
    ///
    /// The connection is lost.
    pub fn write(&mut self, id: u16, bytes: &[u8]) -> Result<usize, Error> {
        let count = bytes.len().min(self.room(id));
        for piece in bytes[..count].chunks(MAX_DATA) {
            let Some(flow) = self.flows.get_mut(&id) else { break };
            let mut payload = flow.outgoing.send(piece.len()).to_le_bytes().to_vec();
            payload.extend_from_slice(piece);
            self.send(Kind::Data, id, &payload)?;
        }
        Ok(count)
    }

    /// Says that this side sends no more of a stream.
    ///
    /// # Errors
    ///
    /// The connection is lost.
    pub fn end(&mut self, id: u16) -> Result<(), Error> {
        let sent = self.flows.get(&id).map_or(0, |flow| flow.outgoing.sent());
        self.send(Kind::End, id, &sent.to_le_bytes())
    }

    pub(super) fn take_end(&mut self, id: u16, payload: &[u8]) {
        let Some((total, _)) = payload.split_first_chunk() else { return };
        let Some(flow) = self.flows.get_mut(&id) else { return };
        match flow.incoming.take(u32::from_le_bytes(*total), 0) {
            Ok(()) => self.messages.push_back(Message::End { id }),
            Err(error) => self.lose(id, &error.to_string()),
        }
    }

    /// Ends a stream of which the line has lost something.
    fn lose(&mut self, id: u16, why: &str) {
        self.flows.remove(&id);
        let (status, why) = (Status::Lost, why.to_owned());
        self.messages.push_back(Message::Done { id, status, why });
    }

    pub(super) fn take_data(&mut self, id: u16, payload: &[u8]) {
        let Some((offset, bytes)) = payload.split_first_chunk() else { return };
        let Some(flow) = self.flows.get_mut(&id) else { return };
        if let Err(error) = flow.incoming.take(u32::from_le_bytes(*offset), bytes.len()) {
            self.lose(id, &error.to_string());
            return;
        }
        self.messages.push_back(Message::Data { id, bytes: bytes.to_vec() });
        if let Some(limit) = flow.incoming.grant(WINDOW as usize, WINDOW) {
            // A connection that is lost is found when it is read next.
            let _ = self.send(Kind::Grant, id, &limit.to_le_bytes());
        }
    }
}
