//! The guest's machine: QEMU's `virt` with `gic-version=2`, on every board.
//!
//! Where RAM, GIC, timers and what is mapped are, for the device tree, the loader and the emulation alike. Each emulated device says
//! itself where it is: [`Device::WINDOW`](crate::device::Device::WINDOW).

/// Guest-physical address of the RAM, as QEMU has it.
pub const RAM_BASE: u64 = 0x4000_0000;
/// The first address that no guest reaches: an intermediate address has 39 bits. RAM may begin elsewhere than at [`RAM_BASE`],
/// above it, in a guest that has it at the machine's own addresses.
pub const RAM_END: u64 = 1 << 39;
/// Memory comes in pieces of this size, stage 2's blocks.
pub const RAM_UNIT: u64 = 2 << 20;
/// The most RAM a guest may have: QEMU's limit, under which a 39-bit intermediate address suffices.
pub const RAM_MAX: u64 = 255 << 30;
/// The most vCPUs: one target bit each in GICD_ITARGETSR<n>.
pub const MAX_VCPUS: u8 = 8;

/// The distributor.
pub const GICD_BASE: u64 = 0x0800_0000;
/// Bytes of the distributor's window, as the device tree has it.
pub const GICD_SIZE: u64 = 0x1_0000;
/// Bytes of the window that its registers fill; there is nothing behind them.
pub const GICD_REGISTERS: u64 = 0x1000;
/// The CPU interface: the physical GICV, mapped in stage 2.
pub const GICC_BASE: u64 = 0x0801_0000;
/// Bytes of the CPU interface: GICC_DIR is alone in its second page.
pub const GICC_SIZE: u64 = 0x2000;
/// Bytes of it that are mapped. GICC_DIR is trapped: of interrupts that are in no list register the
/// hardware would only count how many were deactivated, not which.
pub const GICC_MAPPED: u64 = 0x1000;

/// The first region of memory that a guest shares with others: where QEMU's `virt` has PCI, which the guest's machine has not.
pub const SHARED_BASE: u64 = 0x1000_0000;
/// Bytes from one region to the next, and the most that one has.
pub const SHARED_STRIDE: u64 = 128 << 20;
/// The registers of the machine's devices that a guest was given: where QEMU's `virt` has its platform bus.
pub const DEVICE_BASE: u64 = 0x0c00_0000;
/// Bytes that they have.
pub const DEVICE_WINDOW: u64 = 32 << 20;
/// The first of their shared peripheral interrupts: INTID 144.
pub const DEVICE_SPI: u32 = 112;
/// How many they have: as many as the vGIC links to physical ones, but for the timer's.
pub const MAX_DEVICE_INTERRUPTS: u32 = 31;

/// The timers' private peripheral interrupts, as the Arm generic timer's binding orders them: secure physical,
/// physical, virtual, hypervisor.
pub const TIMER_PPIS: [u32; 4] = [13, 14, 11, 10];
/// The virtual timer's INTID, in the guest and on the core.
pub const VIRTUAL_TIMER: u16 = FIRST_PPI + TIMER_PPIS[2] as u16;
/// The physical timer's INTID.
pub const PHYSICAL_TIMER: u16 = FIRST_PPI + TIMER_PPIS[1] as u16;
/// The first private peripheral interrupt's INTID.
pub const FIRST_PPI: u16 = 16;
/// The first shared peripheral interrupt's INTID.
pub const FIRST_SPI: u16 = 32;
