//! Identities of checkpoints: [`Identities`] makes 128 bits that it has not made before, and that
//! hardly any other machine makes.
//!
//! An identity is no secret. It must not be made twice, for it tells whether a checkpoint is still
//! the one that it was. What is mixed: what the firmware says is random, the counter at each
//! moment, the wall time, and how many identities there were. On a machine without a seed and
//! without a clock, the counter alone tells two runs apart.

/// Makes identities.
#[derive(Clone, Copy, Debug)]
pub struct Identities {
    state: [u64; 2],
    made: u64,
}

impl Identities {
    /// Returns the maker of identities of a machine whose firmware gave these random bytes; none if
    /// it gave none.
    pub fn new(seed: &[u8]) -> Self {
        let mut identities = Self { state: [0; 2], made: 0 };
        for bytes in seed.chunks(8) {
            let mut word = [0; 8];
            word[..bytes.len()].copy_from_slice(bytes);
            identities.add(u64::from_le_bytes(word));
        }
        identities
    }

    /// Returns the next identity, which is not 0. `counter` is the machine's, in ticks; `wall_time`
    /// is in seconds since 1970, or 0.
    pub fn next(&mut self, counter: u64, wall_time: u64) -> u128 {
        self.made += 1;
        for word in [counter, wall_time, self.made] {
            self.add(word);
        }
        let [low, high] = self.state;
        (u128::from(high) << 64 | u128::from(low)).max(1)
    }

    /// Mixes a word in. For any state, another word gives another state.
    fn add(&mut self, word: u64) {
        let [low, high] = self.state;
        self.state = [mix(high.wrapping_add(word)), mix(low ^ mix(high.wrapping_add(word)))];
    }
}

/// Returns another word for each word: the finalizer of splitmix64, which spreads each bit over
/// all.
const fn mix(word: u64) -> u64 {
    let word = word.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let word = (word ^ word >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let word = (word ^ word >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ word >> 31
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn no_identity_is_made_twice() {
        let mut made = HashSet::new();
        for seed in [&[][..], b"1", b"2", &[7; 32]] {
            let mut identities = Identities::new(seed);
            for n in 0..1000 {
                assert!(made.insert(identities.next(n / 10, 1_800_000_000)));
            }
        }
        assert!(!made.contains(&0));
    }

    #[test]
    fn machines_differ_by_their_seed_their_counter_or_their_clock() {
        let first =
            |seed: &[u8], counter, wall_time| Identities::new(seed).next(counter, wall_time);
        let one = first(b"seed", 5, 7);
        for other in [first(b"sedd", 5, 7), first(b"seed", 6, 7), first(b"seed", 5, 8)] {
            let bits = (one ^ other).count_ones();
            assert!((32..96).contains(&bits), "{bits} bits differ");
        }
    }
}
