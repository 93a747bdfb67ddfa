//! [`Message`]: a frame of the machine's, as a client sees it.

use stasis_channel::message::{Progress, Status};
use stasis_channel::{Frame, Kind};

/// What has come from the machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// A part of an answer, for a person. A line may be in several parts.
    Text {
        /// The request.
        id: u16,
        /// The bytes, which are UTF-8 as a whole.
        bytes: Vec<u8>,
    },
    /// A part of an answer of which each line is an object of JSON.
    Rows {
        /// The request.
        id: u16,
        /// The bytes, which are UTF-8 as a whole.
        bytes: Vec<u8>,
    },
    /// How far a request is.
    Progress {
        /// The request.
        id: u16,
        /// How much is done.
        done: u64,
        /// How much there is to do.
        total: u64,
        /// The verb, such as `stored`.
        what: String,
    },
    /// The end of a request or a stream.
    Done {
        /// The request or the stream.
        id: u16,
        /// How it has ended.
        status: Status,
        /// Why, unless it was done.
        why: String,
    },
    /// Something has happened: an object of JSON.
    Event(String),
    /// Bytes of a stream.
    Data {
        /// The stream.
        id: u16,
        /// The bytes.
        bytes: Vec<u8>,
    },
    /// More of a stream can be sent.
    Room {
        /// The stream.
        id: u16,
    },
    /// The machine sends no more of a stream.
    End {
        /// The stream.
        id: u16,
    },
    /// What the console shows, where the channel is on its line.
    Console(Vec<u8>),
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

impl Message {
    /// Returns the message in a frame that is not about the session or a stream's flow; `None` if
    /// there is none.
    pub(crate) fn of(frame: Frame) -> Option<Self> {
        let Frame { kind, id, payload } = frame;
        Some(match kind {
            Kind::Text => Self::Text { id, bytes: payload.to_vec() },
            Kind::Rows => Self::Rows { id, bytes: payload.to_vec() },
            Kind::Progress => {
                let Progress { done, total, what } = Progress::parse(payload)?;
                Self::Progress { id, done, total, what: what.to_owned() }
            }
            Kind::Done => {
                let (status, why) = payload.split_first()?;
                // A status that a later version has is a failure, whatever it is.
                let status = Status::of(*status).unwrap_or(Status::Failed);
                Self::Done { id, status, why: text(why) }
            }
            Kind::Event => Self::Event(text(payload)),
            Kind::Console => Self::Console(payload.to_vec()),
            _ => return None,
        })
    }
}
