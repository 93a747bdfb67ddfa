//! When a source that has failed is tried again: [`Retry`], one for each guest whose memory is loaded.
//!
//! A disk that fails may work again: a card that was pulled is put back. So the guest waits, and nobody says so more than once for each time that it has to.

/// When a guest's memory can be loaded again. Instants and spans are in ticks of the counter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retry {
    /// The instant of the next try; `None` if the last one was right.
    due: Option<u64>,
}

impl Retry {
    /// Returns whether it is time for a try.
    pub fn is_due(&self, now: u64) -> bool {
        self.due.is_none_or(|due| due <= now)
    }

    /// Returns the instant of the next try; `None` if nothing has failed, so that any instant is right.
    pub fn due(&self) -> Option<u64> {
        self.due
    }

    /// Notes that a try has failed, and that the next one is made `pause` later. Returns whether it is the first one that has, which must be told.
    pub fn failed(&mut self, now: u64, pause: u64) -> bool {
        self.due.replace(now.saturating_add(pause)).is_none()
    }

    /// Notes that a try was right. Returns whether one before it had failed, which must be told.
    pub fn succeeded(&mut self) -> bool {
        self.due.take().is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_that_fails_is_tried_again_after_a_pause_and_told_of_once() {
        let mut retry = Retry::default();
        assert!(retry.is_due(0) && retry.due().is_none());
        assert!(retry.failed(100, 50));
        assert!(!retry.is_due(149) && retry.is_due(150));
        assert!(!retry.failed(150, 50), "it is told again");
        assert_eq!(retry.due(), Some(200));
        assert!(retry.succeeded() && retry.is_due(150));
        assert!(!retry.succeeded(), "it is told again");
        assert!(retry.failed(u64::MAX, 50), "the next failure is not told");
        assert_eq!(retry.due(), Some(u64::MAX));
    }
}
