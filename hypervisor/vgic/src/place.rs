//! Where an interrupt is: nowhere, in a vCPU's queue, or in one of its list registers. Derived from
//! the records, and kept with them by [`Vgic::relocate`](crate::Vgic::relocate).

use crate::irq::Irq;
use crate::queue::level;
use crate::waiting::Kind;

/// Where an interrupt is, in two bytes: there is one for each interrupt, and the hot paths compare,
/// read and write them. From bit 0 on they have the level, the vCPU, and the kind of place.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place(u16);

/// A [`Place`] by its parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum At {
    /// The interrupt is neither active nor to be offered.
    Nowhere,
    /// The interrupt is in one of `vcpu`'s list registers, which know more than the records.
    Resident { vcpu: usize },
    /// The interrupt is in a queue of `vcpu`.
    Waiting { vcpu: usize, kind: Kind, level: u8 },
}

impl Place {
    const VCPU: u16 = 1 << 5;
    const RESIDENT: u16 = 1 << 8;
    const WAITING: u16 = 2 << 8;

    /// The place of an interrupt that is neither active nor to be offered.
    pub(crate) const NOWHERE: Self = Self(0);

    /// Returns the place of an interrupt in one of `vcpu`'s list registers.
    #[inline]
    pub(crate) fn resident(vcpu: usize) -> Self {
        Self(Self::RESIDENT + vcpu as u16 * Self::VCPU)
    }

    /// Returns the place of an interrupt in a queue of `vcpu`.
    #[inline]
    fn waiting(vcpu: u8, kind: Kind, level: u8) -> Self {
        let kind = (kind as u16) << 8;
        Self(Self::WAITING + kind + u16::from(vcpu) * Self::VCPU + u16::from(level))
    }

    /// Returns the parts of the place.
    #[inline]
    pub(crate) fn get(self) -> At {
        let vcpu = usize::from(self.0 / Self::VCPU % 8);
        let kind = match self.0 >> 8 {
            0 => return At::Nowhere,
            1 => return At::Resident { vcpu },
            2 => Kind::Group0,
            3 => Kind::Group1,
            _ => Kind::Active,
        };
        At::Waiting { vcpu, kind, level: (self.0 % Self::VCPU) as u8 }
    }

    /// Returns the vCPU in one of whose list registers the interrupt is.
    #[inline]
    pub(crate) fn home(self) -> Option<usize> {
        match self.get() {
            At::Resident { vcpu } => Some(vcpu),
            _ => None,
        }
    }
}

impl core::fmt::Debug for Place {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        self.get().fmt(f)
    }
}

impl Irq {
    /// Returns where the interrupt belongs. An active one waits for its deactivation, whether or
    /// not it is pending, and wherever else it is targeted by now.
    #[inline]
    pub(crate) fn wanted_place(&self) -> Place {
        let level = level(self.priority);
        if self.is_active() {
            return Place::waiting(self.holder, Kind::Active, level);
        }
        match self.target() {
            Some(target) if self.is_pending() && self.is_enabled() => {
                Place::waiting(target as u8, self.group(), level)
            }
            _ => Place::NOWHERE,
        }
    }
}
