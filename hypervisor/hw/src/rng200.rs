//! The random number generator of the Raspberry Pi 4 and 5, Broadcom's RNG200 (Linux,
//! drivers/char/hw_random/iproc-rng200.c; there is no manual).
//!
//! What it gives is not taken on trust: the generator's own tests must not have failed, and no word
//! may come more often than chance has it.

use crate::mmio::{Frame, Offset};
use crate::time::Wait;
use tock_registers::interfaces::{ReadWriteable, Readable, Writeable};
use tock_registers::register_bitfields;

register_bitfields! { u32,
    /// Control.
    CTRL [
        /// Enable of the generator: some bits, of which one is enough.
        RBGEN OFFSET(0) NUMBITS(13) [ Disable = 0, Enable = 1 ]
    ],
    /// Software reset, of the registers or of the generator.
    RESET [
        RESET OFFSET(0) NUMBITS(1) []
    ],
    /// Events. A one that is written clears its bit.
    INT_STATUS [
        MASTER_FAIL_LOCKOUT OFFSET(31) NUMBITS(1) [],
        NIST_FAIL OFFSET(5) NUMBITS(1) []
    ],
    /// Words that wait.
    FIFO_COUNT [
        COUNT OFFSET(0) NUMBITS(8) []
    ]
}

const CTRL: Offset<u32, CTRL::Register> = Offset::new(0x00);
const RNG_RESET: Offset<u32, RESET::Register> = Offset::new(0x04);
const RBG_RESET: Offset<u32, RESET::Register> = Offset::new(0x08);
const INT_STATUS: Offset<u32, INT_STATUS::Register> = Offset::new(0x18);
const FIFO_DATA: Offset<u32> = Offset::new(0x20);
const FIFO_COUNT: Offset<u32, FIFO_COUNT::Register> = Offset::new(0x24);

/// Bytes of the frame.
const LEN: usize = 0x28;

/// Words that are taken: four times a key of 32 bytes, for the first ones of a generator are the
/// worst.
pub const WORDS: usize = 32;
/// Milliseconds within which all words must come, also after resets.
const LIMIT_MS: u64 = 1000;
/// Times that the generator is reset when its own tests have failed.
const RESETS: usize = 2;
/// Times that a word may come among [`WORDS`]: three times come by chance once in 2^51.
const MOST_ALIKE: usize = 2;

/// Why nothing of the generator's is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unusable {
    /// Fewer than [`WORDS`] words have come in time.
    #[error("it has given {taken} of {WORDS} words in {LIMIT_MS} ms")]
    Slow {
        /// The number of words that have come since the last reset.
        taken: usize,
    },
    /// The generator's own tests have failed, also after resets.
    #[error("its own tests fail")]
    Failed,
    /// A word has come too often.
    #[error("{0:#010x} has come {times} times among {WORDS} words", times = MOST_ALIKE + 1)]
    Stuck(u32),
}

/// A random number generator.
#[derive(Clone, Copy, Debug)]
pub struct Rng200 {
    frame: Frame<LEN>,
}

impl Rng200 {
    /// Returns the driver of the generator in `frame`.
    pub const fn new(frame: Frame<LEN>) -> Self {
        Self { frame }
    }

    /// Returns [`WORDS`] random words. The generator is on or off afterwards as it was before.
    ///
    /// # Errors
    ///
    /// [`Unusable`].
    pub fn words(&self, wait: impl Wait) -> Result<[u32; WORDS], Unusable> {
        let found = self.frame.at(CTRL).get();
        if self.frame.at(CTRL).read(CTRL::RBGEN) == 0 {
            self.frame.at(CTRL).modify(CTRL::RBGEN::Enable);
        }
        let words = self.take(wait).and_then(judge);
        self.frame.at(CTRL).set(found);
        words
    }

    /// Takes words until there are [`WORDS`] behind which the generator's tests have not failed.
    fn take(&self, mut wait: impl Wait) -> Result<[u32; WORDS], Unusable> {
        let (start, limit) = (wait.now(), LIMIT_MS * wait.frequency() / 1000);
        let (mut words, mut taken, mut resets) = ([0; WORDS], 0, 0);
        loop {
            let status = self.frame.at(INT_STATUS);
            let failed = INT_STATUS::MASTER_FAIL_LOCKOUT::SET + INT_STATUS::NIST_FAIL::SET;
            if status.any_matching_bits_set(failed) {
                if resets == RESETS {
                    return Err(Unusable::Failed);
                }
                // What it has given until then may be what has failed.
                (taken, resets) = (0, resets + 1);
                self.reset();
            }
            // The status was looked at behind the last word, too.
            if taken == WORDS {
                return Ok(words);
            }
            let count = || self.frame.at(FIFO_COUNT).read(FIFO_COUNT::COUNT);
            let left = limit.saturating_sub(wait.now().wrapping_sub(start));
            let came = wait.poll(left, || (count() > 0).then_some(()));
            came.ok_or(Unusable::Slow { taken })?;
            words[taken] = self.frame.at(FIFO_DATA).get();
            taken += 1;
        }
    }

    /// Resets the generator, as Linux does when its tests have failed.
    fn reset(&self) {
        self.frame.at(CTRL).modify(CTRL::RBGEN::Disable);
        self.frame.at(INT_STATUS).set(u32::MAX);
        for (register, reset) in [(RBG_RESET, 1), (RNG_RESET, 1), (RNG_RESET, 0), (RBG_RESET, 0)] {
            self.frame.at(register).modify(RESET::RESET.val(reset));
        }
        self.frame.at(CTRL).modify(CTRL::RBGEN::Enable);
    }
}

/// Returns the words, if none of them has come more often than chance has it.
fn judge(words: [u32; WORDS]) -> Result<[u32; WORDS], Unusable> {
    let times = |word: &u32| words.iter().filter(|other| *other == word).count();
    let stuck = words.iter().find(|word| times(word) > MOST_ALIKE);
    stuck.map_or(Ok(words), |word| Err(Unusable::Stuck(*word)))
}

#[cfg(test)]
mod tests;
