//! A guest on the machine: its state, its RAM and its stage 2, and the cores of its vCPUs.
//!
//! A core that runs a vCPU ([`run`]) holds the lock of that vCPU from [`Slot::run`] to its unloading, and the lock
//! of what the vCPUs share ([`Resident`]) only to answer an exit and to prepare an entry. Whoever else
//! wants the guest [parks](Slot::park) it: then all of its state is in its records, and all locks are
//! the caller's. Locks are taken in this order: vCPUs by index, then what they share; then, as everywhere,
//! a core's [`Roster`].

mod errands;
mod fetch;
mod first_write;
mod hold;
mod host;
mod look;
mod outside;
mod parked;
mod ram;
mod run;
mod run_state;
mod step;
mod turn;
mod wait;

pub use look::Look;
pub use parked::Parked;
pub use ram::Ram;
pub use turn::After;

use crate::roster::{self, Roster};
use crate::shared::Connected;
use crate::tables::HeapTables;
use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::AtomicU8;
use spin::mutex::SpinMutex;
use stasis_arch::boot::MAX_CORES;
use stasis_arch::mmu;
use stasis_cores::gate::Gate;
use stasis_cores::hold::{Hold, Turns};
use stasis_cores::news::{Bits, News, Notice};
use stasis_cores::sync::Lock;
use stasis_devices::machine::{GICC_BASE, GICC_MAPPED};
use stasis_devices::pl011::Character;
use stasis_guest::given::Given;
use stasis_guest::shared::address;
use stasis_guest::stats::Stats;
use stasis_guest::{Guest, Vcpu};
use stasis_host::run_state::RunState;
use stasis_host::sched::TaskId;
use stasis_hw::paging::{Attributes, MapError, Translation};
use stasis_memory::range::Range;
use stasis_vgic::VcpuMask;

/// Of [`Slot::last_on`]: no vCPU.
const NOBODY: u8 = u8::MAX;

/// The most bytes and breaks that wait for room in a guest's UART.
const MAX_INPUT: usize = 4096;

/// Each slot has a VMID of its own, of eight bits.
pub const MAX_SLOTS: usize = u8::MAX as usize;

/// The VMID of the slot with this number.
fn vmid(number: usize) -> u8 {
    number as u8 + 1
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
    takes_over: Notice,
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
    pub ram: Ram,
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
    /// Whether its vCPUs may be entered. It does not run unless its state is [`RunState::Running`].
    gate: Gate,
    resident: Lock<Resident>,
    /// Which vCPU each core has run last, whose translations it may still have.
    last_on: [AtomicU8; MAX_CORES],
    /// Which vCPU makes others stand still.
    turns: Turns,
    /// The memory that it shares with others.
    shared: Vec<Connected>,
    /// The machine's devices that it was given.
    given: Given,
    /// Which of their interrupts have come, and it was not told yet.
    raised: Bits,
    input: SpinMutex<VecDeque<Character>>,
    /// Something was typed for it, it was rung, or an interrupt of its devices has come.
    news: News,
}

impl Memory {
    /// Maps all of it for its guest, which has its RAM at `ram_base`.
    fn map(&mut self, ram_base: u64) -> Result<(), MapError> {
        let Self { ram, shared, given, gicv, stage2 } = self;
        let tables = &mut HeapTables;
        first_write::map(stage2, tables, ram_base, ram)?;
        for (n, memory) in shared.iter().map(Connected::range).enumerate() {
            let attributes = Attributes::guest_shared();
            stage2.map(tables, address(n), memory.start, memory.len(), attributes)?;
        }
        for (address, pages) in &given.pages {
            let attributes = Attributes::guest_device();
            stage2.map(tables, *address, pages.start, pages.len(), attributes)?;
        }
        stage2.map(tables, GICC_BASE, gicv.start, GICC_MAPPED, Attributes::guest_device())
    }
}

/// Makes the translation of guest `number`, none of whose vCPUs is loaded, map nothing, and all cores forget what they have kept of it.
fn forget(stage2: &mut Translation, number: usize) {
    // SAFETY: 1. The caller is a command, which runs while no guest is loaded on its core. 2. The root stays with this number, and so with its
    // VMID.
    stage2.clear(&mut HeapTables, |root| unsafe { mmu::forget_guest(root, vmid(number)) });
}

impl Slot {
    /// Puts a guest with its RAM on its cores. Its vCPUs run once they are [assigned](crate::turns::assign).
    ///
    /// # Errors
    ///
    /// What its translation has no room for, and the translation, which maps nothing then and stays with the number.
    ///
    /// # Panics
    ///
    /// If what was written to its RAM is [not finished](stasis_memory::GuestRam::finish_writing).
    pub fn new(
        number: usize,
        placement: Placement,
        guest: Box<Guest>,
        vcpus: Vec<Vcpu>,
        mut memory: Memory,
        state: RunState,
    ) -> Result<Arc<Self>, (MapError, Translation)> {
        assert!(memory.ram.is_finished(), "the guest would not see all of its RAM");
        if let Err(why) = memory.map(guest.ram_base()) {
            // Before the RAM goes back: nothing may find it any more.
            forget(&mut memory.stage2, number);
            return Err((why, memory.stage2));
        }
        let Memory { ram, shared, given, stage2, .. } = memory;
        let places = placement.cores.iter().zip(vcpus).map(|(&core, vcpu)| {
            let roster = roster::of(core);
            VcpuPlace {
                roster,
                task: roster.add(guest.name(), placement.weight),
                vcpu: SpinMutex::new(vcpu),
                hold: Hold::new(),
                takes_over: Notice::new(),
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
            gate: Gate::new(state == RunState::Running),
            resident: Lock::new(Resident { guest, state, ram, stage2: Some(stage2) }),
            last_on: [const { AtomicU8::new(NOBODY) }; MAX_CORES],
            turns: Turns::new(),
            shared,
            given,
            raised: Bits::new(),
            input: SpinMutex::new(VecDeque::new()),
            news: News::of_new_guest(),
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
        self.raised.set(n);
        self.tell();
    }

    /// Forgets which interrupts of its devices have come.
    pub fn forget_interrupts(&self) {
        self.raised.take();
    }

    /// Wakes all vCPUs, or has them look at what they are asked to do, and at the devices' deadlines.
    fn kick_all(&self) {
        self.vcpus.iter().for_each(|place| place.takes_over.leave());
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

    /// Takes a byte or a break for the guest's UART; one too many is lost, as on a wire.
    pub fn type_in(&self, character: Character) {
        let mut input = self.input.lock();
        if input.len() < MAX_INPUT {
            input.push_back(character);
        }
        drop(input);
        self.news.announce();
        self.kick(VcpuMask::only(0));
    }

    /// Has one of its vCPUs, whichever is on, see to what was rung.
    pub fn tell(&self) {
        self.news.announce();
        self.kick_all();
    }
}
