//! The simplest of all trapped accesses, and the most frequent: a load or store of a word.
//!
//! [`WordAccess::of`] recognizes it with one comparison of the syndrome. [`decode`](super::decode) recognizes it, too, among all others.

use super::Syndrome;
use super::syndrome::{AbortIss, ESR, Esr, ISS_DATA_ABORT};

/// A load of a word without sign extension, or a store of a word, at an address that stage 2 does not map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WordAccess {
    /// Whether the access is a store.
    pub write: bool,
    /// Intermediate physical address.
    pub ipa: u64,
    /// Number of the general register: 0 to 30 are X0 to X30; 31 is XZR.
    pub register: u8,
}

impl WordAccess {
    /// Returns the access that an exception stands for. None if the exception is anything else.
    #[inline]
    pub fn of(syndrome: Syndrome) -> Option<Self> {
        let iss = AbortIss::new(syndrome.esr);
        let is_it = Esr::new(syndrome.esr).matches_all(ESR::EC::DataAbortLower)
            && iss.matches_all(
                ISS_DATA_ABORT::ISV::SET
                    + ISS_DATA_ABORT::SAS::Word
                    + ISS_DATA_ABORT::SSE::CLEAR
                    + ISS_DATA_ABORT::CM::CLEAR
                    + ISS_DATA_ABORT::S1PTW::CLEAR
                    + ISS_DATA_ABORT::FAULT::Translation,
            );
        is_it.then(|| Self {
            write: iss.is_set(ISS_DATA_ABORT::WNR),
            ipa: super::ipa(syndrome, false),
            register: iss.read(ISS_DATA_ABORT::SRT) as u8,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{Access, Exit, decode};
    use super::*;
    use stasis_devices::access::Width;

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
                    access: Access { write, width: Width::Word, sign_extend: false, register, .. },
                    ..
                } => Some(WordAccess { write, ipa, register }),
                _ => None,
            };
            prop_assert_eq!(WordAccess::of(syndrome), expected);
        }
    }

    #[test]
    fn no_other_exception_is_taken_for_one() {
        // LDR W5 at level 3; as an instruction abort; from EL2 itself.
        let of = |esr| WordAccess::of(Syndrome { esr, far: 0x18, hpfar: 0x0800_0000 >> 8 });
        assert_eq!(
            of(0x9385_0007),
            Some(WordAccess { write: false, ipa: 0x0800_0018, register: 5 })
        );
        assert_eq!(of(0x8385_0007), None);
        assert_eq!(of(0x9785_0007), None);
    }
}
