//! Debug exceptions of a guest, as they come to EL2 while a debugger outside of the guest has the
//! debug registers (DDI 0487, D2.2).

use super::syndrome::{ESR, Esr};

/// A debug exception.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DebugException {
    /// The vCPU has carried out the one instruction that it was to, or has taken an exception
    /// instead.
    Step,
    /// The vCPU is about to carry out an instruction at a breakpoint.
    Breakpoint,
    /// The vCPU is about to make an access that is watched. FAR_EL2 has its address.
    Watchpoint,
    /// The vCPU has carried out BRK, or AArch32's BKPT, or a vector catch has come: it is the
    /// guest's own.
    OfGuest,
}

/// Returns the debug exception that the vCPU has left its guest by; `None` if it was another one.
pub fn debug_exception(esr: u64) -> Option<DebugException> {
    use ESR::EC::Value as Class;

    const VECTOR_CATCH: u64 = 0x3a;
    let esr = Esr::new(esr);
    match esr.read_as_enum(ESR::EC) {
        Some(Class::StepLower) => Some(DebugException::Step),
        Some(Class::BreakpointLower) => Some(DebugException::Breakpoint),
        Some(Class::WatchpointLower) => Some(DebugException::Watchpoint),
        Some(Class::Brk64 | Class::Bkpt32) => Some(DebugException::OfGuest),
        _ => (esr.read(ESR::EC) == VECTOR_CATCH).then_some(DebugException::OfGuest),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exceptions_of_debug_are_told_from_all_others() {
        let classes = (0..64).filter_map(|class| Some((class, debug_exception(class << 26)?)));
        let found: Vec<_> = classes.collect();
        let expected = [
            (0x30, DebugException::Breakpoint),
            (0x32, DebugException::Step),
            (0x34, DebugException::Watchpoint),
            (0x38, DebugException::OfGuest),
            (0x3a, DebugException::OfGuest),
            (0x3c, DebugException::OfGuest),
        ];
        assert_eq!(found, expected);
    }
}
