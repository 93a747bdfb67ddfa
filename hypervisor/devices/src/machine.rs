//! The guest's machine: QEMU's `virt` with `gic-version=2`, on every board.
//!
//! This module has the addresses and interrupts of RAM, GIC, timers and mapped devices, for the
//! device tree, the loader and the emulation alike. The address of each emulated device is in its
//! own file: [`Device::WINDOW`](crate::device::Device::WINDOW).

pub use stasis_state::timer::{PHYSICAL_TIMER, VIRTUAL_TIMER};

/// Guest-physical address of the RAM, as on QEMU's `virt`.
pub const RAM_BASE: u64 = 0x4000_0000;
/// First address that no guest reaches: an intermediate address has 39 bits. A guest that has its
/// RAM at the machine's own addresses may have it above [`RAM_BASE`].
pub const RAM_END: u64 = 1 << 39;
/// Bytes of the pieces in which RAM is given to guests: one block of stage 2.
pub const RAM_UNIT: u64 = 2 << 20;
/// Most bytes of RAM that a guest may have: QEMU's limit, for which a 39-bit intermediate address
/// suffices.
pub const RAM_MAX: u64 = 255 << 30;
/// Most vCPUs of a guest: each has one target bit in GICD_ITARGETSR<n>.
pub const MAX_VCPUS: u8 = 8;

/// Guest-physical address of the distributor.
pub const GICD_BASE: u64 = 0x0800_0000;
/// Bytes of the distributor's window, as the device tree says.
pub const GICD_SIZE: u64 = 0x1_0000;
/// Bytes of the window that registers fill; there is nothing behind them.
pub const GICD_REGISTERS: u64 = 0x1000;
/// Guest-physical address of the CPU interface: the physical GICV is mapped there in stage 2.
pub const GICC_BASE: u64 = 0x0801_0000;
/// Bytes of the CPU interface, whose second page has GICC_DIR alone.
pub const GICC_SIZE: u64 = 0x2000;
/// Bytes of the CPU interface that are mapped. GICC_DIR is trapped: of interrupts that are in no
/// list register the hardware would only count how many were deactivated, and not tell which.
pub const GICC_MAPPED: u64 = 0x1000;

/// Guest-physical address of the first region that a guest shares with others. QEMU's `virt` has
/// PCI there, which the guest's machine has not.
pub const SHARED_BASE: u64 = 0x1000_0000;
/// Bytes from the start of one shared region to the next, and the most that a region has.
pub const SHARED_STRIDE: u64 = 128 << 20;
/// Guest-physical address of the registers of the machine's devices that a guest was given. QEMU's
/// `virt` has its platform bus there.
pub const DEVICE_BASE: u64 = 0x0c00_0000;
/// Bytes of addresses for these registers.
pub const DEVICE_WINDOW: u64 = 32 << 20;
/// Number of the first shared peripheral interrupt (SPI) of these devices: INTID 144.
pub const DEVICE_SPI: u32 = 112;
/// Most interrupts of these devices together: as many as the vGIC links to physical ones, less the
/// timer's.
pub const MAX_DEVICE_INTERRUPTS: u32 = 31;

/// Numbers of the timers' private peripheral interrupts (PPIs), in the order of the Arm generic
/// timer's binding: secure physical, physical, virtual, hypervisor.
pub const TIMER_PPIS: [u32; 4] = [13, 14, 11, 10];
// The device tree says what the records' rules for the timers' lines take for granted.
const _: () = assert!(VIRTUAL_TIMER == FIRST_PPI + TIMER_PPIS[2] as u16);
const _: () = assert!(PHYSICAL_TIMER == FIRST_PPI + TIMER_PPIS[1] as u16);
/// INTID of the first PPI.
pub const FIRST_PPI: u16 = 16;
/// INTID of the first SPI.
pub const FIRST_SPI: u16 = 32;
