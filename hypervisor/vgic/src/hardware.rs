//! The seam to the hardware: this core's GICH, and the physical interrupts behind linked ones.

use crate::registers::ListRegister;

/// This core's virtual interface control (GICH), and its view of the physical distributor.
///
/// The implementation orders the accesses as they are made, among each other and with the guest's own to the CPU interface. A write may
/// arrive a little after the guest is entered: then an interrupt comes late, or one that is gone is found to be spurious.
pub trait ListRegisterFile {
    /// Number of list registers: GICH_VTR.ListRegs + 1.
    fn count(&self) -> usize;
    /// GICH_LR<n>; `n` is below `count()`.
    fn read_lr(&mut self, n: usize) -> u32;
    /// GICH_LR<n>; `n` is below `count()`.
    fn write_lr(&mut self, n: usize, value: u32);
    /// GICH_HCR.
    fn read_hcr(&mut self) -> u32;
    /// GICH_HCR.
    fn write_hcr(&mut self, value: u32);
    /// GICH_VMCR.
    fn read_vmcr(&mut self) -> u32;
    /// GICH_VMCR.
    fn write_vmcr(&mut self, value: u32);
    /// GICH_APR.
    fn read_apr(&mut self) -> u32;
    /// GICH_APR.
    fn write_apr(&mut self, value: u32);
    /// Whether the line of a physical interrupt is asserted: its bit in the physical GICD_ISPENDR,
    /// of a level-sensitive interrupt that is active.
    fn read_physical_line(&mut self, intid: u16) -> bool;
    /// Makes a physical interrupt active or inactive: the physical GICD_ISACTIVER or GICD_ICACTIVER.
    fn set_physical_active(&mut self, intid: u16, active: bool);
}

/// Empties a core's GICH, whose reset values are unknown. Once per core, before the first
/// [`Vgic::load`](crate::Vgic::load); from then on, [`Vgic::save`](crate::Vgic::save) leaves it empty.
pub fn reset_hardware(hw: &mut impl ListRegisterFile) {
    hw.write_hcr(0);
    for n in 0..hw.count() {
        hw.write_lr(n, ListRegister::Empty.encode());
    }
    hw.write_apr(0);
    hw.write_vmcr(0);
}
