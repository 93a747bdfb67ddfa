//! The physical GICv2 (IHI 0048B.b): distributor, CPU interface, virtual interface control.
//!
//! These drivers carry out. What happens to the guests' interrupts is decided by the vGIC's model,
//! whose values `encoding.rs` encodes.

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

/// INTID that says that nothing is pending. INTIDs 1020 to 1023 are special: IHI 0048B.b 3.2.5.
pub const SPURIOUS: u32 = 1023;
