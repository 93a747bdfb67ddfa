//! [`Session`]: the machine's side of the channel. It takes frames, keeps to the rules, and returns what is asked for as an [`Action`].
//!
//! A session begins with a hello and ends with the next one: what is under way then is given up.
//! Each request and each stream has an id, which the client chooses and which is free again behind
//! [`Kind::Done`].

use crate::flow::OFFSET;
use crate::frame::{Frame, Kind, MAX_PAYLOAD};
use crate::message::{Hello, NONCE, Status, WANTS_EVENTS, Welcome};
use crate::pipe::Pipe;
use crate::{VERSION, reader::Damage};
use alloc::vec::Vec;
use core::str;

/// The most requests and streams that are under way at a time.
pub const MAX_OPEN: usize = 16;

/// What the machine must do.
#[derive(Debug, PartialEq, Eq)]
pub enum Action<'a> {
    /// Nothing.
    Nothing,
    /// Give up all that is under way, and send the welcome.
    Begin,
    /// Give up all that is under way, and send nothing more.
    Leave,
    /// Say that the machine speaks [`VERSION`] alone.
    Refuse,
    /// Carry out a command.
    Request {
        /// The id of the request or the stream.
        id: u16,
        /// The command line.
        line: &'a str,
    },
    /// Open a stream.
    Open {
        /// The id of the request or the stream.
        id: u16,
        /// What the stream leads to.
        name: &'a str,
    },
    /// Give up the request or the stream with this id.
    Cancel(u16),
    /// Look at the stream with this id: bytes, room or an end have come.
    Look(u16),
    /// Send a pong with this id.
    Pong(u16),
    /// End something that was never begun, with this status.
    End {
        /// The id of the request or the stream.
        id: u16,
        /// How it ends.
        status: Status,
        /// Why, for a person.
        why: &'static str,
    },
}

/// What is under way.
#[derive(Debug)]
struct Open {
    id: u16,
    /// The bytes of a stream; `None` for a request.
    pipe: Option<Pipe>,
}

/// A session, or none until a client has said hello.
#[derive(Debug, Default)]
pub struct Session {
    is_open: bool,
    wants: u8,
    /// The nonce of the last hello.
    nonce: [u8; NONCE],
    open: Vec<Open>,
    /// Number of frames that came damaged since the session began.
    damaged: u32,
}

impl Session {
    /// Returns the state before the first hello.
    pub const fn new() -> Self {
        Self { is_open: false, wants: 0, nonce: [0; NONCE], open: Vec::new(), damaged: 0 }
    }

    /// Returns whether a client has said hello and has not left.
    pub fn is_open(&self) -> bool {
        self.is_open
    }

    /// Returns the payload of the welcome that answers the last hello, of a machine with this name.
    pub fn welcome(&self, boot: u32, name: &str) -> Vec<u8> {
        welcome(self.nonce, boot, name)
    }

    /// Returns the payload of the frame that refuses the last hello.
    pub fn refusal(&self) -> Vec<u8> {
        refusal(self.nonce)
    }

    /// Makes each stream tell again what is granted: the frame that did so may be lost.
    pub fn remind(&mut self) {
        self.open.iter_mut().filter_map(|one| one.pipe.as_mut()).for_each(Pipe::remind);
    }

    /// Returns whether the client wants events.
    pub fn wants_events(&self) -> bool {
        self.is_open && self.wants & WANTS_EVENTS != 0
    }

    /// Returns whether this request or stream is under way.
    pub fn has(&self, id: u16) -> bool {
        self.place(id).is_some()
    }

    /// Returns the bytes of a stream; `None` if no stream has the id.
    pub fn pipe(&mut self, id: u16) -> Option<&mut Pipe> {
        let place = self.place(id)?;
        self.open[place].pipe.as_mut()
    }

    /// Notes that a request or a stream has ended, so that its id is free. Returns whether it was
    /// under way.
    pub fn close(&mut self, id: u16) -> bool {
        let place = self.place(id);
        place.map(|place| self.open.remove(place)).is_some()
    }

    /// Returns the payload of a pong: the damaged frames, then the ids of all that is under way.
    pub fn pong(&self) -> Vec<u8> {
        let ids = self.open.iter().flat_map(|one| one.id.to_le_bytes());
        self.damaged.to_le_bytes().into_iter().chain(ids).collect()
    }

    /// Notes bytes that were no frame.
    pub fn damage(&mut self, _: Damage) {
        self.damaged = self.damaged.saturating_add(1);
    }

    fn place(&self, id: u16) -> Option<usize> {
        self.open.iter().position(|one| one.id == id)
    }

    /// Takes a frame of the client's.
    pub fn take<'a>(&mut self, frame: Frame<'a>) -> Action<'a> {
        let Frame { kind, id, payload } = frame;
        match kind {
            Kind::Hello => self.hello(payload),
            // Of a client that has gone, or one that does not know that the machine was reset.
            _ if !self.is_open => Action::Nothing,
            Kind::Bye => {
                *self = Self::new();
                Action::Leave
            }
            Kind::Request => self.begin(id, payload, false),
            Kind::Open => self.begin(id, payload, true),
            Kind::Cancel if self.has(id) => Action::Cancel(id),
            Kind::Ping => Action::Pong(id),
            Kind::Data | Kind::Grant | Kind::End => self.stream(kind, id, payload),
            // What has ended in the same moment, and what only a machine sends.
            _ => Action::Nothing,
        }
    }

    fn hello(&mut self, payload: &[u8]) -> Action<'static> {
        *self = Self::new();
        let Some(hello) = Hello::parse(payload) else { return Action::Refuse };
        self.nonce = hello.nonce;
        if !hello.fits() {
            return Action::Refuse;
        }
        (self.is_open, self.wants) = (true, hello.wants);
        Action::Begin
    }

    fn begin<'a>(&mut self, id: u16, payload: &'a [u8], is_stream: bool) -> Action<'a> {
        let refuse = |status, why| Action::End { id, status, why };
        if id == 0 {
            return refuse(Status::Protocol, "0 is nobody's id");
        }
        if self.has(id) {
            // The answer would be taken for that of the one that is under way.
            return Action::Nothing;
        }
        if self.open.len() >= MAX_OPEN {
            return refuse(Status::Busy, "too many requests and streams are under way");
        }
        let Ok(text) = str::from_utf8(payload) else {
            return refuse(Status::Mistyped, "the command is no UTF-8");
        };
        self.open.push(Open { id, pipe: is_stream.then(Pipe::default) });
        match is_stream {
            true => Action::Open { id, name: text },
            false => Action::Request { id, line: text },
        }
    }

    fn stream(&mut self, kind: Kind, id: u16, payload: &[u8]) -> Action<'static> {
        let end = |status, why| Action::End { id, status, why };
        let Some(pipe) = self.pipe(id) else { return Action::Nothing };
        let Some((number, bytes)) = payload.split_first_chunk::<OFFSET>() else {
            return end(Status::Protocol, "the frame is too short");
        };
        let number = u32::from_le_bytes(*number);
        let taken = match kind {
            Kind::Data => pipe.receive(number, bytes),
            Kind::Grant => {
                pipe.grant(number);
                Ok(())
            }
            _ => pipe.receive_end(number),
        };
        match taken {
            Ok(()) => Action::Look(id),
            Err(_) => end(
                Status::Lost,
                "the line has lost bytes of the stream, or more came than were granted",
            ),
        }
    }
}

/// Returns the payload of a welcome: its head and as much of `name` as there is room for.
pub fn welcome(nonce: [u8; NONCE], boot: u32, name: &str) -> Vec<u8> {
    let head = Welcome::head(VERSION, nonce, boot);
    head.into_iter().chain(name.bytes()).take(MAX_PAYLOAD).collect()
}

/// Returns the payload of a frame that refuses a hello with this nonce.
pub fn refusal(nonce: [u8; NONCE]) -> Vec<u8> {
    [VERSION, VERSION].into_iter().chain(nonce).collect()
}

#[cfg(test)]
mod tests;
