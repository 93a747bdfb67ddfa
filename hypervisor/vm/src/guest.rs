//! A guest: its records and devices, and what it does that the hardware does not.
//!
//! [`Guest::exit`] answers a trap, [`Guest::interrupt`] and [`Guest::tick`] bring what happens outside.
//! All of the guest's state but its RAM is here, in the records of `stasis-state`. While a vCPU is
//! loaded on a core, its system registers and list registers are in the hardware behind [`Host`];
//! whoever unloads it puts them back.

use alloc::vec::Vec;

use stasis_state::guest::{Clock, NAME_LEN};
use stasis_state::records::{GuestState, Records, VcpuRecords, VcpuState};
use stasis_state::vcpu::{Core, Debug, FpSimd, Identity, Power, SystemRegisters};
use stasis_state::{device, guest};
use stasis_vgic::{ListRegisterFile, Vgic};

use crate::devices::pl031::Rtc;
use crate::devices::{pl011, virtio};
use crate::exit::{self, Access, Exit, Fault, Syndrome, Wfx};
use crate::inject::{self, El1Registers};
use crate::machine::{
    GICC_BASE, GICD_BASE, RAM_BASE, RTC_SPI, TIMER_PPIS, UART_SPI,
};
use crate::mmio::{self, Device, Unclaimed};
use crate::once::Once;
use crate::psci::{self, Action};
use crate::register::pstate;
use crate::sysreg;
use crate::timer::{GuestClock, Timer};

/// INTIDs of the guest's machine, as QEMU's `virt` has them.
pub const NR_IRQS: u16 = 288;
/// The first SPI's INTID.
const FIRST_SPI: u16 = 32;
/// The UART's INTID.
pub const UART_INTID: u16 = FIRST_SPI + UART_SPI as u16;
/// The clock's INTID.
pub const RTC_INTID: u16 = FIRST_SPI + RTC_SPI as u16;
/// The virtual timer's INTID, in the guest and on the core.
pub const VIRTUAL_TIMER: u16 = 16 + TIMER_PPIS[2] as u16;
/// The physical timer's INTID.
pub const PHYSICAL_TIMER: u16 = 16 + TIMER_PPIS[1] as u16;

/// The core that a vCPU is loaded on, and the outside of the guest.
pub trait Host {
    /// The core's GICH.
    type Gic: ListRegisterFile;
    /// The EL1 registers that are loaded.
    type El1: El1Registers;

    /// The core's GICH.
    fn gic(&mut self) -> &mut Self::Gic;
    /// The EL1 registers that are loaded.
    fn el1(&mut self) -> &mut Self::El1;
    /// CNTPCT.
    fn counter(&self) -> u64;
    /// Seconds since 1970.
    fn wall_time(&self) -> u64;
    /// The guest's UART sends a byte.
    fn transmit(&mut self, byte: u8);
}

/// What comes after an exit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Enter the guest again.
    Enter,
    /// The guest has switched its machine off, or its last vCPU.
    Off,
    /// The guest has reset its machine.
    Reset,
}

/// A vCPU, but for its part of the GIC.
#[derive(Clone, Debug, Default)]
#[allow(missing_docs, reason = "each is a record, which says what it is")]
pub struct Vcpu {
    pub core: Core,
    pub system: SystemRegisters,
    pub fp: FpSimd,
    pub debug: Debug,
    pub power: Power,
    pub identity: Identity,
}

/// A guest.
#[derive(Debug)]
pub struct Guest {
    /// Its name and what it needs.
    pub record: guest::Guest,
    /// Its time. It stands still until it is started.
    pub clock: GuestClock,
    clock_record: Clock,
    /// Its vCPUs.
    pub vcpus: Vec<Vcpu>,
    /// Its interrupt controller.
    pub vgic: Vgic,
    uart: device::Pl011,
    rtc: Rtc,
    unclaimed: Unclaimed,
    unknown_registers: Once<16>,
    /// What [`Guest::tick`] last said may no longer hold.
    deadline_changed: bool,
}

impl Guest {
    /// A guest at reset. Its first vCPU will start at `entry` with `x0`, once it is there.
    pub fn new(
        name: &str,
        ram_size: u64,
        identities: &[Identity],
        entry: u64,
        x0: u64,
        cntfrq: u64,
        wall_time: u64,
    ) -> Result<Self, stasis_vgic::Error> {
        let mut state = GuestState::reset(identities.len() as u8);
        let name = &name.as_bytes()[..name.len().min(NAME_LEN)];
        state.guest.name[..name.len()].copy_from_slice(name);
        *state.guest.ram_base = RAM_BASE;
        *state.guest.ram_size = ram_size;
        *state.clock.cntfrq = cntfrq;
        *state.clock.wall_time = wall_time;
        state.distributor = Vgic::new(NR_IRQS, identities.len() as u8)?.distributor().clone();
        *state.distributor.dist_base = GICD_BASE;
        *state.distributor.cpu_base = GICC_BASE;
        for (vcpu, identity) in state.vcpus.iter_mut().zip(identities) {
            vcpu.identity = identity.clone();
            *vcpu.power.state = stasis_state::vcpu::PowerState::Off as u8;
            *vcpu.core.pstate = pstate::RESET;
        }
        if let Some(first) = state.vcpus.first_mut() {
            *first.power.state = stasis_state::vcpu::PowerState::On as u8;
            *first.core.pc = entry;
            first.core.x[0] = x0;
        }
        Self::restored(state)
    }

    /// A guest as it was saved; the reader has checked its state.
    pub fn restored(state: GuestState) -> Result<Self, stasis_vgic::Error> {
        let mut interfaces = Vec::new();
        let mut vcpus = Vec::new();
        for vcpu in state.vcpus {
            let VcpuState { core, system, fp, debug, power, identity, cpu_interface } = vcpu;
            interfaces.push(cpu_interface);
            vcpus.push(Vcpu { core, system, fp, debug, power, identity });
        }
        Ok(Self {
            record: state.guest,
            clock: GuestClock::restored(&state.clock),
            vgic: Vgic::from_state(state.distributor, interfaces.into_iter())?,
            uart: state.pl011,
            rtc: Rtc::restored(state.pl031, *state.clock.wall_time),
            clock_record: state.clock,
            vcpus,
            unclaimed: Unclaimed::default(),
            unknown_registers: Once::new(),
            deadline_changed: true,
        })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        let name = &self.record.name[..];
        let len = name.iter().position(|&byte| byte == 0).unwrap_or(NAME_LEN);
        core::str::from_utf8(&name[..len]).unwrap_or("?")
    }

    /// Bytes of its RAM.
    pub fn ram_size(&self) -> u64 {
        *self.record.ram_size
    }

    /// The guest as it is stored. No vCPU is loaded; `counter` and `wall_time` are the host's.
    pub fn records(&mut self, counter: u64, wall_time: u64) -> Records<'_> {
        let now = self.clock.now(counter);
        self.clock.save(counter, &mut self.clock_record);
        *self.clock_record.wall_time = wall_time;
        for vcpu in &mut self.vcpus {
            crate::timer::settle(&mut vcpu.system, now);
        }
        let vcpus = self.vcpus.iter().zip(self.vgic.cpus()).map(|(vcpu, interface)| VcpuRecords {
            core: &vcpu.core,
            system: &vcpu.system,
            fp: &vcpu.fp,
            debug: &vcpu.debug,
            power: &vcpu.power,
            identity: &vcpu.identity,
            cpu_interface: &interface.state,
        });
        Records {
            guest: &self.record,
            clock: &self.clock_record,
            distributor: self.vgic.distributor(),
            vcpus: vcpus.collect(),
            pl011: &self.uart,
            pl031: &self.rtc.state,
        }
    }

    /// Answers a synchronous exception of vCPU `index`, which is loaded on `host`.
    pub fn exit(&mut self, index: usize, syndrome: Syndrome, host: &mut impl Host) -> Next {
        match exit::decode(syndrome) {
            Exit::DataAbort { ipa, access, fault } => {
                self.access(index, ipa, access, fault, syndrome.esr, host);
            }
            Exit::Hvc { imm } => return self.firmware_call(index, imm),
            Exit::Smc { imm } => {
                exit::skip_instruction(&mut self.vcpus[index].core, syndrome.esr);
                return self.firmware_call(index, imm);
            }
            Exit::SystemRegister(access) => self.system_register(index, access, syndrome.esr, host),
            Exit::DataAbortUnemulatable(fault) | Exit::InstructionAbort(fault) => {
                self.nothing_there(index, &fault, host);
            }
            // There is nothing behind the address, so there is nothing to maintain.
            Exit::CacheMaintenance(_) | Exit::Wfx(Wfx::Wfi | Wfx::Wfe | Wfx::Wfit | Wfx::Wfet) => {
                exit::skip_instruction(&mut self.vcpus[index].core, syndrome.esr);
            }
            Exit::Unknown { class } => {
                log::warn!(
                    "guest \"{}\": exception class {class:#x} at PC {:#x}",
                    self.name(),
                    *self.vcpus[index].core.pc
                );
                inject::undefined(&mut self.vcpus[index].core, host.el1());
            }
        }
        Next::Enter
    }

    /// A load or store to an address that is no memory.
    fn access(
        &mut self,
        index: usize,
        ipa: u64,
        access: Access,
        fault: Fault,
        esr: u64,
        host: &mut impl Host,
    ) {
        let Some((device, offset)) = mmio::lookup(ipa, access.width) else {
            return self.nothing_there(index, &fault, host);
        };
        let core = &mut self.vcpus[index].core;
        if access.write {
            let value = access.stored(core);
            self.device_write(index, device, offset, access, value, host);
        } else {
            let value = self.device_read(index, device, offset, access, host);
            access.load(&mut self.vcpus[index].core, value);
        }
        exit::skip_instruction(&mut self.vcpus[index].core, esr);
    }

    fn device_read(
        &mut self,
        index: usize,
        device: Device,
        offset: u64,
        access: Access,
        host: &mut impl Host,
    ) -> u64 {
        let width = access.width;
        match device {
            Device::Gicd => match stasis_vgic::Access::checked(offset, width as u8) {
                Ok(access) => self.vgic.distributor_read(index, access, host.gic()).0,
                Err(_) => 0,
            },
            Device::Uart => {
                let value = pl011::read(&mut self.uart, offset, width);
                self.update_uart_line();
                value
            }
            Device::Rtc => self.rtc.read(offset, width, host.wall_time()),
            Device::Virtio(_) => mmio::read_words(offset, width, virtio::read_empty),
        }
    }

    fn device_write(
        &mut self,
        index: usize,
        device: Device,
        offset: u64,
        access: Access,
        value: u64,
        host: &mut impl Host,
    ) {
        let width = access.width;
        match device {
            Device::Gicd => {
                if let Ok(access) = stasis_vgic::Access::checked(offset, width as u8) {
                    let _ = self.vgic.distributor_write(index, access, value, host.gic());
                }
            }
            Device::Uart => {
                let mut transmit = |byte| host.transmit(byte);
                pl011::write(&mut self.uart, offset, width, value, &mut transmit);
                self.update_uart_line();
            }
            Device::Rtc => {
                self.rtc.write(offset, width, value, host.wall_time());
                self.update_rtc_line();
                self.deadline_changed = true;
            }
            Device::Virtio(_) => {}
        }
    }

    fn update_uart_line(&mut self) {
        // One vCPU, which passes through `Vgic::enter` on its way back: there is nobody to kick.
        let _ = self.vgic.set_spi_level(UART_INTID, pl011::line(&self.uart));
    }

    fn update_rtc_line(&mut self) {
        let _ = self.vgic.set_spi_level(RTC_INTID, self.rtc.line());
    }

    /// Whether the guest's UART has room for a byte.
    pub fn can_receive(&self) -> bool {
        pl011::can_receive(&self.uart)
    }

    /// A byte arrives at the guest's UART; it is lost if there is no room, as on a wire.
    pub fn receive(&mut self, byte: u8) {
        let _ = pl011::receive(&mut self.uart, byte);
        self.update_uart_line();
    }

    fn nothing_there(&mut self, index: usize, fault: &Fault, host: &mut impl Host) {
        let ipa = fault.ipa.unwrap_or(fault.virtual_address);
        if self.unclaimed.report(ipa) {
            log::warn!(
                "guest \"{}\": {:?} at {ipa:#x}, where nothing is, from PC {:#x}",
                self.name(),
                fault.cause,
                *self.vcpus[index].core.pc
            );
        }
        inject::external_abort(&mut self.vcpus[index].core, host.el1(), fault);
    }

    fn firmware_call(&mut self, index: usize, imm: u16) -> Next {
        let mut caller = core::mem::take(&mut self.vcpus[index].core);
        let action = psci::call(&mut caller, imm, index, &mut self.vcpus[..]);
        self.vcpus[index].core = caller;
        match action {
            // CPU_SUSPEND to standby may return at once; there is one vCPU, so CPU_ON starts none.
            Action::Resume | Action::Suspend | Action::StartCpu { .. } => Next::Enter,
            Action::Off | Action::SystemOff => Next::Off,
            Action::SystemReset => Next::Reset,
        }
    }

    fn system_register(
        &mut self,
        index: usize,
        access: exit::SystemAccess,
        esr: u64,
        host: &mut impl Host,
    ) {
        let now = self.clock.now(host.counter());
        let Vcpu { core, system, debug, identity, .. } = &mut self.vcpus[index];
        let mut vcpu = sysreg::Vcpu { core, system, debug, identity, now };
        match sysreg::handle(access, &mut vcpu) {
            // Set and way act on this core's caches alone, as on any machine; a vCPU is pinned to its
            // core, so they are not trapped for more.
            sysreg::Outcome::Done | sysreg::Outcome::CleanAll => {}
            sysreg::Outcome::TimerChanged => {
                self.update_physical_timer(index, now);
                self.deadline_changed = true;
            }
            sysreg::Outcome::Undefined { hidden } => {
                if !hidden && self.unknown_registers.is_first(access.encoding.into()) {
                    log::warn!(
                        "guest \"{}\": {} is not there, from PC {:#x}",
                        self.name(),
                        exit::EncodingName(access.encoding),
                        *self.vcpus[index].core.pc
                    );
                }
                return inject::undefined(&mut self.vcpus[index].core, host.el1());
            }
        }
        exit::skip_instruction(&mut self.vcpus[index].core, esr);
    }

    fn update_physical_timer(&mut self, index: usize, now: u64) {
        let line = Timer::physical_timer(&self.vcpus[index].system).line(now);
        let _ = self.vgic.set_ppi_level(index, PHYSICAL_TIMER, line);
    }

    /// Whether [`Guest::tick`] is due because the guest has set a timer.
    pub fn deadline_changed(&self) -> bool {
        self.deadline_changed
    }

    /// Lets time have passed: lines that rise by themselves rise. Says when it is to be called again,
    /// as the host's CNTPCT.
    pub fn tick(&mut self, index: usize, host: &impl Host) -> Option<u64> {
        let counter = host.counter();
        let now = self.clock.now(counter);
        self.deadline_changed = false;
        self.update_physical_timer(index, now);
        self.rtc.tick(host.wall_time());
        self.update_rtc_line();
        let timer = Timer::physical_timer(&self.vcpus[index].system).deadline(now);
        let timer = timer.and_then(|ticks| self.clock.host_time(ticks));
        let alarm = self.rtc.deadline().map(|second| {
            let seconds = second.saturating_sub(host.wall_time());
            counter.saturating_add(seconds.saturating_mul(*self.clock_record.cntfrq))
        });
        timer.into_iter().chain(alarm).min()
    }

    /// A physical interrupt came on the core of vCPU `index`, and its priority was dropped. `false`:
    /// it is not this guest's, and the caller deactivates it.
    pub fn interrupt(&mut self, index: usize, intid: u16) -> bool {
        let (taken, _) = self.vgic.hardware_interrupt(index, intid);
        taken
    }
}

impl psci::Cpus for [Vcpu] {
    fn count(&self) -> usize {
        self.len()
    }

    fn power(&mut self, index: usize) -> &mut Power {
        &mut self[index].power
    }
}
