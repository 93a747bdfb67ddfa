//! What reaches a guest from outside: time, typed bytes, physical interrupts; and what of it reaches its
//! GIC.

use stasis_state::vcpu::{Debug, FpSimd, Power, PowerState};
use stasis_vgic::VcpuMask;

use super::{DevicesDue, FIRST_SPI, Guest, Host, Line, PHYSICAL_TIMER, VIRTUAL_TIMER, Vcpu, Wait};
use crate::clock::{GuestClock, NEVER};
use crate::psci;
use crate::timer::Timer;
use stasis_devices::device::{Context, Deadline};
use stasis_devices::{doorbell, pl011};

/// What both clocks of the devices read.
struct Now {
    guest_time: u64,
    wall_time: u64,
}

impl Context for Now {
    fn guest_time(&self) -> u64 {
        self.guest_time
    }

    fn wall_time(&self) -> u64 {
        self.wall_time
    }
}

/// What a device can ask of its surroundings while its guest's vCPU is loaded on `host`.
pub(super) struct Around<'a, H> {
    pub clock: &'a GuestClock,
    pub host: &'a H,
}

impl<H: Host> Context for Around<'_, H> {
    fn guest_time(&self) -> u64 {
        self.clock.now(self.host.counter())
    }

    fn wall_time(&self) -> u64 {
        self.host.wall_time()
    }
}

impl Guest {
    /// The power record of vCPU `index`, if that is to run; one that was just switched on is set up for it.
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

    /// Gives the guest's UART a byte or a break; it is lost if there is no room, as on a wire. Returns the vCPUs that must be kicked.
    pub fn receive(&mut self, character: impl Into<pl011::Character>) -> VcpuMask {
        let _ = pl011::receive(&mut self.devices.pl011, character);
        self.update_line(Line::of(&self.devices.pl011, 0))
    }

    /// Notes that guests have rung the doorbell of the `n`th region that this one shares: `by` has a bit for each. Returns the vCPUs
    /// that must be kicked.
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

    /// Tells the vGIC the level of a device's interrupt, if it has one. Returns the vCPUs that must be kicked.
    #[inline]
    pub(super) fn update_line(&mut self, line: Option<Line>) -> VcpuMask {
        match line {
            Some(Line { intid, level }) => self.vgic.set_spi_level(intid, level).kick,
            None => VcpuMask::NONE,
        }
    }

    /// When to look whether the guest's time has come to `ticks`, as the host's CNTPCT, which is at `counter`.
    fn deadline(&self, ticks: Option<u64>, counter: u64) -> u64 {
        // Between its steps a stepped clock may not have come there yet: it is looked at with each.
        let due = self.clock.next_step().or_else(|| self.clock.host_time(ticks?, counter));
        due.unwrap_or(NEVER)
    }

    pub(super) fn update_physical_timer(&mut self, index: usize, vcpu: &Vcpu, now: u64) {
        let line = Timer::physical_timer(&vcpu.system).line(now);
        // The PPI is this vCPU's own, which passes through `Vgic::enter` on its way back.
        let _ = self.vgic.set_ppi_level(index, PHYSICAL_TIMER, line);
    }

    /// Lets time have passed for vCPU `index` and the devices: lines that rise by themselves rise. Says
    /// when it is to be called again, as the host's CNTPCT.
    ///
    /// Whoever writes to a device or to its timer looks at them all. So before the times that were found
    /// then nothing is to be done, but by a clock that was stopped meanwhile: then they are too early.
    #[inline]
    pub fn tick(&mut self, index: usize, vcpu: &mut Vcpu, host: &mut impl Host) -> u64 {
        let counter = host.counter();
        if vcpu.deadline_changed || counter >= vcpu.timer_due.min(self.due.change) {
            self.look(index, vcpu, counter, host);
        }
        vcpu.timer_due.min(self.due.line)
    }

    /// Looks at vCPU `index`'s timer and at the devices.
    #[inline(never)]
    fn look(&mut self, index: usize, vcpu: &mut Vcpu, counter: u64, host: &mut impl Host) {
        let now = self.clock.now(counter);
        vcpu.deadline_changed = false;
        self.update_physical_timer(index, vcpu, now);
        vcpu.timer_due = self.deadline(Timer::physical_timer(&vcpu.system).deadline(now), counter);
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

    /// What vCPU `index` waits for in WFI, whose `virtual_timer` is still that of the hardware, with the host's CNTPCT at
    /// `counter`. Its list registers are folded, and [`Self::tick`] has just named a `deadline`.
    ///
    /// As on a CPU, PSTATE does not matter, and a wait may end for less than an interrupt that is taken: the
    /// guest's priority mask is not looked at.
    #[inline]
    pub fn wait(&self, index: usize, virtual_timer: Timer, deadline: u64, counter: u64) -> Wait {
        if self.vgic.cpus()[index].is_called() {
            return Wait::Over;
        }
        let now = self.clock.now(counter);
        // A line that is up has told so already, or is about to.
        if virtual_timer.line(now) && !self.vgic.ppi_level(index, VIRTUAL_TIMER) {
            return Wait::Over;
        }
        let timer = virtual_timer.deadline(now);
        let timer = timer.and_then(|ticks| self.clock.host_time(ticks, counter));
        Wait::Until(timer.unwrap_or(NEVER).min(deadline))
    }

    /// The physical interrupt came that is linked to the guest's SPI, and its priority was dropped. These vCPUs are to be kicked.
    pub fn device_interrupt(&mut self, spi: u32) -> VcpuMask {
        self.vgic.hardware_interrupt(0, FIRST_SPI + spi as u16).1.kick
    }

    /// The physical interrupt of the virtual timer came on the core of vCPU `index`, and its priority was dropped. These vCPUs are to be
    /// kicked.
    pub fn timer_interrupt(&mut self, index: usize) -> VcpuMask {
        self.vgic.hardware_interrupt(index, VIRTUAL_TIMER).1.kick.without(index)
    }
}
