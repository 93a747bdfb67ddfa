//! The simplest of all trapped accesses, and the most frequent: a load or store of one register as
//! it is.
//!
//! [`PlainAccess::of`] recognizes it with one comparison of the syndrome. [`decode`](super::decode)
//! recognizes it, too, among all others.

use super::Syndrome;
use super::access::width;
use super::syndrome::{AbortIss, ESR, Esr, HPFAR, ISS_DATA_ABORT};
use stasis_devices::access::Width;
use tock_registers::fields::FieldValue;

/// A load without sign extension, or a store, at an address that stage 2 does not map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlainAccess {
    /// Whether the access is a store.
    pub write: bool,
    /// Width of the access.
    pub width: Width,
    /// Intermediate physical address.
    pub ipa: u64,
    /// Number of the general register: 0 to 30 are X0 to X30; 31 is XZR.
    pub register: u8,
}

impl PlainAccess {
    /// Returns the access that an exception stands for. None if the exception is anything else.
    #[inline]
    pub fn of(syndrome: Syndrome) -> Option<Self> {
        let iss = AbortIss::new(syndrome.esr);
        is_abort(syndrome, plain()).then(|| Self {
            write: iss.is_set(ISS_DATA_ABORT::WNR),
            width: width(iss),
            ipa: super::ipa(syndrome, false),
            register: iss.read(ISS_DATA_ABORT::SRT) as u8,
        })
    }

    /// Returns the access to a word in the 4 KiB that begin at `page` that an exception stands for.
    /// None if the exception is anything else.
    #[inline(always)]
    pub fn word_in(page: u64, syndrome: Syndrome) -> Option<Self> {
        let iss = AbortIss::new(syndrome.esr);
        let is_there = HPFAR::FIPA.read(syndrome.hpfar) == page >> 12;
        let is_it = is_there && is_abort(syndrome, plain() + ISS_DATA_ABORT::SAS::Word);
        is_it.then(|| Self {
            write: iss.is_set(ISS_DATA_ABORT::WNR),
            width: Width::Word,
            ipa: page | syndrome.far & 0xfff,
            register: iss.read(ISS_DATA_ABORT::SRT) as u8,
        })
    }
}

/// Returns whether an exception may be a write that stage 2 forbids: if it is an abort at all, it
/// is a permission fault.
#[inline(always)]
pub fn may_be_forbidden(syndrome: Syndrome) -> bool {
    AbortIss::new(syndrome.esr).matches_all(ISS_DATA_ABORT::FAULT::Permission)
}

/// Returns whether an exception is a store, or cache maintenance, that stage 2 forbids. HPFAR_EL2
/// does not have its address.
#[inline(always)]
pub fn is_forbidden_store(syndrome: Syndrome) -> bool {
    let fields =
        ISS_DATA_ABORT::WNR::SET + ISS_DATA_ABORT::S1PTW::CLEAR + ISS_DATA_ABORT::FAULT::Permission;
    is_abort(syndrome, fields)
}

/// Returns what the syndrome of a plain access has.
#[inline(always)]
fn plain() -> FieldValue<u64, ISS_DATA_ABORT::Register> {
    ISS_DATA_ABORT::ISV::SET
        + ISS_DATA_ABORT::SSE::CLEAR
        + ISS_DATA_ABORT::CM::CLEAR
        + ISS_DATA_ABORT::S1PTW::CLEAR
        + ISS_DATA_ABORT::FAULT::Translation
}

/// Returns whether an exception is a data abort of the guest's whose syndrome has `fields`.
#[inline(always)]
fn is_abort(syndrome: Syndrome, fields: FieldValue<u64, ISS_DATA_ABORT::Register>) -> bool {
    Esr::new(syndrome.esr).matches_all(ESR::EC::DataAbortLower)
        && AbortIss::new(syndrome.esr).matches_all(fields)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{Access, Exit, decode};
    use super::*;

    proptest! {
        #[test]
        fn what_it_is_told_by_is_what_any_access_is_decoded_from(
            iss in 0u64..1 << 25, tame in any::<bool>(), far: u64, hpfar in 0u64..1 << 36,
        ) {
            // Half of them have a translation fault and what it takes to be emulated.
            let iss = if tame { iss & 0x00ff_fc3f | 0x0100_0004 } else { iss };
            let syndrome = Syndrome { esr: 0x24 << 26 | 1 << 25 | iss, far, hpfar };
            let expected = match decode(syndrome) {
                Exit::DataAbort {
                    ipa,
                    access: Access { write, width, sign_extend: false, register, .. },
                    ..
                } => Some(PlainAccess { write, width, ipa, register }),
                _ => None,
            };
            prop_assert_eq!(PlainAccess::of(syndrome), expected);
            let page = super::super::ipa(syndrome, true);
            let word = expected.filter(|access| access.width == Width::Word);
            prop_assert_eq!(PlainAccess::word_in(page, syndrome), word);
            prop_assert_eq!(PlainAccess::word_in(page ^ 0x1000, syndrome), None);
        }

        #[test]
        fn a_forbidden_store_is_a_forbidden_write_that_no_walk_makes(
            iss in 0u64..1 << 25, tame in any::<bool>(), class in prop::sample::select(vec![0x20_u64, 0x24, 0x25]),
        ) {
            // Half of them have a permission fault. Cache maintenance is always a write: DDI 0487,
            // D24.2.40.
            let iss = if tame { iss & !0x3c | 0x0c } else { iss };
            let iss = if iss & 1 << 8 != 0 { iss | 1 << 6 } else { iss };
            let syndrome = Syndrome { esr: class << 26 | iss, far: 0, hpfar: 0 };
            let exit = decode(syndrome);
            let expected = exit.fault().is_some_and(|fault| fault.is_forbidden_write() && !fault.on_walk);
            prop_assert_eq!(is_forbidden_store(syndrome), expected);
            prop_assert!(may_be_forbidden(syndrome) || !expected);
        }
    }

    #[test]
    fn no_other_exception_is_taken_for_one() {
        // LDR W5 at level 3; as an instruction abort; from EL2 itself.
        let of = |esr| PlainAccess::of(Syndrome { esr, far: 0x18, hpfar: 0x0800_0000 >> 8 });
        assert_eq!(
            of(0x9385_0007),
            Some(PlainAccess { write: false, width: Width::Word, ipa: 0x0800_0018, register: 5 })
        );
        assert_eq!(of(0x8385_0007), None);
        assert_eq!(of(0x9785_0007), None);
    }
}
