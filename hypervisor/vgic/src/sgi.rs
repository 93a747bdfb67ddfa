//! Interrupts between vCPUs: GICD_SGIR (IHI 0048B.b 4.3.15).
//!
//! An SGI to other vCPUs needs nothing of the sender's records, so whoever carries it to its
//! receivers needs no lock: [`sgi_of`] says where it goes, and [`Vgic::receive`] puts it into a
//! receiver's records.

use tock_registers::register_bitfields;

use crate::hardware::VirtualInterface;
use crate::irq::SGIS;
use crate::vcpus::{Effects, VcpuMask};
use crate::vgic::Vgic;

register_bitfields! { u32,
    /// Software Generated Interrupt Register, 4.3.15.
    SGIR [
        SGIINTID OFFSET(0) NUMBITS(4) [],
        CPUTargetList OFFSET(16) NUMBITS(8) [],
        TargetListFilter OFFSET(24) NUMBITS(2) [
            TargetList = 0,
            AllOthers = 1,
            Self_ = 2
        ]
    ]
}

/// Offset of GICD_SGIR from the distributor's base.
pub const GICD_SGIR: u64 = 0xf00;

/// SGIs that a vCPU was sent, each from each of its sources: bit 8 * n + m is SGI n from vCPU m.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sgis(pub u128);

impl Sgis {
    /// No SGI.
    pub const NONE: Self = Self(0);

    /// Returns SGI `sgi` from vCPU `source` alone.
    pub fn only(sgi: u16, source: usize) -> Self {
        Self(1 << (usize::from(sgi) * 8 + source))
    }

    /// Returns whether there is no SGI.
    #[inline]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Returns the SGI and its source, if there is one alone.
    #[inline(always)]
    fn single(self) -> Option<(u16, u8)> {
        let (first, word) = match (self.0 as u64, (self.0 >> 64) as u64) {
            (low, 0) => (0, low),
            (0, high) => (8, high),
            _ => return None,
        };
        let bit = word.trailing_zeros();
        word.is_power_of_two().then_some((first + (bit / 8) as u16, (bit % 8) as u8))
    }
}

/// Returns the SGI that a write of `value` to GICD_SGIR by `vcpu`, of a guest with `count` vCPUs,
/// sends, and its receivers. If the sender is not among these, its records do not matter.
#[inline(always)]
pub fn sgi_of(vcpu: usize, count: usize, value: u32) -> (u16, VcpuMask) {
    let all = VcpuMask::first(count);
    let targets = match SGIR::TargetListFilter.read_as_enum(value) {
        Some(SGIR::TargetListFilter::Value::TargetList) => {
            VcpuMask(SGIR::CPUTargetList.read(value) as u8 & all.0)
        }
        Some(SGIR::TargetListFilter::Value::AllOthers) => all.without(vcpu),
        Some(SGIR::TargetListFilter::Value::Self_) => VcpuMask::only(vcpu),
        // The filter is reserved; QEMU takes it for all.
        None => all,
    };
    (SGIR::SGIINTID.read(value) as u16, targets)
}

impl Vgic {
    /// Carries out a write to GICD_SGIR by `vcpu`.
    #[inline]
    pub(crate) fn send_sgi(&mut self, vcpu: usize, value: u32) -> Effects {
        let (sgi, targets) = sgi_of(vcpu, self.cpus.len(), value);
        let mut effects = Effects::default();
        for target in targets.iter() {
            effects |= self.add_sources(target, sgi, VcpuMask::only(vcpu).0);
        }
        effects
    }

    /// Makes SGIs pending that other vCPUs have sent to `vcpu`.
    pub fn receive(&mut self, vcpu: usize, sgis: Sgis) {
        let mut left = sgis.0;
        while left != 0 {
            let sgi = left.trailing_zeros() / 8;
            let sources = (left >> (8 * sgi)) as u8;
            left &= !(0xff << (8 * sgi));
            // Only `vcpu` is concerned, whose core takes the SGIs or was kicked for them.
            let _ = self.add_sources(vcpu, sgi as u16, sources);
        }
    }

    /// Does as [`Self::receive`] says for a vCPU that is loaded on this core and enters its guest
    /// next. If one SGI has come alone, and what is offered to the vCPU has not changed but for
    /// that, its list register is filled at once: as [`Self::receive`] and [`Vgic::enter`] would
    /// together. Returns whether that is so, and [`Vgic::enter`] has nothing left to do.
    #[inline(always)]
    pub fn receive_at_entry(
        &mut self,
        vcpu: usize,
        sgis: Sgis,
        hw: &mut impl VirtualInterface,
    ) -> bool {
        let single = sgis.single();
        let is_done = single.and_then(|(sgi, source)| self.come_again(vcpu, sgi, source, hw));
        is_done.unwrap_or_else(|| {
            self.receive(vcpu, sgis);
            false
        })
    }

    /// Makes an SGI pending for `target` from each vCPU of the mask `sources`.
    #[inline]
    pub(crate) fn add_sources(&mut self, target: usize, sgi: u16, sources: u8) -> Effects {
        debug_assert!(sgi < SGIS);
        let pending = self.cpus[target].state.sgi_src[usize::from(sgi)];
        if sources & !pending == 0 {
            return Effects::default();
        }
        self.change(target, sgi, |irq| irq.sources |= sources)
    }
}
