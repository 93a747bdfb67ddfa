//! The firmware's PSCI (DEN 0022): starting cores, switching the machine off.

use crate::machine::Conduit;
use smccc::psci::{self, Error};
use smccc::{Hvc, Smc};
use spin::Once;

static CONDUIT: Once<Option<Conduit>> = Once::new();

/// Tells how the firmware is called.
pub fn init(conduit: Option<Conduit>) {
    CONDUIT.call_once(|| conduit);
}

fn conduit() -> Option<Conduit> {
    *CONDUIT.get()?
}

/// Starts the core with this MPIDR at `entry`, a physical address, with `context` in X0.
pub fn cpu_on(mpidr: u64, entry: u64, context: u64) -> Result<(), Error> {
    match conduit().ok_or(Error::NotSupported)? {
        Conduit::Hvc => psci::cpu_on::<Hvc>(mpidr, entry, context),
        Conduit::Smc => psci::cpu_on::<Smc>(mpidr, entry, context),
    }
}

/// Switches the machine off; returns only if the firmware can't.
pub fn system_off() -> Error {
    let refused = match conduit() {
        None => Err(Error::NotSupported),
        Some(Conduit::Hvc) => psci::system_off::<Hvc>(),
        Some(Conduit::Smc) => psci::system_off::<Smc>(),
    };
    refused.err().unwrap_or(Error::InternalFailure)
}
