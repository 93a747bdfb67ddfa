//! What each vCPU does when gdb lets the guest go on ([`Plan`]), and what it tells when it has stopped ([`Stop`]).

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

impl Plan {
    /// Returns whether a vCPU needs the debug registers: it steps, or a breakpoint or a watchpoint could stop it.
    pub fn needs_registers(&self, vcpu: usize) -> bool {
        self.actions[vcpu] == Action::Step || !self.points.is_empty()
    }
}

/// Reason why a guest stands still.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// gdb has interrupted it.
    Interrupted,
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
