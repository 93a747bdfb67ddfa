//! A guest on the machine: its state, its RAM and its stage 2, and the cores of its vCPUs.
//!
//! A core that runs a vCPU ([`run`]) holds the lock of that vCPU from [`Domain::run`] to its
//! unloading, and the lock of what the vCPUs share ([`Resident`]) only to answer an exit and to
//! prepare an entry. Anybody else who wants the whole guest [parks](Domain::park) it: then all of
//! its state is in its records, and the caller has all of its locks. Locks are taken in this order:
//! vCPUs by index, then what they share; then, as everywhere, a core's [`Roster`].

mod again;
mod at_once;
mod cards;
mod clearing;
mod debug;
mod debugged;
pub mod devices;
mod errands;
mod fetch;
mod first_look;
mod first_write;
mod frozen;
mod hold;
mod host;
mod loading;
mod lock;
mod look;
mod other_ram;
mod outside;
mod parked;
mod ram;
mod run;
mod run_state;
mod sgi;
mod step;
mod terminal;
mod times;
mod turn;
mod wait;
mod without_lock;

pub use cards::Card;
use cards::Inbox;
pub use debugged::{Debugged, note_limits};
pub(crate) use frozen::room_for;
pub use frozen::{Frozen, Prepared};
pub use loading::{Lacking, NoTable};
use lock::ResidentLock;
pub use look::Look;
pub use parked::Parked;
pub use ram::Ram;
pub(crate) use stasis_memory::snapshot::Room;
pub use turn::After;

use crate::el2::GuestRam;
use crate::roster::{self, Roster};
use crate::shared::Connected;
use crate::tables::GuestTables;
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
use stasis_cores::sgis::Mailbox;
use stasis_devices::machine::{GICC_BASE, GICC_MAPPED};
use stasis_devices::pl011::Character;
use stasis_guest::given::Given;
use stasis_guest::shared::address;
use stasis_guest::stats::Stats;
use stasis_guest::{Guest, Vcpu, Whole};
use stasis_host::run_state::RunState;
use stasis_host::sched::TaskId;
use stasis_hw::paging::{Attributes, MapError, Translation};
use stasis_memory::range::Range;
use stasis_vgic::VcpuMask;

/// Value of [`Domain::last_on`]: no vCPU.
const NOBODY: u8 = u8::MAX;

/// Most bytes and breaks that wait for room in a guest's UART.
const MAX_INPUT: usize = 4096;

/// Most domains. Each has a VMID of its own, of eight bits; VMID 0 is not used.
pub const MAX_DOMAINS: usize = u8::MAX as usize;

/// Returns the VMID of the domain with this number.
fn vmid(number: usize) -> u8 {
    number as u8 + 1
}

/// State that a guest's vCPUs share. It belongs to whoever holds its lock.
pub struct Resident {
    /// The guest.
    pub guest: Guest,
    /// What the guest is doing.
    pub state: RunState,
    ram: Ram,
    /// The debugger that has the guest, if there is one.
    debugger: debug::MaybeDebugger,
    /// Translation of the guest; `None` once the guest was removed.
    stage2: Option<Translation>,
}

impl Whole for Resident {
    type Ram = GuestRam;

    #[inline(always)]
    fn parts(&mut self) -> (&mut Guest, &mut GuestRam) {
        (&mut self.guest, &mut self.ram)
    }
}

/// A vCPU and its core, which is the same for the vCPU's life.
struct VcpuPlace {
    /// Index of the vCPU in its guest.
    index: usize,
    /// Roster of the vCPU's core.
    roster: &'static Roster,
    /// Task of the vCPU on that core.
    task: TaskId,
    vcpu: SpinMutex<Vcpu>,
    hold: Hold,
    /// Notice to look at the devices' deadlines, left when another vCPU, which looked at them, has
    /// left.
    takes_over: Notice,
    /// SGIs that other vCPUs have sent to this one.
    sgis: Mailbox,
    stats: Stats,
}

/// Cores that a guest's vCPUs run on.
#[derive(Clone, Copy, Debug)]
pub struct Placement<'a> {
    /// Number of each vCPU's core.
    pub cores: &'a [usize],
    /// Weight of each vCPU on its core.
    pub weight: u16,
}

/// Memory and devices that a guest's stage 2 maps.
pub struct Memory {
    /// The guest's RAM.
    pub ram: Ram,
    /// Regions that the guest shares with others.
    pub shared: Vec<Connected>,
    /// Devices of the machine that the guest was given.
    pub given: Given,
    /// Frame of the physical GICV, which is the guest's GICC.
    pub gicv: Range,
    /// Translation of the guest, which maps nothing yet.
    pub stage2: Translation,
}

/// A guest on the machine.
pub struct Domain {
    /// The guest's number on the console.
    pub number: usize,
    /// The guest's name, which no other guest has.
    pub name: String,
    vcpus: Vec<VcpuPlace>,
    /// Gate of the guest's vCPUs. Closed unless the guest's state is [`RunState::Running`].
    gate: Gate,
    resident: ResidentLock,
    /// Index of the guest's vCPU that each core has run last, and whose translations it may still
    /// have. Accessed by that core, and by the core that has the guest parked; relaxed, for the
    /// vCPUs' locks order the two.
    last_on: [AtomicU8; MAX_CORES],
    /// Turn of the vCPUs to make others stand still.
    turns: Turns,
    /// Regions that the guest shares with others.
    shared: Vec<Connected>,
    /// Devices of the machine that the guest was given.
    given: Given,
    /// Interrupts of these devices that have come, and that the guest was not told of yet.
    raised: Bits,
    input: SpinMutex<VecDeque<Character>>,
    terminal: terminal::Terminal,
    inbox: Inbox,
    /// Announcement that something was typed for the guest's UART or at its terminal, a bell was
    /// rung for it, or an interrupt of its devices or a frame has come.
    news: News,
}

impl Memory {
    /// Maps the memory and the devices in stage 2 of its guest, whose RAM is at `ram_base` in its
    /// own address space.
    fn map(&mut self, ram_base: u64) -> Result<(), MapError> {
        let Self { ram, shared, given, gicv, stage2 } = self;
        let tables = &mut GuestTables::OfHeap;
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

/// Makes the translation of guest `number` map nothing, and makes all cores drop their copies of
/// it.
///
/// # Safety
///
/// 1. No vCPU is loaded on this core, and none of the guest's on another one.
/// 2. The translation is that of the guest, whose tables all came from [`GuestTables`], and stays
///    with its number for ever.
unsafe fn forget(stage2: &mut Translation, number: usize) {
    // SAFETY: 1. No vCPU is loaded on this core, by condition 1. 2. `clear` keeps the root, which
    // stays with this number, and so with its VMID, for ever, by condition 2.
    let forget = |root| unsafe { mmu::forget_guest(root, vmid(number)) };
    // SAFETY: 1. The tables came from `GuestTables`, by condition 2. 2. `forget_guest` makes all
    // cores drop their copies, which were under this VMID, and waits for walks that are under
    // way. 3. None of the guest's vCPUs is loaded, by condition 1.
    unsafe { stage2.clear(&mut GuestTables::OfHeap, forget) };
}

impl Domain {
    /// Returns the domain of a guest, whose vCPUs have tasks on their cores. They run once they are
    /// [assigned](crate::turns::assign).
    ///
    /// # Errors
    ///
    /// A [`MapError`], if its translation has no room for all of it, and the translation, which
    /// maps nothing then and stays with the number.
    ///
    /// # Panics
    ///
    /// If what was written to the guest's RAM is [not
    /// finished](stasis_memory::GuestRam::finish_writing).
    ///
    /// # Safety
    ///
    /// 1. No other domain has this number. `memory.stage2` maps nothing, its tables all came from
    ///    [`GuestTables`], and it was never used under another number, nor another translation
    ///    under this one.
    /// 2. `memory.gicv` is the frame of the machine's GICV. Nobody else uses the devices in
    ///    `memory.given`; those that access memory by themselves are virtio-mmio slots, which EL2
    ///    has mapped one to one as device memory.
    /// 3. No vCPU is loaded on this core.
    pub unsafe fn new(
        number: usize,
        placement: Placement,
        guest: Box<Guest>,
        vcpus: Vec<Vcpu>,
        mut memory: Memory,
        state: RunState,
    ) -> Result<Arc<Self>, (MapError, Translation)> {
        assert!(memory.ram.is_finished(), "the guest would not see all of its RAM");
        if let Err(why) = memory.map(guest.ram_base()) {
            // Do this before the RAM goes back: nothing may find it any more. SAFETY: 1. No vCPU is
            // loaded on this core, by condition 3, and the guest has none yet, by condition 1. 2.
            // The translation is the guest's and its tables came from `GuestTables`, by condition
            // 1; the caller keeps it with the number.
            unsafe { forget(&mut memory.stage2, number) };
            return Err((why, memory.stage2));
        }
        let Memory { ram, shared, given, stage2, .. } = memory;
        let places = placement.cores.iter().zip(vcpus).enumerate().map(|(index, (&core, vcpu))| {
            let roster = roster::of(core);
            VcpuPlace {
                index,
                roster,
                task: roster.add(guest.name(), placement.weight),
                vcpu: SpinMutex::new(vcpu),
                hold: Hold::new(),
                takes_over: Notice::new(),
                sgis: Mailbox::new(),
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
            resident: ResidentLock::new(Resident {
                guest,
                state,
                ram,
                debugger: None,
                stage2: Some(stage2),
            }),
            last_on: [const { AtomicU8::new(NOBODY) }; MAX_CORES],
            turns: Turns::new(),
            shared,
            given,
            raised: Bits::new(),
            input: SpinMutex::new(VecDeque::new()),
            terminal: terminal::Terminal::default(),
            inbox: Inbox::default(),
            news: News::of_new_guest(),
        }))
    }

    /// Returns the cores of the guest's vCPUs.
    pub fn cores(&self) -> impl Iterator<Item = usize> {
        self.vcpus.iter().map(|place| place.roster.core())
    }

    /// Returns the roster of each vCPU's core, and the vCPU's task there.
    pub fn tasks(&self) -> impl Iterator<Item = (&'static Roster, TaskId)> {
        self.vcpus.iter().map(|place| (place.roster, place.task))
    }

    /// Returns the regions that the guest shares with others.
    pub fn shared(&self) -> &[Connected] {
        &self.shared
    }

    /// Returns the devices of the machine that the guest was given.
    pub fn given(&self) -> &Given {
        &self.given
    }

    /// Notes that the `n`th interrupt of the guest's devices has come, and kicks the vCPUs.
    pub fn interrupt(&self, n: usize) {
        self.raised.set(n);
        self.tell();
    }

    /// Drops the interrupts of the guest's devices that have come.
    pub fn forget_interrupts(&self) {
        self.raised.take();
    }

    /// Kicks all vCPUs, so that they look at what they were sent, and at the devices' deadlines.
    pub(crate) fn kick_all(&self) {
        self.vcpus.iter().for_each(|place| place.takes_over.leave());
        self.tasks().for_each(|(roster, task)| roster.kick(task));
    }

    /// Kicks these vCPUs, so that they look at what they were sent.
    #[inline(always)]
    pub fn kick(&self, vcpus: VcpuMask) {
        // Almost always the set is empty: every entry and exit calls this.
        if !vcpus.is_empty() {
            self.kick_some(vcpus);
        }
    }

    #[inline(never)]
    fn kick_some(&self, vcpus: VcpuMask) {
        for place in vcpus.iter().filter_map(|index| self.vcpus.get(index)) {
            place.roster.kick(place.task);
        }
    }

    /// Puts a byte or a break into the input of the guest's UART. If there is no room, it is lost,
    /// as on a wire.
    pub fn type_in(&self, character: Character) {
        let mut input = self.input.lock();
        if input.len() < MAX_INPUT {
            input.push_back(character);
        }
        drop(input);
        self.news.announce();
        self.kick(VcpuMask::only(0));
    }

    /// Returns how many bytes can be typed in before one is lost.
    pub fn room_for_input(&self) -> usize {
        MAX_INPUT - self.input.lock().len()
    }

    /// Makes one of the guest's vCPUs, whichever is on, take the bells and the interrupts of
    /// devices that have come.
    pub fn tell(&self) {
        self.news.announce();
        self.kick_all();
    }
}
