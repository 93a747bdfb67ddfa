//! Thin drivers of the hardware: they carry out what others decide. The protocol of SD cards alone
//! is decided here.
//!
//! - [`mmio`]: a device's registers without references to device memory.
//! - [`gic`]: the physical GICv2: GICD, GICC, GICH.
//! - [`serial`]: the console's UART, which is a [`pl011`] or a [`mini_uart`].
//! - [`pl031`], [`watchdog`]: the real-time clock; the watchdog by which a Raspberry Pi is switched
//!   off.
//! - [`rng200`]: a Raspberry Pi's random number generator.
//! - [`virtio_blk`]: the disk of QEMU's `virt`.
//! - [`network_card`]: what Stasis asks of a network card of the machine; [`virtio_net`]: QEMU's.
//! - [`virtio_mmio`]: a virtio device that a guest drives, and that is stopped here.
//! - [`sd`]: SD cards; [`sdhci`]: the host controller that they are connected to.
//! - [`time`]: the clock and the pauses of a driver that waits.
//! - [`paging`]: page tables of EL2's stage 1 and of the guests' stage 2.

#![cfg_attr(not(test), no_std)]

pub mod gic;
pub mod mini_uart;
pub mod mmio;
pub mod network_card;
pub mod paging;
pub mod pl011;
pub mod pl031;
pub mod rng200;
pub mod sd;
pub mod sdhci;
pub mod serial;
pub mod time;
pub mod virtio_blk;
mod virtio_dma;
pub mod virtio_mmio;
pub mod virtio_net;
mod virtio_setup;
pub mod watchdog;
