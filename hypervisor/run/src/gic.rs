//! The machine's GIC: the drivers of its frames, and the calling core's GICH as the vGIC's
//! [`VirtualInterface`].

use core::sync::atomic::{AtomicU8, Ordering};
use spin::Once;
use stasis_arch::boot::MAX_CORES;
use stasis_arch::cpu;
use stasis_host::board::GicFrames;
use stasis_hw::gic::{Acknowledged, CpuInterface, Distributor, SgiTarget, VirtualInterfaceControl};
use stasis_hw::mmio::Frame;
use stasis_memory::range::Range;
use stasis_vgic::{
    ActivePriorities, Control, ListRegister, MachineControl, Packed, PackedControl, State,
    VirtualInterface,
};

/// INTID of the kick: the SGI that makes a core look at what it is asked to do.
pub const KICK: u32 = 0;
/// INTID of EL2's physical timer.
pub const EL2_TIMER: u32 = 26;
/// INTID of the virtual timer, which is the guest's.
pub const VIRTUAL_TIMER: u32 = stasis_vgic::VIRTUAL_TIMER as u32;

struct Gic {
    distributor: Distributor,
    cpu: CpuInterface,
    virtual_interface: VirtualInterfaceControl,
    maintenance: u32,
}

static GIC: Once<Gic> = Once::new();
/// The GIC's own number of each core, as a mask of one bit. Each core stores its own (Release)
/// before the others know of it; a core that sends to it loads it (Acquire).
static CPU_MASKS: [AtomicU8; MAX_CORES] = [const { AtomicU8::new(0) }; MAX_CORES];

fn gic() -> &'static Gic {
    GIC.get().expect("the GIC is found before a guest or another core runs")
}

/// Sets the distributor up. Called once, by core 0.
///
/// # Safety
///
/// 1. The frames are those of the machine's GICv2, mapped one to one as device memory for ever, at
///    multiples of 8.
/// 2. Nothing else uses them.
pub unsafe fn init(frames: &GicFrames) {
    let start = |frame: Range| frame.start as usize;
    // SAFETY: 1. The frames are mapped one to one as device memory for ever, and aligned, by
    // condition 1. 2. They are the GIC's, by condition 1, and what the drivers do to a GIC changes
    // no memory.
    let (distributor, cpu, virtual_interface) = unsafe {
        (
            Distributor::new(Frame::new(start(frames.gicd))),
            CpuInterface::new(Frame::new(start(frames.gicc))),
            VirtualInterfaceControl::new(Frame::new(start(frames.gich))),
        )
    };
    let maintenance = frames.maintenance;
    GIC.call_once(|| Gic { distributor, cpu, virtual_interface, maintenance });
    gic().distributor.init();
}

/// Sets up the calling core's interfaces, and enables the interrupts that every core takes.
pub fn init_this_core() {
    let gic = gic();
    gic.distributor.init_this_cpu();
    gic.cpu.init_this_cpu();
    CPU_MASKS[cpu::number()].store(gic.distributor.this_cpu_mask(), Ordering::Release);
    stasis_vgic::reset_hardware(&mut ThisCore::here());
    for intid in [gic.maintenance, EL2_TIMER, VIRTUAL_TIMER] {
        gic.distributor.enable(intid);
    }
}

/// Returns the number of list registers.
pub fn list_registers() -> usize {
    gic().virtual_interface.list_registers()
}

/// Routes SPI `intid` to the calling core, and enables it.
pub fn route_here(intid: u32) {
    let gic = gic();
    gic.distributor.set_targets(intid, gic.distributor.this_cpu_mask());
    gic.distributor.enable(intid);
}

/// Routes SPI `intid`, which is disabled, to `core`, and makes it edge-triggered or
/// level-sensitive.
pub fn route_to(intid: u32, core: usize, edge: bool) {
    let gic = gic();
    gic.distributor.set_edge(intid, edge);
    gic.distributor.set_targets(intid, CPU_MASKS[core].load(Ordering::Acquire));
}

/// Enables an interrupt.
pub fn enable(intid: u32) {
    gic().distributor.enable(intid);
}

/// Makes `core` look at what it is asked to do. The barrier makes visible what the caller has
/// written before.
pub fn kick(core: usize) {
    cpu::dsb();
    let mask = CPU_MASKS[core].load(Ordering::Acquire);
    gic().distributor.send_sgi(KICK, SgiTarget::List(mask));
}

/// Disables an interrupt.
pub fn disable(intid: u32) {
    gic().distributor.disable(intid);
}

/// Clears the pending state of an edge-triggered interrupt.
pub fn forget(intid: u32) {
    gic().distributor.clear_pending(intid);
}

/// GICC, GICH and GICD as the calling core sees them.
#[derive(Clone)]
pub struct ThisCore(&'static Gic);

impl ThisCore {
    /// Returns the calling core, which must be the one that uses the result.
    pub fn here() -> Self {
        Self(gic())
    }

    /// Acknowledges the most urgent pending interrupt, drops its priority, and returns it. It is
    /// active. Returns `None` if none is pending.
    #[inline(always)]
    pub fn take(&self) -> Option<Acknowledged> {
        let interrupt = self.0.cpu.acknowledge()?;
        self.0.cpu.drop_priority(interrupt);
        Some(interrupt)
    }

    /// Deactivates an interrupt that no guest's EOI will deactivate.
    #[inline(always)]
    pub fn end(&self, interrupt: Acknowledged) {
        self.0.cpu.deactivate(interrupt);
    }

    /// Returns whether the virtual timer's interrupt is active on this core: a guest has it.
    #[inline(always)]
    pub fn timer_is_active(&self) -> bool {
        self.0.distributor.is_active(VIRTUAL_TIMER)
    }

    /// Calls `with` while no interrupt is signalled to the vCPU that is loaded on this core.
    pub fn hushed<R>(&self, with: impl FnOnce() -> R) -> R {
        let is_on = self.0.virtual_interface.hush();
        // The vCPU is entered next, which no access to a device orders.
        cpu::dsb();
        let result = with();
        if is_on {
            self.0.virtual_interface.signal();
        }
        result
    }

    /// Returns whether `interrupt` is the GIC's maintenance interrupt.
    #[inline(always)]
    pub fn is_maintenance(&self, interrupt: Acknowledged) -> bool {
        interrupt.intid() == self.0.maintenance
    }
}

impl VirtualInterface for ThisCore {
    #[inline(always)]
    fn list_registers(&self) -> usize {
        self.0.virtual_interface.list_registers()
    }

    #[inline(always)]
    fn write_list_register(&mut self, n: usize, value: ListRegister) {
        self.0.virtual_interface.write_list_register(n, value);
    }

    #[inline(always)]
    fn write_packed(&mut self, n: usize, value: Packed) {
        self.0.virtual_interface.write_packed(n, value);
    }

    #[inline(always)]
    fn read_state(&mut self, n: usize) -> State {
        self.0.virtual_interface.read_state(n)
    }

    #[inline(always)]
    fn write_control(&mut self, control: Control) {
        self.0.virtual_interface.write_control(control);
    }

    #[inline(always)]
    fn read_unlisted_ends(&mut self) -> u32 {
        self.0.virtual_interface.read_unlisted_ends()
    }

    #[inline(always)]
    fn read_machine_control(&mut self) -> MachineControl {
        self.0.virtual_interface.read_machine_control()
    }

    #[inline(always)]
    fn write_machine_control(&mut self, control: MachineControl) {
        self.0.virtual_interface.write_machine_control(control);
    }

    #[inline(always)]
    fn read_packed_control(&mut self) -> PackedControl {
        self.0.virtual_interface.read_packed_control()
    }

    #[inline(always)]
    fn write_packed_control(&mut self, control: PackedControl) {
        self.0.virtual_interface.write_packed_control(control);
    }

    #[inline(always)]
    fn read_active_priorities(&mut self) -> ActivePriorities {
        self.0.virtual_interface.read_active_priorities()
    }

    #[inline(always)]
    fn write_active_priorities(&mut self, active: ActivePriorities) {
        self.0.virtual_interface.write_active_priorities(active);
    }

    fn read_physical_line(&mut self, intid: u16) -> bool {
        self.0.distributor.is_pending(intid.into())
    }

    fn set_physical_active(&mut self, intid: u16, active: bool) {
        self.0.distributor.set_active(intid.into(), active);
    }
}
