//! A guest as the crate `gdbstub` wants it: [`Target`].

use core::convert::Infallible;

use gdbstub::common::{Signal, Tid};
use gdbstub::target::ext::base::BaseOps;
use gdbstub::target::ext::base::multithread::{
    MultiThreadBase, MultiThreadResume, MultiThreadResumeOps, MultiThreadSchedulerLocking,
    MultiThreadSchedulerLockingOps, MultiThreadSingleStep, MultiThreadSingleStepOps,
};
use gdbstub::target::ext::base::single_register_access::{
    SingleRegisterAccess, SingleRegisterAccessOps,
};
use gdbstub::target::ext::breakpoints::{
    Breakpoints, BreakpointsOps, HwBreakpoint, HwBreakpointOps, HwWatchpoint, HwWatchpointOps,
    SwBreakpoint, SwBreakpointOps, WatchKind,
};
use gdbstub::target::ext::target_description_xml_override::{
    TargetDescriptionXmlOverride, TargetDescriptionXmlOverrideOps,
};
use gdbstub::target::ext::thread_extra_info::{ThreadExtraInfo, ThreadExtraInfoOps};
use gdbstub::target::{self, TargetError, TargetResult};

use crate::description;
use crate::machine::{Machine, Records, Refused};
use crate::plan::{Action, Plan};
use crate::points::{Kind, Lacking, Limits, Points, Watchpoint};
use crate::registers::{AArch64, General, Number};
use crate::translation::translate;

/// Bytes of the page of the smallest granule.
const PAGE: u64 = 4096;

/// errno's numbers, which gdb shows.
const EIO: u8 = 5;
const EFAULT: u8 = 14;
const EINVAL: u8 = 22;
const ENOSPC: u8 = 28;
const EROFS: u8 = 30;

/// A guest, and what gdb wants of it.
#[derive(Debug)]
pub struct Target<M> {
    /// The guest.
    pub machine: M,
    points: Points,
    /// What gdb has said of vCPUs by name; the others run, unless it has `locked` them.
    named: [Option<Action>; stasis_state::vgic::MAX_VCPUS],
    locked: bool,
}

type Done<T, M> = TargetResult<T, Target<M>>;

fn error<M: Machine>(refused: Refused) -> TargetError<<Target<M> as target::Target>::Error> {
    TargetError::Errno(match refused {
        Refused::NotRam => EFAULT,
        Refused::ReadOnly => EROFS,
        Refused::Failed => EIO,
    })
}

/// Returns the index of a thread's vCPU. gdb's numbers begin at 1.
fn vcpu_of(thread: Tid) -> usize {
    thread.get() - 1
}

/// Returns the number of a vCPU's thread.
pub(crate) fn thread_of(vcpu: usize) -> Tid {
    Tid::MIN.saturating_add(vcpu)
}

impl<M: Machine> Target<M> {
    /// Returns the guest in `machine`, without a breakpoint.
    pub fn new(machine: M) -> Self {
        Self { machine, points: Points::default(), named: Default::default(), locked: false }
    }

    /// Returns what gdb has said that the vCPUs do.
    fn plan(&self) -> Plan {
        let others = if self.locked { Action::Stay } else { Action::Run };
        Plan { actions: self.named.map(|action| action.unwrap_or(others)), points: self.points }
    }

    fn name(&mut self, thread: Tid, action: Action) {
        if let Some(named) = self.named.get_mut(vcpu_of(thread)) {
            *named = Some(action);
        }
    }

    /// Returns the guest-physical address of a virtual one, as a vCPU's tables have it.
    fn translate(&mut self, vcpu: usize, address: u64) -> Result<u64, Refused> {
        // The tables are read one word at a time, for which the vCPU's records are not borrowed.
        let system = self.machine.with(vcpu, |records| records.system.clone());
        let system = system.ok_or(Refused::NotRam)?;
        let mut word = |at| {
            let mut bytes = [0; 8];
            match self.machine.read(at, &mut bytes) {
                Ok(()) => Ok(Some(u64::from_le_bytes(bytes))),
                Err(Refused::NotRam) => Ok(None),
                Err(refused) => Err(refused),
            }
        };
        translate(&system, address, &mut word)?.ok_or(Refused::NotRam)
    }

    /// Reads bytes at a virtual address, and returns how many come before the first one that can't
    /// be had. The error is of the first byte.
    fn read_virtual(&mut self, vcpu: usize, start: u64, into: &mut [u8]) -> Result<usize, Refused> {
        let mut done = 0;
        while done < into.len() {
            let Some(address) = start.checked_add(done as u64) else { break };
            let len = in_page(address, into.len() - done);
            let piece = &mut into[done..done + len];
            let read = self.translate(vcpu, address).and_then(|at| self.machine.read(at, piece));
            match read {
                Ok(()) => done += len,
                Err(refused) if done == 0 => return Err(refused),
                Err(_) => break,
            }
        }
        Ok(done)
    }

    /// Writes bytes at a virtual address, all or none, but for pages that fail in the midst.
    fn write_virtual(&mut self, vcpu: usize, start: u64, bytes: &[u8]) -> Result<(), Refused> {
        let mut done = 0;
        while done < bytes.len() {
            let address = start.checked_add(done as u64).ok_or(Refused::NotRam)?;
            let len = in_page(address, bytes.len() - done);
            let at = self.translate(vcpu, address)?;
            self.machine.write(at, &bytes[done..done + len])?;
            done += len;
        }
        Ok(())
    }

    /// Adds a breakpoint or a watchpoint.
    fn add(
        &mut self,
        add: impl FnOnce(&mut Points, Limits) -> Result<(), Lacking>,
    ) -> Done<bool, M> {
        let limits = self.machine.limits().ok_or(TargetError::Errno(EROFS))?;
        add(&mut self.points, limits).map(|()| true).map_err(|lacking| {
            log::warn!("gdb: {lacking}");
            TargetError::Errno(match lacking {
                Lacking::Breakpoint(_) | Lacking::Watchpoint(_) => ENOSPC,
                Lacking::Misaligned(_) | Lacking::Shape { .. } => EINVAL,
            })
        })
    }
}

/// Returns how many of `len` bytes are in the page of `address`.
fn in_page(address: u64, len: usize) -> usize {
    ((PAGE - address % PAGE) as usize).min(len)
}

impl<M: Machine> target::Target for Target<M> {
    type Arch = AArch64;
    type Error = Infallible;

    fn base_ops(&mut self) -> BaseOps<'_, AArch64, Infallible> {
        BaseOps::MultiThread(self)
    }

    fn support_breakpoints(&mut self) -> Option<BreakpointsOps<'_, Self>> {
        Some(self)
    }

    fn support_target_description_xml_override(
        &mut self,
    ) -> Option<TargetDescriptionXmlOverrideOps<'_, Self>> {
        Some(self)
    }
}

impl<M: Machine> MultiThreadBase for Target<M> {
    fn read_registers(&mut self, registers: &mut General, thread: Tid) -> Done<(), M> {
        let read = self.machine.with(vcpu_of(thread), |records| registers.read(&records));
        read.ok_or(TargetError::NonFatal)
    }

    fn write_registers(&mut self, registers: &General, thread: Tid) -> Done<(), M> {
        self.machine.limits().ok_or(TargetError::Errno(EROFS))?;
        let write = |mut records: Records<'_>| registers.write(&mut records);
        match self.machine.with(vcpu_of(thread), write) {
            Some(true) => Ok(()),
            _ => Err(TargetError::Errno(EINVAL)),
        }
    }

    fn support_single_register_access(&mut self) -> Option<SingleRegisterAccessOps<'_, Tid, Self>> {
        Some(self)
    }

    fn read_addrs(&mut self, start: u64, data: &mut [u8], thread: Tid) -> Done<usize, M> {
        self.read_virtual(vcpu_of(thread), start, data).map_err(error::<M>)
    }

    fn write_addrs(&mut self, start: u64, data: &[u8], thread: Tid) -> Done<(), M> {
        self.write_virtual(vcpu_of(thread), start, data).map_err(error::<M>)
    }

    fn list_active_threads(&mut self, each: &mut dyn FnMut(Tid)) -> Result<(), Infallible> {
        (0..self.machine.vcpus()).map(thread_of).for_each(each);
        Ok(())
    }

    fn support_resume(&mut self) -> Option<MultiThreadResumeOps<'_, Self>> {
        Some(self)
    }

    fn support_thread_extra_info(&mut self) -> Option<ThreadExtraInfoOps<'_, Self>> {
        Some(self)
    }
}

impl<M: Machine> SingleRegisterAccess<Tid> for Target<M> {
    fn read_register(&mut self, thread: Tid, register: Number, into: &mut [u8]) -> Done<usize, M> {
        let read = self.machine.with(vcpu_of(thread), |records| register.read(&records));
        let value = read.flatten().ok_or(TargetError::NonFatal)?;
        let len = register.bytes().unwrap_or(0).min(into.len());
        into[..len].copy_from_slice(&value[..len]);
        Ok(len)
    }

    fn write_register(&mut self, thread: Tid, register: Number, value: &[u8]) -> Done<(), M> {
        self.machine.limits().ok_or(TargetError::Errno(EROFS))?;
        let write = |mut records: Records<'_>| register.write(&mut records, value);
        match self.machine.with(vcpu_of(thread), write) {
            Some(true) => Ok(()),
            _ => Err(TargetError::Errno(EINVAL)),
        }
    }
}

impl<M: Machine> ThreadExtraInfo for Target<M> {
    fn thread_extra_info(&self, thread: Tid, into: &mut [u8]) -> Result<usize, Infallible> {
        let text: &[u8] = if self.machine.is_on(vcpu_of(thread)) { b"vCPU" } else { b"vCPU, off" };
        let len = text.len().min(into.len());
        into[..len].copy_from_slice(&text[..len]);
        Ok(len)
    }
}

impl<M: Machine> TargetDescriptionXmlOverride for Target<M> {
    fn target_description_xml(
        &self,
        annex: &[u8],
        offset: u64,
        length: usize,
        into: &mut [u8],
    ) -> Done<usize, M> {
        if annex != b"target.xml" {
            return Err(TargetError::NonFatal);
        }
        let len = length.min(into.len());
        let offset = usize::try_from(offset).unwrap_or(usize::MAX);
        Ok(description::read(offset, &mut into[..len]))
    }
}

impl<M: Machine> MultiThreadResume for Target<M> {
    fn resume(&mut self) -> Result<(), Infallible> {
        let plan = self.plan();
        self.machine.resume(&plan);
        Ok(())
    }

    fn clear_resume_actions(&mut self) -> Result<(), Infallible> {
        self.named = Default::default();
        self.locked = false;
        Ok(())
    }

    fn set_resume_action_continue(
        &mut self,
        thread: Tid,
        _: Option<Signal>,
    ) -> Result<(), Infallible> {
        self.name(thread, Action::Run);
        Ok(())
    }

    fn support_single_step(&mut self) -> Option<MultiThreadSingleStepOps<'_, Self>> {
        Some(self)
    }

    fn support_scheduler_locking(&mut self) -> Option<MultiThreadSchedulerLockingOps<'_, Self>> {
        Some(self)
    }
}

impl<M: Machine> MultiThreadSingleStep for Target<M> {
    fn set_resume_action_step(&mut self, thread: Tid, _: Option<Signal>) -> Result<(), Infallible> {
        self.name(thread, Action::Step);
        Ok(())
    }
}

impl<M: Machine> MultiThreadSchedulerLocking for Target<M> {
    fn set_resume_action_scheduler_lock(&mut self) -> Result<(), Infallible> {
        self.locked = true;
        Ok(())
    }
}

impl<M: Machine> Breakpoints for Target<M> {
    fn support_sw_breakpoint(&mut self) -> Option<SwBreakpointOps<'_, Self>> {
        Some(self)
    }

    fn support_hw_breakpoint(&mut self) -> Option<HwBreakpointOps<'_, Self>> {
        Some(self)
    }

    fn support_hw_watchpoint(&mut self) -> Option<HwWatchpointOps<'_, Self>> {
        Some(self)
    }
}

/// gdb's `break`: also by the hardware. Were this refused, gdb would write an instruction into the
/// guest's memory by itself.
impl<M: Machine> SwBreakpoint for Target<M> {
    fn add_sw_breakpoint(&mut self, address: u64, _: usize) -> Done<bool, M> {
        self.add(|points, limits| points.add_breakpoint(address, limits))
    }

    fn remove_sw_breakpoint(&mut self, address: u64, _: usize) -> Done<bool, M> {
        Ok(self.points.remove_breakpoint(address))
    }
}

impl<M: Machine> HwBreakpoint for Target<M> {
    fn add_hw_breakpoint(&mut self, address: u64, _: usize) -> Done<bool, M> {
        self.add(|points, limits| points.add_breakpoint(address, limits))
    }

    fn remove_hw_breakpoint(&mut self, address: u64, _: usize) -> Done<bool, M> {
        Ok(self.points.remove_breakpoint(address))
    }
}

fn watchpoint(address: u64, len: u64, kind: WatchKind) -> Watchpoint {
    let kind = match kind {
        WatchKind::Write => Kind::Store,
        WatchKind::Read => Kind::Load,
        WatchKind::ReadWrite => Kind::Both,
    };
    Watchpoint { address, len, kind }
}

impl<M: Machine> HwWatchpoint for Target<M> {
    fn add_hw_watchpoint(&mut self, address: u64, len: u64, kind: WatchKind) -> Done<bool, M> {
        self.add(|points, limits| points.add_watchpoint(watchpoint(address, len, kind), limits))
    }

    fn remove_hw_watchpoint(&mut self, address: u64, len: u64, kind: WatchKind) -> Done<bool, M> {
        Ok(self.points.remove_watchpoint(watchpoint(address, len, kind)))
    }
}
