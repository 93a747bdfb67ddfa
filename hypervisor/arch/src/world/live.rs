//! What is in the hardware of the vCPU that is loaded: its registers, its counter, and its memory as it sees it.

use super::Loaded;
use crate::{cpu, mmu, timer};

macro_rules! live_registers {
    (reads { $($get:ident: $read:literal;)* } writes { $($set:ident: $write:literal;)* }) => {
        /// The system registers that an exit is answered by.
        impl Loaded {
            $(
                #[doc = concat!("Returns the vCPU's ", $read, ".")]
                #[inline(always)]
                pub fn $get(&self) -> u64 {
                    mrs!($read)
                }
            )*
            $(
                #[doc = concat!("Writes the vCPU's ", $write, ".")]
                #[inline(always)]
                pub fn $set(&mut self, value: u64) {
                    // SAFETY: the register acts at EL1 and EL0 alone, and there it is the vCPU's own, for `self` is loaded.
                    unsafe { msr!($write; value) };
                }
            )*
        }
    };
}

live_registers! {
    reads {
        cntv_ctl_el0: "CNTV_CTL_EL0";
        cntv_cval_el0: "CNTV_CVAL_EL0";
        csselr_el1: "CSSELR_EL1";
        sctlr_el1: "SCTLR_EL1";
        vbar_el1: "VBAR_EL1";
    }
    writes {
        set_csselr_el1: "CSSELR_EL1";
        set_elr_el1: "ELR_EL1";
        set_esr_el1: "ESR_EL1";
        set_far_el1: "FAR_EL1";
        set_spsr_el1: "SPSR_EL1";
    }
}

impl Loaded {
    /// Writes CNTVOFF_EL2: the guest's counter, in ticks behind the machine's. Its virtual timer may fire by that.
    #[inline]
    pub fn set_counter_offset(&mut self, offset: u64) {
        timer::set_virtual_offset(offset);
    }

    /// Makes the virtual timer see that its time has come, where it does not by itself: see [`timer::fires_across_zero`].
    pub fn nudge_timer(&mut self) {
        timer::nudge_virtual();
    }

    /// Returns whether a virtual SError is pending for the vCPU: HCR_EL2.VSE.
    #[inline]
    pub fn virtual_serror(&self) -> bool {
        cpu::virtual_serror()
    }

    /// Makes a virtual SError pending for the vCPU.
    pub fn set_virtual_serror(&mut self) {
        cpu::set_virtual_serror();
    }

    /// Returns the physical address behind a virtual one, as the vCPU would read it at EL1. None: it would fault.
    pub fn physical_address(&self, virtual_address: u64) -> Option<u64> {
        mmu::guest_address(virtual_address)
    }

    /// Makes this core drop what it has kept of the guest's stage 2 for the block or page that the intermediate physical address `ipa` lies in,
    /// whose entry allows more than before.
    pub fn forget_block(&mut self, ipa: u64) {
        mmu::forget_block(ipa);
    }
}
