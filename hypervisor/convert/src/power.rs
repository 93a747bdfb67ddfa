//! The vCPU that a power state means where there is no such state: [`entered`].

use alloc::borrow::Cow;

use stasis_state::records::VcpuState;
use stasis_state::vcpu::PowerState;

/// PSTATE at reset (DDI 0487, D1.9): EL1 with SP_EL1, all exceptions masked.
const PSTATE_RESET: u64 = 0x3c5;

/// Returns a vCPU that is on or off. One for which CPU_ON was called, or that sleeps in
/// CPU_SUSPEND, is at its entry: a wake-up for no reason is within PSCI (DEN 0022, 6.4).
pub fn entered(vcpu: &VcpuState) -> Cow<'_, VcpuState> {
    let state = *vcpu.power.state;
    if state != PowerState::OnPending as u8 && state != PowerState::Suspended as u8 {
        return Cow::Borrowed(vcpu);
    }
    let VcpuState { identity, cpu_interface, power, .. } = vcpu.clone();
    let mut entered = VcpuState { identity, cpu_interface, ..VcpuState::default() };
    *entered.core.pc = *power.entry;
    *entered.core.pstate = PSTATE_RESET;
    entered.core.x[0] = *power.context_id;
    Cow::Owned(entered)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vcpu_that_was_called_is_at_its_entry_and_others_are_where_they_were() {
        let mut vcpu = VcpuState::default();
        *vcpu.core.pc = 0x1000;
        (*vcpu.power.entry, *vcpu.power.context_id) = (0x4000_0000, 7);
        *vcpu.system.ttbr0_el1 = 1;
        *vcpu.cpu_interface.cc_pmr = 0xf0;
        for (state, pc, ttbr) in
            [(0, 0x1000, 1), (1, 0x1000, 1), (2, 0x4000_0000, 0), (3, 0x4000_0000, 0)]
        {
            *vcpu.power.state = state;
            let after = entered(&vcpu);
            assert_eq!((*after.core.pc, *after.system.ttbr0_el1), (pc, ttbr));
            assert_eq!(*after.cpu_interface.cc_pmr, 0xf0);
            assert_eq!(*after.power.state, if state == 1 { 1 } else { 0 });
        }
    }
}
