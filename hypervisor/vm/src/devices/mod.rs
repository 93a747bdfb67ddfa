//! The emulated devices. The whole state of each is its record in [`stasis_state::device`]; its
//! interrupt line is a function of that.

pub mod doorbell;
pub mod pl011;
pub mod pl031;
pub mod virtio;
pub mod watchdog;
