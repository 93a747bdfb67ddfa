//! [`Patience`]: how long a client that sends little is waited for.

/// What has come since the wait was worth it last. Only waiting counts, and not the time in which
/// the machine was busy with what had come.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// Bytes that must come.
    least: u64,
    /// Ticks of waiting in which they must.
    most: u64,
    came: u64,
    waited: u64,
}

impl Patience {
    /// Returns the patience with a client that must send `least` bytes for each `most` ticks of
    /// waiting.
    pub const fn new(least: u64, most: u64) -> Self {
        Self { least, most, came: 0, waited: 0 }
    }

    /// Notes that so many bytes have come.
    pub fn came(&mut self, bytes: u64) {
        self.came += bytes;
        if self.came >= self.least {
            (self.came, self.waited) = (0, 0);
        }
    }

    /// Notes that so many ticks were waited for more.
    pub fn waited(&mut self, ticks: u64) {
        self.waited = self.waited.saturating_add(ticks);
    }

    /// Returns whether there was more waiting than the client is worth.
    pub fn is_over(&self) -> bool {
        self.waited > self.most
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns after how many ticks there is no more patience with a client that sends so many
    /// bytes every `ticks` ticks, if that is within a million.
    fn ends(bytes: u64, ticks: u64) -> Option<u64> {
        let mut patience = Patience::new(2048, 30_000);
        (1..=1_000_000).find(|now| {
            patience.waited(1);
            if now % ticks == 0 {
                patience.came(bytes);
            }
            patience.is_over()
        })
    }

    #[test]
    fn a_client_that_sends_nothing_or_a_byte_now_and_then_is_given_up() {
        assert_eq!(ends(0, 1000), Some(30_001));
        assert_eq!(ends(1, 29_000), Some(30_001));
        assert_eq!(ends(68, 1000), Some(30_001));
    }

    #[test]
    fn a_client_on_a_slow_line_is_waited_for() {
        assert_eq!(ends(120, 1000), None);
        assert_eq!(ends(2048, 29_000), None);
    }
}
