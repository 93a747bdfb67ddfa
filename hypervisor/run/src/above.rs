//! The seam to the crate above this one, which makes guests and looks after them: [`Above`].

use crate::domain::Domain;
use alloc::sync::Arc;
use spin::Once;
use stasis_guest::stop::Stopped;

/// The crate above: what is done when a guest has stopped, and with what a guest says.
pub trait Above: Sync {
    /// Called when the guest in `domain` has stopped, as `how` says, and the calling core has
    /// unloaded its vCPU.
    fn stopped(&self, domain: Arc<Domain>, how: Stopped);

    /// Called when the guest in `domain` stands still because there is no memory for what it
    /// writes, and the calling core has unloaded its vCPU. Several vCPUs of a guest may find that
    /// at once.
    fn starved(&self, domain: Arc<Domain>);

    /// Called when the guest in `domain` has sent a byte by its UART.
    fn transmit(&self, domain: &Domain, byte: u8);

    /// Called when the guest in `domain` has printed `text` at its terminal. Its end is what is
    /// kept if it is too long.
    fn print(&self, domain: &Domain, text: &[u8]);
}

static ABOVE: Once<&'static dyn Above> = Once::new();

/// Registers the crate above, once, before any guest runs.
pub fn init(above: &'static dyn Above) {
    ABOVE.call_once(|| above);
}

/// Returns the crate above, which [`init`] registered.
///
/// # Panics
///
/// Before [`init`].
pub(crate) fn get() -> &'static dyn Above {
    *ABOVE.get().expect("it is known before any guest runs")
}
