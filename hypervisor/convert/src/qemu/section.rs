//! The fields of the section, in their order: `vmstate_gic`, and the subsection
//! `vmstate_gic_virt_state`.
//!
//! All arrays have room for what a GICv2 can have at most: 8 CPUs (16 with the virtual ones), 1020
//! INTIDs.

use zerocopy::big_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// `GIC_NCPU`.
pub const CPUS: usize = 8;
/// `GIC_MAXIRQ`.
pub const INTIDS: usize = 1020;
/// The bits of an SPI, which belongs to all CPUs, in a mask of CPUs.
pub const ALL_CPUS: u8 = 0xff;
/// `current_pending` where nothing is pending.
pub const NO_INTERRUPT: u16 = 1023;
/// `running_priority` where nothing is running.
pub const IDLE: u16 = 0x100;

/// The section's name.
pub const NAME: &str = "arm_gic";
/// The section's version.
pub const VERSION: u32 = 12;
/// The subsection's name.
pub const VIRT_NAME: &str = "arm_gic_virt_state";
/// The subsection's version.
pub const VIRT_VERSION: u32 = 1;

/// `gic_irq_state`: an interrupt. The masks have a bit for each CPU.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
#[allow(missing_docs)]
pub struct IrqState {
    pub enabled: u8,
    /// The latch alone, but for SGIs, which have it where a source is in `sgi_pending`.
    pub pending: u8,
    pub active: u8,
    pub level: u8,
    /// Of a GIC before version 2.
    pub model: u8,
    /// 0 or 1, for all CPUs.
    pub edge_trigger: u8,
    pub group: u8,
}

macro_rules! fields {
    (
        $(#[$meta:meta])*
        pub struct $Struct:ident { $( $(#[$doc:meta])* $name:ident: $ty:ty, )* }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq, Eq)]
        #[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
        #[repr(C)]
        #[allow(missing_docs)]
        pub struct $Struct { $( $(#[$doc])* pub $name: $ty, )* }

        impl $Struct {
            /// Each field's name and bytes, in their order.
            pub const FIELDS: &'static [(&'static str, usize)] =
                &[ $( (stringify!($name), size_of::<$ty>()), )* ];
        }
    };
}

fields! {
    /// The section. `[n][cpu]` is one array in the stream, with `n * 8 + cpu` for its index.
    pub struct ArmGic {
        ctlr: U32,
        cpu_ctlr: [U32; CPUS],
        irq_state: [IrqState; INTIDS],
        irq_target: [u8; INTIDS],
        priority1: [[u8; CPUS]; 32],
        priority2: [u8; INTIDS - 32],
        /// By SGI and the CPU that it was sent to: the mask of those that sent it.
        sgi_pending: [[u8; CPUS]; 16],
        priority_mask: [U16; CPUS],
        /// The highest active priority, or [`IDLE`].
        running_priority: [U16; CPUS],
        /// The interrupt that GICC_HPPIR shows, or [`NO_INTERRUPT`].
        current_pending: [U16; CPUS],
        bpr: [u8; CPUS],
        abpr: [u8; CPUS],
        /// Active priorities of group 0; with KVM of both groups.
        apr: [[U32; CPUS]; 4],
        /// Active priorities of group 1.
        nsapr: [[U32; CPUS]; 4],
    }
}

fields! {
    /// The subsection that is there with `-M virt,virtualization=on`: GICH, and the CPU interfaces
    /// behind GICV.
    pub struct VirtState {
        h_hcr: [U32; CPUS],
        h_misr: [U32; CPUS],
        h_lr: [[U32; CPUS]; 64],
        h_apr: [U32; CPUS],
        cpu_ctlr: [U32; CPUS],
        priority_mask: [U16; CPUS],
        running_priority: [U16; CPUS],
        current_pending: [U16; CPUS],
        bpr: [u8; CPUS],
        abpr: [u8; CPUS],
    }
}

impl ArmGic {
    /// Returns GICC_APR of a CPU, the groups together.
    pub fn active_priorities(&self, cpu: usize) -> [u32; 4] {
        [0, 1, 2, 3].map(|n| self.apr[n][cpu].get() | self.nsapr[n][cpu].get())
    }

    /// Returns an interrupt's priority for a CPU.
    pub fn priority(&self, intid: usize, cpu: usize) -> u8 {
        if intid < 32 { self.priority1[intid][cpu] } else { self.priority2[intid - 32] }
    }
}
