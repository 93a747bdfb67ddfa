//! The sizes of the pages that a guest's kernel uses, and what its CPU must show for them.
//!
//! An arm64 `Image` says in its header which pages it was built for. It looks for them in
//! ID_AA64MMFR0_EL1 before it can print anything, and stops in silence if they are absent. Not
//! every board's CPU has pages of 16 KiB (a Cortex-A53 or A72 has not). So only a guest whose
//! kernel asks for them is shown them, and needs them where it is resumed; all other guests that
//! are [portable](Reach) can go anywhere.

use stasis_state::vcpu::Identity;

use super::{FIELDS, Field, MMFR0, Reach, get, present, value_mut};

/// The size of a kernel's pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Granule {
    /// 4 KiB.
    Kib4,
    /// 16 KiB.
    Kib16,
    /// 64 KiB.
    Kib64,
}

/// Lowest bits of TGran16, TGran64 and TGran4 in ID_AA64MMFR0_EL1 (D24.2.80).
pub(super) const TGRAN16: u32 = 20;
pub(super) const TGRAN64: u32 = 24;
pub(super) const TGRAN4: u32 = 28;

impl Granule {
    fn kibibytes(self) -> u32 {
        match self {
            Granule::Kib4 => 4,
            Granule::Kib16 => 16,
            Granule::Kib64 => 64,
        }
    }

    /// Returns whether a CPU with this ID_AA64MMFR0_EL1 has the granule. In TGran4 and TGran64 a 0
    /// means that it has, in TGran16 that it has not.
    fn is_in(self, mmfr0: u64) -> bool {
        let value = |shift: u32| mmfr0 >> shift & 0xf;
        match self {
            Granule::Kib4 => value(TGRAN4) < 8,
            Granule::Kib16 => value(TGRAN16) != 0,
            Granule::Kib64 => value(TGRAN64) < 8,
        }
    }
}

/// The error of [`made`]: the CPU does not have the pages that a kernel needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "its kernel has pages of {} KiB, which this machine's CPU does not have; take one with pages of {}",
    .wanted.kibibytes(), Offered(*.offered)
)]
pub struct NoSuchGranule {
    /// Granule that the kernel was built for.
    pub wanted: Granule,
    /// ID_AA64MMFR0_EL1 of the CPU.
    pub offered: u64,
}

/// The granules that an ID_AA64MMFR0_EL1 offers, shown in words.
struct Offered(u64);

impl core::fmt::Display for Offered {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let all = [Granule::Kib4, Granule::Kib16, Granule::Kib64];
        for (n, granule) in all.into_iter().filter(|granule| granule.is_in(self.0)).enumerate() {
            write!(f, "{}{} KiB", if n > 0 { " or " } else { "" }, granule.kibibytes())?;
        }
        Ok(())
    }
}

/// Returns what vCPU `index` of a new guest is shown on a CPU whose registers are `raw`. `granule`
/// has the pages that its kernel asks for, if it does; `reach` says where the guest must be able to
/// go on.
///
/// # Errors
///
/// [`NoSuchGranule`] if the CPU does not have these pages.
pub fn made(
    raw: &Identity,
    index: usize,
    granule: Option<Granule>,
    reach: Reach,
) -> Result<Identity, NoSuchGranule> {
    let mut shown = present(raw, index);
    if reach == Reach::Alike {
        shown.ctr_el0 = raw.ctr_el0;
    }
    let offered = get(raw, MMFR0).unwrap_or(0);
    if let Some(wanted) = granule.filter(|granule| !granule.is_in(offered)) {
        return Err(NoSuchGranule { wanted, offered });
    }
    if granule != Some(Granule::Kib16)
        && let Some(mmfr0) = value_mut(&mut shown, MMFR0)
    {
        *mmfr0 &= !(0xf << TGRAN16);
    }
    Ok(shown)
}

// The field that `made` takes away is one of `FIELDS`, so a file may have it.
const _: () = {
    let mut n = 0;
    let mut found = false;
    while n < FIELDS.len() {
        let Field { register, shift, .. } = FIELDS[n];
        found |= register == MMFR0 && shift == TGRAN16;
        n += 1;
    }
    assert!(found);
};
