//! What each vCPU does when gdb lets the guest go on ([`Plan`]), and what it tells when it has
//! stopped ([`Stop`]).

use stasis_state::vcpu::{DEBUG_PAIRS, Debug};
use stasis_state::vgic::MAX_VCPUS;

use crate::points::{Kind, Points};

/// What a vCPU does until the guest stops next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Action {
    /// The vCPU runs.
    #[default]
    Run,
    /// The vCPU carries out one instruction.
    Step,
    /// The vCPU stands still.
    Stay,
}

/// What the guest's vCPUs do until it stops next.
#[derive(Clone, Copy, Debug, Default)]
pub struct Plan {
    /// What each vCPU does.
    pub actions: [Action; MAX_VCPUS],
    /// Breakpoints and watchpoints that act.
    pub points: Points,
}

/// MDSCR_EL1.SS: a vCPU that runs with PSTATE.SS carries out one instruction.
const STEPS: u64 = 1;
/// MDSCR_EL1.MDE: breakpoints and watchpoints act.
const POINTS_ACT: u64 = 1 << 15;

impl Plan {
    /// Returns the values of the debug registers with which a vCPU does what the plan says.
    pub fn registers(&self, vcpu: usize) -> Debug {
        let mut registers = Debug::default();
        *registers.mdscr_el1 = match self.actions[vcpu] {
            Action::Step => STEPS | POINTS_ACT,
            Action::Run | Action::Stay => POINTS_ACT,
        };
        for n in 0..DEBUG_PAIRS {
            let (breakpoint, watchpoint) = (self.points.breakpoint(n), self.points.watchpoint(n));
            (registers.dbgbvr[n], registers.dbgbcr[n]) = (breakpoint.value, breakpoint.control);
            (registers.dbgwvr[n], registers.dbgwcr[n]) = (watchpoint.value, watchpoint.control);
        }
        registers
    }

    /// Returns whether a vCPU needs the debug registers: it steps, or a breakpoint or a watchpoint
    /// could stop it.
    pub fn needs_registers(&self, vcpu: usize) -> bool {
        self.actions[vcpu] == Action::Step || !self.points.is_empty()
    }
}

/// Reason why a guest stands still.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// gdb has interrupted it.
    Interrupted,
    /// The guest does not run at all, whatever gdb wants.
    NeverRuns,
    /// A vCPU has carried out its one instruction.
    Stepped {
        /// Index of the vCPU.
        vcpu: usize,
    },
    /// A vCPU is about to carry out an instruction at a breakpoint.
    Breakpoint {
        /// Index of the vCPU.
        vcpu: usize,
    },
    /// A vCPU is about to make an access that is watched.
    Watchpoint {
        /// Index of the vCPU.
        vcpu: usize,
        /// First address that is watched.
        address: u64,
        /// The accesses that are watched.
        kind: Kind,
    },
    /// The guest has switched its machine off, was stopped or removed, or has reset.
    Ended,
    /// The guest can't go on, or has lost its state.
    Died,
}
