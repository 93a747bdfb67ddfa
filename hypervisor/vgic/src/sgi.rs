//! Interrupts between vCPUs: GICD_SGIR (IHI 0048B.b 4.3.15).

use tock_registers::register_bitfields;

use crate::irq::SGIS;
use crate::vcpus::{Effects, VcpuMask};
use crate::vgic::Vgic;

register_bitfields! { u32,
    /// Software Generated Interrupt Register, 4.3.15.
    GICD_SGIR [
        SGIINTID OFFSET(0) NUMBITS(4) [],
        CPUTargetList OFFSET(16) NUMBITS(8) [],
        TargetListFilter OFFSET(24) NUMBITS(2) [
            TargetList = 0,
            AllOthers = 1,
            Self_ = 2
        ]
    ]
}

/// Returns the SGI that a write of `value` to GICD_SGIR sends.
#[inline]
pub(crate) fn sgi_of(value: u32) -> u16 {
    GICD_SGIR::SGIINTID.read(value) as u16
}

impl Vgic {
    /// Carries out a write to GICD_SGIR by `vcpu`.
    #[inline]
    pub(crate) fn send_sgi(&mut self, vcpu: usize, value: u32) -> Effects {
        let sgi = sgi_of(value);
        let mut effects = Effects::default();
        for target in self.sgi_targets(vcpu, value).iter() {
            effects |= self.add_sources(target, sgi, VcpuMask::only(vcpu).0);
        }
        effects
    }

    /// Returns the vCPUs that a write to GICD_SGIR by `vcpu` sends to.
    #[inline]
    pub(crate) fn sgi_targets(&self, vcpu: usize, value: u32) -> VcpuMask {
        let all = self.all_cpus();
        match GICD_SGIR::TargetListFilter.read_as_enum(value) {
            Some(GICD_SGIR::TargetListFilter::Value::TargetList) => {
                VcpuMask(GICD_SGIR::CPUTargetList.read(value) as u8 & all.0)
            }
            Some(GICD_SGIR::TargetListFilter::Value::AllOthers) => all.without(vcpu),
            Some(GICD_SGIR::TargetListFilter::Value::Self_) => VcpuMask::only(vcpu),
            // The filter is reserved; QEMU takes it for all.
            None => all,
        }
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
