//! How times are said in errors.

use core::fmt;

/// Microseconds as a person says them.
pub struct Time(pub u64);

impl fmt::Display for Time {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            us if us >= 1_000_000 && us.is_multiple_of(1_000_000) => {
                write!(out, "{} s", us / 1_000_000)
            }
            us if us >= 1000 && us.is_multiple_of(1000) => write!(out, "{} ms", us / 1000),
            us => write!(out, "{us} us"),
        }
    }
}
