//! Sets of vCPUs, and what an operation asks of its caller for some of them.

use stasis_state::vgic::MAX_VCPUS;

use crate::irq::bits;

/// A set of vCPUs of one guest: bit n is vCPU n.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VcpuMask(pub u8);

impl VcpuMask {
    /// The set of no vCPU.
    pub const NONE: Self = Self(0);

    /// Returns the set of one vCPU.
    pub fn only(vcpu: usize) -> Self {
        Self(1 << vcpu)
    }

    /// Returns the set of the first `count` vCPUs, at most all that there can be.
    pub fn first(count: usize) -> Self {
        Self(((1u16 << count.min(MAX_VCPUS)) - 1) as u8)
    }

    /// Returns whether `vcpu` is in the set.
    pub fn contains(self, vcpu: usize) -> bool {
        self.0 & (1 << vcpu) != 0
    }

    /// Returns the set without `vcpu`.
    pub fn without(self, vcpu: usize) -> Self {
        Self(self.0 & !(1 << vcpu))
    }

    /// Returns whether no vCPU is in the set.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Returns the numbers of the vCPUs in the set, ascending.
    pub fn iter(self) -> impl Iterator<Item = usize> {
        bits(self.0.into())
    }
}

/// The vCPUs for which an operation has changed something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[must_use = "a vCPU that is not kicked may never see its interrupt"]
pub struct Effects {
    /// The vCPUs that have something new for their list registers. The caller interrupts the core
    /// that runs one, so that it passes through [`Vgic::enter`](crate::Vgic::enter), and wakes one
    /// that waits in WFI. A vCPU on whose own core the operation was made passes through `enter`
    /// anyway.
    pub kick: VcpuMask,
}

impl core::ops::BitOrAssign for Effects {
    fn bitor_assign(&mut self, other: Self) {
        self.kick.0 |= other.kick.0;
    }
}
