//! A virtual GICv2 (IHI 0048B.b) on a handful of list registers. Pure: it decides, and the hardware
//! behind [`VirtualInterface`] carries out.
//!
//! The state is the records of `stasis-state`, nothing else. The rest is derived from them, and
//! made anew by [`Vgic::from_state`]. While a vCPU is loaded, its list registers carry what the
//! guest has been offered; [`Vgic::sync`] and [`Vgic::save`] fold that back.
//!
//! - [`vgic`]: the [`Vgic`] and its vCPUs. [`restore`]: how it is made. [`vcpus`]: sets of vCPUs.
//! - [`irq`]: one interrupt's state, copied from the [`records`].
//! - [`queue`], [`waiting`]: what waits for a vCPU, in the order in which it will be offered.
//!   [`place`], [`moves`]: where each interrupt is.
//! - [`inject`]: devices' lines, edges, physical interrupts. [`sgi`]: interrupts between vCPUs.
//! - [`fill`]: records to list registers. [`fold`]: list registers to records. [`refill`]: both, of
//!   one list register, by what [`changed`] says.
//! - [`offer`]: one interrupt and its list register, for both.
//! - [`links`], [`link`]: virtual interrupts that are wired to physical ones.
//! - [`distributor`]: the guest's accesses to GICD. [`deactivate`]: those to GICC_DIR, if they
//!   trap.
//! - [`hardware`]: the seam to a core's virtual interface. [`list_register`], [`interface`]: the
//!   values that pass it.
//! - [`check`]: the rules for records that come from a file. [`dump`]: a table for people.
//!
//! The files stand above one another. Lowest are the values, the queues and [`irq`], which know no
//! [`Vgic`]; then [`vgic`] has the types; [`records`] and [`moves`] act on them; the rest, on top,
//! calls those. None imports one that stands above it.

#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

mod changed;
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
mod links;
mod list_register;
mod moves;
mod offer;
mod place;
mod queue;
mod records;
mod refill;
mod restore;
mod sgi;
mod vcpus;
mod vgic;
mod waiting;

#[cfg(test)]
mod tests;

pub use check::Error;
pub use distributor::Access;
pub use dump::{NameOf, Table, WriteFilled};
pub use hardware::{VirtualInterface, reset_hardware};
pub use interface::{ActivePriorities, CTLR_MASK, Control, MachineControl, PackedControl};
pub use links::VIRTUAL_TIMER;
pub use list_register::{ListRegister, Origin, Packed, State};
pub use sgi::{GICD_SGIR, Sgis, sgi_of};
pub use vcpus::{Effects, VcpuMask};
pub use vgic::{Filled, MAX_LIST_REGISTERS, Vgic, VirtualCpu};
