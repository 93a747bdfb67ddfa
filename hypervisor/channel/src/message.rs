//! What the payloads of frames say: [`Hello`], [`Welcome`], [`Done`].

use crate::VERSION;
use core::str;

/// How a request or a stream has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Status {
    /// What was asked for is done.
    Done = 0,
    /// The request was refused, or has failed. The text says why.
    Failed = 1,
    /// The command is none, or its arguments are wrong.
    Mistyped = 2,
    /// The request was given up.
    GivenUp = 3,
    /// Too much is under way already.
    Busy = 4,
    /// The frame fits nothing that is under way, or breaks a rule of the channel.
    Protocol = 5,
    /// The line has lost bytes of the stream.
    Lost = 6,
}

impl Status {
    /// Returns the status with this code; `None` if there is none.
    pub fn of(code: u8) -> Option<Self> {
        const ALL: [Status; 7] = [
            Status::Done,
            Status::Failed,
            Status::Mistyped,
            Status::GivenUp,
            Status::Busy,
            Status::Protocol,
            Status::Lost,
        ];
        ALL.get(usize::from(code)).copied()
    }
}

/// Bytes of the nonce.
pub const NONCE: usize = 4;

/// The client wants frames of events.
pub const WANTS_EVENTS: u8 = 1 << 0;

/// The payload of a [`Hello`](crate::Kind::Hello).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hello<'a> {
    /// The lowest version that the client speaks.
    pub lowest: u8,
    /// The highest version that the client speaks.
    pub highest: u8,
    /// What else the client wants: [`WANTS_EVENTS`].
    pub wants: u8,
    /// A random number, which the answer repeats: so nothing that was on the line before can be
    /// taken for it.
    pub nonce: [u8; NONCE],
    /// The client's name.
    pub name: &'a str,
}

impl<'a> Hello<'a> {
    /// Returns what a payload says; `None` if it is too short. A name that is no text is none.
    pub fn parse(payload: &'a [u8]) -> Option<Self> {
        let (&[lowest, highest, wants], rest) = payload.split_first_chunk()?;
        let (&nonce, name) = rest.split_first_chunk()?;
        Some(Self { lowest, highest, wants, nonce, name: str::from_utf8(name).unwrap_or("") })
    }

    /// Returns whether this crate's version is one of the client's.
    pub fn fits(&self) -> bool {
        (self.lowest..=self.highest).contains(&VERSION)
    }
}

/// The payload of a [`Welcome`](crate::Kind::Welcome).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Welcome<'a> {
    /// The version that both sides speak from now on.
    pub version: u8,
    /// The nonce of the hello.
    pub nonce: [u8; NONCE],
    /// A number that is another one after each boot of the machine.
    pub boot: u32,
    /// The machine, in words.
    pub name: &'a str,
}

/// Bytes of a welcome before the name.
const WELCOME_HEAD: usize = 1 + NONCE + 4;

/// Bytes of progress before the verb.
const PROGRESS_HEAD: usize = 16;

impl<'a> Welcome<'a> {
    /// Returns the payload without the name.
    pub fn head(version: u8, nonce: [u8; NONCE], boot: u32) -> [u8; WELCOME_HEAD] {
        let mut head = [version; WELCOME_HEAD];
        head[1..][..NONCE].copy_from_slice(&nonce);
        head[1 + NONCE..].copy_from_slice(&boot.to_le_bytes());
        head
    }

    /// Returns what a payload says; `None` if it is too short.
    pub fn parse(payload: &'a [u8]) -> Option<Self> {
        let (&version, rest) = payload.split_first()?;
        let (&nonce, rest) = rest.split_first_chunk()?;
        let (boot, name) = rest.split_first_chunk()?;
        let name = str::from_utf8(name).unwrap_or("");
        Some(Self { version, nonce, boot: u32::from_le_bytes(*boot), name })
    }
}

/// The payload of a [`Progress`](crate::Kind::Progress).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress<'a> {
    /// How much is done.
    pub done: u64,
    /// How much there is to do.
    pub total: u64,
    /// The verb of what is done, such as `stored`.
    pub what: &'a str,
}

impl<'a> Progress<'a> {
    /// Returns the payload without the verb.
    pub fn head(done: u64, total: u64) -> [u8; PROGRESS_HEAD] {
        let mut head = [0; PROGRESS_HEAD];
        head[..8].copy_from_slice(&done.to_le_bytes());
        head[8..].copy_from_slice(&total.to_le_bytes());
        head
    }

    /// Returns what a payload says; `None` if it is too short.
    pub fn parse(payload: &'a [u8]) -> Option<Self> {
        let (done, rest) = payload.split_first_chunk()?;
        let (total, what) = rest.split_first_chunk()?;
        let (done, total) = (u64::from_le_bytes(*done), u64::from_le_bytes(*total));
        Some(Self { done, total, what: str::from_utf8(what).unwrap_or("") })
    }
}
