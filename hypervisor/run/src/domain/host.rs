//! The core that a vCPU is loaded on, as the [`Host`] of the guest's logic.

use super::errands::Errands;
use super::lock::Unlocked;
use super::times::Times;
use super::{Domain, VcpuPlace};
use crate::clock;
use crate::gic::ThisCore;
use crate::interrupts::Taken;
use crate::roster::{Stay, Turn};
use stasis_arch::world::Loaded;
use stasis_arch::{cpu, timer};
use stasis_debug::plan::Stop;
use stasis_guest::clock::NEVER;
use stasis_guest::exit::{self, Syndrome};
use stasis_guest::inject::El1Registers;
use stasis_guest::outbox::Outbox;
use stasis_guest::stop::Stopped;
use stasis_guest::sysreg::CacheRegister;
use stasis_guest::{Guest, Host, Vcpu};
use stasis_state::vcpu::Debug;

/// What a debugger wants of a vCPU in its turn.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    /// The address of the instruction that the vCPU carries out alone; `None` if it runs.
    pub step_from: Option<u64>,
}

/// The core that a vCPU of a domain's guest is loaded on, during one turn.
pub struct RunningOn<'a> {
    /// The guest.
    pub domain: &'a Domain,
    /// The vCPU's index in its guest.
    pub index: usize,
    pub place: &'a VcpuPlace,
    pub gic: ThisCore,
    /// The vCPU in the core's registers.
    pub loaded: Loaded,
    /// CNTVOFF_EL2, in ticks.
    offset: u64,
    /// Whether the virtual timer must be watched: see [`clock::must_watch`].
    is_watched: bool,
    /// When EL2 must have the core back.
    pub times: Times,
    /// The turn behind this one, if this one has lost the core.
    pub next: &'a mut Turn,
    /// The way in which the guest stops, if the vCPU leaves for that.
    pub stopped: Option<Stopped>,
    /// Why the guest stops for its debugger, if the vCPU leaves for that.
    pub debugged: Option<Stop>,
    /// What a debugger outside of the guest wants of the vCPU, if it has the debug registers.
    pub debugger: Option<Wanted>,
    /// Whether devices were served since the vCPU entered its guest last.
    was_served: bool,
    /// What is left to do outside of the guest.
    pub errands: Errands,
    /// The interrupt for which the vCPU has left last, if it has left for one.
    pub taken: Taken,
}

impl<'a> RunningOn<'a> {
    /// Returns the calling core for a turn of the vCPU in `place` of the guest in `domain`, which
    /// is loaded with `offset` as its CNTVOFF_EL2, and for its `debugger`, if that has the debug
    /// registers. The turn ends when the counter reads `turn_ends`, and the decision about the turn
    /// behind it goes to `next`.
    #[inline(always)]
    pub fn new(
        (domain, place): (&'a Domain, &'a VcpuPlace),
        (loaded, offset, is_watched): (Loaded, u64, bool),
        debugger: Option<Wanted>,
        gic: ThisCore,
        turn_ends: u64,
        next: &'a mut Turn,
    ) -> Self {
        Self {
            domain,
            index: place.index,
            place,
            gic,
            loaded,
            offset,
            is_watched,
            times: Times::of_turn(turn_ends),
            next,
            stopped: None,
            debugged: None,
            debugger,
            was_served: false,
            errands: Errands::none(),
            taken: Taken::Own,
        }
    }

    /// Loads the GIC of the vCPU, and finds out when the guest must be told the time, when the
    /// counter reads `now`. All else of the vCPU is loaded.
    #[inline]
    pub fn begin(&mut self, guest: &mut Guest, vcpu: &mut Vcpu, now: u64) {
        // Do this before anything is in the list registers: a vCPU that wants this one to stand
        // still may be in the midst of an access.
        self.place.hold.begin_running();
        guest.vgic.load(self.index, &mut self.gic);
        self.tick_at(guest, vcpu, now);
    }

    /// Writes CNTVOFF_EL2, if the guest's clock was stepped.
    #[inline]
    pub fn follow(&mut self, guest: &Guest) {
        if guest.clock.is_stepped()
            && let Some(offset) = guest.clock.offset().filter(|offset| *offset != self.offset)
        {
            self.offset = offset;
            self.loaded.set_counter_offset(offset);
        }
    }

    /// Lends the vCPU its debug registers, if it has left because it lacks them. Returns whether it
    /// did; then the vCPU makes the access again.
    #[inline]
    pub fn lend_debug(&mut self, vcpu: &Vcpu, syndrome: Syndrome) -> bool {
        exit::may_be_of_debug(syndrome) && self.loaded.lend_debug(&vcpu.debug)
    }

    /// Returns CNTVOFF_EL2 of the loaded vCPU, in ticks.
    #[inline]
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Makes the core decide, and returns whether the vCPU keeps it. If not, [`Self::next`] says
    /// who has it.
    #[inline]
    pub fn keep_core(&mut self) -> bool {
        let stay = self.place.roster.keep(self.place.task, self.next);
        if let Some(stay) = stay {
            self.extend_turn(stay);
        }
        stay.is_some()
    }

    /// Makes the vCPU sleep until it is kicked, for a millisecond at the most, unless that has
    /// happened since it got the core. The core decides next. A vCPU that waits for memory to be
    /// stored looks again then, and takes an interrupt of its timers or devices that has come
    /// meanwhile.
    #[cold]
    pub fn nap(&mut self) {
        let VcpuPlace { roster, task, .. } = self.place;
        roster.sleep(*task, timer::counter() + timer::frequency() / 1000);
        roster.timer_fired();
    }

    /// Returns whether the core must decide, as
    /// [`Roster::must_decide`](crate::roster::Roster::must_decide) then says, too. For waits at
    /// EL2, where the timer interrupts nobody.
    pub fn turn_is_over(&self) -> bool {
        let roster = self.place.roster;
        if !roster.must_decide() && timer::counter() < self.times.turn_ends {
            return false;
        }
        roster.timer_fired();
        true
    }

    /// Lets the vCPU's turn go on, on these terms.
    pub fn extend_turn(&mut self, stay: Stay) {
        self.times.turn_ends = stay.until;
        self.times.is_stale = true;
        self.loaded.trap_waits(stay.gives_way);
    }

    /// Makes the vCPU leave its guest as soon as it has entered it, and what devices have to do
    /// wait until then.
    pub fn come_back(&mut self) {
        self.was_served = true;
        self.times.look_at = timer::counter();
        self.times.is_stale = true;
    }

    /// Returns whether devices may be served before the vCPU enters its guest: if they were, it
    /// enters first.
    pub fn may_serve(&self) -> bool {
        !self.was_served
    }

    /// Notes that the vCPU has left its guest since devices were served.
    pub fn note_exit(&mut self) {
        self.was_served = false;
    }

    /// Returns whether EL2's timer has fired for the guest, and not only because the turn is over.
    #[inline]
    pub fn tick_is_due(&self) -> bool {
        timer::counter() >= self.times.deadline.min(self.times.look_at)
    }

    /// Tells the guest the time: the counter reads `now`. Returns the counter's value at which it
    /// must be told again, for which EL2's timer is not set yet.
    #[inline]
    pub fn pass_time(&mut self, guest: &mut Guest, vcpu: &mut Vcpu, now: u64) -> u64 {
        self.times.deadline = guest.tick(self.index, vcpu, now, self);
        self.times.deadline
    }

    /// Carries out what was decided under the lock: sets EL2's timer, and does what is left to do
    /// outside of the guest. Returns whether there was any of the latter: see
    /// [`Errands::carry_out`].
    #[inline]
    pub fn carry_out(&mut self, unlocked: &Unlocked) -> bool {
        self.times.set_timer(unlocked);
        self.errands.carry_out(self.domain, unlocked)
    }

    /// Tells the guest the time, and makes EL2's timer fire when it must be told again, from the
    /// next [`Self::carry_out`] on.
    #[inline(never)]
    pub fn tick(&mut self, guest: &mut Guest, vcpu: &mut Vcpu) {
        self.tick_at(guest, vcpu, timer::counter());
    }

    /// Does as [`Self::tick`] says, when the counter reads `now`.
    #[inline(always)]
    fn tick_at(&mut self, guest: &mut Guest, vcpu: &mut Vcpu, now: u64) {
        self.pass_time(guest, vcpu, now);
        // Mostly the timer fires by itself, or is in none of these states.
        if clock::timer_forgets() && (self.is_watched || guest.vgic.has_active_physical(self.index))
        {
            return self.watch_timer(guest);
        }
        self.times.look_at = NEVER;
        self.times.is_stale = true;
    }

    /// Makes EL2's timer fire when EL2 must look at the guest's virtual timer, where that does not
    /// always fire by itself.
    #[inline(never)]
    pub fn watch_timer(&mut self, guest: &Guest) {
        self.times.look_at = if clock::timer_forgets() { self.next_look(guest) } else { NEVER };
        self.times.is_stale = true;
    }

    /// Makes EL2 look at the guest's virtual timer by `until`, if the timer must be watched.
    pub fn look_by(&mut self, until: u64) {
        if self.is_watched {
            self.times.look_at = self.times.look_at.min(until);
        }
    }

    fn next_look(&mut self, guest: &Guest) -> u64 {
        let mut look_at = NEVER;
        if self.is_watched {
            self.loaded.nudge_timer();
            let now = timer::counter();
            let due = self.loaded.cntv_cval_el0().wrapping_add(self.offset);
            let latest = clock::next_watch();
            look_at = if (now..latest).contains(&due) { due } else { latest };
        }
        // QEMU (10.0, `gic_complete_irq`) forgets an interrupt whose line is high when the guest's
        // EOI makes it inactive, until another one comes: make EL2's timer fire then.
        if guest.vgic.has_active_physical(self.index) && self.gic.timer_is_active() {
            look_at = look_at.min(clock::next_watch());
        }
        look_at
    }
}

impl Host for RunningOn<'_> {
    type Gic = ThisCore;
    type El1 = Self;

    fn gic(&mut self) -> &mut ThisCore {
        &mut self.gic
    }

    fn el1(&mut self) -> &mut Self {
        self
    }

    fn counter(&self) -> u64 {
        timer::counter()
    }

    fn cache(&mut self, register: CacheRegister, written: Option<u64>) -> u64 {
        if let Some(value) = written {
            self.loaded.set_csselr_el1(value);
        }
        match register {
            CacheRegister::Levels => cpu::cache_levels(),
            CacheRegister::Size => cpu::cache_size(),
            CacheRegister::Selection => self.loaded.csselr_el1(),
        }
    }

    fn os_lock_changed(&mut self, registers: &mut Debug) {
        match *registers.os_lock {
            0 => self.loaded.lend_debug_if_used(registers),
            _ => self.loaded.take_back_debug(registers),
        }
    }

    fn is_debugged(&self) -> bool {
        self.loaded.is_debugged_from_outside()
    }

    fn wall_time(&self) -> u64 {
        clock::wall_time()
    }

    fn outbox(&mut self) -> &mut Outbox {
        &mut self.errands.outbox
    }
}

/// EL1 registers of the loaded vCPU, in the hardware.
impl El1Registers for RunningOn<'_> {
    fn vbar_el1(&self) -> u64 {
        self.loaded.vbar_el1()
    }

    fn sctlr_el1(&self) -> u64 {
        self.loaded.sctlr_el1()
    }

    fn set_elr_el1(&mut self, value: u64) {
        self.loaded.set_elr_el1(value);
    }

    fn set_spsr_el1(&mut self, value: u64) {
        self.loaded.set_spsr_el1(value);
    }

    fn set_esr_el1(&mut self, value: u64) {
        self.loaded.set_esr_el1(value);
    }

    fn set_far_el1(&mut self, value: u64) {
        self.loaded.set_far_el1(value);
    }
}
