//! A guest on the machine: its state, its RAM and its stage 2, and the cores of its vCPUs.
//!
//! A core that runs a vCPU ([`run`]) holds the lock of that vCPU from [`Slot::run`] to its unloading, and the lock
//! of what the vCPUs share ([`Resident`]) only to answer an exit and to prepare an entry. Whoever else
//! wants the guest [parks](Slot::park) it: then all of its state is in its records, and all locks are
//! the caller's. Locks are taken in this order: vCPUs by index, then what they share; then, as everywhere,
//! a core's [`Roster`].

mod fetch;
mod first_write;
mod hold;
mod host;
mod outside;
mod ram;
mod run;
mod step;
mod turn;
mod wait;

pub use ram::{FreshRam, Ram, clear, copy, finish_writing, ram_of};
pub use turn::After;

use crate::roster::Roster;
use crate::shared::Connected;
use crate::tables::HeapTables;
use crate::{device_interrupts, roster};
use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering};
use hold::Hold;
use spin::mutex::{SpinMutex, SpinMutexGuard};
use stasis_arch::boot::MAX_CORES;
use stasis_arch::{mmu, timer};
use stasis_hw::paging::{Attributes, MapError, Translation};
use stasis_state::{Records, Written};
use stasis_vgic::VcpuMask;
use stasis_vm::given::Given;
use stasis_vm::guest::{Guest, Vcpu};
use stasis_vm::machine::{GICC_BASE, GICC_MAPPED};
use stasis_vm::range::Range;
use stasis_vm::sched::TaskId;
use stasis_vm::shared::address;
use stasis_vm::stats::{Snapshot, Stats};

/// Of [`Slot::barred`]: somebody wants the locks.
const WANTED: u8 = 1;
/// Of [`Slot::barred`]: its state is not [`RunState::Running`].
const STOPPED: u8 = 2;

/// Of [`Slot::last_on`]: no vCPU.
const NOBODY: u8 = u8::MAX;

/// Bytes typed for a guest that its UART has no room for yet.
const MAX_INPUT: usize = 4096;

/// Each slot has a VMID of its own, of eight bits.
pub const MAX_SLOTS: usize = u8::MAX as usize;

/// The VMID of the slot with this number.
fn vmid(number: usize) -> u8 {
    number as u8 + 1
}

/// What a guest is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunState {
    /// Its vCPUs have their turns.
    Running,
    /// It stands still until somebody has it go on.
    Paused,
    /// It has switched itself off.
    Off,
    /// It has reset its machine, and is to start again.
    Reset,
    /// It could not go on.
    Crashed,
    /// A resume in its place failed while its RAM was written: its state is gone.
    Lost,
    /// It was removed. Nobody finds it but who has looked for it before.
    Removed,
}

impl RunState {
    /// As the console's list has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Off | Self::Reset => "off",
            Self::Crashed => "crashed",
            Self::Lost => "lost",
            Self::Removed => "removed",
        }
    }

    /// Whether it goes on from where it is, now or when it is unpaused.
    pub fn is_alive(self) -> bool {
        matches!(self, Self::Running | Self::Paused)
    }
}

/// What a guest's vCPUs share, and belongs to whoever holds its lock.
pub struct Resident {
    /// The guest.
    pub guest: Guest,
    /// What it is doing.
    pub state: RunState,
    ram: Ram,
    /// None once it was removed.
    stage2: Option<Translation>,
}

/// A vCPU and its core, for its life.
struct VcpuPlace {
    /// Its core's.
    roster: &'static Roster,
    /// What the core knows it by.
    task: TaskId,
    vcpu: SpinMutex<Vcpu>,
    hold: Hold,
    /// It is to have the devices' deadlines looked at, as another one has left.
    takes_over: AtomicBool,
    stats: Stats,
}

/// Where a guest's vCPUs run.
#[derive(Clone, Copy, Debug)]
pub struct Placement<'a> {
    /// The core of each vCPU.
    pub cores: &'a [usize],
    /// The weight that each of them has there.
    pub weight: u16,
}

/// What a guest's stage 2 maps.
pub struct Memory {
    /// Its RAM.
    pub ram: FreshRam,
    /// What it shares with others.
    pub shared: Vec<Connected>,
    /// The machine's devices that it was given.
    pub given: Given,
    /// The physical GICV, its GICC.
    pub gicv: Range,
    /// Which maps nothing yet.
    pub stage2: Translation,
}

/// A guest's place on the machine.
pub struct Slot {
    /// Its number on the console.
    pub number: usize,
    /// Its name, which no other guest has.
    pub name: String,
    vcpus: Vec<VcpuPlace>,
    /// Why no vCPU is to be entered: [`WANTED`], [`STOPPED`]. For those that do not hold the lock.
    barred: AtomicU8,
    resident: SpinMutex<Resident>,
    /// Which vCPU each core has run last, whose translations it may still have.
    last_on: [AtomicU8; MAX_CORES],
    /// Held by the vCPU that has others stand still: see [`hold`].
    holder: SpinMutex<()>,
    /// The memory that it shares with others.
    shared: Vec<Connected>,
    /// The machine's devices that it was given.
    given: Given,
    /// Which of their interrupts have come, and it was not told yet.
    raised: AtomicU32,
    input: SpinMutex<VecDeque<u8>>,
    /// Something was typed for it, it was rung, or an interrupt of its devices has come.
    has_news: AtomicBool,
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
        self.0.barred.fetch_and(!WANTED, Ordering::Release);
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
    /// Has the guest be lost until [`Self::replace`], and returns its RAM, to be written.
    pub fn overwrite(&mut self) -> &mut Ram {
        self.set_state(RunState::Lost);
        &mut self.resident.ram
    }

    /// The guest as it is stored, its RAM, and where that may hold anything but zeros. `counter` and `wall_time` are the host's.
    pub fn records_and_ram(
        &mut self,
        counter: u64,
        wall_time: u64,
    ) -> (Records<'_>, &[u8], &Written) {
        let Resident { guest, ram, .. } = &mut *self.resident;
        let vcpus = self.vcpus.iter_mut().map(|vcpu| &mut **vcpu);
        let (ram, written) = ram.contents();
        (guest.records(vcpus, counter, wall_time), ram, written)
    }

    /// Has the guest hear what was rung so far.
    pub fn listen(&mut self) {
        self.slot.pass_bells(&mut self.resident.guest);
    }

    /// Has another guest run in this one's place, with as many vCPUs; its RAM is written.
    pub fn replace(&mut self, guest: Box<Guest>, vcpus: Vec<Vcpu>) {
        self.resident.ram.finish_writing();
        self.resident.allow_writes();
        self.release_devices();
        self.resident.guest = *guest;
        for (place, vcpu) in self.vcpus.iter_mut().zip(vcpus) {
            **place = vcpu;
        }
        for last in &self.slot.last_on {
            last.store(NOBODY, Ordering::Relaxed);
        }
        self.set_state(RunState::Running);
    }

    /// Takes its memory from the guest, which never runs again: its RAM, and its translation, which maps nothing any more.
    pub fn take_memory(&mut self) -> (Range, Translation) {
        self.set_state(RunState::Removed);
        let ram = core::mem::replace(&mut self.resident.ram.range, Range::new(0, 0));
        let mut stage2 = self.resident.stage2.take().expect("it is taken once");
        let vmid = vmid(self.slot.number);
        // SAFETY: 1. Commands run while no guest is loaded on their core. 2. The root stays with this number, and so with its VMID.
        stage2.clear(&mut HeapTables, |root| unsafe { mmu::forget_guest(root, vmid) });
        (ram, stage2)
    }

    /// Has the guest run, stand still, or be off from now on.
    pub fn set_state(&mut self, state: RunState) {
        if !state.is_alive() {
            self.release_devices();
        }
        self.slot.set_state(&mut self.resident, state);
    }

    /// The guest has stopped: no interrupt of its devices comes, and none is active.
    pub fn release_devices(&mut self) {
        device_interrupts::release(self.slot, &mut self.resident.guest);
    }
}

impl Slot {
    /// Puts a guest with its RAM on its cores. Its vCPUs run once they are [assigned](crate::turns::assign).
    pub fn new(
        number: usize,
        placement: Placement,
        guest: Box<Guest>,
        vcpus: Vec<Vcpu>,
        memory: Memory,
        state: RunState,
    ) -> Result<Arc<Self>, MapError> {
        let Memory { ram, shared, given, gicv, mut stage2 } = memory;
        let tables = &mut HeapTables;
        first_write::map(&mut stage2, tables, guest.ram_base(), ram.ram())?;
        for (n, memory) in shared.iter().map(Connected::memory).enumerate() {
            let attributes = Attributes::guest_shared();
            stage2.map(tables, address(n), memory.start, memory.len(), attributes)?;
        }
        for (address, pages) in &given.pages {
            let attributes = Attributes::guest_device();
            stage2.map(tables, *address, pages.start, pages.len(), attributes)?;
        }
        stage2.map(tables, GICC_BASE, gicv.start, GICC_MAPPED, Attributes::guest_device())?;
        let ram = ram.keep();
        finish_writing(ram.range);
        let places = placement.cores.iter().zip(vcpus).map(|(&core, vcpu)| {
            let roster = roster::of(core);
            VcpuPlace {
                roster,
                task: roster.add(guest.name(), placement.weight),
                vcpu: SpinMutex::new(vcpu),
                hold: Hold::new(),
                takes_over: AtomicBool::new(false),
                stats: Stats::new(),
            }
        });
        let name = guest.name().to_string();
        let vcpus = places.collect();
        let guest = *guest;
        Ok(Arc::new(Self {
            number,
            name,
            vcpus,
            barred: AtomicU8::new(if state == RunState::Running { 0 } else { STOPPED }),
            resident: SpinMutex::new(Resident { guest, state, ram, stage2: Some(stage2) }),
            last_on: [const { AtomicU8::new(NOBODY) }; MAX_CORES],
            holder: SpinMutex::new(()),
            shared,
            given,
            raised: AtomicU32::new(0),
            input: SpinMutex::new(VecDeque::new()),
            // It may have been rung before it was there.
            has_news: AtomicBool::new(true),
        }))
    }

    /// The cores of its vCPUs.
    pub fn cores(&self) -> impl Iterator<Item = usize> {
        self.vcpus.iter().map(|place| place.roster.core())
    }

    /// Each vCPU's core, and what that knows it by.
    pub fn tasks(&self) -> impl Iterator<Item = (&'static Roster, TaskId)> {
        self.vcpus.iter().map(|place| (place.roster, place.task))
    }

    /// What each of its vCPUs has had and done. It runs on meanwhile.
    pub fn counters(&self) -> Vec<Snapshot> {
        let resident = self.resident.lock();
        let gic = resident.guest.vgic.cpus();
        let vcpus = self.vcpus.iter().zip(gic);
        vcpus.map(|(place, gic)| place.stats.snapshot(gic.taken(), timer::counter)).collect()
    }

    /// The memory that it shares with others.
    pub fn shared(&self) -> &[Connected] {
        &self.shared
    }

    /// The machine's devices that it was given.
    pub fn given(&self) -> &Given {
        &self.given
    }

    /// The `n`th interrupt of its devices has come.
    pub fn interrupt(&self, n: usize) {
        self.raised.fetch_or(1 << n, Ordering::Release);
        self.tell();
    }

    /// Forgets which interrupts of its devices have come.
    pub fn forget_interrupts(&self) {
        self.raised.store(0, Ordering::Relaxed);
    }

    /// Wakes all vCPUs, or has them look at what they are asked to do, and at the devices' deadlines.
    fn kick_all(&self) {
        self.vcpus.iter().for_each(|place| place.takes_over.store(true, Ordering::Release));
        self.tasks().for_each(|(roster, task)| roster.kick(task));
    }

    /// Does so with these vCPUs.
    #[inline]
    pub fn kick(&self, vcpus: VcpuMask) {
        // Almost always: every entry and exit asks.
        if vcpus.is_empty() {
            return;
        }
        for place in vcpus.iter().filter_map(|index| self.vcpus.get(index)) {
            place.roster.kick(place.task);
        }
    }

    fn set_state(&self, resident: &mut Resident, state: RunState) {
        if state != RunState::Running {
            resident.guest.clock.stop(timer::counter());
        }
        if state == RunState::Running {
            device_interrupts::engage(self);
        }
        resident.state = state;
        match state {
            RunState::Running => self.barred.fetch_and(!STOPPED, Ordering::Release),
            _ => self.barred.fetch_or(STOPPED, Ordering::Release),
        };
    }

    /// Stops the guest for as long as the result lives, with all of its state in its records.
    pub fn park(&self) -> Parked<'_> {
        self.barred.fetch_or(WANTED, Ordering::Release);
        self.tasks().for_each(|(roster, task)| roster.call(task));
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
        self.has_news.store(true, Ordering::Release);
        self.kick(VcpuMask::only(0));
    }

    /// Has one of its vCPUs, whichever is on, see to what was rung.
    pub fn tell(&self) {
        self.has_news.store(true, Ordering::Release);
        self.kick_all();
    }
}
