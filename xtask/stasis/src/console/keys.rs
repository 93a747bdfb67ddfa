//! [`Keys`]: what is typed goes to the machine, but for the few keys that stand behind Ctrl-A, as with QEMU.

/// The key Ctrl-A.
const PREFIX: u8 = 0x01;

/// The keys that are typed, one after the other.
#[derive(Debug, Default)]
pub struct Keys {
    /// The last one was Ctrl-A.
    is_behind_prefix: bool,
}

impl Keys {
    /// Takes what was typed, and adds to `out` what the machine gets. Returns what is wanted of
    /// this command, in order: what `wish` makes of each key behind Ctrl-A, in lower case. Keys
    /// behind a wish that `is_last` are dropped.
    pub fn take<W>(
        &mut self,
        typed: &[u8],
        out: &mut Vec<u8>,
        wish: fn(u8) -> W,
        is_last: fn(&W) -> bool,
    ) -> Vec<W> {
        let mut wishes = Vec::new();
        for &key in typed {
            let is_behind_prefix = std::mem::take(&mut self.is_behind_prefix);
            match (is_behind_prefix, key) {
                (false, PREFIX) => self.is_behind_prefix = true,
                (false, _) | (true, PREFIX) => out.push(key),
                (true, _) => wishes.push(wish(key.to_ascii_lowercase())),
            }
            if is_behind_prefix && wishes.last().is_some_and(is_last) {
                break;
            }
        }
        wishes
    }
}

#[cfg(test)]
mod tests {
    use super::super::session::Wish;
    use super::*;

    /// What the machine gets of keys that come in these pieces, and what is wanted.
    fn typed(pieces: &[&[u8]]) -> (Vec<u8>, Vec<Wish>) {
        let (mut keys, mut out) = (Keys::default(), Vec::new());
        let wishes = pieces
            .iter()
            .flat_map(|piece| keys.take(piece, &mut out, Wish::of, Wish::is_last))
            .collect();
        (out, wishes)
    }

    #[test]
    fn all_keys_but_those_behind_ctrl_a_go_to_the_machine() {
        let all: Vec<u8> = (0..=255).filter(|key| *key != PREFIX).collect();
        assert_eq!(typed(&[&all]), (all, vec![]));
    }

    #[test]
    fn a_key_behind_ctrl_a_is_a_wish_also_if_it_comes_later() {
        for pieces in [&[&b"a\x01xb"[..]][..], &[b"a\x01", b"Xb"], &[b"a", b"\x01", b"", b"x"]] {
            assert_eq!(typed(pieces), (b"a".to_vec(), vec![Wish::Leave]));
        }
        assert_eq!(typed(&[b"\x01b\x01?c"]), (b"c".to_vec(), vec![Wish::Break, Wish::Help]));
    }

    #[test]
    fn ctrl_a_twice_is_one_for_the_machine() {
        assert_eq!(typed(&[b"\x01\x01x"]), (b"\x01x".to_vec(), vec![]));
    }
}
