//! The seam to whatever has the guest: [`Machine`].

use stasis_state::vcpu::{Core, FpSimd, SystemRegisters};

use crate::plan::Plan;
use crate::points::Limits;

/// The records of a vCPU that gdb reads and writes.
pub struct Records<'a> {
    /// The general registers, PC and PSTATE.
    pub core: &'a mut Core,
    /// The registers of FP and SIMD.
    pub fp: &'a mut FpSimd,
    /// The system registers.
    pub system: &'a mut SystemRegisters,
}

/// Reason why memory or a register can't be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The address is not in the guest's RAM. Devices are not touched: a read could change them.
    #[error("not in the guest's RAM")]
    NotRam,
    /// The guest can't be changed.
    #[error("the guest can't be changed")]
    ReadOnly,
    /// The bytes can't be read, or there is no memory for the change.
    #[error("the memory can't be had")]
    Failed,
}

/// A guest whose vCPUs stand still while a method of this is called, but for those that
/// [`Machine::resume`] lets go.
pub trait Machine {
    /// Returns the number of the guest's vCPUs.
    fn vcpus(&self) -> usize;

    /// Calls `with` with the records of a vCPU. Returns `None` if there is no such vCPU, or it is
    /// not there any more.
    fn with<R>(&mut self, vcpu: usize, with: impl FnOnce(Records<'_>) -> R) -> Option<R>;

    /// Returns whether a vCPU is switched on.
    fn is_on(&self, vcpu: usize) -> bool;

    /// Reads the guest's RAM at a guest-physical address. The bytes are in one page.
    fn read(&mut self, address: u64, into: &mut [u8]) -> Result<(), Refused>;

    /// Writes the guest's RAM at a guest-physical address, so that the guest sees it as data and as
    /// instructions. The bytes are in one page.
    fn write(&mut self, address: u64, bytes: &[u8]) -> Result<(), Refused>;

    /// Returns how many breakpoints and watchpoints there are; `None` if the guest can't be
    /// changed, and does not run.
    fn limits(&self) -> Option<Limits>;

    /// Lets the guest go on as `plan` says.
    fn resume(&mut self, plan: &Plan);

    /// Makes the guest stand still. Its [stop](crate::plan::Stop) is told later, to
    /// [`Session::stopped`](crate::Session::stopped).
    fn interrupt(&mut self);
}
