//! Who runs guests: what is above this crate.

use crate::slot::Slot;
use alloc::sync::Arc;
use spin::Once;
use stasis_guest::stop::Stopped;

/// What is done without an exit of a guest, and what a guest does that concerns people.
pub trait Above: Sync {
    /// A guest has stopped.
    fn stopped(&self, slot: Arc<Slot>, how: Stopped);

    /// A guest has sent a byte by its UART.
    fn transmit(&self, slot: &Slot, byte: u8);
}

static ABOVE: Once<&'static dyn Above> = Once::new();

/// Says who that is, before any guest runs.
pub fn init(above: &'static dyn Above) {
    ABOVE.call_once(|| above);
}

/// Who it is.
///
/// # Panics
///
/// Before [`init`].
pub(crate) fn get() -> &'static dyn Above {
    *ABOVE.get().expect("it is known before any guest runs")
}
