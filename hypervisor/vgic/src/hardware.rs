//! The seam to the hardware: a core's virtual interface, and the physical interrupts behind linked
//! ones.
//!
//! All that passes it is a value: [`ListRegister`], [`State`], [`Control`], [`MachineControl`],
//! [`ActivePriorities`]. How a GIC encodes these is its driver's concern. That of GICv2 is
//! `stasis_hw::gic` (IHI 0048B.b 5.3). A driver of GICv3 (IHI 0069), of one that still has GICV,
//! since the guest's GIC remains a GICv2, would supply:
//!
//! | value | register |
//! |---|---|
//! | number of list registers | ICH_VTR_EL2.ListRegs + 1 |
//! | list register | ICH_LR<n>_EL2; the source of an SGI in bits 12:10 of vINTID |
//! | state of a list register | ICH_LR<n>_EL2.State |
//! | control, unlisted ends | ICH_HCR_EL2: En, NPIE, LRENPIE; EOIcount |
//! | machine control | ICH_VMCR_EL2, whose VPMR has all 8 bits |
//! | active priorities | ICH_AP1R<n>_EL2, which have those of both groups while ICC_SRE_EL1.SRE is 0; bit n of 32 is there bit n << (PREbits - 5) |
//! | physical line, active state | GICR_ISPENDR0, ISACTIVER0, ICACTIVER0 of the core's redistributor for PPIs, GICD for SPIs |
//!
//! There is no such driver. The tests encode all that they write in this way, too
//! (`tests/gicv3.rs`), and nothing is lost.

use crate::interface::{ActivePriorities, Control, MachineControl, PackedControl};
use crate::list_register::{ListRegister, Packed, State};

/// The virtual interface of the core that calls, and that core's view of the physical interrupts.
///
/// The implementation orders the accesses as they are made, among each other and with the guest's
/// own to its CPU interface. A write may arrive a little after the guest is entered: then an
/// interrupt comes late, or one that is gone is found to be spurious.
pub trait VirtualInterface {
    /// Returns the number of list registers, 1 at the least.
    fn list_registers(&self) -> usize;

    /// Fills list register `n`, which is below [`Self::list_registers`].
    fn write_list_register(&mut self, n: usize, value: ListRegister);

    /// Does as [`Self::write_list_register`] says. A driver whose list registers have the fields
    /// where [`Packed::bits`] has them writes these.
    #[inline(always)]
    fn write_packed(&mut self, n: usize, value: Packed) {
        self.write_list_register(n, value.unpack());
    }

    /// Returns what has become of the interrupt in list register `n`, which is below
    /// [`Self::list_registers`]. Nothing else in it changes but by [`Self::write_list_register`].
    fn read_state(&mut self, n: usize) -> State;

    /// Gives the interface another control, and begins to count unlisted ends from 0.
    fn write_control(&mut self, control: Control);

    /// Returns how often the guest has ended an interrupt that is in no list register since the
    /// last [`Self::write_control`]; modulo 32.
    fn read_unlisted_ends(&mut self) -> u32;

    /// Returns what the guest has set in its CPU interface.
    fn read_machine_control(&mut self) -> MachineControl;

    /// Sets what the guest finds in its CPU interface. While the interface is off.
    fn write_machine_control(&mut self, control: MachineControl);

    /// Does as [`Self::read_machine_control`] says. A driver whose register has the fields where
    /// [`PackedControl::bits`] has them reads these.
    #[inline(always)]
    fn read_packed_control(&mut self) -> PackedControl {
        PackedControl::new(self.read_machine_control())
    }

    /// Does as [`Self::write_machine_control`] says, and as [`Self::read_packed_control`] does for
    /// a read.
    #[inline(always)]
    fn write_packed_control(&mut self, control: PackedControl) {
        self.write_machine_control(control.unpack());
    }

    /// Returns the priorities that are active.
    fn read_active_priorities(&mut self) -> ActivePriorities;

    /// Makes these priorities active, and no others. While the interface is off.
    fn write_active_priorities(&mut self, active: ActivePriorities);

    /// Returns whether the line of a level-sensitive physical interrupt that is active is asserted.
    fn read_physical_line(&mut self, intid: u16) -> bool;

    /// Makes a physical interrupt active or inactive.
    fn set_physical_active(&mut self, intid: u16, active: bool);
}

/// Empties a core's virtual interface, whose reset values are unknown. Once per core, before the
/// first [`Vgic::load`](crate::Vgic::load); from then on, [`Vgic::save`](crate::Vgic::save) leaves
/// it empty.
pub fn reset_hardware(hw: &mut impl VirtualInterface) {
    hw.write_control(Control::OFF);
    for n in 0..hw.list_registers() {
        hw.write_list_register(n, ListRegister::EMPTY);
    }
    hw.write_active_priorities(ActivePriorities::NONE);
    hw.write_machine_control(MachineControl::default());
}
