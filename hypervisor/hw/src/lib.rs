//! Drivers, thin over the hardware: they carry out, and decide nothing.
//!
//! - [`mmio`]: a device's registers without references to device memory.
//! - [`gic`]: the physical GICv2: GICD, GICC, GICH.
//! - [`pl011`], [`pl031`]: the console's UART, and the real-time clock.
//! - [`virtio_blk`]: the disk of QEMU's `virt`.
//! - [`paging`]: page tables of EL2's stage 1 and of the guests' stage 2.

#![cfg_attr(not(test), no_std)]

pub mod gic;
pub mod mmio;
pub mod paging;
pub mod pl011;
pub mod pl031;
pub mod virtio_blk;
