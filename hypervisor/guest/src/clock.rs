//! The guest's clock: a counter that goes on from where it stood, at the speed that the guest was
//! made with.
//!
//! CNTVCT_EL0 is CNTPCT_EL0 less CNTVOFF_EL2 (DDI 0487, D11.2.1), and neither CNTVCT_EL0 nor
//! CNTFRQ_EL0 can be trapped on Armv8.0. So a guest's counter has the frequency of the machine's.
//! On a machine whose counter is slower than the one the guest was made with, the clock is
//! *stepped*: CNTVOFF is computed anew [`STEP_HZ`] times in a second. Between two steps the clock
//! lags behind the guest's true time, at most by what a step adds. The clock never goes back, for
//! the true time only gains on the machine's. On a machine whose counter is faster the clock would
//! have to go back, so [`Pace`] refuses that.
//!
//! A step is made while no vCPU of the guest can read the counter. Otherwise one vCPU would see the
//! new time, and then another the old one. The caller of [`GuestClock::step`] ensures it.

use stasis_state::guest::Clock;

/// Time of the host's counter that stands for "never".
pub const NEVER: u64 = u64::MAX;

/// Number of steps that a stepped clock makes in a second.
pub const STEP_HZ: u64 = 1000;

/// Why a guest's counter can't run here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PaceError {
    /// The guest was made with a slower counter than this machine has.
    #[error(
        "the guest's counter runs at {guest} Hz, and this machine's is faster, at {host} Hz; \
         with --any-speed the guest's clock gains {}, and a guest that is made with \
         counter-frequency = {host} can go on on both machines", Percent { guest: *guest, host: *host }
    )]
    Faster {
        /// Frequency that the guest was made with, in Hz.
        guest: u64,
        /// Frequency of this machine's counter, in Hz.
        host: u64,
    },
    /// The guest is configured with a slower counter than this machine has.
    #[error(
        "its counter-frequency is {asked} Hz, and this machine's counter is faster, at {host} Hz"
    )]
    Configured {
        /// Frequency that the configuration asks for, in Hz.
        asked: u64,
        /// Frequency of this machine's counter, in Hz.
        host: u64,
    },
}

/// How much faster a machine's counter is than a guest's, shown to a tenth of a percent.
struct Percent {
    guest: u64,
    host: u64,
}

impl core::fmt::Display for Percent {
    fn fmt(&self, out: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let gain = u128::from(self.host.saturating_sub(self.guest));
        let tenths = (gain * 1000 / u128::from(self.guest.max(1))) as u64;
        write!(out, "{}.{} %", tenths / 10, tenths % 10)
    }
}

/// The frequency of a guest's counter, and that of the machine's counter from which it is made.
/// Both are in Hz.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    guest: u64,
    /// Frequency of the machine's counter: never above `guest`.
    host: u64,
}

impl Pace {
    /// Returns the pace of a guest that takes a machine's counter as it is: `host` Hz.
    pub const fn of_machine(host: u64) -> Self {
        Self { guest: host, host }
    }

    /// Returns the pace of a new guest. `asked` is the frequency that the configuration asks for,
    /// if it does; both are in Hz.
    ///
    /// # Errors
    ///
    /// [`PaceError::Configured`] if the machine's counter is faster than `asked`.
    pub fn configured(asked: Option<u64>, host: u64) -> Result<Self, PaceError> {
        match asked {
            Some(asked) if asked < host => Err(PaceError::Configured { asked, host }),
            Some(guest) => Ok(Self { guest, host }),
            None => Ok(Self::of_machine(host)),
        }
    }

    /// Returns the pace of a resumed guest that was made with `guest` Hz. With `any_speed` the
    /// guest takes the machine's counter as it is, and its seconds have another length.
    ///
    /// # Errors
    ///
    /// [`PaceError::Faster`] if the machine's counter is faster than the guest's, unless
    /// `any_speed` is set.
    pub fn resumed(guest: u64, host: u64, any_speed: bool) -> Result<Self, PaceError> {
        match guest {
            _ if any_speed => Ok(Self::of_machine(host)),
            _ if guest < host => Err(PaceError::Faster { guest, host }),
            _ => Ok(Self { guest, host }),
        }
    }

    /// Returns the frequency that the guest takes its counter to have, in Hz.
    pub fn guest_hz(self) -> u64 {
        self.guest
    }

    fn is_stepped(self) -> bool {
        self.guest > self.host
    }

    /// Returns how many ticks the guest's counter makes while the machine's makes `ticks`, rounded
    /// down.
    fn to_guest(self, ticks: u64) -> u64 {
        let ticks = u128::from(ticks) * u128::from(self.guest) / u128::from(self.host.max(1));
        u64::try_from(ticks).unwrap_or(u64::MAX)
    }

    /// Returns the least number of the machine's ticks in which the guest's counter makes `ticks`.
    fn to_host(self, ticks: u64) -> u64 {
        let ticks = u128::from(ticks) * u128::from(self.host);
        // The result is not above `ticks`, since `host` is not above `guest`.
        ticks.div_ceil(u128::from(self.guest.max(1))) as u64
    }
}

/// A guest's clock, which runs or stands still.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GuestClock {
    pace: Pace,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Stopped { cntvct: u64 },
    Running(Running),
}

/// A clock that runs. Its true time is counted from its start, so that the remainders of the
/// divisions do not add up over the steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Running {
    /// The guest's CNTVCT when the clock was started.
    from_guest: u64,
    /// The machine's CNTPCT when the clock was started.
    from_host: u64,
    /// CNTVOFF_EL2 since the last step.
    offset: u64,
    /// The machine's CNTPCT at the last step.
    stepped: u64,
}

impl Running {
    fn true_time(&self, pace: Pace, host: u64) -> u64 {
        if !pace.is_stepped() {
            return host.wrapping_sub(self.offset);
        }
        // Two cores read their counters in no fixed order, so `host` may lie before the last step.
        // No time is before the last step.
        let elapsed = host.max(self.stepped).saturating_sub(self.from_host);
        self.from_guest.wrapping_add(pace.to_guest(elapsed))
    }
}

impl GuestClock {
    /// Returns the clock of a guest that was never started: it stands still at 0.
    pub const fn new(pace: Pace) -> Self {
        Self { pace, state: State::Stopped { cntvct: 0 } }
    }

    /// Returns the clock of a guest from a checkpoint: it stands still at the stored time.
    pub fn restored(clock: &Clock, pace: Pace) -> Self {
        Self { pace, state: State::Stopped { cntvct: *clock.cntvct } }
    }

    /// Returns CNTVCT as the guest sees it, when the host's CNTPCT is `host`.
    pub fn now(&self, host: u64) -> u64 {
        match self.state {
            State::Running(Running { offset, .. }) => host.wrapping_sub(offset),
            State::Stopped { cntvct } => cntvct,
        }
    }

    /// Starts the clock from where it stands, when the host's CNTPCT is `host`. A clock that runs
    /// is left as it is.
    #[inline]
    pub fn start(&mut self, host: u64) {
        if let State::Stopped { cntvct } = self.state {
            let offset = host.wrapping_sub(cntvct);
            let (from_guest, from_host, stepped) = (cntvct, host, host);
            self.state = State::Running(Running { from_guest, from_host, offset, stepped });
        }
    }

    /// Stops the clock at the guest's true time, when the host's CNTPCT is `host`.
    pub fn stop(&mut self, host: u64) {
        if let State::Running(running) = self.state {
            self.state = State::Stopped { cntvct: running.true_time(self.pace, host) };
        }
    }

    /// Returns CNTVOFF_EL2. None while the clock stands still.
    #[inline]
    pub fn offset(&self) -> Option<u64> {
        match self.state {
            State::Running(Running { offset, .. }) => Some(offset),
            State::Stopped { .. } => None,
        }
    }

    /// Returns CNTVOFF_EL2. A clock that stands still is started first.
    #[inline]
    pub fn offset_or_start(&mut self, host: u64) -> u64 {
        self.start(host);
        self.offset().unwrap_or_default()
    }

    /// Returns whether the clock is stepped while it runs.
    #[inline]
    pub fn is_stepped(&self) -> bool {
        self.pace.is_stepped()
    }

    /// Returns the host's CNTPCT at which the next step is due. None if the clock needs no steps,
    /// or stands still.
    #[inline]
    pub fn next_step(&self) -> Option<u64> {
        match self.state {
            State::Running(Running { stepped, .. }) if self.is_stepped() => {
                Some(stepped.saturating_add(self.pace.host / STEP_HZ))
            }
            _ => None,
        }
    }

    /// Returns whether a step is due, when the host's CNTPCT is `host`.
    pub fn step_is_due(&self, host: u64) -> bool {
        self.next_step().is_some_and(|step| host >= step)
    }

    /// Makes the guest's counter read its true time, when the host's CNTPCT is `host`. The caller
    /// ensures that no vCPU of the guest runs.
    pub fn step(&mut self, host: u64) {
        if let State::Running(running) = &mut self.state {
            let now = running.true_time(self.pace, host);
            running.stepped = host.max(running.stepped);
            running.offset = running.stepped.wrapping_sub(now);
        }
    }

    /// Returns the host's CNTPCT at which the guest's true time is `ticks`, when the host's CNTPCT
    /// is `host` now. None while the clock stands still. A stepped clock reads `ticks` after a step
    /// at that time, and later without one.
    ///
    /// If the guest's time has reached `ticks` already, the result is `host`. If it gets there only
    /// after the end of the host's counter, the result is [`NEVER`]. Timers compare without a sign
    /// and without wrapping (DDI 0487, D11.2.4), and so does this function: it adds a distance to
    /// the host's time, and not CNTVOFF, with which a deadline of all ones would lie in the past.
    #[inline]
    pub fn host_time(&self, ticks: u64, host: u64) -> Option<u64> {
        let State::Running(running) = self.state else { return None };
        let now = self.now(host);
        if ticks <= now {
            return Some(host);
        }
        if !self.is_stepped() {
            return Some(host.saturating_add(ticks - now));
        }
        let wait = self.pace.to_host(ticks.wrapping_sub(running.from_guest));
        Some(running.from_host.saturating_add(wait))
    }

    /// Returns the frequency of the machine's counter, in Hz.
    pub fn host_hz(&self) -> u64 {
        self.pace.host
    }

    /// Writes the guest's CNTVCT into its record, when the host's CNTPCT is `host`.
    pub fn save(&self, host: u64, clock: &mut Clock) {
        *clock.cntvct = self.now(host);
    }
}

#[cfg(test)]
mod tests;
