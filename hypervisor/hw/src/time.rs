//! Time for drivers that wait for a device, and must not wait for ever: [`Wait`].
//!
//! A driver's caller may let others have the core while the driver waits. So a driver has no clock
//! of its own: it is given the [`Wait`] of its caller, and its signatures say that others may run
//! before it returns.

/// Clock and pauses of a driver's caller.
pub trait Wait {
    /// Returns the time on the caller's clock, in ticks. Time that others get in
    /// [`pause`](Self::pause) does not count.
    fn now(&self) -> u64;

    /// Returns the ticks per second.
    fn frequency(&self) -> u64;

    /// Lets others run, if it is their turn.
    fn pause(&mut self);

    /// Gives the core to others until the device interrupts, or until the clock reads `until`, or
    /// for a shorter time. A caller that no device interrupts [pauses](Self::pause).
    fn sleep(&mut self, _until: u64) {
        core::hint::spin_loop();
        self.pause();
    }

    /// Returns the milliseconds since some fixed instant.
    fn millis(&self) -> u64 {
        self.now() / (self.frequency() / 1000).max(1)
    }

    /// Waits at least `nanos` nanoseconds.
    fn wait_nanos(&mut self, nanos: u64) {
        let ticks = (nanos * self.frequency()).div_ceil(1_000_000_000);
        let start = self.now();
        while self.now().wrapping_sub(start) <= ticks {
            core::hint::spin_loop();
            self.pause();
        }
    }

    /// Calls `ask` until it answers, and returns the answer; `None` if there was none in `limit`
    /// ticks. Pauses before each question, so that others run even if the device always answers at
    /// once.
    fn poll<T>(&mut self, limit: u64, mut ask: impl FnMut() -> Option<T>) -> Option<T>
    where
        Self: Sized,
    {
        self.pause();
        let start = self.now();
        loop {
            // Look at the clock before the question: a caller that was kept from asking until it
            // was late asks once more.
            let late = self.now().wrapping_sub(start) > limit;
            match ask() {
                None if late => return None,
                None => core::hint::spin_loop(),
                answer => return answer,
            }
            self.pause();
        }
    }

    /// Calls `ask` until it answers, and returns the answer; `None` if there was none in `limit_ms`
    /// milliseconds.
    fn poll_ms<T>(&mut self, limit_ms: u64, ask: impl FnMut() -> Option<T>) -> Option<T>
    where
        Self: Sized,
    {
        self.poll(limit_ms * self.frequency() / 1000, ask)
    }
}

impl<W: Wait + ?Sized> Wait for &mut W {
    fn now(&self) -> u64 {
        (**self).now()
    }

    fn frequency(&self) -> u64 {
        (**self).frequency()
    }

    fn pause(&mut self) {
        (**self).pause();
    }

    fn sleep(&mut self, until: u64) {
        (**self).sleep(until);
    }
}

#[cfg(test)]
pub(crate) mod fake;

#[cfg(test)]
mod tests {
    use super::fake::Ticks;
    use super::*;
    use core::cell::Cell;

    #[test]
    fn polling_ends_with_the_answer_or_with_the_limit() {
        let mut wait = Ticks::per_second(1_000_000);
        let mut asked = 0;
        let answer = wait.poll_ms(1, || {
            asked += 1;
            (asked == 3).then_some("yes")
        });
        assert_eq!((answer, wait.pauses), (Some("yes"), 3));
        assert_eq!(wait.poll_ms(1, || None::<()>), None);
    }

    #[test]
    fn who_was_kept_from_asking_for_long_asks_once_more() {
        /// Others have it for 5 ms in each pause, and the clock goes on.
        struct Slow(Cell<u64>);
        impl Wait for Slow {
            fn now(&self) -> u64 {
                self.0.get()
            }
            fn frequency(&self) -> u64 {
                1_000_000
            }
            fn pause(&mut self) {
                self.0.set(self.0.get() + 5000);
            }
        }
        let mut asked = 0;
        let answer = Slow(Cell::new(0)).poll_ms(1, || {
            asked += 1;
            (asked == 2).then_some(())
        });
        assert_eq!(answer, Some(()));
    }

    #[test]
    fn waiting_takes_at_least_as_long_as_was_said_and_lets_others_run() {
        let mut wait = Ticks::per_second(1_000_000);
        wait.wait_nanos(1500);
        assert!(wait.now.get() >= 3 && wait.pauses > 0);
    }
}
