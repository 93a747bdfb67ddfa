//! A guest: its records and devices, and what it does that the hardware does not.
//!
//! [`Guest::exit`] answers a trap, [`Guest::interrupt`] and [`Guest::tick`] bring what happens outside.
//! All of the guest's state but its RAM is here, in the records of `stasis-state`: what its vCPUs share
//! in [`Guest`], what each has for itself in [`Vcpu`]. While a vCPU is loaded on a core, its [`Vcpu`]
//! belongs to that core, and its system registers and list registers are in the hardware behind
//! [`Host`]; whoever unloads it puts them back.

use alloc::vec::Vec;

use stasis_state::guest::{Clock, NAME_LEN};
use stasis_state::records::{GuestState, Records, VcpuRecords, VcpuState};
use stasis_state::vcpu::{Core, Debug, FpSimd, Identity, Power, PowerState, SystemRegisters};
use stasis_state::{device, guest};
use stasis_vgic::{ListRegisterFile, VcpuMask, Vgic};

use crate::devices::pl031::Rtc;
use crate::devices::{pl011, virtio};
use crate::exit::{self, Access, Exit, Fault, Wfx, Width};
use crate::inject::{self, El1Registers};
use crate::machine::{GICC_BASE, GICD_BASE, RAM_BASE, RTC_SPI, TIMER_PPIS, UART_SPI};
use crate::mmio::{self, Device, Unclaimed};
use crate::once::Once;
use crate::psci::{self, Action};
use crate::register::pstate;
use crate::sysreg;
use crate::timer::{self, GuestClock, Timer};

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

/// Where GICC_DIR is in its page, IHI 0048B.b 4.4.18.
const GICC_DIR: u64 = 0;

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
    /// Has these other vCPUs of the guest pass through [`Vgic::enter`], or look at their power state.
    fn kick(&mut self, vcpus: VcpuMask);
}

/// What comes after an exit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Enter the guest again.
    Enter,
    /// This vCPU is off; others are not.
    VcpuOff,
    /// The guest has switched its machine off, or its last vCPU.
    Off,
    /// The guest has reset its machine.
    Reset,
}

/// What a vCPU has for itself.
#[derive(Clone, Debug, Default)]
#[allow(missing_docs, reason = "each is a record, which says what it is")]
pub struct Vcpu {
    pub core: Core,
    pub system: SystemRegisters,
    pub fp: FpSimd,
    pub debug: Debug,
    pub identity: Identity,
    /// What [`Guest::tick`] last said of it may no longer hold.
    pub deadline_changed: bool,
}

/// What a guest's vCPUs share.
#[derive(Debug)]
pub struct Guest {
    /// Its name and what it needs.
    pub record: guest::Guest,
    /// Its time. It stands still until it is started.
    pub clock: GuestClock,
    clock_record: Clock,
    /// Whether each of its vCPUs is on.
    pub powers: Vec<Power>,
    /// Its interrupt controller.
    pub vgic: Vgic,
    uart: device::Pl011,
    rtc: Rtc,
    unclaimed: Unclaimed,
    unknown_registers: Once<16>,
    unknown_exits: Once<16>,
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
    ) -> Result<(Self, Vec<Vcpu>), stasis_vgic::Error> {
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
            *vcpu.power.state = PowerState::Off as u8;
            *vcpu.core.pstate = pstate::RESET;
        }
        if let Some(first) = state.vcpus.first_mut() {
            *first.power.state = PowerState::On as u8;
            *first.core.pc = entry;
            first.core.x[0] = x0;
        }
        Self::restored(state)
    }

    /// A guest as it was saved; the reader has checked its state.
    pub fn restored(state: GuestState) -> Result<(Self, Vec<Vcpu>), stasis_vgic::Error> {
        let mut interfaces = Vec::new();
        let mut powers = Vec::new();
        let mut vcpus = Vec::new();
        for vcpu in state.vcpus {
            let VcpuState { core, system, fp, debug, power, identity, cpu_interface } = vcpu;
            interfaces.push(cpu_interface);
            powers.push(power);
            vcpus.push(Vcpu { core, system, fp, debug, identity, deadline_changed: true });
        }
        let guest = Self {
            record: state.guest,
            clock: GuestClock::restored(&state.clock),
            vgic: Vgic::from_state(state.distributor, interfaces.into_iter())?,
            uart: state.pl011,
            rtc: Rtc::restored(state.pl031, *state.clock.wall_time),
            clock_record: state.clock,
            powers,
            unclaimed: Unclaimed::default(),
            unknown_registers: Once::new(),
            unknown_exits: Once::new(),
        };
        Ok((guest, vcpus))
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
    pub fn records<'a>(
        &'a mut self,
        vcpus: impl Iterator<Item = &'a mut Vcpu>,
        counter: u64,
        wall_time: u64,
    ) -> Records<'a> {
        let now = self.clock.now(counter);
        self.clock.save(counter, &mut self.clock_record);
        *self.clock_record.wall_time = wall_time;
        let interfaces = self.vgic.cpus().iter().zip(&self.powers);
        let vcpus = vcpus.zip(interfaces).map(|(vcpu, (interface, power))| {
            timer::settle(&mut vcpu.system, now);
            VcpuRecords {
                core: &vcpu.core,
                system: &vcpu.system,
                fp: &vcpu.fp,
                debug: &vcpu.debug,
                power,
                identity: &vcpu.identity,
                cpu_interface: &interface.state,
            }
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

    /// The other vCPUs that must have folded their list registers before vCPU `index` is given an
    /// answer to this exit: [`Vgic::needs_sync`].
    pub fn needs_sync(
        &self,
        index: usize,
        vcpu: &Vcpu,
        exit: &Exit,
        host: &mut impl Host,
    ) -> VcpuMask {
        let &Exit::DataAbort { ipa, access, .. } = exit else { return VcpuMask::NONE };
        match mmio::lookup(ipa, access.width) {
            Some((Device::GiccDir, GICC_DIR)) if access.write => {
                let value = access.stored(&vcpu.core);
                let value = access.in_device_order(&vcpu.core, host.el1().sctlr_el1(), value);
                self.vgic.deactivate_needs_sync(index, value as u32)
            }
            Some((Device::Gicd, offset)) => match gicd_access(offset, access.width) {
                Ok(gicd) => self.vgic.needs_sync(index, gicd, access.write),
                Err(_) => VcpuMask::NONE,
            },
            _ => VcpuMask::NONE,
        }
    }

    /// Answers a synchronous exception of vCPU `index`, which is loaded on `host`.
    pub fn exit(
        &mut self,
        index: usize,
        vcpu: &mut Vcpu,
        exit: Exit,
        esr: u64,
        host: &mut impl Host,
    ) -> Next {
        match exit {
            Exit::DataAbort { ipa, access, fault } => {
                if self.access(index, vcpu, ipa, access, &fault, host) {
                    exit::skip_instruction(&mut vcpu.core, esr);
                }
            }
            Exit::Hvc { imm } => return self.firmware_call(index, vcpu, imm, host),
            Exit::Smc { imm } => {
                exit::skip_instruction(&mut vcpu.core, esr);
                return self.firmware_call(index, vcpu, imm, host);
            }
            Exit::SystemRegister(access) => self.system_register(index, vcpu, access, esr, host),
            Exit::DataAbortUnemulatable(fault) | Exit::InstructionAbort(fault) => {
                self.nothing_there(vcpu, &fault, host);
            }
            // There is nothing behind the address, so there is nothing to maintain.
            Exit::CacheMaintenance(_) | Exit::Wfx(Wfx::Wfi | Wfx::Wfe | Wfx::Wfit | Wfx::Wfet) => {
                exit::skip_instruction(&mut vcpu.core, esr);
            }
            Exit::Unknown { class } => {
                if self.unknown_exits.is_first(class.into()) {
                    log::warn!(
                        "guest \"{}\": {} at PC {:#x}, which is UNDEFINED here",
                        self.name(),
                        exit::describe(esr),
                        *vcpu.core.pc
                    );
                }
                inject::undefined(&mut vcpu.core, host.el1());
            }
        }
        Next::Enter
    }

    /// A load or store to an address that is no memory. `false`: the guest has got an abort for it.
    fn access(
        &mut self,
        index: usize,
        vcpu: &mut Vcpu,
        ipa: u64,
        access: Access,
        fault: &Fault,
        host: &mut impl Host,
    ) -> bool {
        let Some((device, offset)) = mmio::lookup(ipa, access.width) else {
            self.nothing_there(vcpu, fault, host);
            return false;
        };
        let at = Place { device, offset, width: access.width };
        let sctlr = host.el1().sctlr_el1();
        if access.write {
            let value = access.in_device_order(&vcpu.core, sctlr, access.stored(&vcpu.core));
            self.device_write(index, vcpu, at, value, host);
        } else {
            let value = self.device_read(index, at, host);
            let value = access.in_device_order(&vcpu.core, sctlr, value);
            access.load(&mut vcpu.core, value);
        }
        true
    }

    fn device_read(&mut self, index: usize, at: Place, host: &mut impl Host) -> u64 {
        let Place { device, offset, width } = at;
        match device {
            Device::Gicd => match gicd_access(offset, width) {
                Ok(gicd) => {
                    let (value, effects) = self.vgic.distributor_read(index, gicd, host.gic());
                    host.kick(effects.kick.without(index));
                    value
                }
                Err(_) => 0,
            },
            Device::GiccDir => 0,
            Device::Uart => {
                let value = pl011::read(&mut self.uart, offset, width);
                let kick = self.update_uart_line();
                host.kick(kick.without(index));
                value
            }
            Device::Rtc => self.rtc.read(offset, width, host.wall_time()),
            Device::Virtio(_) => mmio::read_words(offset, width, virtio::read_empty),
            Device::Flash => 0,
        }
    }

    fn device_write(
        &mut self,
        index: usize,
        vcpu: &mut Vcpu,
        at: Place,
        value: u64,
        host: &mut impl Host,
    ) {
        let Place { device, offset, width } = at;
        let kick = match device {
            Device::Gicd => match gicd_access(offset, width) {
                Ok(gicd) => self.vgic.distributor_write(index, gicd, value, host.gic()).kick,
                Err(_) => VcpuMask::NONE,
            },
            Device::GiccDir if offset == GICC_DIR => {
                self.vgic.deactivate(index, value as u32, host.gic()).kick
            }
            Device::GiccDir => VcpuMask::NONE,
            Device::Uart => {
                let mut transmit = |byte| host.transmit(byte);
                pl011::write(&mut self.uart, offset, width, value, &mut transmit);
                self.update_uart_line()
            }
            Device::Rtc => {
                self.rtc.write(offset, width, value, host.wall_time());
                vcpu.deadline_changed = true;
                self.update_rtc_line()
            }
            Device::Virtio(_) | Device::Flash => VcpuMask::NONE,
        };
        host.kick(kick.without(index));
    }

    fn update_uart_line(&mut self) -> VcpuMask {
        self.vgic.set_spi_level(UART_INTID, pl011::line(&self.uart)).kick
    }

    fn update_rtc_line(&mut self) -> VcpuMask {
        self.vgic.set_spi_level(RTC_INTID, self.rtc.line()).kick
    }

    /// Whether the guest's UART has room for a byte.
    pub fn can_receive(&self) -> bool {
        pl011::can_receive(&self.uart)
    }

    /// A byte arrives at the guest's UART; it is lost if there is no room, as on a wire. These vCPUs are
    /// to be kicked.
    pub fn receive(&mut self, byte: u8) -> VcpuMask {
        let _ = pl011::receive(&mut self.uart, byte);
        self.update_uart_line()
    }

    fn nothing_there(&mut self, vcpu: &mut Vcpu, fault: &Fault, host: &mut impl Host) {
        let ipa = fault.ipa.unwrap_or(fault.virtual_address);
        if self.unclaimed.report(ipa) {
            log::warn!(
                "guest \"{}\": {:?} at {ipa:#x}, which nothing there can answer, from PC {:#x}",
                self.name(),
                fault.cause,
                *vcpu.core.pc
            );
        }
        inject::external_abort(&mut vcpu.core, host.el1(), fault);
    }

    fn firmware_call(
        &mut self,
        index: usize,
        vcpu: &mut Vcpu,
        imm: u16,
        host: &mut impl Host,
    ) -> Next {
        match psci::call(&mut vcpu.core, imm, index, &mut self.powers[..]) {
            // CPU_SUSPEND to standby may return at once.
            Action::Resume | Action::Suspend => Next::Enter,
            Action::StartCpu { index } => {
                host.kick(VcpuMask::only(index));
                Next::Enter
            }
            Action::Off
                if self.powers.iter().any(|power| *power.state != PowerState::Off as u8) =>
            {
                Next::VcpuOff
            }
            Action::Off | Action::SystemOff => Next::Off,
            Action::SystemReset => Next::Reset,
        }
    }

    /// Whether vCPU `index` is to run; one that was just switched on is set up for it.
    pub fn is_on(&mut self, index: usize, vcpu: &mut Vcpu) -> bool {
        let power = &mut self.powers[index];
        if psci::enter(power, &mut vcpu.core, &mut vcpu.system) {
            vcpu.fp = FpSimd::default();
            vcpu.debug = Debug::default();
            vcpu.deadline_changed = true;
        }
        *power.state == PowerState::On as u8
    }

    fn system_register(
        &mut self,
        index: usize,
        vcpu: &mut Vcpu,
        access: exit::SystemAccess,
        esr: u64,
        host: &mut impl Host,
    ) {
        let now = self.clock.now(host.counter());
        let Vcpu { core, system, debug, identity, .. } = vcpu;
        match sysreg::handle(access, &mut sysreg::Vcpu { core, system, debug, identity, now }) {
            // Set and way act on this core's caches alone, as on any machine; a vCPU is pinned to its
            // core, so they are not trapped for more.
            sysreg::Outcome::Done | sysreg::Outcome::CleanAll => {}
            sysreg::Outcome::TimerChanged => {
                self.update_physical_timer(index, vcpu, now);
                vcpu.deadline_changed = true;
            }
            sysreg::Outcome::Undefined { hidden } => {
                if !hidden && self.unknown_registers.is_first(access.encoding.into()) {
                    log::warn!(
                        "guest \"{}\": {} is not there, from PC {:#x}",
                        self.name(),
                        exit::EncodingName(access.encoding),
                        *vcpu.core.pc
                    );
                }
                return inject::undefined(&mut vcpu.core, host.el1());
            }
        }
        exit::skip_instruction(&mut vcpu.core, esr);
    }

    fn update_physical_timer(&mut self, index: usize, vcpu: &Vcpu, now: u64) {
        let line = Timer::physical_timer(&vcpu.system).line(now);
        // The PPI is this vCPU's own, which passes through `Vgic::enter` on its way back.
        let _ = self.vgic.set_ppi_level(index, PHYSICAL_TIMER, line);
    }

    /// Lets time have passed for vCPU `index` and the devices: lines that rise by themselves rise. Says
    /// when it is to be called again, as the host's CNTPCT.
    pub fn tick(&mut self, index: usize, vcpu: &mut Vcpu, host: &mut impl Host) -> Option<u64> {
        let counter = host.counter();
        let now = self.clock.now(counter);
        vcpu.deadline_changed = false;
        self.update_physical_timer(index, vcpu, now);
        self.rtc.tick(host.wall_time());
        let kick = self.update_rtc_line();
        host.kick(kick.without(index));
        let timer = Timer::physical_timer(&vcpu.system).deadline(now);
        let timer = timer.and_then(|ticks| self.clock.host_time(ticks));
        let alarm = self.rtc.deadline().map(|second| {
            let seconds = second.saturating_sub(host.wall_time());
            counter.saturating_add(seconds.saturating_mul(*self.clock_record.cntfrq))
        });
        timer.into_iter().chain(alarm).min()
    }

    /// A physical interrupt came on the core of vCPU `index`, and its priority was dropped. `None`: it
    /// is not this guest's, and the caller deactivates it. Else these vCPUs are to be kicked.
    pub fn interrupt(&mut self, index: usize, intid: u16) -> Option<VcpuMask> {
        let (taken, effects) = self.vgic.hardware_interrupt(index, intid);
        taken.then_some(effects.kick.without(index))
    }
}

/// What a load or store reaches.
#[derive(Clone, Copy)]
struct Place {
    device: Device,
    offset: u64,
    width: Width,
}

fn gicd_access(offset: u64, width: Width) -> Result<stasis_vgic::Access, stasis_vgic::Error> {
    stasis_vgic::Access::checked(offset, width as u8)
}
