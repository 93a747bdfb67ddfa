//! A guest as its debugger has it: [`Debugged`], the `stasis_debug::Machine` of a guest on the
//! machine.
//!
//! The console's task has it. While the guest stands still for its debugger
//! ([`RunState::Debugged`]), no core has any of its vCPUs, and their records are read and written
//! under the locks of those vCPUs alone, so that no other core is interrupted.

use super::debug::Debugger;
use super::{Domain, Resident};
use alloc::boxed::Box;
use alloc::sync::Arc;
use core::sync::atomic::{AtomicU64, Ordering};
use spin::mutex::SpinMutex;
use stasis_arch::cpu::IdRegisters;
use stasis_debug::machine::Refused;
use stasis_debug::plan::{Plan, Stop};
use stasis_debug::points::Limits;
use stasis_debug::{Machine, Records};
use stasis_guest::Vcpu;
use stasis_host::run_state::{Misfit, RunState};
use stasis_memory::ReadRam;
use stasis_state::vcpu::PowerState;

/// A guest that a debugger has. When it is dropped, the guest goes on as it was before.
pub struct Debugged {
    domain: Arc<Domain>,
    /// The debugger's number. Once the guest was started anew or resumed in place, it has no
    /// debugger, or another one.
    number: u64,
}

/// The breakpoints and watchpoints that each core has; `None` before the first one has noted its
/// own.
static LIMITS: SpinMutex<Option<Limits>> = SpinMutex::new(None);

/// Notes how many breakpoints and watchpoints the calling core has, before it runs any vCPU.
pub fn note_limits() {
    let here = Limits::of(IdRegisters::read().id_aa64dfr0_el1);
    let mut limits = LIMITS.lock();
    *limits = Some(limits.map_or(here, |others| others.of_both(here)));
}

/// Number of the debugger that comes next. Relaxed: a number is all that is wanted of it.
static NEXT: AtomicU64 = AtomicU64::new(0);

impl Debugged {
    /// Makes a guest stand still for a debugger.
    ///
    /// # Errors
    ///
    /// The [`Misfit`] of a guest that has no vCPU to debug, or has a debugger.
    pub fn begin(domain: Arc<Domain>) -> Result<Self, Misfit> {
        let mut parked = domain.park();
        let state = parked.state.debugged(&domain.name, parked.debugger.is_some())?;
        let before = parked.state;
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        parked.debugger = Some(Box::new(Debugger::new(before, number)));
        parked.set_state(state);
        drop(parked);
        Ok(Self { domain, number })
    }

    /// Returns the guest.
    pub fn domain(&self) -> &Arc<Domain> {
        &self.domain
    }

    /// Returns why the guest has stopped since it was let go, if it has.
    pub fn take_stop(&mut self) -> Option<Stop> {
        let mut resident = self.domain.resident.lock();
        let state = resident.state;
        let Some(debugger) = self.own(&mut resident) else { return Some(Stop::Ended) };
        match state {
            RunState::Debugged => debugger.stop.take(),
            RunState::Running | RunState::Paused | RunState::Starved => None,
            RunState::Off | RunState::Reset | RunState::Removed => Some(Stop::Ended),
            RunState::Crashed | RunState::Lost => Some(Stop::Died),
        }
    }

    /// Returns whether the guest stands still for its debugger.
    pub fn is_held(&self) -> bool {
        let mut resident = self.domain.resident.lock();
        self.own(&mut resident).is_some() && resident.state == RunState::Debugged
    }

    /// Returns the guest's debugger, if it is this one.
    fn own<'r>(&self, resident: &'r mut Resident) -> Option<&'r mut Debugger> {
        resident.debugger.as_deref_mut().filter(|debugger| debugger.number == self.number)
    }

    /// Returns whether all of the guest's RAM is there.
    pub fn is_loaded(&self) -> bool {
        self.domain.resident.lock().ram.missing().is_none()
    }

    /// Calls `with` with a vCPU that no core has; `None` if the guest does not stand still for its
    /// debugger.
    fn with_vcpu<R>(&self, vcpu: usize, with: impl FnOnce(&mut Vcpu) -> R) -> Option<R> {
        // The vCPU's core may still be about to leave it.
        let mut vcpu = self.domain.vcpus.get(vcpu)?.vcpu.lock();
        let is_held = self.is_held();
        is_held.then(|| with(&mut vcpu))
    }
}

/// Returns the offset of a guest-physical address in a guest's RAM.
fn offset_of(ram_base: u64, address: u64) -> Result<usize, Refused> {
    address.checked_sub(ram_base).and_then(|at| usize::try_from(at).ok()).ok_or(Refused::NotRam)
}

impl Machine for Debugged {
    fn vcpus(&self) -> usize {
        self.domain.vcpus.len()
    }

    fn with<R>(&mut self, vcpu: usize, with: impl FnOnce(Records<'_>) -> R) -> Option<R> {
        self.with_vcpu(vcpu, |vcpu| {
            let Vcpu { core, fp, system, .. } = vcpu;
            with(Records { core, fp, system })
        })
    }

    fn is_on(&self, vcpu: usize) -> bool {
        let resident = self.domain.resident.lock();
        let power = resident.guest.powers.get(vcpu);
        power.is_some_and(|power| *power.state == PowerState::On as u8)
    }

    fn read(&mut self, address: u64, into: &mut [u8]) -> Result<(), Refused> {
        let resident = self.domain.resident.lock();
        let offset = offset_of(resident.guest.ram_base(), address)?;
        resident.ram.read_past_caches(offset, into).map_err(|_| Refused::NotRam)
    }

    fn write(&mut self, address: u64, bytes: &[u8]) -> Result<(), Refused> {
        let mut resident = self.domain.resident.lock();
        if self.own(&mut resident).is_none() || resident.state != RunState::Debugged {
            return Err(Refused::ReadOnly);
        }
        let offset = offset_of(resident.guest.ram_base(), address)?;
        let ram = &mut resident.ram;
        if offset >= ram.len() {
            return Err(Refused::NotRam);
        }
        ram.write_past_caches(offset, bytes).map_err(|_| Refused::Failed)
    }

    fn limits(&self) -> Option<Limits> {
        *LIMITS.lock()
    }

    fn resume(&mut self, plan: &Plan) {
        let from =
            core::array::from_fn(|vcpu| self.with_vcpu(vcpu, |vcpu| *vcpu.core.pc).unwrap_or(0));
        let mut parked = self.domain.park();
        if parked.state != RunState::Debugged {
            return;
        }
        let Some(debugger) = self.own(&mut parked) else { return };
        (debugger.plan, debugger.from, debugger.stop) = (*plan, from, None);
        parked.set_state(RunState::Running);
    }

    fn interrupt(&mut self) {
        let mut parked = self.domain.park();
        let runs = matches!(parked.state, RunState::Running | RunState::Paused | RunState::Starved);
        let state = parked.state;
        let Some(debugger) = self.own(&mut parked).filter(|_| runs) else { return };
        if state == RunState::Paused {
            // A person has paused it since the debugger has let it go on.
            debugger.before = state;
        }
        debugger.stop.get_or_insert(Stop::Interrupted);
        parked.set_state(RunState::Debugged);
    }
}

impl Drop for Debugged {
    fn drop(&mut self) {
        // Parking makes each core leave, so none has the debugger's registers any more.
        let mut parked = self.domain.park();
        let Some(before) = self.own(&mut parked).map(|debugger| debugger.before) else { return };
        parked.debugger = None;
        let state = parked.state.after_debugger(before);
        if state != parked.state {
            parked.set_state(state);
        }
    }
}
