//! What reaches a guest from outside: time, typed bytes, physical interrupts; and what of it reaches its
//! GIC.

use stasis_state::vcpu::{Debug, FpSimd, Power, PowerState};
use stasis_vgic::VcpuMask;

use super::{
    DOORBELL_INTID, DevicesDue, FIRST_SPI, Guest, Host, PHYSICAL_TIMER, RTC_INTID, UART_INTID,
    VIRTUAL_TIMER, Vcpu, WATCHDOG_INTID, Wait,
};
use crate::clock::NEVER;
use crate::psci;
use crate::timer::Timer;
use stasis_devices::{doorbell, pl011, watchdog};

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

    /// Whether the guest's UART has room for a byte.
    pub fn can_receive(&self) -> bool {
        pl011::can_receive(&self.uart)
    }

    /// A byte or a break arrives at the guest's UART; it is lost if there is no room, as on a wire. These vCPUs are
    /// to be kicked.
    pub fn receive(&mut self, character: impl Into<pl011::Character>) -> VcpuMask {
        let _ = pl011::receive(&mut self.uart, character);
        self.update_uart_line()
    }

    pub(super) fn update_uart_line(&mut self) -> VcpuMask {
        self.vgic.set_spi_level(UART_INTID, pl011::line(&self.uart)).kick
    }

    pub(super) fn update_rtc_line(&mut self) -> VcpuMask {
        self.vgic.set_spi_level(RTC_INTID, self.rtc.line()).kick
    }

    pub(super) fn update_watchdog_line(&mut self) -> VcpuMask {
        match &self.watchdog {
            Some(watchdog) => {
                self.vgic.set_spi_level(WATCHDOG_INTID, watchdog::line(watchdog)).kick
            }
            None => VcpuMask::NONE,
        }
    }

    /// Guests have rung the doorbell of the `n`th region that this one shares: a bit for each. These vCPUs are to be kicked.
    pub fn rung(&mut self, n: usize, by: u32) -> VcpuMask {
        if let Some(shared) = self.shared.as_mut().filter(|shared| shared.has(n)) {
            doorbell::rung(shared, n, by);
        }
        self.update_doorbell_line(n)
    }

    pub(super) fn update_doorbell_line(&mut self, n: usize) -> VcpuMask {
        match &self.shared {
            Some(shared) if shared.has(n) => {
                self.vgic.set_spi_level(DOORBELL_INTID + n as u16, doorbell::line(shared, n)).kick
            }
            _ => VcpuMask::NONE,
        }
    }

    /// Lets the watchdog's time have passed, with the host's CNTPCT at `counter`. Says when it is due again.
    fn tick_watchdog(&mut self, now: u64, counter: u64) -> u64 {
        let Some(watchdog) = &mut self.watchdog else { return NEVER };
        watchdog::tick(watchdog, now);
        let due = watchdog::deadline(watchdog);
        due.map_or(NEVER, |due| self.deadline(Some(due), counter))
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
        self.rtc.tick(wall_time);
        let kick = self.update_rtc_line();
        host.outbox().kick(kick.without(index));
        let watchdog = self.tick_watchdog(now, counter);
        let kick = self.update_watchdog_line();
        host.outbox().kick(kick.without(index));
        let wait =
            |second: u64| second.saturating_sub(wall_time).saturating_mul(self.clock.host_hz());
        let alarm = counter.saturating_add(wait(self.rtc.alarm()));
        let line = if self.rtc.deadline().is_some() { alarm } else { NEVER };
        self.due = DevicesDue { change: alarm.min(watchdog), line: line.min(watchdog) };
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
