//! GICH, IHI 0048B.b section 5.3: the virtual interface control registers of the core that uses it.
//!
//! Only the register at the frame's start is used: the per-CPU aliases behind it stand elsewhere on
//! some machines.

use crate::mmio::{Frame, Offset};
use tock_registers::interfaces::{Readable, Writeable};
use tock_registers::register_bitfields;

register_bitfields! { u32,
    /// 5.3.2.
    GICH_VTR [
        /// One less than the number of list registers.
        ListRegs OFFSET(0) NUMBITS(6) []
    ]
}

const HCR: Offset<u32> = Offset::new(0x000);
const VTR: Offset<u32, GICH_VTR::Register> = Offset::new(0x004);
const VMCR: Offset<u32> = Offset::new(0x008);
const APR: Offset<u32> = Offset::new(0x0f0);
const LR: Offset<u32> = Offset::new(0x100);

/// Bytes of the frame.
const LEN: usize = 0x1000;

/// The virtual interface control block.
#[derive(Clone, Copy, Debug)]
pub struct VirtualInterface {
    frame: Frame<LEN>,
    list_registers: usize,
}

macro_rules! registers {
    ($($(#[$doc:meta])* $read:ident, $write:ident: $REGISTER:ident;)*) => { $(
        $(#[$doc])*
        #[inline(always)]
        pub fn $read(&self) -> u32 {
            self.frame.at($REGISTER).get()
        }
        #[doc = concat!("Writes what [`Self::", stringify!($read), "`] reads.")]
        #[inline(always)]
        pub fn $write(&self, value: u32) {
            self.frame.at($REGISTER).set(value);
        }
    )* };
}

impl VirtualInterface {
    /// The virtual interface in `frame`; reads how many list registers there are.
    pub fn new(frame: Frame<LEN>) -> Self {
        let list_registers = frame.at(VTR).read(GICH_VTR::ListRegs) as usize + 1;
        Self { frame, list_registers }
    }

    /// Number of list registers, 1 to 64. Those beyond must not be touched.
    #[inline(always)]
    pub const fn list_registers(&self) -> usize {
        self.list_registers
    }

    registers! {
        /// GICH_HCR, 5.3.1.
        read_hcr, write_hcr: HCR;
        /// GICH_VMCR, 5.3.3.
        read_vmcr, write_vmcr: VMCR;
        /// GICH_APR, 5.3.9.
        read_apr, write_apr: APR;
    }

    /// GICH_LR`n`, 5.3.10.
    ///
    /// # Panics
    ///
    /// If there is no such list register.
    #[inline(always)]
    pub fn read_lr(&self, n: usize) -> u32 {
        assert!(n < self.list_registers);
        self.frame.at(LR.index(n)).get()
    }

    /// GICH_LR`n`, 5.3.10.
    ///
    /// # Panics
    ///
    /// If there is no such list register.
    #[inline(always)]
    pub fn write_lr(&self, n: usize, value: u32) {
        assert!(n < self.list_registers);
        self.frame.at(LR.index(n)).set(value);
    }
}
