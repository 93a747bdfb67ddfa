//! What a mistyped word may have meant.

/// The greatest number of mistakes in a word that still gets a suggestion.
const MAX_DISTANCE: usize = 2;
/// Letters of the longest word that gets a suggestion. A longer word is no mistyped command.
const MAX_WORD: usize = 24;

/// Returns the candidate that is closest to `word`, or that `word` begins; `None` if none is close.
pub(super) fn suggest<'a>(
    word: &str,
    candidates: impl Iterator<Item = &'a str>,
) -> Option<&'a str> {
    if word.len() > MAX_WORD {
        return None;
    }
    let word = word.to_ascii_lowercase();
    let distance = |candidate: &str| {
        if word.len() >= 2 && candidate.starts_with(&word) {
            return 0;
        }
        distance(word.as_bytes(), candidate.as_bytes())
    };
    candidates
        .map(|candidate| (distance(candidate), candidate))
        // A word of three letters with two mistakes would resemble everything.
        .filter(|&(distance, candidate)| distance <= MAX_DISTANCE.min(candidate.len() / 3))
        .min_by_key(|&(distance, _)| distance)
        .map(|(_, candidate)| candidate)
}

/// Returns how many insertions, deletions, replacements and exchanges of neighbours lie between two
/// words (optimal string alignment distance).
fn distance(a: &[u8], b: &[u8]) -> usize {
    let mut before_previous = [0; MAX_WORD + 1];
    let mut previous: [usize; MAX_WORD + 1] = core::array::from_fn(|column| column);
    let b = &b[..b.len().min(MAX_WORD)];
    for (i, &x) in a.iter().enumerate() {
        let mut row = [i + 1; MAX_WORD + 1];
        for (j, &y) in b.iter().enumerate() {
            let replaced = previous[j] + usize::from(x != y);
            row[j + 1] = replaced.min(previous[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && x == b[j - 1] && y == a[i - 1] {
                row[j + 1] = row[j + 1].min(before_previous[j - 1] + 1);
            }
        }
        (before_previous, previous) = (previous, row);
    }
    previous[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    const WORDS: [&str; 4] = ["checkpoint", "pause", "unpause", "gic"];

    fn meant(word: &str) -> Option<&'static str> {
        suggest(word, WORDS.into_iter())
    }

    #[test]
    fn one_or_two_wrong_letters_are_recognised() {
        assert_eq!(meant("chekpoint"), Some("checkpoint"));
        assert_eq!(meant("CHECKPOINT"), Some("checkpoint"));
        assert_eq!(meant("puase"), Some("pause"));
        assert_eq!(meant("unpuase"), Some("unpause"));
        assert_eq!(meant("igc"), Some("gic"));
    }

    #[test]
    fn the_beginning_of_a_word_is_recognised() {
        assert_eq!(meant("check"), Some("checkpoint"));
        assert_eq!(meant("c"), None);
    }

    #[test]
    fn other_words_mean_nothing() {
        assert_eq!(meant("reboot"), None);
        assert_eq!(meant(""), None);
        assert_eq!(meant("xyz"), None);
        assert_eq!(meant(&"checkpoint".repeat(9)), None);
    }
}
