//! Drivers, thin over the hardware: they carry out, and decide nothing.
//!
//! - [`mmio`]: a device's registers without references to device memory.
//! - [`gic`]: the physical GICv2: GICD, GICC, GICH.
//! - [`serial`]: the console's UART, which is a [`pl011`] or a [`mini_uart`].
//! - [`pl031`], [`watchdog`]: the real-time clock; what switches a Raspberry Pi off.
//! - [`virtio_blk`]: the disk of QEMU's `virt`.
//! - [`virtio_mmio`]: a device of its kind that a guest drives.
//! - [`sd`]: SD cards; [`sdhci`]: the host controller that they are in.
//! - [`time`]: how long a driver may wait.
//! - [`paging`]: page tables of EL2's stage 1 and of the guests' stage 2.

#![cfg_attr(not(test), no_std)]

pub mod gic;
pub mod mini_uart;
pub mod mmio;
pub mod paging;
pub mod pl011;
pub mod pl031;
pub mod sd;
pub mod sdhci;
pub mod serial;
pub mod time;
pub mod virtio_blk;
pub mod virtio_mmio;
pub mod watchdog;
