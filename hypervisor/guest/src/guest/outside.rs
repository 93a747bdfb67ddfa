//! The events that reach a guest from outside: time, typed bytes, rings and physical interrupts;
//! and what each of them changes in the guest's GIC.

use stasis_state::vcpu::{Debug, FpSimd, Power, PowerState};
use stasis_vgic::{VcpuMask, VirtualInterface};

use super::{DevicesDue, FIRST_SPI, Guest, Host, Line, PHYSICAL_TIMER, VIRTUAL_TIMER, Vcpu, Wait};
use crate::clock::{GuestClock, NEVER};
use crate::psci;
use crate::timer::Timer;
use stasis_devices::device::{Clocks, Context, Deadline, Memory};
use stasis_devices::{doorbell, pl011, pl061};
use stasis_memory::GuestMemory;
use stasis_state::guest;

/// A moment, on both clocks that devices read.
struct Now {
    guest_time: u64,
    wall_time: u64,
}

impl Clocks for Now {
    fn guest_time(&self) -> u64 {
        self.guest_time
    }

    fn wall_time(&self) -> u64 {
        self.wall_time
    }
}

/// What a device reaches while a vCPU of its guest is loaded on `host`. It is put together of
/// references that the caller has anyway, so that the devices that need no RAM cost nothing for
/// those that do.
pub(super) struct Around<'a, H, M> {
    pub record: &'a guest::Guest,
    pub clock: &'a GuestClock,
    pub host: &'a H,
    pub ram: &'a mut M,
}

impl<H: Host, M: GuestMemory> Context for Around<'_, H, M> {
    fn memory(&mut self) -> Memory<'_> {
        Memory { base: *self.record.ram_base, ram: self.ram }
    }
}

impl<H: Host, M> Clocks for Around<'_, H, M> {
    fn guest_time(&self) -> u64 {
        self.clock.now(self.host.counter())
    }

    fn wall_time(&self) -> u64 {
        self.host.wall_time()
    }
}

impl Guest {
    /// Returns the power record of vCPU `index` if the vCPU is on. A vCPU that was just switched on
    /// gets its registers for the start first.
    ///
    /// # Panics
    ///
    /// If the guest has no vCPU `index`.
    #[inline]
    pub fn power_on(&mut self, index: usize, vcpu: &mut Vcpu) -> Option<&mut Power> {
        let power = &mut self.powers[index];
        if psci::enter(power, &mut vcpu.core, &mut vcpu.system) {
            vcpu.fp = FpSimd::default();
            vcpu.debug = Debug::default();
            vcpu.deadline_changed = true;
        }
        (*power.state == PowerState::On as u8).then_some(power)
    }

    /// Returns whether the guest's UART has room for a byte.
    pub fn can_receive(&self) -> bool {
        pl011::can_receive(&self.devices.pl011)
    }

    /// Gives the guest's UART a byte or a break. If there is no room, it is lost, as on a wire.
    /// Returns the vCPUs that must be kicked.
    pub fn receive(&mut self, character: impl Into<pl011::Character>) -> VcpuMask {
        let _ = pl011::receive(&mut self.devices.pl011, character);
        self.update_line(Line::of(&self.devices.pl011, 0))
    }

    /// Returns whether the guest hears of its power key: a driver has enabled the interrupt of the
    /// key's line.
    pub fn hears_power_key(&self) -> bool {
        pl061::hears_key(&self.devices.pl061)
    }

    /// Presses the guest's power key, which comes up by itself. No vCPU is loaded, and all are
    /// kicked then. `counter` is the host's CNTPCT.
    pub fn press_power_key(&mut self, counter: u64) {
        let now = self.clock.now(counter);
        pl061::press(&mut self.devices.pl061, now, *self.clock_record.cntfrq);
        let _ = self.update_line(Line::of(&self.devices.pl061, 0));
        // The next tick finds when the key comes up.
        self.due = DevicesDue::UNKNOWN;
    }

    /// Notes that guests have rung the doorbell of the `n`th region that this guest shares: `by`
    /// has one bit for each guest. Returns the vCPUs that must be kicked.
    pub fn rung(&mut self, n: usize, by: u32) -> VcpuMask {
        let Some(shared) = self.devices.shared.as_mut().filter(|shared| shared.has(n)) else {
            return VcpuMask::NONE;
        };
        doorbell::rung(shared, n, by);
        let line = Line::of(shared, n as u8);
        self.update_line(line)
    }

    /// Tells the vGIC the level of each device's interrupt. Returns the vCPUs that must be kicked.
    pub(super) fn update_lines(&mut self) -> VcpuMask {
        let mut kick = VcpuMask::NONE;
        let Self { devices, vgic, .. } = self;
        devices.lines(|Line { intid, level }| kick.0 |= vgic.set_spi_level(intid, level).kick.0);
        kick
    }

    /// Tells the vGIC the level of a device's interrupt, if it has one. Returns the vCPUs that must
    /// be kicked.
    #[inline]
    pub(super) fn update_line(&mut self, line: Option<Line>) -> VcpuMask {
        match line {
            Some(Line { intid, level }) => self.vgic.set_spi_level(intid, level).kick,
            None => VcpuMask::NONE,
        }
    }

    /// Returns the host's CNTPCT at which to check whether the guest's time has reached `ticks`;
    /// the host's CNTPCT is `counter` now. [`NEVER`] if there is nothing to check.
    fn deadline(&self, ticks: Option<u64>, counter: u64) -> u64 {
        // Between two steps a stepped clock may read less than its true time, so it is checked at
        // each step.
        let due = self.clock.next_step().or_else(|| self.clock.host_time(ticks?, counter));
        due.unwrap_or(NEVER)
    }

    pub(super) fn update_physical_timer(&mut self, index: usize, vcpu: &Vcpu, now: u64) {
        let line = Timer::physical_timer(&vcpu.system).line(now);
        // The PPI is this vCPU's own, and the vCPU passes through `Vgic::enter` on its way back: no
        // kick is needed.
        let _ = self.vgic.set_ppi_level(index, PHYSICAL_TIMER, line);
    }

    /// Brings vCPU `index` and the devices up to the current time, when the host's CNTPCT is
    /// `counter`: raises the lines that rise by themselves. Returns the host's CNTPCT at which this
    /// function must be called again.
    ///
    /// A vCPU that writes to a device or to its timer makes the next call look at them. So nothing
    /// must be done before the times that the last look has found. If a clock was stopped
    /// meanwhile, these times are too early, which does no harm.
    #[inline]
    pub fn tick(
        &mut self,
        index: usize,
        vcpu: &mut Vcpu,
        counter: u64,
        host: &mut impl Host,
    ) -> u64 {
        if vcpu.deadline_changed || counter >= vcpu.timer_due.min(self.due.change) {
            self.look(index, vcpu, counter, host);
        }
        vcpu.timer_due.min(self.due.line)
    }

    /// Updates vCPU `index`'s timer, and computes the time at which it is due; and so the devices,
    /// if one of them may have changed.
    #[inline(never)]
    fn look(&mut self, index: usize, vcpu: &mut Vcpu, counter: u64, host: &mut impl Host) {
        let now = self.clock.now(counter);
        vcpu.deadline_changed = false;
        self.update_physical_timer(index, vcpu, now);
        vcpu.timer_due = self.deadline(Timer::physical_timer(&vcpu.system).deadline(now), counter);
        if counter >= self.due.change {
            self.look_at_devices(index, now, counter, host);
        }
    }

    /// Updates the devices, and computes the times at which they are due. The guest's time is
    /// `now`, and the host's CNTPCT is `counter`.
    #[inline(never)]
    fn look_at_devices(&mut self, index: usize, now: u64, counter: u64, host: &mut impl Host) {
        let wall_time = host.wall_time();
        let Self { devices, vgic, .. } = self;
        devices.tick(&Now { guest_time: now, wall_time }, |Line { intid, level }| {
            host.outbox().kick(vgic.set_spi_level(intid, level).kick.without(index));
        });
        let (change, line) = self.devices.due(|deadline| match deadline {
            Deadline::Never => NEVER,
            Deadline::GuestTime(ticks) => self.deadline(Some(ticks), counter),
            Deadline::WallTime(second) => {
                let wait = second.saturating_sub(wall_time).saturating_mul(self.clock.host_hz());
                counter.saturating_add(wait)
            }
        });
        self.due = DevicesDue { change, line };
    }

    /// Returns how long vCPU `index` waits in WFI. Its list registers are folded, `virtual_timer`
    /// is the hardware's, `deadline` is what [`Self::tick`] has just returned, and `counter` is the
    /// host's CNTPCT.
    ///
    /// As on a CPU, PSTATE does not matter, and a wait may end although no interrupt is taken: the
    /// guest's priority mask is ignored.
    ///
    /// # Panics
    ///
    /// If the guest has no vCPU `index`.
    #[inline]
    pub fn wait(&self, index: usize, virtual_timer: Timer, deadline: u64, counter: u64) -> Wait {
        if self.vgic.cpus()[index].is_called() {
            return Wait::Over;
        }
        let now = self.clock.now(counter);
        // If the vGIC knows already that the line is high, the wait was decided above. If not, its
        // interrupt is about to come.
        if virtual_timer.line(now) && !self.vgic.ppi_level(index, VIRTUAL_TIMER) {
            return Wait::Over;
        }
        let timer = virtual_timer.deadline(now);
        let timer = timer.and_then(|ticks| self.clock.host_time(ticks, counter));
        Wait::Until(timer.unwrap_or(NEVER).min(deadline))
    }

    /// Passes on the physical interrupt that is linked to the guest's SPI with the number `spi`.
    /// The caller has dropped its priority and has not deactivated it. Returns the vCPUs that must
    /// be kicked.
    pub fn device_interrupt(&mut self, spi: u32) -> VcpuMask {
        self.vgic.hardware_interrupt(0, FIRST_SPI + spi as u16).1.kick
    }

    /// Passes on the physical interrupt of the virtual timer, or of the device with the guest's SPI
    /// number `spi`, which came again on the core of vCPU `index`, if the list register that it was
    /// offered in is all that must be filled: see
    /// [`Vgic::offer_again`](stasis_vgic::Vgic::offer_again). Returns `false` if it is not, and
    /// nothing was done.
    #[inline]
    pub fn comes_again(
        &mut self,
        index: usize,
        spi: Option<u32>,
        gic: &mut impl VirtualInterface,
    ) -> bool {
        let intid = spi.map_or(VIRTUAL_TIMER, |spi| FIRST_SPI + spi as u16);
        self.vgic.offer_again(index, intid, gic)
    }

    /// Raises the line of vCPU `index`'s physical timer, which is due when the host's CNTPCT is
    /// `counter`, if nothing else is due and the list register that its interrupt was offered in is
    /// all that must be filled. Returns the host's CNTPCT at which [`Self::tick`] must be called;
    /// `None` if that must be at once, and nothing was done.
    #[inline]
    pub fn timer_comes_again(
        &mut self,
        index: usize,
        vcpu: &mut Vcpu,
        counter: u64,
        gic: &mut impl VirtualInterface,
    ) -> Option<u64> {
        let is_due = counter >= vcpu.timer_due && counter < self.due.change;
        if !is_due || vcpu.deadline_changed || self.clock.is_stepped() {
            return None;
        }
        let rises = Timer::physical_timer(&vcpu.system).line(self.clock.now(counter));
        if !rises || !self.vgic.raise_again(index, PHYSICAL_TIMER, gic) {
            return None;
        }
        vcpu.timer_due = NEVER;
        Some(self.due.line)
    }

    /// Passes on the physical interrupt of the virtual timer, which came on the core of vCPU
    /// `index`. The caller has dropped its priority and has not deactivated it. Returns the other
    /// vCPUs that must be kicked.
    pub fn timer_interrupt(&mut self, index: usize) -> VcpuMask {
        self.vgic.hardware_interrupt(index, VIRTUAL_TIMER).1.kick.without(index)
    }
}
