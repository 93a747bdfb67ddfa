//! Random bytes for guests: ChaCha20, with a key from the machine's firmware (`/chosen/rng-seed`).
//!
//! The generator is EL2's, and in no checkpoint. So what it gives is not given again, whatever guests are resumed.

use core::fmt;

use chacha20::ChaCha20Rng;
use chacha20::rand_core::{Rng, SeedableRng};
use spin::mutex::SpinMutex;

/// Bytes of a key, which a source must have at least.
const KEY: usize = 32;

/// The generator; `None` if the machine has no source. Its lock is held for a few hundred bytes at a time, and no other is taken under it.
static GENERATOR: SpinMutex<Option<ChaCha20Rng>> = SpinMutex::new(None);

/// The machine has no source of random bytes.
#[derive(Clone, Copy, Debug)]
pub struct NoSource;

impl fmt::Display for NoSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the firmware passes no /chosen/rng-seed of 32 bytes")
    }
}

/// Takes what the firmware says is random. A seed that is shorter than a key is no source.
pub fn init(seed: &[u8]) {
    let mut key = [0; KEY];
    for (byte, seed) in (0..KEY).cycle().zip(seed) {
        key[byte] ^= seed;
    }
    let is_source = seed.len() >= KEY;
    *GENERATOR.lock() = is_source.then(|| ChaCha20Rng::from_seed(key));
}

/// Returns random bytes; `None` if the machine has no source of them.
pub fn bytes<const N: usize>() -> Option<[u8; N]> {
    let mut bytes = [0; N];
    fill(&mut bytes).then_some(bytes)
}

/// Fills `into` with random bytes. Returns `false`, and writes nothing, if the machine has no source.
pub fn fill(into: &mut [u8]) -> bool {
    let mut generator = GENERATOR.lock();
    let Some(generator) = &mut *generator else { return false };
    generator.fill_bytes(into);
    true
}
