//! A guest on the machine: its state, its RAM and its stage 2, and the cores of its vCPUs.
//!
//! A core that runs a vCPU holds the lock of that vCPU from [`Slot::run`] to its unloading, and the lock
//! of what the vCPUs share ([`Resident`]) only to answer an exit and to prepare an entry. Whoever else
//! wants the guest [parks](Slot::park) it: then all of its state is in its records, and all locks are
//! the caller's. Locks are taken in this order: vCPUs by index, then what they share.

use crate::gic;
use crate::hold::Hold;
use crate::memory::HeapTables;
use crate::running::RunningOn;
use crate::{clock, console, cores, guests};
use alloc::collections::VecDeque;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, Ordering};
use spin::mutex::{SpinMutex, SpinMutexGuard};
use stasis_arch::world::{self, ExitKind};
use stasis_arch::{cache, cpu, mmu, timer};
use stasis_hw::paging::{Attributes, MapError, Translation};
use stasis_state::Records;
use stasis_vgic::VcpuMask;
use stasis_vm::exit::{self, Syndrome};
use stasis_vm::guest::{Guest, Next, Vcpu};
use stasis_vm::machine::{GICC_BASE, GICC_MAPPED, RAM_BASE};
use stasis_vm::range::Range;

/// Bytes typed for a guest that its UART has no room for yet.
const MAX_INPUT: usize = 4096;

/// What a guest is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunState {
    Running,
    Paused,
    /// It has switched itself off.
    Off,
    /// It has reset itself, which ends it here.
    Reset,
    /// A resume in its place failed while its RAM was written: its state is gone.
    Lost,
}

impl RunState {
    /// As the console's list has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Off | Self::Reset => "off",
            Self::Lost => "lost",
        }
    }
}

/// What a guest's vCPUs share, and belongs to whoever holds its lock.
pub struct Resident {
    pub guest: Guest,
    pub state: RunState,
    ram: Range,
    stage2: Translation,
}

/// A vCPU and its core.
struct VcpuPlace {
    core: usize,
    vcpu: SpinMutex<Vcpu>,
    hold: Hold,
}

/// A guest's place on the machine.
pub struct Slot {
    /// Its number on the console.
    pub number: usize,
    pub name: String,
    vcpus: Vec<VcpuPlace>,
    /// Somebody wants the locks: do not run the guest.
    wanted: AtomicBool,
    /// Its state is [`RunState::Running`], for those that do not hold the lock.
    running: AtomicBool,
    resident: SpinMutex<Resident>,
    /// Held by the vCPU that has others stand still: see [`crate::hold`].
    holder: SpinMutex<()>,
    input: SpinMutex<VecDeque<u8>>,
    has_input: AtomicBool,
}

/// A guest that does not run for as long as this lives.
pub struct Parked<'a> {
    slot: &'a Slot,
    // In this order they are dropped, too.
    resident: SpinMutexGuard<'a, Resident>,
    vcpus: Vec<SpinMutexGuard<'a, Vcpu>>,
    _wakes: Wakes<'a>,
}

/// Lets a guest run again when it is dropped, after the locks.
struct Wakes<'a>(&'a Slot);

impl Drop for Wakes<'_> {
    fn drop(&mut self) {
        self.0.wanted.store(false, Ordering::Release);
        self.0.kick_all();
    }
}

impl core::ops::Deref for Parked<'_> {
    type Target = Resident;

    fn deref(&self) -> &Resident {
        &self.resident
    }
}

impl core::ops::DerefMut for Parked<'_> {
    fn deref_mut(&mut self) -> &mut Resident {
        &mut self.resident
    }
}

impl Parked<'_> {
    /// Has the guest be lost until [`Self::replace`], and returns its whole RAM, to be written.
    pub fn overwrite(&mut self) -> &mut [u8] {
        self.set_state(RunState::Lost);
        ram_of(&mut self.resident.ram)
    }

    /// The guest as it is stored, and its RAM. `counter` and `wall_time` are the host's.
    pub fn records_and_ram(&mut self, counter: u64, wall_time: u64) -> (Records<'_>, &[u8]) {
        let Resident { guest, ram, .. } = &mut *self.resident;
        let vcpus = self.vcpus.iter_mut().map(|vcpu| &mut **vcpu);
        (guest.records(vcpus, counter, wall_time), ram_of(ram))
    }

    /// Has another guest run in this one's place, with as many vCPUs; its RAM is written.
    pub fn replace(&mut self, guest: Guest, vcpus: Vec<Vcpu>) {
        finish_writing(self.resident.ram);
        self.resident.guest = guest;
        for (place, vcpu) in self.vcpus.iter_mut().zip(vcpus) {
            **place = vcpu;
        }
        self.set_state(RunState::Running);
    }

    /// Has the guest run, stand still, or be off from now on.
    pub fn set_state(&mut self, state: RunState) {
        self.slot.set_state(&mut self.resident, state);
    }
}

/// A range of guest RAM as bytes. The range is borrowed for as long, so there is one such slice.
fn ram_of(ram: &mut Range) -> &mut [u8] {
    // SAFETY: 1. The range is the guest's alone, RAM, mapped one to one; the borrow is exclusive.
    // 2. The guest, the only other one that accesses it, is not loaded: its cores would hold locks that
    // the caller has.
    unsafe { core::slice::from_raw_parts_mut(ram.start as *mut u8, ram.len() as usize) }
}

/// RAM of a guest that does not exist yet. It goes back to the pool if none comes to be.
pub struct FreshRam(Range);

impl FreshRam {
    /// Takes `len` bytes from the pool, and clears them.
    pub fn take(len: u64) -> Result<Self, String> {
        let mut fresh = Self(guests::take_ram(len)?);
        fresh.bytes().fill(0);
        Ok(fresh)
    }

    /// All of it.
    pub fn bytes(&mut self) -> &mut [u8] {
        ram_of(&mut self.0)
    }

    /// It is some guest's from now on.
    fn keep(self) -> Range {
        let range = self.0;
        core::mem::forget(self);
        range
    }
}

impl Drop for FreshRam {
    fn drop(&mut self) {
        guests::give_back(self.0);
    }
}

/// Makes what was written to RAM what the guest sees, with its caches on or off.
fn finish_writing(ram: Range) {
    cache::clean_and_invalidate_to_poc(ram.start as usize, ram.len() as usize);
    cache::invalidate_instructions();
}

impl Slot {
    /// Puts a guest with its RAM on these cores, one for each vCPU.
    pub fn new(
        number: usize,
        cores: &[usize],
        guest: Guest,
        vcpus: Vec<Vcpu>,
        ram: FreshRam,
        gicv: Range,
        state: RunState,
    ) -> Result<Self, MapError> {
        let tables = &mut HeapTables;
        let mut stage2 = Translation::new(tables)?;
        stage2.map(tables, RAM_BASE, ram.0.start, ram.0.len(), Attributes::guest_ram())?;
        stage2.map(tables, GICC_BASE, gicv.start, GICC_MAPPED, Attributes::guest_device())?;
        let ram = ram.keep();
        finish_writing(ram);
        let places = cores.iter().zip(vcpus).map(|(&core, vcpu)| VcpuPlace {
            core,
            vcpu: SpinMutex::new(vcpu),
            hold: Hold::new(),
        });
        Ok(Self {
            number,
            name: guest.name().to_string(),
            vcpus: places.collect(),
            wanted: AtomicBool::new(false),
            running: AtomicBool::new(state == RunState::Running),
            resident: SpinMutex::new(Resident { guest, state, ram, stage2 }),
            holder: SpinMutex::new(()),
            input: SpinMutex::new(VecDeque::new()),
            has_input: AtomicBool::new(false),
        })
    }

    /// The cores of its vCPUs.
    pub fn cores(&self) -> impl Iterator<Item = usize> {
        self.vcpus.iter().map(|place| place.core)
    }

    /// Has every core of the guest's look at what it is asked to do.
    fn kick_all(&self) {
        self.cores().for_each(gic::kick);
    }

    /// Has these vCPUs' cores do so.
    pub fn kick(&self, vcpus: VcpuMask) {
        vcpus
            .iter()
            .filter_map(|index| self.vcpus.get(index))
            .for_each(|place| gic::kick(place.core));
    }

    fn set_state(&self, resident: &mut Resident, state: RunState) {
        if state != RunState::Running {
            resident.guest.clock.stop(timer::counter());
        }
        resident.state = state;
        self.running.store(state == RunState::Running, Ordering::Release);
    }

    /// Stops the guest for as long as the result lives, with all of its state in its records.
    pub fn park(&self) -> Parked<'_> {
        self.wanted.store(true, Ordering::Release);
        self.kick_all();
        Parked {
            vcpus: self.vcpus.iter().map(|place| place.vcpu.lock()).collect(),
            resident: self.resident.lock(),
            slot: self,
            _wakes: Wakes(self),
        }
    }

    /// Takes a byte for the guest's UART; one too many is lost, as on a wire.
    pub fn type_byte(&self, byte: u8) {
        let mut input = self.input.lock();
        if input.len() < MAX_INPUT {
            input.push_back(byte);
        }
        drop(input);
        self.has_input.store(true, Ordering::Release);
        self.kick(VcpuMask::only(0));
    }

    /// Whether no vCPU is to be entered, or the console wants this core.
    fn must_leave(&self) -> bool {
        self.wanted.load(Ordering::Acquire)
            || !self.running.load(Ordering::Acquire)
            || console::is_due()
    }

    /// Runs vCPU `index` on this core until somebody wants the guest, it stops, or there is something to
    /// do for the console on this core. `false`: it can't run.
    pub fn run(&self, index: usize) -> bool {
        let place = &self.vcpus[index];
        if self.must_leave() {
            return false;
        }
        let Some(mut vcpu) = place.vcpu.try_lock() else { return false };
        let mut host = RunningOn::new(self);
        if !self.load(index, &mut vcpu, &mut host) {
            return false;
        }
        let stopped = self.enter_until_stopped(index, &mut vcpu, &mut host);
        self.unload(index, &mut vcpu, &mut host, stopped);
        drop(vcpu);
        match stopped {
            Some(Next::Off) => console::halted(self, "is off"),
            Some(Next::Reset) => console::halted(self, "has reset its machine, and stays off"),
            _ => {}
        }
        true
    }

    fn load(&self, index: usize, vcpu: &mut Vcpu, host: &mut RunningOn) -> bool {
        let mut resident = self.resident.lock();
        let Resident { guest, state, stage2, .. } = &mut *resident;
        if *state != RunState::Running || !guest.is_on(index, vcpu) {
            return false;
        }
        let vmid = self.number as u8 + 1;
        // SAFETY: the slot's stage 2 maps the guest's own RAM and the GICV, and lives as long as the
        // slot, which is never dropped. Each slot has a VMID of its own.
        unsafe { mmu::activate_stage2(stage2.root(), vmid) };
        let offset = guest.clock.offset_or_start(timer::counter());
        host.watched = clock::must_watch(offset).then_some(offset);
        cpu::set_guest_identity(*vcpu.identity.midr_el1, *vcpu.identity.mpidr_el1);
        cpu::set_virtual_serror(*guest.powers[index].serror_pending != 0);
        world::load(&vcpu.system, &vcpu.fp, &vcpu.debug, offset);
        let effects = guest.vgic.load(index, &mut host.gic);
        self.kick(effects.kick.without(index));
        host.tick(index, guest, vcpu);
        self.vcpus[index].hold.begin_running();
        true
    }

    fn unload(&self, index: usize, vcpu: &mut Vcpu, host: &mut RunningOn, stopped: Option<Next>) {
        let mut resident = self.resident.lock();
        let guest = &mut resident.guest;
        timer::set_deadline(None);
        let effects = guest.vgic.save(index, &mut host.gic);
        *guest.powers[index].serror_pending = cpu::virtual_serror().into();
        world::save(&mut vcpu.system, &mut vcpu.fp, &mut vcpu.debug);
        match stopped {
            Some(Next::Off) => self.set_state(&mut resident, RunState::Off),
            Some(Next::Reset) => self.set_state(&mut resident, RunState::Reset),
            _ => {}
        }
        drop(resident);
        self.vcpus[index].hold.end_running();
        match stopped {
            // The others see that the guest is off, or take over the devices' deadlines.
            Some(_) => self.kick_all(),
            None => self.kick(effects.kick.without(index)),
        }
    }

    /// The loop of exits and entries. Returns what the vCPU has come to, if it stopped by itself.
    fn enter_until_stopped(
        &self,
        index: usize,
        vcpu: &mut Vcpu,
        host: &mut RunningOn,
    ) -> Option<Next> {
        let hold = &self.vcpus[index].hold;
        loop {
            if !self.prepare_entry(index, vcpu, host) {
                hold.stand_still();
                continue;
            }
            match world::enter(&mut vcpu.core) {
                ExitKind::Synchronous => match self.answer_exit(index, vcpu, host) {
                    Next::Enter => {}
                    stopped => return Some(stopped),
                },
                ExitKind::Interrupt => {
                    self.take_interrupts(index, vcpu, host);
                    if self.must_leave() {
                        return None;
                    }
                }
                // Whatever it was that failed, the guest's access was the last one made.
                ExitKind::SError => cpu::set_virtual_serror(true),
            }
        }
    }

    /// Fills the list registers, or folds them if this vCPU is to stand still: then `false`.
    fn prepare_entry(&self, index: usize, vcpu: &mut Vcpu, host: &mut RunningOn) -> bool {
        let mut resident = self.resident.lock();
        let guest = &mut resident.guest;
        if self.has_input.load(Ordering::Relaxed) {
            self.pass_input(guest);
        }
        if vcpu.deadline_changed {
            host.tick(index, guest, vcpu);
        }
        let held = self.vcpus[index].hold.is_wanted();
        let effects = if held {
            guest.vgic.sync(index, &mut host.gic)
        } else {
            guest.vgic.enter(index, &mut host.gic)
        };
        self.kick(effects.kick.without(index));
        !held
    }

    fn answer_exit(&self, index: usize, vcpu: &mut Vcpu, host: &mut RunningOn) -> Next {
        let cpu::Syndrome { esr, far, hpfar } = cpu::syndrome();
        let exit = exit::decode(Syndrome { esr, far, hpfar });
        let mut resident = self.resident.lock();
        if resident.guest.needs_sync(index, vcpu, &exit, host).is_empty() {
            return resident.guest.exit(index, vcpu, exit, esr, host);
        }
        // The interrupt is in another core's list registers: see `hold`.
        let effects = resident.guest.vgic.sync(index, &mut host.gic);
        drop(resident);
        self.kick(effects.kick.without(index));
        self.with_others_held(index, |guest, held| {
            let missing = VcpuMask(guest.needs_sync(index, vcpu, &exit, host).0 & !held.0);
            if missing.is_empty() {
                return Ok(guest.exit(index, vcpu, exit, esr, host));
            }
            Err(missing)
        })
    }

    fn take_interrupts(&self, index: usize, vcpu: &mut Vcpu, host: &mut RunningOn) {
        let mut resident = self.resident.lock();
        let guest = &mut resident.guest;
        let mut linked = false;
        let taken = cores::take_interrupts(|intid| {
            let kick = guest.interrupt(index, intid);
            kick.into_iter().for_each(|kick| self.kick(kick));
            linked |= kick.is_some();
            kick.is_some()
        });
        if let Some(interrupt) = taken.maintenance {
            let effects = guest.vgic.sync(index, &mut host.gic);
            self.kick(effects.kick.without(index));
            gic::end(interrupt);
        }
        if taken.timer || linked {
            host.tick(index, guest, vcpu);
        }
    }

    fn pass_input(&self, guest: &mut Guest) {
        let mut input = self.input.lock();
        while guest.can_receive() {
            let Some(byte) = input.pop_front() else { break };
            self.kick(guest.receive(byte));
        }
        self.has_input.store(!input.is_empty(), Ordering::Relaxed);
    }

    /// Does something to the guest while other vCPUs stand still with their list registers folded.
    /// `action` is told which do, and does it, or returns which are missing. The caller's vCPU is out of
    /// its guest and folded.
    fn with_others_held<T>(
        &self,
        index: usize,
        mut action: impl FnMut(&mut Guest, VcpuMask) -> Result<T, VcpuMask>,
    ) -> T {
        let own = &self.vcpus[index].hold;
        // While this one waits for its turn, it counts as standing still itself.
        own.end_running();
        let turn = self.holder.lock();
        let mut held = VcpuMask::NONE;
        let result = loop {
            let missing = match action(&mut self.resident.lock().guest, held) {
                Ok(result) => break result,
                Err(missing) => missing,
            };
            missing.iter().for_each(|other| self.vcpus[other].hold.want());
            self.kick(missing);
            missing.iter().for_each(|other| self.vcpus[other].hold.wait());
            held.0 |= missing.0;
        };
        held.iter().for_each(|other| self.vcpus[other].hold.release());
        drop(turn);
        own.begin_running();
        result
    }
}
