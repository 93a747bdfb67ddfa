//! [`Frame`]: the unit of the channel, and how it becomes bytes.

use crate::cobs;
use crc::{CRC_32_ISO_HDLC, Crc, NoTable};

/// The most bytes of a frame's payload.
pub const MAX_PAYLOAD: usize = 1024;

/// Bytes of a frame before its payload: the kind and the id.
pub(crate) const HEAD: usize = 3;

/// Bytes of a frame behind its payload: the CRC.
pub(crate) const TAIL: usize = 4;

/// The most bytes of a frame without its delimiters.
pub const MAX_ENCODED: usize = cobs::encoded_len(HEAD + MAX_PAYLOAD + TAIL);

/// The byte before and behind each frame.
pub const DELIMITER: u8 = 0;

/// The CRC-32 of zlib, PNG and Ethernet, which every language has at hand.
static CRC: Crc<u32, NoTable> = Crc::<u32, NoTable>::new(&CRC_32_ISO_HDLC);

/// Returns the CRC of a frame: of its kind, its id and its payload.
pub(crate) fn crc(head: &[u8; HEAD], payload: &[u8]) -> u32 {
    let mut digest = CRC.digest();
    digest.update(head);
    digest.update(payload);
    digest.finalize()
}

macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident = $code:literal,)*) => {
        /// What a frame is about.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u8)]
        pub enum Kind {
            $($(#[$doc])* $name = $code,)*
        }

        impl Kind {
            /// All kinds.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// Returns the kind with this code; `None` if there is none.
            pub fn of(code: u8) -> Option<Self> {
                match code {
                    $($code => Some(Self::$name),)*
                    _ => None,
                }
            }

            /// Returns the kind's name in the specification.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$name => stringify!($name),)*
                }
            }
        }
    };
}

kinds! {
    /// From the client: begins a session.
    Hello = 0x01,
    /// From the client: a command.
    Request = 0x02,
    /// From the client: opens a stream.
    Open = 0x03,
    /// From the client: gives a request or a stream up.
    Cancel = 0x04,
    /// From the client: asks what is under way.
    Ping = 0x05,
    /// From the client: ends the session.
    Bye = 0x06,
    /// From both: bytes of a stream.
    Data = 0x10,
    /// From both: how many bytes of a stream the other side may send.
    Grant = 0x11,
    /// From both: this side sends no more bytes of a stream.
    End = 0x12,
    /// From the machine: the session has begun.
    Welcome = 0x81,
    /// From the machine: a part of an answer, for a person.
    Text = 0x82,
    /// From the machine: a part of an answer, for a program.
    Rows = 0x83,
    /// From the machine: how far a request is.
    Progress = 0x84,
    /// From the machine: the end of a request or a stream.
    Done = 0x85,
    /// From the machine: something has happened.
    Event = 0x86,
    /// From the machine: the answer to a ping.
    Pong = 0x87,
    /// From the machine: it does not speak a version that the client speaks.
    Refused = 0x88,
    /// From the machine: what the console would show, where the channel has the console's line.
    Console = 0x89,
}

/// A frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// What it is about.
    pub kind: Kind,
    /// The request or the stream that it belongs to; 0 if to none.
    pub id: u16,
    /// The content, whose meaning the kind tells.
    pub payload: &'a [u8],
}

impl Frame<'_> {
    /// Passes the frame's bytes to `out`, by pieces: the delimiter, the encoded frame, the
    /// delimiter.
    ///
    /// # Panics
    ///
    /// If the payload has more than [`MAX_PAYLOAD`] bytes.
    pub fn write(&self, out: &mut dyn FnMut(&[u8])) {
        assert!(self.payload.len() <= MAX_PAYLOAD, "the payload is cut by whoever makes a frame");
        let [low, high] = self.id.to_le_bytes();
        let head = [self.kind as u8, low, high];
        let mut body = [0; HEAD + MAX_PAYLOAD + TAIL];
        let end = HEAD + self.payload.len();
        body[..HEAD].copy_from_slice(&head);
        body[HEAD..end].copy_from_slice(self.payload);
        body[end..end + TAIL].copy_from_slice(&crc(&head, self.payload).to_le_bytes());
        out(&[DELIMITER]);
        cobs::encode(&body[..end + TAIL], out);
        out(&[DELIMITER]);
    }
}
