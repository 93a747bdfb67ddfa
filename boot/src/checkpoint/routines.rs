//! The format's inner loops, by the CPU's instructions where it has them.

use stasis_arch::crc;
use stasis_state::{Routines, routines};

/// Returns the loops for this machine.
pub fn routines() -> Routines {
    let crc32c = if crc::is_present() { crc::crc32c } else { routines::crc32c };
    Routines { crc32c }
}
