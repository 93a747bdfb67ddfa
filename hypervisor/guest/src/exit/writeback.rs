//! Loads and stores that change their base register: `ldr w0, [x1], #4`, `str w0, [x1, #4]!`.
//!
//! The syndrome does not describe them (ISV is 0), so EL2 must read the instruction. Compilers use
//! them for loops over the registers of a device, and guests that were not written for a hypervisor
//! have them.

use stasis_state::vcpu::Core;

use super::syndrome::FaultKind;
use super::{Access, Cause, Exit, Fault, Writeback, pair};
use crate::register::{general, pstate};
use stasis_devices::access::Width;

impl Exit {
    /// Returns whether [`described`](Self::described) needs the instruction: the exit is a
    /// translation fault at a known address, in AArch64.
    pub fn wants_instruction(&self, core: &Core) -> bool {
        matches!(self, Self::DataAbortUnemulatable(fault)
            if fault.kind == FaultKind::Translation && !fault.on_walk && fault.ipa.is_some())
            && *core.pstate & pstate::AARCH32 == 0
    }

    /// Returns the exit as `instruction` describes it, for a vCPU whose registers are `core`. That
    /// is [`Exit::DataAbort`] if the instruction is a load or store with writeback, or a load of a
    /// pair, at the address that faulted, and otherwise the same exit. Another vCPU may have
    /// changed the code meanwhile, so `instruction` is an allegation.
    pub fn described(self, instruction: u32, core: &Core) -> Self {
        match self {
            Self::DataAbortUnemulatable(fault @ Fault { ipa: Some(ipa), .. })
                if self.wants_instruction(core) =>
            {
                let access = decode(instruction, &fault, core);
                match access.or_else(|| pair::decode(instruction, &fault, core)) {
                    Some(access) => {
                        let virtual_address = fault.virtual_address;
                        Self::DataAbort { ipa, virtual_address, access }
                    }
                    None => self,
                }
            }
            _ => self,
        }
    }
}

/// Returns the access if `instruction` is one with writeback that explains `fault`: Load/store
/// register, immediate, pre-indexed or post-indexed (DDI 0487, C4.1.94), of a general register.
fn decode(instruction: u32, fault: &Fault, core: &Core) -> Option<Access> {
    let field = |lowest: u32, bits: u32| instruction >> lowest & ((1 << bits) - 1);
    if field(24, 6) != 0b11_1000 || field(21, 1) != 0 || field(10, 1) != 1 {
        return None;
    }
    let width = match field(30, 2) {
        0 => Width::Byte,
        1 => Width::Halfword,
        2 => Width::Word,
        _ => Width::Doubleword,
    };
    // Loads that extend the sign to 64 bits load at most a word, those that extend it to 32 bits at
    // most a halfword.
    let (write, sign_extend, sixty_four) = match (field(22, 2), width) {
        (0, _) => (true, false, width == Width::Doubleword),
        (1, _) => (false, false, width == Width::Doubleword),
        (2, Width::Byte | Width::Halfword | Width::Word) => (false, true, true),
        (3, Width::Byte | Width::Halfword) => (false, true, false),
        _ => return None,
    };
    let (register, base) = (field(0, 5) as u8, field(5, 5) as u8);
    // SP is no base for a device. If one register is both base and data, the result is not defined
    // (K1.2.15).
    if base == 31 || base == register || write != (fault.cause == Cause::Store) {
        return None;
    }
    let before = general(core, base);
    let offset = i64::from(((field(12, 9) << 23) as i32) >> 23);
    let after = before.wrapping_add_signed(offset);
    let pre_indexed = field(11, 1) == 1;
    let address = if pre_indexed { after } else { before };
    (address == fault.virtual_address).then_some(Access {
        write,
        width,
        register,
        sign_extend,
        sixty_four,
        writeback: Some(Writeback { register: base, value: after }),
        second: None,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DEVICE: u64 = 0xffff_0000_0800_0180;

    fn abort(cause: Cause) -> Exit {
        Exit::DataAbortUnemulatable(Fault {
            cause,
            virtual_address: DEVICE,
            ipa: Some(0x0800_0180),
            kind: FaultKind::Translation,
            on_walk: false,
        })
    }

    fn core(base: u64) -> Core {
        let mut core = Core::default();
        *core.pstate = pstate::EL1H;
        core.x[9] = base;
        core.x[10] = 0xffff_ffff;
        core
    }

    fn access(instruction: u32, cause: Cause, core: &Core) -> Option<Access> {
        match abort(cause).described(instruction, core) {
            Exit::DataAbort { ipa: 0x0800_0180, access, .. } => Some(access),
            Exit::DataAbortUnemulatable(_) => None,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_store_that_moves_its_base_on_is_read_from_the_instruction() {
        let mut core = core(DEVICE);
        // str w10, [x9], #4
        let access = access(0xb800_452a, Cause::Store, &core).unwrap();
        assert_eq!(
            (access.write, access.width, access.stored(&core)),
            (true, Width::Word, 0xffff_ffff)
        );
        access.writeback.unwrap().apply(&mut core);
        assert_eq!(core.x[9], DEVICE + 4);
    }

    #[test]
    fn the_base_of_a_pre_indexed_load_is_moved_before() {
        let mut core = core(DEVICE + 16);
        // ldrsb x10, [x9, #-16]!
        let access = access(0x389f_0d2a, Cause::Load, &core).unwrap();
        assert_eq!(
            (access.width, access.sign_extend, access.sixty_four),
            (Width::Byte, true, true)
        );
        access.load(&mut core, 0x80);
        access.writeback.unwrap().apply(&mut core);
        assert_eq!((core.x[10], core.x[9]), (0xffff_ffff_ffff_ff80, DEVICE));
    }

    #[test]
    fn an_instruction_that_is_not_the_one_that_faulted_describes_nothing() {
        // At another address; a load and not a store; no writeback; SP; its own base; a pair; a
        // vector.
        assert_eq!(access(0xb800_452a, Cause::Store, &core(DEVICE + 4)), None);
        assert_eq!(access(0xb800_452a, Cause::Load, &core(DEVICE)), None);
        for instruction in [0xb900_012a, 0xb800_47ea, 0xb800_4529, 0x2880_ad2a, 0xbc00_452a] {
            assert_eq!(access(instruction, Cause::Store, &core(DEVICE)), None, "{instruction:#x}");
        }
    }

    #[test]
    fn code_of_32_bits_is_not_taken_for_code_of_64() {
        let mut core = core(DEVICE);
        *core.pstate = pstate::AARCH32;
        assert!(!abort(Cause::Store).wants_instruction(&core));
        assert_eq!(access(0xb800_452a, Cause::Store, &core), None);
    }

    proptest! {
        #[test]
        fn whatever_the_code_says_the_address_is_the_one_that_faulted(
            instruction: u32,
            base: u64,
        ) {
            let core = core(base);
            if let Some(access) = access(instruction, Cause::Load, &core) {
                if let Some(Writeback { register, value }) = access.writeback {
                    let before = general(&core, register);
                    prop_assert!(before == DEVICE || value == DEVICE);
                }
                prop_assert!(!access.write);
            }
        }
    }
}
