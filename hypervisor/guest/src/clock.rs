//! The guest's clock: its counter, which goes on where it stood, at the speed that the guest was made with.
//!
//! CNTVCT_EL0 is CNTPCT_EL0 less CNTVOFF_EL2 (DDI 0487, D11.2.1), and neither it nor CNTFRQ_EL0 can be trapped
//! on Armv8.0. So a guest's counter has the frequency of the machine's. On a machine that is slower than what the
//! guest was made with, the clock is *stepped*: CNTVOFF is computed anew [`STEP_HZ`] times in a second. Between two
//! steps it lags behind the guest's true time, at most by what a step mends; it never goes back, for the true time
//! only gains on the machine's. On a machine that is faster it would have to go back, so [`Pace`] refuses that.
//!
//! A step is made when no vCPU of the guest can read the counter, or one would see the new time and then another the
//! old one. Whoever runs the guest sees to that.

use stasis_state::guest::Clock;

/// A time of the host's counter that does not come.
pub const NEVER: u64 = u64::MAX;

/// Steps of a stepped clock in a second.
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
        /// In Hz.
        guest: u64,
        /// In Hz.
        host: u64,
    },
    /// The guest is configured with a slower counter than this machine has.
    #[error(
        "its counter-frequency is {asked} Hz, and this machine's counter is faster, at {host} Hz"
    )]
    Configured {
        /// In Hz.
        asked: u64,
        /// In Hz.
        host: u64,
    },
}

/// By how much a machine's counter is faster than a guest's, to a tenth of a percent.
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

/// How fast a guest's clock goes, and the machine's counter that it is made of. In Hz.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    guest: u64,
    /// Never above `guest`.
    host: u64,
}

impl Pace {
    /// That of a guest which takes the counter of a machine as it is.
    pub const fn of_machine(host: u64) -> Self {
        Self { guest: host, host }
    }

    /// That of a guest which is made here, and for which somebody may have asked for a frequency.
    pub fn configured(asked: Option<u64>, host: u64) -> Result<Self, PaceError> {
        match asked {
            Some(asked) if asked < host => Err(PaceError::Configured { asked, host }),
            Some(guest) => Ok(Self { guest, host }),
            None => Ok(Self::of_machine(host)),
        }
    }

    /// That of a guest which was made with `guest`. With `any_speed` it takes the machine's counter as it is, and its
    /// seconds have another length.
    pub fn resumed(guest: u64, host: u64, any_speed: bool) -> Result<Self, PaceError> {
        match guest {
            _ if any_speed => Ok(Self::of_machine(host)),
            _ if guest < host => Err(PaceError::Faster { guest, host }),
            _ => Ok(Self { guest, host }),
        }
    }

    /// What the guest takes its counter's frequency to be.
    pub fn guest_hz(self) -> u64 {
        self.guest
    }

    fn is_stepped(self) -> bool {
        self.guest > self.host
    }

    /// The guest's ticks in as many of the machine's.
    fn to_guest(self, ticks: u64) -> u64 {
        let ticks = u128::from(ticks) * u128::from(self.guest) / u128::from(self.host.max(1));
        u64::try_from(ticks).unwrap_or(u64::MAX)
    }

    /// The least number of the machine's ticks in which the guest has as many.
    fn to_host(self, ticks: u64) -> u64 {
        let ticks = u128::from(ticks) * u128::from(self.host);
        // Not above `ticks`, since `host` is not above `guest`.
        ticks.div_ceil(u128::from(self.guest.max(1))) as u64
    }
}

/// A guest's clock: it runs, or stands still.
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

/// A clock that runs. Its true time is counted from its start, so that what a division leaves is not lost at each step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Running {
    /// CNTVCT when it was started.
    from_guest: u64,
    /// The machine's CNTPCT then.
    from_host: u64,
    /// CNTVOFF_EL2, since the last step.
    offset: u64,
    /// CNTPCT at the last step.
    stepped: u64,
}

impl Running {
    fn true_time(&self, pace: Pace, host: u64) -> u64 {
        if !pace.is_stepped() {
            return host.wrapping_sub(self.offset);
        }
        // Counters of two cores are read in no order: no time is before the last step.
        let elapsed = host.max(self.stepped).saturating_sub(self.from_host);
        self.from_guest.wrapping_add(pace.to_guest(elapsed))
    }
}

impl GuestClock {
    /// The clock of a guest that was never started.
    pub const fn new(pace: Pace) -> Self {
        Self { pace, state: State::Stopped { cntvct: 0 } }
    }

    /// The clock of a guest out of a checkpoint.
    pub fn restored(clock: &Clock, pace: Pace) -> Self {
        Self { pace, state: State::Stopped { cntvct: *clock.cntvct } }
    }

    /// CNTVCT as the guest sees it, when the host's CNTPCT is `host`.
    pub fn now(&self, host: u64) -> u64 {
        match self.state {
            State::Running(Running { offset, .. }) => host.wrapping_sub(offset),
            State::Stopped { cntvct } => cntvct,
        }
    }

    /// Lets it go on from where it stands.
    #[inline]
    pub fn start(&mut self, host: u64) {
        if let State::Stopped { cntvct } = self.state {
            let offset = host.wrapping_sub(cntvct);
            let (from_guest, from_host, stepped) = (cntvct, host, host);
            self.state = State::Running(Running { from_guest, from_host, offset, stepped });
        }
    }

    /// Stops it.
    pub fn stop(&mut self, host: u64) {
        if let State::Running(running) = self.state {
            self.state = State::Stopped { cntvct: running.true_time(self.pace, host) };
        }
    }

    /// CNTVOFF_EL2 while it runs.
    #[inline]
    pub fn offset(&self) -> Option<u64> {
        match self.state {
            State::Running(Running { offset, .. }) => Some(offset),
            State::Stopped { .. } => None,
        }
    }

    /// CNTVOFF_EL2; a clock that stands still is started.
    #[inline]
    pub fn offset_or_start(&mut self, host: u64) -> u64 {
        self.start(host);
        self.offset().unwrap_or_default()
    }

    /// Whether it is stepped while it runs.
    #[inline]
    pub fn is_stepped(&self) -> bool {
        self.pace.is_stepped()
    }

    /// The host's CNTPCT at which it is to be stepped next; none for a clock that needs no steps.
    #[inline]
    pub fn next_step(&self) -> Option<u64> {
        match self.state {
            State::Running(Running { stepped, .. }) if self.is_stepped() => {
                Some(stepped.saturating_add(self.pace.host / STEP_HZ))
            }
            _ => None,
        }
    }

    /// Whether it is time for a step.
    pub fn step_is_due(&self, host: u64) -> bool {
        self.next_step().is_some_and(|step| host >= step)
    }

    /// Has the guest's counter read its true time. No vCPU of the guest runs.
    pub fn step(&mut self, host: u64) {
        if let State::Running(running) = &mut self.state {
            let now = running.true_time(self.pace, host);
            running.stepped = host.max(running.stepped);
            running.offset = running.stepped.wrapping_sub(now);
        }
    }

    /// Returns the host's CNTPCT at which the guest's true time is `ticks`, seen from when the host's is `host`; none while it
    /// stands still. A stepped clock reads that much after a step, and later without one.
    ///
    /// A guest whose time has come to `ticks` already is due at once, and one whose time comes there after the end of the host's
    /// counter at [`NEVER`]. Timers compare without a sign and without wrapping (DDI 0487, D11.2.4), and so does this: what is
    /// added to the host's time is a distance, never CNTVOFF, with which a deadline of all ones would come to lie in the past.
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

    /// The frequency of the machine's counter, in Hz.
    pub fn host_hz(&self) -> u64 {
        self.pace.host
    }

    /// Writes the guest's time into its record.
    pub fn save(&self, host: u64, clock: &mut Clock) {
        *clock.cntvct = self.now(host);
    }
}

#[cfg(test)]
mod tests;
