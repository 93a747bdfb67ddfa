//! Remembers what has been reported: a guest that repeats itself must not fill the log.

/// The first `N` different keys that were reported.
#[derive(Clone, Debug)]
pub struct Once<const N: usize> {
    seen: [u64; N],
    count: usize,
}

impl<const N: usize> Once<N> {
    /// Returns an empty set.
    pub const fn new() -> Self {
        Self { seen: [0; N], count: 0 }
    }

    /// Returns whether `key` must be reported, and notes it: the key is new, and fewer than `N`
    /// were reported before it.
    pub fn is_first(&mut self, key: u64) -> bool {
        if self.count == N || self.seen[..self.count].contains(&key) {
            return false;
        }
        self.seen[self.count] = key;
        self.count += 1;
        true
    }

    /// Returns whether `N` keys were reported: no other key will be.
    pub const fn is_full(&self) -> bool {
        self.count == N
    }
}

impl<const N: usize> Default for Once<N> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_reported_once() {
        let mut once = Once::<4>::new();
        assert!(once.is_first(0));
        assert!(!once.is_first(0));
        assert!(once.is_first(7));
    }

    #[test]
    fn reports_end_when_there_is_no_more_room() {
        let mut once = Once::<2>::new();
        assert!(once.is_first(1));
        assert!(!once.is_full());
        assert!(once.is_first(2));
        assert!(once.is_full());
        assert!(!once.is_first(3));
    }
}
