//! GICH, IHI 0048B.b section 5.3: the virtual interface control registers of the core that uses it.
//!
//! The functions write and read the values of the vGIC's seam, which `encoding.rs` encodes. Only
//! the registers at the frame's start are used: the per-CPU aliases behind them stand elsewhere on
//! some machines.

use stasis_vgic::{
    ActivePriorities, Control, ListRegister, MachineControl, Packed, PackedControl, State,
};
use tock_registers::interfaces::{ReadWriteable, Readable, Writeable};
use tock_registers::register_bitfields;

use super::encoding::{self, GICH_HCR, GICH_LR, GICH_VMCR};
use crate::mmio::{Fixed, FixedRegister, Frame};

register_bitfields! { u32,
    /// VGIC Type Register.
    GICH_VTR [
        /// One less than the number of list registers.
        ListRegs OFFSET(0) NUMBITS(6) []
    ]
}

const HCR: Fixed<0x000, GICH_HCR::Register> = Fixed::HERE;
const VTR: Fixed<0x004, GICH_VTR::Register> = Fixed::HERE;
const VMCR: Fixed<0x008, GICH_VMCR::Register> = Fixed::HERE;
const APR: Fixed<0x0f0> = Fixed::HERE;
const LR: Fixed<0x100, GICH_LR::Register> = Fixed::HERE;

/// Bytes of the frame.
const LEN: usize = 0x1000;

/// Virtual interface control registers of the calling core: GICH is banked.
#[derive(Clone, Copy, Debug)]
pub struct VirtualInterfaceControl {
    frame: Frame<LEN>,
    list_registers: usize,
}

impl VirtualInterfaceControl {
    /// Returns the driver of the registers in `frame`, and reads their number of list registers:
    /// GICH_VTR.
    pub fn new(frame: Frame<LEN>) -> Self {
        let list_registers = frame.fixed(VTR).read(GICH_VTR::ListRegs) as usize + 1;
        Self { frame, list_registers }
    }

    /// Returns the number of list registers, 1 to 64. Those beyond are never accessed.
    #[inline(always)]
    pub const fn list_registers(&self) -> usize {
        self.list_registers
    }

    /// Writes `value` to list register `n`: `GICH_LR<n>`.
    ///
    /// # Panics
    ///
    /// If there is no such list register.
    #[inline(always)]
    pub fn write_list_register(&self, n: usize, value: ListRegister) {
        self.list_register(n).write(encoding::list_register(value));
    }

    /// Writes `value` to list register `n`, as [`Self::write_list_register`] does: its fields stand
    /// where `GICH_LR<n>` has them.
    ///
    /// # Panics
    ///
    /// If there is no such list register.
    #[inline(always)]
    pub fn write_packed(&self, n: usize, value: Packed) {
        self.list_register(n).set(value.bits());
    }

    /// Returns the state of the interrupt in list register `n`: `GICH_LR<n>.State`.
    ///
    /// # Panics
    ///
    /// If there is no such list register.
    #[inline(always)]
    pub fn read_state(&self, n: usize) -> State {
        encoding::state(self.list_register(n).read(GICH_LR::State))
    }

    #[inline(always)]
    fn list_register(&self, n: usize) -> FixedRegister<0x100, GICH_LR::Register> {
        assert!(n < self.list_registers);
        self.frame.element(LR, n)
    }

    /// Writes GICH_HCR: `control`, and 0 as the count of unlisted ends.
    #[inline(always)]
    pub fn write_control(&self, control: Control) {
        self.frame.fixed(HCR).write(encoding::hcr(control));
    }

    /// Signals no interrupt to the guest until [`Self::signal`]: clears GICH_HCR.En. Returns
    /// whether it was set.
    pub fn hush(&self) -> bool {
        let hcr = self.frame.fixed(HCR);
        let is_on = hcr.is_set(GICH_HCR::En);
        hcr.modify(GICH_HCR::En::CLEAR);
        // The write has reached the GIC when it can be read back.
        hcr.get();
        is_on
    }

    /// Signals interrupts to the guest again: sets GICH_HCR.En.
    pub fn signal(&self) {
        self.frame.fixed(HCR).modify(GICH_HCR::En::SET);
    }

    /// Returns how many interrupts the guest has ended that were in no list register, modulo 32:
    /// GICH_HCR.EOICount.
    #[inline(always)]
    pub fn read_unlisted_ends(&self) -> u32 {
        self.frame.fixed(HCR).read(GICH_HCR::EOICount)
    }

    /// Returns what the guest has set in its CPU interface: GICH_VMCR.
    #[inline(always)]
    pub fn read_machine_control(&self) -> MachineControl {
        encoding::machine_control(self.frame.fixed(VMCR).get())
    }

    /// Sets what the guest finds in its CPU interface: GICH_VMCR.
    #[inline(always)]
    pub fn write_machine_control(&self, control: MachineControl) {
        self.frame.fixed(VMCR).write(encoding::vmcr(control));
    }

    /// Returns what the guest has set in its CPU interface, as [`Self::read_machine_control`] does:
    /// its fields stand where GICH_VMCR has them.
    #[inline(always)]
    pub fn read_packed_control(&self) -> PackedControl {
        PackedControl::from_bits(self.frame.fixed(VMCR).get())
    }

    /// Sets what the guest finds in its CPU interface, as [`Self::write_machine_control`] does.
    #[inline(always)]
    pub fn write_packed_control(&self, control: PackedControl) {
        self.frame.fixed(VMCR).set(control.bits());
    }

    /// Returns the priorities that are active: GICH_APR, whose bits are those of
    /// [`ActivePriorities`].
    #[inline(always)]
    pub fn read_active_priorities(&self) -> ActivePriorities {
        ActivePriorities(self.frame.fixed(APR).get())
    }

    /// Makes these priorities active, and no others: GICH_APR.
    #[inline(always)]
    pub fn write_active_priorities(&self, active: ActivePriorities) {
        self.frame.fixed(APR).set(active.0);
    }
}

#[cfg(test)]
mod tests {
    use stasis_vgic::Origin;

    use crate::mmio::Offset;
    use crate::mmio::fake::{Bus, Memory, frame};

    use super::*;

    /// Words of the frame.
    const WORDS: usize = LEN / 4;

    /// Runs `test` on a block of 4 list registers that only keep what is written, and returns the
    /// words of its frame.
    fn with_frame(test: impl FnOnce(&VirtualInterfaceControl, &dyn Fn(usize, u32))) -> Vec<u32> {
        let memory = Bus::attach(0x1000, LEN, Memory::new(LEN));
        let frame = frame::<LEN>(0x1000);
        frame.at(Offset::<u32>::new(4)).set(3);
        let control = VirtualInterfaceControl::new(frame);
        test(&control, &|offset, value| frame.at(Offset::<u32>::new(offset)).set(value));
        memory.borrow().words()
    }

    #[test]
    fn each_value_goes_to_its_register_and_no_other() {
        let words = with_frame(|gich, _| {
            let origin = Origin::Hardware { physical: 27 };
            let value =
                ListRegister { intid: 30, state: State::Pending, origin, ..ListRegister::EMPTY };
            gich.write_list_register(3, value);
            gich.write_control(Control::on(true, false));
            gich.write_machine_control(MachineControl { ctlr: 1, ..MachineControl::default() });
            gich.write_active_priorities(ActivePriorities(1 << 20));
        });
        let written: Vec<_> =
            (0..WORDS).filter(|&n| words[n] != 0).map(|n| (n * 4, words[n])).collect();
        let lr3 = 0x9000_6c1e;
        assert_eq!(written, [(0, 9), (4, 3), (8, 1), (0xf0, 1 << 20), (0x10c, lr3)]);
    }

    #[test]
    fn each_value_comes_from_its_register() {
        with_frame(|gich, set| {
            set(0x000, 0xf800_0001);
            set(0x008, 0xf854_0201);
            set(0x0f0, 6);
            set(0x108, 0x2000_0000);
            assert_eq!(gich.list_registers(), 4);
            assert_eq!(gich.read_unlisted_ends(), 31);
            assert_eq!(gich.read_machine_control().priority_mask, 0xf8);
            assert_eq!(gich.read_active_priorities(), ActivePriorities(6));
            assert_eq!([1, 2].map(|n| gich.read_state(n)), [State::Inactive, State::Active]);
        });
    }

    #[test]
    #[should_panic]
    fn a_list_register_that_there_is_not_is_refused() {
        with_frame(|gich, _| gich.write_list_register(4, ListRegister::EMPTY));
    }
}
