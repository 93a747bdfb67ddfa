//! A counter that tells time, for drivers that must not wait for ever: [`Clock`].

/// A counter that goes up, and how fast.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    /// Reads the counter.
    pub now: fn() -> u64,
    /// Its ticks in a second.
    pub frequency: u64,
}

impl Clock {
    /// Milliseconds, from some instant on.
    pub fn millis(&self) -> u64 {
        (self.now)() / (self.frequency / 1000).max(1)
    }

    /// Waits at least this many nanoseconds.
    pub fn wait_nanos(&self, nanos: u64) {
        let ticks = (nanos * self.frequency).div_ceil(1_000_000_000);
        let start = (self.now)();
        while (self.now)().wrapping_sub(start) <= ticks {
            core::hint::spin_loop();
        }
    }

    /// Asks until there is an answer. None: there was none in `limit_ms` milliseconds.
    pub fn poll<T>(&self, limit_ms: u64, mut ask: impl FnMut() -> Option<T>) -> Option<T> {
        let limit = limit_ms * self.frequency / 1000;
        let start = (self.now)();
        loop {
            // Looked at before the question: whoever was kept from asking asks once more.
            let late = (self.now)().wrapping_sub(start) > limit;
            match ask() {
                None if late => return None,
                None => core::hint::spin_loop(),
                answer => return answer,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::cell::Cell;

    std::thread_local! {
        static TICKS: Cell<u64> = const { Cell::new(0) };
    }

    /// Each look at it takes a microsecond.
    const CLOCK: Clock = Clock { now: || TICKS.replace(TICKS.get() + 1), frequency: 1_000_000 };

    #[test]
    fn polling_ends_with_the_answer_or_with_the_limit() {
        let mut asked = 0;
        let answer = CLOCK.poll(1, || {
            asked += 1;
            (asked == 3).then_some("yes")
        });
        assert_eq!(answer, Some("yes"));
        assert_eq!(CLOCK.poll(1, || None::<()>), None);
    }

    #[test]
    fn who_was_kept_from_asking_for_long_asks_once_more() {
        let mut asked = 0;
        let answer = CLOCK.poll(1, || {
            asked += 1;
            TICKS.set(TICKS.get() + 5000);
            (asked == 2).then_some(())
        });
        assert_eq!(answer, Some(()));
    }

    #[test]
    fn waiting_takes_at_least_as_long_as_was_said() {
        let start = TICKS.get();
        CLOCK.wait_nanos(1500);
        assert!(TICKS.get() - start >= 2);
    }
}
