//! The guest's machine: QEMU's `virt` with `gic-version=2`, on every board.
//!
//! Where each thing is, for the device tree ([`stasis_guest::fdt`]), the loader ([`stasis_guest::image`]) and the
//! emulation alike.

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

/// The second flash bank, with nothing in it: a boot loader looks for its environment there.
pub const FLASH_BASE: u64 = 0x0400_0000;
/// Bytes of the flash bank.
pub const FLASH_SIZE: u64 = 64 << 20;

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

/// The PL011 UART.
pub const UART_BASE: u64 = 0x0900_0000;
/// The PL031 clock.
pub const RTC_BASE: u64 = 0x0901_0000;
/// Bytes of the window of each PrimeCell.
pub const PRIMECELL_SIZE: u64 = 0x1000;
/// The PL011's shared peripheral interrupt: INTID 33.
pub const UART_SPI: u32 = 1;
/// The PL031's shared peripheral interrupt: INTID 34.
pub const RTC_SPI: u32 = 2;

/// The first virtio-mmio slot.
pub const VIRTIO_BASE: u64 = 0x0a00_0000;
/// Number of slots.
pub const VIRTIO_SLOTS: u64 = 32;
/// Bytes from one slot to the next.
pub const VIRTIO_STRIDE: u64 = 0x200;
/// The first slot's shared peripheral interrupt.
pub const VIRTIO_SPI: u32 = 16;

/// The watchdog of the guests that have one, which QEMU's `virt` has not: the control frame, then the refresh frame.
pub const WATCHDOG_BASE: u64 = 0x0910_0000;
/// Bytes of both frames.
pub const WATCHDOG_SIZE: u64 = 0x2000;
/// The watchdog's shared peripheral interrupt, which nothing of `virt` has: INTID 42.
pub const WATCHDOG_SPI: u32 = 10;

/// The first region of memory that a guest shares with others: where QEMU's `virt` has PCI, which the guest's machine has not.
pub const SHARED_BASE: u64 = 0x1000_0000;
/// Bytes from one region to the next, and the most that one has.
pub const SHARED_STRIDE: u64 = 128 << 20;
/// The first region's doorbell, a page each.
pub const DOORBELL_BASE: u64 = 0x0911_0000;
/// Bytes from one doorbell to the next.
pub const DOORBELL_STRIDE: u64 = 0x1000;
/// The first doorbell's shared peripheral interrupt; 11 to 14 are none of `virt`'s. INTID 43.
pub const DOORBELL_SPI: u32 = 11;

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
