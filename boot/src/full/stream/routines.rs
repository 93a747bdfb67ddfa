//! The inner loops of the format, made of the CPU's own instructions where it has them.

use stasis_arch::crc;
use stasis_state::{Routines, routines};

/// Returns the fastest loops of this machine.
pub fn routines() -> Routines {
    let crc32c = if crc::is_present() { crc::crc32c } else { routines::crc32c };
    Routines { crc32c }
}
