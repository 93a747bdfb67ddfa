//! Random bytes for guests: ChaCha20, with a key from the machine's firmware (`/chosen/rng-seed`),
//! from the machine's own generator, or from both.
//!
//! The generator is EL2's, and in no checkpoint. So what it gives is not given again, whatever
//! guests are resumed.

use core::fmt;

use chacha20::ChaCha20Rng;
use chacha20::rand_core::{Rng, SeedableRng};
use spin::mutex::SpinMutex;

/// Bytes of a key, which a source must have at least.
const KEY: usize = 32;

/// The generator; `None` if the machine has no source. Its lock is held for a few hundred bytes at
/// a time, and no other is taken under it.
static GENERATOR: SpinMutex<Option<ChaCha20Rng>> = SpinMutex::new(None);

/// The machine has no source of random bytes.
#[derive(Clone, Copy, Debug)]
pub struct NoSource;

impl fmt::Display for NoSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "the firmware passes no /chosen/rng-seed of 32 bytes, and the machine has no generator that can be used",
        )
    }
}

/// Takes what the `sources` say is random: the firmware, and the machine's generator. One that has
/// fewer bytes than a key counts as none; whoever knows one of two does not know the key.
pub fn init(sources: [&[u8]; 2]) {
    let mut key = [0; KEY];
    for source in sources {
        (0..KEY).cycle().zip(source).for_each(|(byte, random)| key[byte] ^= random);
    }
    let is_source = sources.iter().any(|source| source.len() >= KEY);
    *GENERATOR.lock() = is_source.then(|| ChaCha20Rng::from_seed(key));
}

/// Returns random bytes; `None` if the machine has no source of them.
pub fn bytes<const N: usize>() -> Option<[u8; N]> {
    let mut bytes = [0; N];
    fill(&mut bytes).then_some(bytes)
}

/// Fills `into` with random bytes. Returns `false`, and writes nothing, if the machine has no
/// source.
pub fn fill(into: &mut [u8]) -> bool {
    let mut generator = GENERATOR.lock();
    let Some(generator) = &mut *generator else { return false };
    generator.fill_bytes(into);
    true
}
