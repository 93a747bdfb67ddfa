//! The physical GICv2 (IHI 0048B.b): distributor, CPU interface, virtual interface control.
//!
//! These drivers carry out; what the guests' interrupts are is decided by the vGIC's model, whose values `encoding.rs` encodes.

mod cpu_interface;
mod distributor;
mod encoding;
#[cfg(test)]
mod fake;
#[cfg(test)]
mod tests;
mod virtual_interface;

pub use cpu_interface::{Acknowledged, CpuInterface};
pub use distributor::{Distributor, SgiTarget};
pub use encoding::write_filled;
pub use virtual_interface::VirtualInterfaceControl;

/// INTIDs 1020 to 1023 are special; 1023 says that nothing is pending. Section 3.2.5.
pub const SPURIOUS: u32 = 1023;
