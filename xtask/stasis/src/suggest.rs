//! What was meant by a mistyped word.

/// How alike two words must be, from 0 to 1, for one to be meant by the other.
const LIKELY: f64 = 0.7;

/// Returns a hint at the likeliest of the names, as the middle of a sentence; nothing if none is likely.
pub fn nearest<'a>(typed: &str, names: impl IntoIterator<Item = &'a str>) -> String {
    let rated = names.into_iter().map(|name| (strsim::jaro_winkler(typed, name), name));
    match rated.max_by(|(a, _), (b, _)| a.total_cmp(b)) {
        Some((likeness, name)) if likeness >= LIKELY => format!(", did you mean \"{name}\"?"),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistyped_word_is_answered_with_the_nearest_or_with_none() {
        assert_eq!(nearest("lnux", ["counter", "linux"]), ", did you mean \"linux\"?");
        assert_eq!(nearest("xyzzy", ["counter", "linux"]), "");
    }
}
