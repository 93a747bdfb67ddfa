//! A guest on the machine: its state, its RAM and its stage 2, pinned to a core.
//!
//! The core that runs a guest holds [`Slot::resident`]'s lock from [`Slot::run`] to the guest's next
//! unloading. Whoever else wants the guest [parks](Slot::park) it: then all of its state is in its
//! records, and the lock is the caller's.

use crate::gic::{self, ThisCore};
use crate::memory::HeapTables;
use crate::{clock, console, cores};
use alloc::collections::VecDeque;
use alloc::string::{String, ToString};
use core::sync::atomic::{AtomicBool, Ordering};
use spin::mutex::{SpinMutex, SpinMutexGuard};
use stasis_arch::world::{self, ExitKind, live};
use stasis_arch::{cache, cpu, mmu, timer};
use stasis_hw::paging::{Attributes, MapError, Translation};
use stasis_vm::exit::Syndrome;
use stasis_vm::guest::{Guest, Host, Next};
use stasis_vm::inject::El1Registers;
use stasis_vm::machine::{GICC_BASE, GICC_SIZE, RAM_BASE};
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
}

impl RunState {
    /// As the console's list has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Off | Self::Reset => "off",
        }
    }
}

/// What belongs to whoever holds the lock.
pub struct Resident {
    pub guest: Guest,
    pub state: RunState,
    ram: Range,
    stage2: Translation,
}

/// A guest's place on the machine.
pub struct Slot {
    /// Its number on the console.
    pub number: usize,
    pub name: String,
    /// The core that its vCPU is pinned to.
    pub core: usize,
    /// Somebody wants the lock: do not run the guest.
    wanted: AtomicBool,
    resident: SpinMutex<Resident>,
    input: SpinMutex<VecDeque<u8>>,
    has_input: AtomicBool,
}

/// A guest that does not run for as long as this lives.
pub struct Parked<'a> {
    slot: &'a Slot,
    resident: Option<SpinMutexGuard<'a, Resident>>,
}

impl core::ops::Deref for Parked<'_> {
    type Target = Resident;

    fn deref(&self) -> &Resident {
        self.resident.as_ref().expect("it is given up only when dropped")
    }
}

impl core::ops::DerefMut for Parked<'_> {
    fn deref_mut(&mut self) -> &mut Resident {
        self.resident.as_mut().expect("it is given up only when dropped")
    }
}

impl Drop for Parked<'_> {
    fn drop(&mut self) {
        self.resident = None;
        self.slot.wanted.store(false, Ordering::Release);
        gic::kick(self.slot.core);
    }
}

impl Resident {
    /// The guest's whole RAM.
    pub fn ram(&self) -> &[u8] {
        // SAFETY: 1. The range is the guest's alone, RAM, mapped one to one. 2. The guest, the only
        // other one that accesses it, is not loaded: its core would hold our lock.
        unsafe { core::slice::from_raw_parts(self.ram.start as *const u8, self.ram.len() as usize) }
    }

    /// The guest's whole RAM, and the rest of it. [`Self::finish_writing`] is due afterwards.
    pub fn ram_mut(&mut self) -> &mut [u8] {
        ram_of(&mut self.ram)
    }

    /// The guest and its RAM, to be stored.
    pub fn guest_and_ram(&mut self) -> (&mut Guest, &[u8]) {
        (&mut self.guest, ram_of(&mut self.ram))
    }

    /// Makes what was written to RAM what the guest sees, with its caches on or off.
    pub fn finish_writing(&mut self) {
        finish_writing(self.ram);
    }
}

/// A range of guest RAM as bytes. The range is borrowed for as long, so there is one such slice.
fn ram_of(ram: &mut Range) -> &mut [u8] {
    // SAFETY: as in `Resident::ram`; the borrow is exclusive.
    unsafe { core::slice::from_raw_parts_mut(ram.start as *mut u8, ram.len() as usize) }
}

/// RAM of a guest that does not exist yet.
pub struct FreshRam(Range);

impl FreshRam {
    /// Clears `ram`, which the pool has handed out for this.
    pub fn new(ram: Range) -> Self {
        let mut fresh = Self(ram);
        fresh.bytes().fill(0);
        fresh
    }

    /// All of it.
    pub fn bytes(&mut self) -> &mut [u8] {
        ram_of(&mut self.0)
    }
}

fn finish_writing(ram: Range) {
    cache::clean_and_invalidate_to_poc(ram.start as usize, ram.len() as usize);
    cache::invalidate_instructions();
}

impl Slot {
    /// Puts a guest with its RAM on a core.
    pub fn new(
        number: usize,
        core: usize,
        guest: Guest,
        ram: FreshRam,
        gicv: Range,
        state: RunState,
    ) -> Result<Self, MapError> {
        let FreshRam(ram) = ram;
        let tables = &mut HeapTables;
        let mut stage2 = Translation::new(tables)?;
        stage2.map(tables, RAM_BASE, ram.start, ram.len(), Attributes::guest_ram())?;
        stage2.map(tables, GICC_BASE, gicv.start, GICC_SIZE, Attributes::guest_device())?;
        finish_writing(ram);
        Ok(Self {
            number,
            name: guest.name().to_string(),
            core,
            wanted: AtomicBool::new(false),
            resident: SpinMutex::new(Resident { guest, state, ram, stage2 }),
            input: SpinMutex::new(VecDeque::new()),
            has_input: AtomicBool::new(false),
        })
    }

    /// Stops the guest for as long as the result lives, with all of its state in its records.
    pub fn park(&self) -> Parked<'_> {
        self.wanted.store(true, Ordering::Release);
        gic::kick(self.core);
        Parked { slot: self, resident: Some(self.resident.lock()) }
    }

    /// Takes a byte for the guest's UART; one too many is lost, as on a wire.
    pub fn type_byte(&self, byte: u8) {
        let mut input = self.input.lock();
        if input.len() < MAX_INPUT {
            input.push_back(byte);
        }
        drop(input);
        self.has_input.store(true, Ordering::Release);
        gic::kick(self.core);
    }

    /// Runs the guest on this core until somebody wants it, it stops, or there is something to do for
    /// the console on this core. `false`: it can't run.
    pub fn run(&self) -> bool {
        if self.wanted.load(Ordering::Acquire) {
            return false;
        }
        let Some(mut resident) = self.resident.try_lock() else { return false };
        if resident.state != RunState::Running {
            return false;
        }
        let mut host = RunningOn { slot: self, gic: ThisCore, el1: LoadedEl1, watched: None };
        self.load(&mut resident, &mut host);
        let stopped = self.enter_until_stopped(&mut resident.guest, &mut host);
        self.unload(&mut resident, &mut host);
        if let Some(state) = stopped {
            resident.guest.clock.stop(timer::counter());
            resident.state = state;
            drop(resident);
            let why = match state {
                RunState::Reset => "has reset its machine, and stays off",
                _ => "is off",
            };
            console::halted(self, why);
        }
        true
    }

    fn load(&self, resident: &mut Resident, host: &mut RunningOn) {
        let Resident { guest, stage2, .. } = resident;
        let vmid = self.number as u8 + 1;
        // SAFETY: the slot's stage 2 maps the guest's own RAM and the GICV, and lives as long as the
        // slot, which is never dropped. Each slot has a VMID of its own.
        unsafe { mmu::activate_stage2(stage2.root(), vmid) };
        if guest.clock.offset().is_none() {
            guest.clock.start(timer::counter());
        }
        let vcpu = &guest.vcpus[VCPU];
        cpu::set_guest_identity(*vcpu.identity.midr_el1, *vcpu.identity.mpidr_el1);
        cpu::set_virtual_serror(*vcpu.power.serror_pending != 0);
        let offset = guest.clock.offset().expect("it was just started");
        host.watched = clock::must_watch(offset).then_some(offset);
        world::load(&vcpu.system, &vcpu.fp, &vcpu.debug, offset);
        let _ = guest.vgic.load(VCPU, &mut host.gic);
        host.tick(guest);
    }

    fn unload(&self, resident: &mut Resident, host: &mut RunningOn) {
        let guest = &mut resident.guest;
        timer::set_deadline(None);
        let _ = guest.vgic.save(VCPU, &mut host.gic);
        let vcpu = &mut guest.vcpus[VCPU];
        *vcpu.power.serror_pending = cpu::virtual_serror().into();
        world::save(&mut vcpu.system, &mut vcpu.fp, &mut vcpu.debug);
    }

    /// The loop of exits and entries. Returns what the guest has come to, if it stopped by itself.
    fn enter_until_stopped(&self, guest: &mut Guest, host: &mut RunningOn) -> Option<RunState> {
        loop {
            if self.has_input.load(Ordering::Relaxed) {
                self.pass_input(guest);
            }
            if guest.deadline_changed() {
                host.tick(guest);
            }
            let _ = guest.vgic.enter(VCPU, &mut host.gic);
            match world::enter(&mut guest.vcpus[VCPU].core) {
                ExitKind::Synchronous => {
                    let cpu::Syndrome { esr, far, hpfar } = cpu::syndrome();
                    match guest.exit(VCPU, Syndrome { esr, far, hpfar }, host) {
                        Next::Enter => {}
                        Next::Off => return Some(RunState::Off),
                        Next::Reset => return Some(RunState::Reset),
                    }
                }
                ExitKind::Interrupt => {
                    let mut linked = false;
                    let taken = cores::take_interrupts(|intid| {
                        let ours = guest.interrupt(VCPU, intid);
                        linked |= ours;
                        ours
                    });
                    if let Some(interrupt) = taken.maintenance {
                        // One vCPU: there is nobody else to kick.
                        let _ = guest.vgic.sync(VCPU, &mut host.gic);
                        gic::end(interrupt);
                    }
                    if taken.timer || linked {
                        host.tick(guest);
                    }
                    if self.wanted.load(Ordering::Acquire) || console::is_due() {
                        return None;
                    }
                }
                // Whatever it was that failed, the guest's access was the last one made.
                ExitKind::SError => cpu::set_virtual_serror(true),
            }
        }
    }

    fn pass_input(&self, guest: &mut Guest) {
        let mut input = self.input.lock();
        while guest.can_receive() {
            let Some(byte) = input.pop_front() else { break };
            guest.receive(byte);
        }
        self.has_input.store(!input.is_empty(), Ordering::Relaxed);
    }
}

/// There is one vCPU as yet.
const VCPU: usize = 0;

/// The core that a slot's guest is loaded on.
struct RunningOn<'a> {
    slot: &'a Slot,
    gic: ThisCore,
    el1: LoadedEl1,
    /// CNTVOFF_EL2, if the virtual timer must be watched: see [`clock::must_watch`].
    watched: Option<u64>,
}

impl RunningOn<'_> {
    /// Lets time have passed for the guest, and has EL2's timer fire when it is to be told again.
    fn tick(&mut self, guest: &mut Guest) {
        let mut deadline = guest.tick(VCPU, self);
        if let Some(offset) = self.watched {
            timer::nudge_virtual();
            let now = timer::counter();
            let due = timer::virtual_compare_value().wrapping_add(offset);
            let latest = now + timer::frequency() / clock::WATCH_HZ;
            let next = if (now..latest).contains(&due) { due } else { latest };
            deadline = Some(deadline.map_or(next, |ticks| ticks.min(next)));
        }
        // QEMU (10.0, `gic_complete_irq`) forgets an interrupt whose line is high when the guest's EOI
        // makes it inactive, until another one comes: have EL2's timer come then.
        if gic::timer_is_active() {
            let look = timer::counter() + timer::frequency() / clock::WATCH_HZ;
            deadline = Some(deadline.map_or(look, |ticks| ticks.min(look)));
        }
        timer::set_deadline(deadline);
    }
}

impl Host for RunningOn<'_> {
    type Gic = ThisCore;
    type El1 = LoadedEl1;

    fn gic(&mut self) -> &mut ThisCore {
        &mut self.gic
    }

    fn el1(&mut self) -> &mut LoadedEl1 {
        &mut self.el1
    }

    fn counter(&self) -> u64 {
        timer::counter()
    }

    fn wall_time(&self) -> u64 {
        clock::wall_time()
    }

    fn transmit(&mut self, byte: u8) {
        console::guest_output(self.slot, &[byte]);
    }
}

/// The EL1 registers in the hardware.
struct LoadedEl1;

impl El1Registers for LoadedEl1 {
    fn vbar_el1(&self) -> u64 {
        live::vbar_el1()
    }

    fn sctlr_el1(&self) -> u64 {
        live::sctlr_el1()
    }

    fn set_elr_el1(&mut self, value: u64) {
        live::set_elr_el1(value);
    }

    fn set_spsr_el1(&mut self, value: u64) {
        live::set_spsr_el1(value);
    }

    fn set_esr_el1(&mut self, value: u64) {
        live::set_esr_el1(value);
    }

    fn set_far_el1(&mut self, value: u64) {
        live::set_far_el1(value);
    }
}
