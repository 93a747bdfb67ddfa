//! Consistent overhead byte stuffing (Cheshire and Baker, 1999): bytes without a zero in them, so
//! that a zero can stand between two frames.
//!
//! The bytes are cut behind each zero. Each piece begins with a code: the number of its bytes that
//! follow, and one. The zero is left out. A piece of 254 bytes without a zero has the code 255, and
//! no zero was behind it.

/// The code of a piece that no zero has ended, and one more than the bytes of it.
const FULL: usize = 0xff;

/// Returns the most bytes that `len` bytes become.
pub const fn encoded_len(len: usize) -> usize {
    len + len / (FULL - 1) + 1
}

/// Passes the encoded bytes of `bytes` to `out`, by pieces.
pub fn encode(bytes: &[u8], out: &mut dyn FnMut(&[u8])) {
    let mut rest = bytes;
    loop {
        let head = &rest[..rest.len().min(FULL - 1)];
        let len = head.iter().position(|byte| *byte == 0).unwrap_or(head.len());
        out(&[len as u8 + 1]);
        out(&rest[..len]);
        // The code of a full piece stands for no zero; each other one that something follows does.
        let next = if len == FULL - 1 { len } else { len + 1 };
        if len == rest.len() {
            return;
        }
        rest = &rest[next..];
    }
}

/// Decodes bytes in their place, and returns how many they become; `None` if they are not encoded
/// ones.
pub fn decode(bytes: &mut [u8]) -> Option<usize> {
    let (mut from, mut to) = (0, 0);
    while from < bytes.len() {
        let code = usize::from(bytes[from]);
        let end = from + code;
        if code == 0 || end > bytes.len() || bytes[from + 1..end].contains(&0) {
            return None;
        }
        bytes.copy_within(from + 1..end, to);
        to += code - 1;
        from = end;
        if code != FULL && from < bytes.len() {
            bytes[to] = 0;
            to += 1;
        }
    }
    Some(to)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn encoded(bytes: &[u8]) -> Vec<u8> {
        let mut all = Vec::new();
        encode(bytes, &mut |piece| all.extend_from_slice(piece));
        all
    }

    #[test]
    fn the_papers_examples_come_out() {
        assert_eq!(encoded(&[]), [1]);
        assert_eq!(encoded(&[0]), [1, 1]);
        assert_eq!(encoded(&[0x11, 0x22, 0, 0x33]), [3, 0x11, 0x22, 2, 0x33]);
        let long: Vec<u8> = (1..=254).collect();
        assert_eq!(encoded(&long)[0], 255);
        assert_eq!(encoded(&long).len(), 255);
        assert_eq!(encoded(&[&long[..], &[9]].concat())[255..], [2, 9]);
    }

    proptest! {
        #[test]
        fn what_is_encoded_has_no_zero_and_comes_back(
            bytes in proptest::collection::vec(prop_oneof![Just(0u8), any::<u8>()], 0..1200)
        ) {
            let mut all = encoded(&bytes);
            prop_assert!(!all.contains(&0));
            prop_assert!(all.len() <= encoded_len(bytes.len()));
            let len = decode(&mut all).unwrap();
            prop_assert_eq!(&all[..len], &bytes[..]);
        }

        #[test]
        fn any_bytes_are_decoded_or_refused(
            mut bytes in proptest::collection::vec(any::<u8>(), 0..600)
        ) {
            let before = bytes.len();
            prop_assert!(decode(&mut bytes).is_none_or(|len| len <= before));
        }
    }
}
