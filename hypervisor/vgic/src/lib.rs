//! A virtual GICv2 (IHI 0048B.b) on a handful of list registers. Pure: it decides, and the hardware
//! behind [`VirtualInterface`] carries out.
//!
//! The state is the records of `stasis-state`, nothing else; the rest is derived from them and made
//! anew by [`Vgic::from_state`]. While a vCPU is loaded, its list registers carry what the guest has
//! been offered; [`Vgic::sync`] and [`Vgic::save`] fold that back.
//!
//! - [`vgic`]: the [`Vgic`] and its vCPUs. [`irq`]: one interrupt's state in the records.
//! - [`queue`], [`waiting`], [`place`]: what waits for which vCPU, in the order in which it will be offered.
//! - [`inject`]: devices' lines, edges, physical interrupts. [`sgi`]: interrupts between vCPUs.
//! - [`fill`]: records to list registers. [`fold`]: list registers to records.
//! - [`offer`]: one interrupt and its list register, for both.
//! - [`link`]: virtual interrupts that are wired to physical ones.
//! - [`distributor`]: the guest's accesses to GICD. [`deactivate`]: and to GICC_DIR, if trapped.
//! - [`hardware`]: the seam to a core's virtual interface. [`list_register`], [`interface`]: the values that pass it.
//! - [`check`]: what must hold of records that come from a file. [`dump`]: a table for people.

#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

mod check;
mod deactivate;
mod distributor;
mod dump;
mod fill;
mod fold;
mod hardware;
mod inject;
mod interface;
mod irq;
mod link;
mod list_register;
mod offer;
mod place;
mod queue;
mod sgi;
mod vgic;
mod waiting;

#[cfg(test)]
mod tests;

pub use check::Error;
pub use distributor::Access;
pub use dump::{Table, WriteFilled};
pub use hardware::{VirtualInterface, reset_hardware};
pub use interface::{ActivePriorities, CTLR_MASK, Control, MachineControl};
pub use link::VIRTUAL_TIMER;
pub use list_register::{ListRegister, Origin, State};
pub use vgic::{Effects, Filled, MAX_LIST_REGISTERS, VcpuMask, Vgic, VirtualCpu};
