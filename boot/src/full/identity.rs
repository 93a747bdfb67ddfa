//! The identities of the checkpoints that this machine makes.

use crate::machine::Machine;
use spin::Mutex;
use stasis_arch::timer;
use stasis_host::identity::Identities;
use stasis_run::{clock, random};

static IDENTITIES: Mutex<Option<Identities>> = Mutex::new(None);

/// Takes random bytes, or what the machine's firmware says is random: identities are no secret, so
/// they are not made of what guests' random bytes are made of.
pub fn init(machine: &Machine) {
    *IDENTITIES.lock() = Some(match random::bytes::<16>() {
        Some(bytes) => Identities::new(&bytes),
        None => Identities::new(&machine.seed),
    });
}

/// Returns an identity that was not made before, and is not 0.
pub fn make() -> u128 {
    let mut identities = IDENTITIES.lock();
    let identities = identities.get_or_insert_with(|| Identities::new(&[]));
    identities.next(timer::counter(), clock::date())
}
