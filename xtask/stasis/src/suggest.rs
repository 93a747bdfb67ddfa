//! Suggests the word that was meant by a mistyped one.

/// The least likeness, from 0 to 1, of a word that is suggested.
const LIKELY: f64 = 0.7;

/// Returns a hint at the likeliest of the names, as a part of a sentence; an empty text if none is
/// likely.
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
