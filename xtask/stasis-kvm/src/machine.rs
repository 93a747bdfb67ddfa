//! [`Machine`]: a guest on KVM, made of a checkpoint; and its instants, which become checkpoints.

use std::io::Write;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use anyhow::{Context, Result, ensure};
use kvm_bindings::{
    KVM_ARM_VCPU_POWER_OFF, KVM_ARM_VCPU_PSCI_0_2, KVM_CAP_ARM_NISV_TO_USER, kvm_enable_cap,
    kvm_userspace_memory_region, kvm_vcpu_init,
};
use kvm_ioctls::{Kvm, VcpuFd, VmFd};
use stasis_convert::kvm::{Line, registers};
use stasis_convert::{Interrupt, Vgic};
use stasis_devices::list;
use stasis_state::guest::Lineage;
use stasis_state::timer::{self, PHYSICAL_TIMER, Timer, VIRTUAL_TIMER};
use stasis_state::vcpu::PowerState;
use stasis_state::{Capture, GuestState, SaveError};
use stasis_tool::output::{Output, finish_together};
use stasis_tool::report;

use crate::board::Board;
use crate::clock::{self, Clock};
use crate::control::Control;
use crate::disk::Disk;
use crate::file::Sink;
use crate::gic::Gic;
use crate::image::{Image, routines};
use crate::lacking;
use crate::memory::Memory;
use crate::registers::{Known, check_identity};
use crate::shared::{Shared, wall_time};
use crate::vcpu::Vcpu;

/// KVM_REG_ARM_PSCI_VERSION, and PSCI 1.1, which Stasis's guests have.
const PSCI_VERSION: (u64, u64) = (0x6030_0000_0014_0000, 0x1_0001);
/// KVM_REG_ARM_STD_BMAP, STD_HYP_BMAP and VENDOR_HYP_BMAP: what KVM's firmware answers besides PSCI
/// (TRNG, stolen time, vendor services). Stasis's does not.
const FIRMWARE: [u64; 3] = [0x6030_0000_0016_0000, 0x6030_0000_0016_0001, 0x6030_0000_0016_0002];

/// Opens the machine's KVM.
///
/// # Errors
///
/// There is none, or it is not for this user.
pub fn open_kvm() -> Result<Kvm> {
    Kvm::new().map_err(|error| lacking::kvm(error.errno()))
}

/// A guest on KVM.
pub struct Machine {
    /// What its threads have in common.
    pub shared: Arc<Shared>,
    vm: Arc<VmFd>,
    gic: Gic,
    vcpus: Vec<Arc<Vcpu>>,
    threads: Vec<JoinHandle<()>>,
    /// The state of the last instant.
    state: GuestState,
}

impl Machine {
    /// Makes the guest of a checkpoint, which does not run yet, with these disks. What its UART
    /// sends goes to `console`.
    ///
    /// # Errors
    ///
    /// This machine or this KVM can't run the guest.
    pub fn new(
        kvm: &Kvm,
        image: &mut Image,
        disks: Vec<Disk>,
        console: Box<dyn Write + Send>,
    ) -> Result<Self> {
        let mut state = image.checkpoint.state.clone();
        if let Some(generation) = &mut state.devices.generation {
            // Another checkpoint of the guest may go on elsewhere.
            (*generation.id, *generation.is_new) = (random()?.to_le_bytes(), 1);
        }
        lacking::vcpus(state.vcpus.len(), kvm.get_max_vcpus())?;
        let (guest, host) = (*state.clock.cntfrq, clock::frequency());
        ensure!(
            guest == host,
            "the guest's counter runs at {guest} Hz, and this machine's at {host} Hz"
        );
        let vm = Arc::new(kvm.create_vm().context("KVM makes no machine")?);
        let abort = kvm_enable_cap { cap: KVM_CAP_ARM_NISV_TO_USER, ..Default::default() };
        vm.enable_cap(&abort).context("this KVM is too old: it tells of no aborted access")?;

        let memory = image.load()?;
        connect(&vm, &memory, *state.guest.ram_base)?;
        let mut vcpus = Vec::new();
        for index in 0..state.vcpus.len() {
            vcpus.push(new_vcpu(&vm, &state, index).with_context(|| format!("vCPU {index}"))?);
        }
        let gic = Gic::new(&vm, &Vgic::settled(&state))?;
        for (index, (vcpu, records)) in vcpus.iter().zip(&state.vcpus).enumerate() {
            let written = vcpu.known.write(&vcpu.lock(), records);
            written.with_context(|| format!("vCPU {index}"))?;
        }
        let shared = Shared {
            control: Control::new()?,
            board: Mutex::new(Board::new(&state, disks, console, wire(&vm))),
            clock: Clock::new(&vm),
            memory,
            ram_base: *state.guest.ram_base,
        };
        // Not before: a guest that is refused is told of in one line.
        gic.tell_losses();
        if !shared.clock.is_whole() {
            report::note("this kernel shows the guest the machine's own CNTPCT_EL0");
        }
        // Last, for it runs at once.
        shared.clock.set(&vm, &vcpus[0].lock(), *state.clock.cntvct)?;
        let shared = Arc::new(shared);
        Ok(Self { shared, vm, gic, vcpus, threads: Vec::new(), state })
    }

    /// Starts the vCPUs' threads, and lets the guest run.
    ///
    /// # Errors
    ///
    /// Linux makes no more threads.
    pub fn start(&mut self) -> Result<()> {
        for (index, vcpu) in self.vcpus.iter().enumerate() {
            let (vcpu, shared) = (Arc::clone(vcpu), Arc::clone(&self.shared));
            let thread = std::thread::Builder::new().name(format!("vcpu{index}"));
            self.threads.push(thread.spawn(move || vcpu.run(&shared))?);
        }
        self.shared.control.release();
        Ok(())
    }

    /// Returns the guest's name.
    pub fn name(&self) -> &str {
        self.state.guest.name_text()
    }

    /// Returns the frequency of the guest's counter, in Hz.
    pub fn frequency(&self) -> u64 {
        *self.state.clock.cntfrq
    }

    /// Writes a checkpoint of the guest to a file, while the guest stands still: its time goes on
    /// from the instant, however long that takes. If it is not to go on, it stands still for ever.
    /// Returns the bytes of the file.
    ///
    /// # Errors
    ///
    /// The guest is in a state that no checkpoint has, or the file can't be written. The guest goes
    /// on.
    pub fn checkpoint(&mut self, path: &Path, goes_on: bool) -> Result<u64> {
        self.shared.control.hold(&self.threads);
        let result = self.counter().and_then(|cntvct| self.checkpoint_at(cntvct, path));
        if goes_on || result.is_err() {
            self.shared.control.release();
        }
        result
    }

    /// Does the work of [`Self::checkpoint`] for a guest that stands still, and whose counter reads
    /// `cntvct`.
    fn checkpoint_at(&mut self, cntvct: u64, path: &Path) -> Result<u64> {
        let result = self.read(cntvct).and_then(|state| {
            let bytes = self.write(&state, path)?;
            self.state = state;
            Ok(bytes)
        });
        // Last, for it has run all the time, and runs at once.
        self.shared.clock.set(&self.vm, &self.vcpus[0].lock(), cntvct)?;
        result
    }

    /// Returns the guest's counter, which runs also while its vCPUs stand still.
    fn counter(&self) -> Result<u64> {
        let mut bytes = [0; 8];
        let told = self.vcpus[0].lock().get_one_reg(registers::COUNTER, &mut bytes);
        told.context("KVM does not tell the counter")?;
        Ok(u64::from_le_bytes(bytes))
    }

    fn read(&self, cntvct: u64) -> Result<GuestState> {
        let mut state = self.state.clone();
        for (index, (vcpu, records)) in self.vcpus.iter().zip(&mut state.vcpus).enumerate() {
            let read = vcpu.known.read(&vcpu.lock(), records);
            *records = read.with_context(|| format!("vCPU {index}"))?;
            if !vcpu.known.physical_timer {
                report::note(format_args!(
                    "not said: the physical timer of vCPU {index}; off is assumed"
                ));
                *records.system.cntp_ctl_el0 = 0;
            }
            timer::settle(&mut records.system, cntvct);
        }
        (*state.clock.cntvct, *state.clock.wall_time) = (cntvct, wall_time());
        state.devices = self.shared.board().records();
        let vgic = self.gic.read(&self.high(&state))?;
        *state.distributor = vgic.distributor;
        for (records, cpu) in state.vcpus.iter_mut().zip(vgic.cpus) {
            records.cpu_interface = cpu;
        }
        Ok(state)
    }

    /// Returns the interrupts whose lines are high: those of devices, and those of timers.
    fn high(&self, state: &GuestState) -> Vec<Interrupt> {
        let spi = |intid: u16| Interrupt::Shared { intid: intid.into() };
        let mut high: Vec<_> = self.shared.board().high().map(spi).collect();
        for (vcpu, records) in state.vcpus.iter().enumerate() {
            let now = *state.clock.cntvct;
            let timers = [
                (VIRTUAL_TIMER, Timer::virtual_timer(&records.system)),
                (PHYSICAL_TIMER, Timer::physical_timer(&records.system)),
            ];
            let raised = timers.into_iter().filter(|(_, timer)| timer.line(now));
            high.extend(raised.map(|(intid, _)| Interrupt::Private { vcpu, intid: intid.into() }));
        }
        high
    }

    fn write(&self, state: &GuestState, path: &Path) -> Result<u64> {
        let mut state = state.clone();
        let parent = state.lineage.as_ref().map_or(0, Lineage::identity);
        state.lineage = Some(Lineage::new(random()?, parent, 0));
        let capture = Capture::new(state.records(), &self.shared.memory, &[], routines())?;
        let mut output = Output::create(path)?;
        let written = capture.write(&mut Sink(&mut output), &mut |_, _| ());
        let stats = written.map_err(|error| match error {
            // The error has its reason behind it.
            SaveError::Sink(error) => error,
            other => anyhow::anyhow!("{other}"),
        })?;
        let board = self.shared.board();
        let mut outputs: Vec<_> =
            board.disks().iter().map(|disk| disk.image(path)).collect::<Result<_>>()?;
        outputs.push(output);
        finish_together(outputs)?;
        Ok(stats.bytes)
    }
}

fn random() -> Result<u128> {
    let mut bytes = [0; 16];
    let read = std::fs::File::open("/dev/urandom")
        .and_then(|mut file| std::io::Read::read_exact(&mut file, &mut bytes));
    read.context("cannot read /dev/urandom")?;
    Ok(u128::from_le_bytes(bytes).max(1))
}

/// Makes the guest's RAM what the machine has.
fn connect(vm: &VmFd, memory: &Memory, base: u64) -> Result<()> {
    let region = kvm_userspace_memory_region {
        slot: 0,
        flags: 0,
        guest_phys_addr: base,
        memory_size: stasis_state::ReadRam::len(memory) as u64,
        userspace_addr: memory.address(),
    };
    // SAFETY: 1. The region is all of `memory`'s mapping, so nothing else of this process is in
    // it. 2. A clone of `memory` lives in `Shared` as long as the machine's threads, which never
    // end before the process does: the mapping outlives the machine. 3. This process accesses the
    // mapping as memory that others write, and has no reference to it.
    unsafe { vm.set_user_memory_region(region) }.context("KVM does not take the guest's memory")
}

/// Makes a vCPU at reset, on or off as its record says, with the firmware that Stasis's guests
/// have.
fn new_vcpu(vm: &VmFd, state: &GuestState, index: usize) -> Result<Arc<Vcpu>> {
    let records = &state.vcpus[index];
    let fd = vm.create_vcpu(index as u64).context("KVM makes no vCPU")?;
    let mut init = kvm_vcpu_init::default();
    vm.get_preferred_target(&mut init).context("KVM does not know this CPU")?;
    init.features[0] |= 1 << KVM_ARM_VCPU_PSCI_0_2;
    if *records.power.state == PowerState::Off as u8 {
        init.features[0] |= 1 << KVM_ARM_VCPU_POWER_OFF;
    }
    fd.vcpu_init(&init).context("KVM does not initialise it")?;
    set_firmware(&fd)?;
    check_identity(&fd, &records.identity, index)?;
    let known = Known::new(&fd)?;
    Ok(Arc::new(Vcpu::new(fd, known)))
}

fn set_firmware(fd: &VcpuFd) -> Result<()> {
    let (id, version) = PSCI_VERSION;
    let set = fd.set_one_reg(id, &version.to_le_bytes());
    set.context("this KVM has no PSCI 1.1")?;
    for id in FIRMWARE {
        // A kernel before 5.19 has no such registers, and answers no more than it did then.
        let _ = fd.set_one_reg(id, &0_u64.to_le_bytes());
    }
    Ok(())
}

/// Returns what raises and lowers the interrupts of devices.
fn wire(vm: &Arc<VmFd>) -> Box<dyn FnMut(list::Line) + Send> {
    let vm = Arc::clone(vm);
    Box::new(move |list::Line { intid, level }| {
        let irq = Line(Interrupt::Shared { intid: intid.into() }).encoded();
        if let Err(error) = vm.set_irq_line(irq, level) {
            report::warn(format_args!("KVM does not take the line of interrupt {intid}: {error}"));
        }
    })
}
