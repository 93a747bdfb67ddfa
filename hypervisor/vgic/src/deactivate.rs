//! GICC_DIR (IHI 0048B.b 4.4.18), for a hypervisor that traps the second page of the guest's GICC.
//!
//! A guest with EOImode 1 may deactivate in any order. Of interrupts that are in no list register
//! the hardware only counts that, so they are taken in the order of their priorities; with DIR
//! trapped, it is exact.

use crate::hardware::VirtualInterface;
use crate::irq::{FIRST_SPI, Irq};
use crate::vcpus::{Effects, VcpuMask};
use crate::vgic::Vgic;

impl Vgic {
    /// Returns the other vCPU whose list registers must be folded before `vcpu` writes `value` to
    /// GICC_DIR: an SPI can be active there.
    pub fn deactivate_needs_sync(&self, vcpu: usize, value: u32) -> VcpuMask {
        let intid = (value & 0x3ff) as u16;
        match (FIRST_SPI..self.nr_irqs()).contains(&intid) {
            true => match self.place(vcpu, intid).home() {
                Some(home) => VcpuMask::only(home).without(vcpu),
                None => VcpuMask::NONE,
            },
            false => VcpuMask::NONE,
        }
    }

    /// Carries out a write of `value` to GICC_DIR by `vcpu`, which is loaded on this core.
    pub fn deactivate(
        &mut self,
        vcpu: usize,
        value: u32,
        hw: &mut impl VirtualInterface,
    ) -> Effects {
        let mut effects = self.sync(vcpu, hw);
        let intid = (value & 0x3ff) as u16;
        let splits_ends = hw.read_machine_control().splits_ends();
        // UNPREDICTABLE with EOImode 0; ignored as by QEMU.
        if !splits_ends || intid >= self.nr_irqs() || self.holder(vcpu, intid).is_none() {
            return effects;
        }
        if !self.is_resident(vcpu, intid) {
            effects |= self.change(vcpu, intid, Irq::deactivate);
            self.end_physical(vcpu, intid, hw);
        }
        effects |= self.relocate(vcpu, intid);
        effects
    }
}
