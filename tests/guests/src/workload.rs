//! What `counter` and the real-time guests do to their memory: a function of the tick alone.
//!
//! Every tick changes a few words all over the working set, so after tick `n` each page has a
//! content that nothing but `n` decides. The hash reads all of it: a page that a checkpoint lost,
//! or restored from an older one, changes every hash from then on. The host computes the same with
//! [`Model`].

/// Words of `counter`'s working set: 8 MiB.
pub const WORDS: usize = 1 << 20;

/// Words of a small one, for guests with little memory: 256 KiB.
pub const SMALL: usize = 1 << 15;

/// Words that a tick changes.
const CHANGES: u64 = 64;

/// Ticks from one printed hash to the next.
pub const TICKS_PER_HASH: u64 = 10;

/// SplitMix64: a well-mixed function of `x`.
const fn mix(x: u64) -> u64 {
    let x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// Fills the working set with what it is before the first tick.
pub fn fill(words: &mut [u64]) {
    for (i, word) in words.iter_mut().enumerate() {
        *word = mix(i as u64);
    }
}

/// Does tick `n` (the first is 1) to a working set to which all ticks before were done.
pub fn tick(words: &mut [u64], n: u64) {
    for change in 0..CHANGES {
        let random = mix(n * CHANGES + change);
        let index = random as usize % words.len();
        words[index] = words[index].rotate_left(7) ^ random;
    }
}

/// Returns a hash over all words and their places.
pub fn hash(words: &[u64]) -> u64 {
    words.iter().fold(words.len() as u64, |hash, word| {
        (hash.rotate_left(5) ^ word).wrapping_mul(0x517c_c1b7_2722_0a95)
    })
}

/// The working set as it must be, on the host.
#[cfg(not(target_os = "none"))]
#[derive(Clone)]
pub struct Model {
    words: Vec<u64>,
    tick: u64,
}

#[cfg(not(target_os = "none"))]
impl Model {
    /// Returns the working set of `counter` before the first tick.
    pub fn new() -> Self {
        Self::of(WORDS)
    }

    /// Returns a working set of this many words before the first tick.
    pub fn of(words: usize) -> Self {
        let mut words = vec![0; words];
        fill(&mut words);
        Self { words, tick: 0 }
    }

    /// Returns the hash that the guest prints at `tick`.
    pub fn hash_at(&mut self, tick: u64) -> u64 {
        if tick < self.tick {
            *self = Self::of(self.words.len());
        }
        while self.tick < tick {
            self.tick += 1;
            self::tick(&mut self.words, self.tick);
        }
        hash(&self.words)
    }

    /// Returns what a line of `counter` says, if it is a `tick` line: the tick, the hash, and
    /// whether that hash is right.
    pub fn check(&mut self, line: &str) -> Option<(u64, u64, bool)> {
        let (tick, printed) = parse(line)?;
        Some((tick, printed, self.hash_at(tick) == printed))
    }
}

#[cfg(not(target_os = "none"))]
impl Default for Model {
    fn default() -> Self {
        Self::new()
    }
}

/// Returns tick and hash of a line `tick <n> hash <16 hex digits>`.
pub fn parse(line: &str) -> Option<(u64, u64)> {
    let mut fields = line.split_ascii_whitespace();
    let (Some("tick"), Some(tick), Some("hash"), Some(hash), None) =
        (fields.next(), fields.next(), fields.next(), fields.next(), fields.next())
    else {
        return None;
    };
    if hash.len() != 16 {
        return None;
    }
    Some((tick.parse().ok()?, u64::from_str_radix(hash, 16).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_that_is_lost_changes_the_hash() {
        let mut words = vec![0; WORDS];
        fill(&mut words);
        let whole = hash(&words);
        words[512 * 100..512 * 101].fill(0);
        assert_ne!(hash(&words), whole);
    }

    #[test]
    fn every_tick_changes_the_hash() {
        let mut model = Model::new();
        let hashes: std::collections::HashSet<_> = (0..20).map(|n| model.hash_at(n)).collect();
        assert_eq!(hashes.len(), 20);
    }

    #[test]
    fn a_model_can_go_back() {
        let mut model = Model::new();
        let first = model.hash_at(3);
        model.hash_at(30);
        assert_eq!(model.hash_at(3), first);
    }

    #[test]
    fn the_hashes_are_those_that_a_guest_printed() {
        let mut model = Model::new();
        assert_eq!(
            model.check("tick 0 hash 62c9b60ac4585e89"),
            Some((0, 0x62c9_b60a_c458_5e89, true))
        );
        assert_eq!(
            model.check("tick 380 hash 27ef7ae51361a910"),
            Some((380, 0x27ef_7ae5_1361_a910, true))
        );
    }

    #[test]
    fn lines_are_taken_whole_or_not_at_all() {
        assert_eq!(parse("tick 10 hash 00000000000000ff"), Some((10, 255)));
        for line in [
            "tick 10 hash ff",
            "tick hash",
            "",
            "tick 1 hash 00000000000000fg",
            "tick 10 hash 00000000000000ff x",
        ] {
            assert_eq!(parse(line), None, "{line}");
        }
    }
}
