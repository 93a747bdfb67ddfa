//! A guest that a debugger outside of it has: what its vCPUs do while it runs, and why it has
//! stopped.
//!
//! What is decided is `stasis_debug`'s. [`debugged`](super::debugged) is the debugger's side of it.
//!
//! A vCPU is loaded with the debugger's registers only if the plan needs them: otherwise the guest
//! has its own. A vCPU of a guest without a debugger pays one look at a field in a turn, and one
//! branch at an entry.

use super::host::{RunningOn, Wanted};
use super::lock::Unlocked;
use super::run::Left;
use super::{Domain, Resident};
use crate::interrupts;
use alloc::boxed::Box;
use stasis_arch::cpu;
use stasis_arch::world::{Class, ExitKind, FirstLook, Glimpse, Loaded, Looked};
use stasis_debug::plan::{Action, Plan, Stop};
use stasis_debug::points::Watchpoint;
use stasis_guest::exit::{self, DebugException};
use stasis_guest::{Vcpu, inject};
use stasis_host::run_state::RunState;
use stasis_state::vcpu::{Core, Debug};
use stasis_state::vgic::MAX_VCPUS;

/// PSTATE.SS, in the layout of SPSR_EL2.
const SINGLE_STEP: u64 = 1 << 21;

/// A debugger outside of the guest. It belongs to what the guest's vCPUs share.
pub(super) struct Debugger {
    /// What the vCPUs do until the next stop.
    pub plan: Plan,
    /// The PC of each vCPU when the plan began.
    pub from: [u64; MAX_VCPUS],
    /// Why the guest has stopped, until the debugger asks.
    pub stop: Option<Stop>,
    /// What the guest does when the debugger leaves: see [`RunState::after_debugger`].
    pub before: RunState,
    /// The debugger's number, which no other one of this boot has.
    pub number: u64,
}

/// The first look at an exit of a vCPU whose debug registers a debugger has: the vCPU leaves at
/// each.
struct NoLook<'a>(&'a mut Loaded);

// SAFETY: the vCPU is its `Core`.
unsafe impl FirstLook for NoLook<'_> {
    type Vcpu = Core;

    const CORE: usize = 0;

    fn loaded(&mut self) -> &mut Loaded {
        self.0
    }

    fn look(&mut self, _: Class, _: Glimpse<'_, Core>) -> Looked {
        Looked::Leave
    }

    fn look_at_abort(&mut self, _: Glimpse<'_, Core>) -> Looked {
        Looked::Leave
    }

    fn look_at_interrupt(&mut self, _: Glimpse<'_, Core>) -> Looked {
        Looked::Interrupt
    }
}

impl Debugger {
    /// Returns debugger `number`, of a guest that was doing `before`.
    pub fn new(before: RunState, number: u64) -> Self {
        let (plan, from) = (Plan::default(), [0; MAX_VCPUS]);
        Self { plan, from, stop: None, before, number }
    }
}

impl Resident {
    /// Returns whether a debugger makes vCPU `index` stand still while the guest runs.
    #[inline(always)]
    pub(super) fn stays(&self, index: usize) -> bool {
        self.debugger.as_ref().is_some_and(|one| one.plan.actions[index] == Action::Stay)
    }

    /// Gives the debug registers of vCPU `index`, which is loaded, to the debugger, if its plan
    /// needs them. Returns what is wanted of the vCPU.
    #[inline(always)]
    pub(super) fn watch(
        &self,
        index: usize,
        loaded: &mut Loaded,
        registers: &mut Debug,
    ) -> Option<Wanted> {
        self.debugger.as_ref().and_then(|debugger| debugger.watch(index, loaded, registers))
    }

    /// Notes why the guest has stopped, unless it is noted already, or there is no debugger.
    pub(super) fn note_stop(&mut self, stop: Stop) {
        if let Some(debugger) = &mut self.debugger {
            debugger.stop.get_or_insert(stop);
        }
    }
}

impl Debugger {
    #[cold]
    fn watch(&self, index: usize, loaded: &mut Loaded, registers: &mut Debug) -> Option<Wanted> {
        if !self.plan.needs_registers(index) {
            return None;
        }
        loaded.debug_from_outside(registers, &self.plan.registers(index));
        let steps = self.plan.actions[index] == Action::Step;
        Some(Wanted { step_from: steps.then_some(self.from[index]) })
    }
}

impl Domain {
    /// Enters the guest once by a vCPU whose debug registers a debugger has. Returns why it has
    /// left.
    #[cold]
    pub(super) fn enter_debugged(
        &self,
        wanted: Wanted,
        unlocked: Unlocked,
        vcpu: &mut Vcpu,
        host: &mut RunningOn,
    ) -> (Left, Unlocked) {
        let vcpu_index = host.index;
        let kind = match wanted.step_from {
            None => Loaded::enter(&mut NoLook(&mut host.loaded), &mut vcpu.core),
            // The instruction was answered here, at EL2.
            Some(from) if from != *vcpu.core.pc => {
                host.debugged = Some(Stop::Stepped { vcpu: vcpu_index });
                return (Left::Debugged, unlocked);
            }
            Some(_) => step(vcpu, host),
        };
        match kind {
            ExitKind::Interrupt => {
                host.taken = interrupts::take(host.place.roster, &host.gic);
                (Left::Interrupt, unlocked)
            }
            ExitKind::SError => {
                host.loaded.set_virtual_serror();
                (Left::Answered, unlocked)
            }
            ExitKind::Synchronous | ExitKind::Answered => {
                if let Some(from) = wanted.step_from {
                    forget_step(from, vcpu, host);
                }
                self.answer_debugged(unlocked, vcpu, host)
            }
        }
    }

    /// Answers a synchronous exit of a vCPU whose debug registers a debugger has.
    fn answer_debugged(
        &self,
        unlocked: Unlocked,
        vcpu: &mut Vcpu,
        host: &mut RunningOn,
    ) -> (Left, Unlocked) {
        let (esr, far, index) = (cpu::syndrome(), cpu::fault_address().far, host.index);
        let Some(exception) = exit::debug_exception(esr) else {
            return (Left::Exit, unlocked);
        };
        let resident = self.lock(unlocked);
        let watchpoint = resident.watchpoint_at(far);
        let unlocked = resident.unlock();
        let stop = match exception {
            DebugException::Step => Stop::Stepped { vcpu: index },
            DebugException::Breakpoint => Stop::Breakpoint { vcpu: index },
            DebugException::Watchpoint => match watchpoint {
                Some(point) => {
                    Stop::Watchpoint { vcpu: index, address: point.address, kind: point.kind }
                }
                None => return (Left::Answered, unlocked),
            },
            DebugException::OfGuest => {
                inject::pass_on(&mut vcpu.core, host, esr);
                return (Left::Answered, unlocked);
            }
        };
        host.debugged = Some(stop);
        (Left::Debugged, unlocked)
    }
}

impl Resident {
    fn watchpoint_at(&self, address: u64) -> Option<Watchpoint> {
        self.debugger.as_ref()?.plan.points.watchpoint_at(address)
    }
}

/// Enters the guest for one instruction of the vCPU. It is signalled no interrupt meanwhile, and so
/// steps through what the person sees.
fn step(vcpu: &mut Vcpu, host: &mut RunningOn) -> ExitKind {
    *vcpu.core.pstate |= SINGLE_STEP;
    let gic = host.gic.clone();
    let kind = gic.hushed(|| Loaded::enter(&mut NoLook(&mut host.loaded), &mut vcpu.core));
    // A checkpoint must not have it, and the next entry sets it again.
    *vcpu.core.pstate &= !SINGLE_STEP;
    kind
}

/// Takes PSTATE.SS out of SPSR_EL1, if the instruction at `from` was stepped and has taken an
/// exception to EL1: the CPU has put it there (DDI 0487, AArch64.TakeException). A guest that steps
/// by itself has its own there.
fn forget_step(from: u64, vcpu: &Vcpu, host: &mut RunningOn) {
    let spsr = host.loaded.spsr_el1();
    let steps_itself = *vcpu.debug.mdscr_el1 & 1 != 0;
    if !steps_itself && host.loaded.elr_el1() == from && spsr & SINGLE_STEP != 0 {
        host.loaded.set_spsr_el1(spsr & !SINGLE_STEP);
    }
}

/// A debugger, or none: it takes no room in a guest that has none.
pub(super) type MaybeDebugger = Option<Box<Debugger>>;
