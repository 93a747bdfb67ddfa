//! State of the loaded vCPU that is in the hardware: its registers, its counter, and its memory as
//! the vCPU sees it ([`Translations`]).

use super::Loaded;
use crate::{cpu, mmu, timer};
use core::marker::PhantomData;

macro_rules! live_registers {
    (reads { $($get:ident: $read:literal;)* } writes { $($set:ident: $write:literal;)* }) => {
        /// Accesses to the system registers that answers to exits need.
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
                    // SAFETY: the register acts at EL1 and EL0 alone, and is the vCPU's own there:
                    // `self` is proof that it is loaded.
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
        elr_el1: "ELR_EL1";
        sctlr_el1: "SCTLR_EL1";
        spsr_el1: "SPSR_EL1";
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
    /// Writes CNTVOFF_EL2: how many ticks the guest's counter is behind the machine's. The guest's
    /// virtual timer may fire at once.
    #[inline]
    pub fn set_counter_offset(&mut self, offset: u64) {
        timer::set_virtual_offset(offset);
    }

    /// Makes the virtual timer compare again, where it does not notice by itself that its time has
    /// come: see [`timer::fires_across_zero`].
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

    /// Returns the intermediate physical address of a virtual one, as the vCPU's own translation
    /// tables have it for a read at EL1; `None` if they have none.
    pub fn intermediate_address(&self, virtual_address: u64) -> Option<u64> {
        mmu::guest_address(virtual_address)
    }

    /// Returns the translations of the vCPU.
    #[inline(always)]
    pub fn translations(&mut self) -> Translations<'_> {
        Translations(PhantomData)
    }
}

/// Translations of a vCPU that is loaded on this core, as it finds them, and as cores have copies
/// of them in their TLBs.
pub struct Translations<'v>(pub(super) PhantomData<&'v mut Loaded>);

impl Translations<'_> {
    /// Does what [`Loaded::intermediate_address`] says.
    #[inline(always)]
    pub fn intermediate_address(&self, virtual_address: u64) -> Option<u64> {
        mmu::guest_address(virtual_address)
    }

    /// Drops this core's copies of the guest's stage 2 for the block or page of the intermediate
    /// physical address `ipa`. To be called after its entry was made to allow more than before.
    #[inline(always)]
    pub fn forget_block(&mut self, ipa: u64) {
        mmu::forget_block(ipa);
    }

    /// Drops all cores' copies of the guest's stage 2 for the block or page of the intermediate
    /// physical address `ipa`. To be called after its entry was made invalid, and before it gets
    /// its new value.
    pub fn forget_block_everywhere(&mut self, ipa: u64) {
        mmu::forget_block_everywhere(ipa);
    }

    /// Drops all cores' copies of all of the guest's stage 2, at the same time.
    pub fn forget_all_everywhere(&mut self) {
        mmu::forget_all_everywhere();
    }
}
