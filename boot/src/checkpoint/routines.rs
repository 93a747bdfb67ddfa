//! The format's inner loops, by the CPU's instructions where it has them.
//!
//! They go over all of a guest's pages, which takes long: so they let others run in between.

use stasis_arch::{crc, zero};
use stasis_run::{slot, turns};
use stasis_state::routines::Page;
use stasis_state::{PAGE_SIZE, Routines};

/// Bytes that are gone over without a break: what is checked at once may be a mebibyte.
const PIECE: usize = 32 << 10;

/// The loops for this machine.
pub fn routines() -> Routines {
    fn with_content(pages: &[Page]) -> u64 {
        const PAGES: usize = PIECE / PAGE_SIZE;
        let mut map = 0;
        for (pages, bit) in pages.chunks(PAGES).zip((0..).step_by(PAGES)) {
            turns::breathe();
            map |= zero::with_content(pages) << bit;
        }
        map
    }
    fn in_pieces(crc: u32, bytes: &[u8], crc32c: fn(u32, &[u8]) -> u32) -> u32 {
        bytes.chunks(PIECE).fold(crc, |crc, piece| {
            turns::breathe();
            crc32c(crc, piece)
        })
    }
    let crc32c: fn(u32, &[u8]) -> u32 = match crc::is_present() {
        true => |crc, bytes| in_pieces(crc, bytes, crc::crc32c),
        false => |crc, bytes| in_pieces(crc, bytes, stasis_state::routines::crc32c),
    };
    Routines { crc32c, with_content, clear: slot::clear }
}
