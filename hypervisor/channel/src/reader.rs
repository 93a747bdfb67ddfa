//! [`Reader`]: finds frames among bytes, whatever else these are.

use crate::cobs;
use crate::frame::{DELIMITER, Frame, HEAD, Kind, MAX_ENCODED, MAX_PAYLOAD, TAIL, crc};

/// Why bytes between two delimiters are no frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Damage {
    /// There are more of them than a frame has.
    #[error("more than {MAX_ENCODED} bytes without a delimiter")]
    TooLong,
    /// The payload is longer than one may be. Bytes that need little encoding leave room for that.
    #[error("a frame with a payload of {0} bytes, of which there are {MAX_PAYLOAD} at the most")]
    Payload(usize),
    /// The bytes are not encoded as a frame is.
    #[error("bytes that are no frame")]
    NotEncoded,
    /// The CRC is another one.
    #[error("a frame with a wrong CRC")]
    Crc,
    /// The kind is none of this version's. The frame is whole.
    #[error("a frame of the unknown kind {0:#04x}")]
    Kind(u8),
}

/// Collects bytes until they are a frame. Bytes that are none are dropped, up to the next
/// delimiter.
#[derive(Debug)]
pub struct Reader {
    bytes: [u8; MAX_ENCODED],
    /// Number of bytes since the last delimiter, at most one more than there is room for.
    len: usize,
}

impl Default for Reader {
    fn default() -> Self {
        Self::new()
    }
}

impl Reader {
    /// Returns a reader that has seen nothing yet.
    pub const fn new() -> Self {
        Self { bytes: [0; MAX_ENCODED], len: 0 }
    }

    /// Forgets the bytes since the last delimiter.
    pub fn clear(&mut self) {
        self.len = 0;
    }

    /// Takes the next byte. Returns the frame that it completes, or why what it ends is none;
    /// `None` if it does neither. Nothing between two delimiters is nothing.
    pub fn push(&mut self, byte: u8) -> Option<Result<Frame<'_>, Damage>> {
        if byte != DELIMITER {
            if let Some(place) = self.bytes.get_mut(self.len) {
                *place = byte;
            }
            self.len = (self.len + 1).min(MAX_ENCODED + 1);
            return None;
        }
        match core::mem::take(&mut self.len) {
            0 => None,
            len if len > MAX_ENCODED => Some(Err(Damage::TooLong)),
            len => Some(frame(&mut self.bytes[..len])),
        }
    }
}

/// Returns the frame that these bytes are.
fn frame(bytes: &mut [u8]) -> Result<Frame<'_>, Damage> {
    let len = cobs::decode(bytes).ok_or(Damage::NotEncoded)?;
    let (head, rest) = bytes[..len].split_first_chunk::<HEAD>().ok_or(Damage::NotEncoded)?;
    let (payload, tail) = rest.split_last_chunk::<TAIL>().ok_or(Damage::NotEncoded)?;
    if crc(head, payload) != u32::from_le_bytes(*tail) {
        return Err(Damage::Crc);
    }
    if payload.len() > MAX_PAYLOAD {
        return Err(Damage::Payload(payload.len()));
    }
    let [kind, low, high] = *head;
    let kind = Kind::of(kind).ok_or(Damage::Kind(kind))?;
    Ok(Frame { kind, id: u16::from_le_bytes([low, high]), payload })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bytes(frame: Frame) -> Vec<u8> {
        let mut all = Vec::new();
        frame.write(&mut |piece| all.extend_from_slice(piece));
        all
    }

    /// The kind, the id and the payload of a frame.
    type Parts = (Kind, u16, Vec<u8>);

    /// Returns what the reader makes of bytes: the parts of each frame, or its damage.
    fn read(bytes: &[u8]) -> Vec<Result<Parts, Damage>> {
        let mut reader = Reader::new();
        let mut found = Vec::new();
        for byte in bytes {
            if let Some(read) = reader.push(*byte) {
                found.push(read.map(|frame| (frame.kind, frame.id, frame.payload.to_vec())));
            }
        }
        found
    }

    #[test]
    fn the_specifications_example_is_true_to_the_byte() {
        let frame = Frame { kind: Kind::Request, id: 1, payload: b"guests" };
        let expected =
            [0, 3, 2, 1, 11, b'g', b'u', b'e', b's', b't', b's', 0xa7, 0x21, 0x86, 0xf8, 0];
        assert_eq!(bytes(frame), expected);
        assert_eq!(read(&expected), [Ok((Kind::Request, 1, b"guests".to_vec()))]);
    }

    #[test]
    fn a_frame_behind_noise_is_found_and_the_noise_is_named() {
        let frame = bytes(Frame { kind: Kind::Ping, id: 7, payload: &[] });
        let noise = [&b"stasis> \r\n"[..], &frame].concat();
        assert_eq!(read(&noise)[1..], [Ok((Kind::Ping, 7, Vec::new()))]);
        assert!(read(&noise)[0].is_err());
        let endless = [&[7; 5000][..], &frame].concat();
        assert_eq!(read(&endless), [Err(Damage::TooLong), Ok((Kind::Ping, 7, Vec::new()))]);
    }

    #[test]
    fn a_whole_frame_of_a_kind_that_is_not_known_says_so() {
        let mut body = vec![0x7f, 1, 0];
        body.extend(crc(&[0x7f, 1, 0], &[]).to_le_bytes());
        let mut all = vec![DELIMITER];
        cobs::encode(&body, &mut |piece| all.extend_from_slice(piece));
        all.push(DELIMITER);
        assert_eq!(read(&all), [Err(Damage::Kind(0x7f))]);
    }

    #[test]
    fn a_payload_that_is_too_long_is_none_though_it_fits_when_it_is_encoded() {
        for len in [MAX_PAYLOAD, MAX_PAYLOAD + 1, MAX_PAYLOAD + 4] {
            let (head, payload) = ([Kind::Hello as u8, 1, 0], vec![0; len]);
            let body = [&head[..], &payload, &crc(&head, &payload).to_le_bytes()].concat();
            let mut all = vec![DELIMITER];
            cobs::encode(&body, &mut |piece| all.extend_from_slice(piece));
            all.push(DELIMITER);
            let expected = match len {
                MAX_PAYLOAD => Ok((Kind::Hello, 1, payload)),
                _ => Err(Damage::Payload(len)),
            };
            assert_eq!(read(&all), [expected]);
        }
    }

    proptest! {
        #[test]
        fn each_frame_comes_back(
            kind in proptest::sample::select(Kind::ALL), id: u16,
            payload in proptest::collection::vec(any::<u8>(), 0..=MAX_PAYLOAD)
        ) {
            let frame = Frame { kind, id, payload: &payload };
            prop_assert_eq!(read(&bytes(frame)), [Ok((kind, id, payload))]);
        }

        #[test]
        fn a_frame_with_a_changed_byte_is_not_taken_for_another(
            payload in proptest::collection::vec(any::<u8>(), 0..40), at: usize, change in 1..=255u8
        ) {
            let mut all = bytes(Frame { kind: Kind::Data, id: 3, payload: &payload });
            let at = at % all.len();
            all[at] ^= change;
            for found in read(&all).into_iter().flatten() {
                // A delimiter that became another byte leaves the frame as it was.
                prop_assert_eq!(found, (Kind::Data, 3, payload.clone()));
            }
        }

        #[test]
        fn any_bytes_are_read(bytes in proptest::collection::vec(any::<u8>(), 0..4000)) {
            read(&bytes);
        }
    }
}
