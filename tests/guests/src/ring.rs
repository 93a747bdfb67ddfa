//! What the guests of `ring` do by turns to the memory that they share; pure, so that the host can
//! foretell it.

/// Words of the table that they fill, round after round.
pub const TABLE_WORDS: u32 = 1024;
/// The number of rounds from one that is told of to the next.
pub const TELL_EVERY: u32 = 64;

/// Returns the hash behind a round, from the one before it.
pub const fn next(hash: u32, round: u32) -> u32 {
    (hash ^ round).wrapping_mul(0x0100_0193).rotate_left(13)
}

/// The hash behind each round, from the first on.
#[derive(Clone, Debug, Default)]
pub struct Model {
    round: u32,
    hash: u32,
}

impl Model {
    /// Returns the hash before `round`, which must not be before the one asked for last.
    pub fn hash_before(&mut self, round: u32) -> Option<u32> {
        while self.round < round {
            self.hash = next(self.hash, self.round);
            self.round += 1;
        }
        (self.round == round).then_some(self.hash)
    }
}

/// Reads a line `round <number> hash <8 hex digits>`.
pub fn parse(line: &str) -> Option<(u32, u32)> {
    let (round, hash) = line.strip_prefix("round ")?.split_once(" hash ")?;
    let hash = (hash.len() == 8).then(|| u32::from_str_radix(hash, 16).ok())??;
    Some((round.parse().ok()?, hash))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_that_is_lost_changes_the_hash() {
        let mut model = Model::default();
        let hash = model.hash_before(100);
        assert_eq!(model.clone().hash_before(99), None, "it does not go back");
        assert_ne!(model.hash_before(101), hash);
    }

    #[test]
    fn lines_are_taken_whole_or_not_at_all() {
        assert_eq!(parse("round 12 hash 000000ff"), Some((12, 255)));
        for line in ["round 12 hash ff", "round hash", "round 1 hash 0000000g", "x"] {
            assert_eq!(parse(line), None, "{line}");
        }
    }
}
