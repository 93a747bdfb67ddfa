//! Bytes as what guests and devices do to a virtual GIC of two vCPUs on two cores: accesses to the
//! distributor, lines, acknowledges, stores to its CPU interface, world switches, checkpoints.
//! Whatever comes, no interrupt is in two list registers, and the records can be stored.

use stasis_state::{GuestState, invariants};
use stasis_vgic::{
    Access, ActivePriorities, CTLR_MASK, Control, Effects, ListRegister, MachineControl, Origin,
    State, VIRTUAL_TIMER, VcpuMask, Vgic, VirtualInterface,
};

const CPUS: usize = 2;
const LIST_REGISTERS: usize = 4;
const INTIDS: u16 = 96;

/// A core's virtual interface, and the physical interrupt of its timer.
#[derive(Default)]
struct Core {
    list_registers: [ListRegister; LIST_REGISTERS],
    control: Control,
    unlisted_ends: u32,
    machine_control: MachineControl,
    active_priorities: ActivePriorities,
    timer_line: bool,
    timer_active: bool,
}

impl VirtualInterface for Core {
    fn list_registers(&self) -> usize {
        LIST_REGISTERS
    }

    fn write_list_register(&mut self, n: usize, value: ListRegister) {
        self.list_registers[n] = value;
    }

    fn read_state(&mut self, n: usize) -> State {
        self.list_registers[n].state
    }

    fn write_control(&mut self, control: Control) {
        self.control = control;
        self.unlisted_ends = 0;
    }

    fn read_unlisted_ends(&mut self) -> u32 {
        self.unlisted_ends % 32
    }

    fn read_machine_control(&mut self) -> MachineControl {
        self.machine_control
    }

    fn write_machine_control(&mut self, control: MachineControl) {
        self.machine_control = control;
    }

    fn read_active_priorities(&mut self) -> ActivePriorities {
        self.active_priorities
    }

    fn write_active_priorities(&mut self, active: ActivePriorities) {
        self.active_priorities = active;
    }

    fn read_physical_line(&mut self, _: u16) -> bool {
        self.timer_line
    }

    fn set_physical_active(&mut self, _: u16, active: bool) {
        self.timer_active = active;
    }
}

impl Core {
    fn residents(&self) -> impl Iterator<Item = u16> {
        let filled = self.list_registers.iter().filter(|lr| lr.state != State::Inactive);
        filled.map(|lr| lr.intid)
    }

    /// The guest acknowledges what is in a list register, if that is pending.
    fn acknowledge(&mut self, n: usize) {
        let state = &mut self.list_registers[n].state;
        if *state == State::Pending {
            *state = State::Active;
        }
    }

    /// The guest deactivates what is in a list register, or else what is in none.
    fn end(&mut self, n: usize) {
        let ListRegister { state, origin, .. } = &mut self.list_registers[n];
        if state.is_active() {
            *state = if state.is_pending() { State::Pending } else { State::Inactive };
            if matches!(origin, Origin::Hardware { .. }) {
                self.timer_active = false;
            }
        } else if self.control.tells_unlisted_ends() {
            self.unlisted_ends += 1;
        }
    }
}

impl Core {
    /// The guest stores the bits of a word to its CPU interface.
    fn store(&mut self, word: u32) {
        self.machine_control = MachineControl {
            ctlr: word & CTLR_MASK,
            priority_mask: (word >> 27 << 3) as u8,
            binary_point: (word >> 21 & 7) as u8,
            group1_binary_point: (word >> 18 & 7) as u8,
        };
    }
}

struct Machine {
    vgic: Vgic,
    cores: [Core; CPUS],
}

/// Takes bytes from the input; 0 where it has ended.
struct Input<'a>(&'a [u8]);

impl Input<'_> {
    fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    fn word(&mut self) -> u32 {
        u32::from_le_bytes([self.byte(), self.byte(), self.byte(), self.byte()])
    }
}

/// Does what the bytes say. Panics if that breaks anything.
pub fn run(data: &[u8]) {
    let Ok(vgic) = Vgic::new(INTIDS, CPUS as u8) else { panic!("a GIC of the simplest kind") };
    let mut machine = Machine { vgic, cores: Default::default() };
    machine.load_all();
    let mut input = Input(data);
    while !input.0.is_empty() {
        machine.step(&mut input);
        machine.check();
    }
    machine.checkpoint();
}

impl Machine {
    fn load_all(&mut self) {
        for vcpu in 0..CPUS {
            self.vgic.load(vcpu, &mut self.cores[vcpu]);
            self.enter(Effects { kick: VcpuMask::only(vcpu) });
        }
    }

    /// Every core that is to look does so at once.
    fn enter(&mut self, effects: Effects) {
        for vcpu in effects.kick.iter() {
            let effects = self.vgic.enter(vcpu, &mut self.cores[vcpu]);
            assert!(effects.kick.without(vcpu).is_empty(), "entering {vcpu} kicks {effects:?}");
        }
    }

    /// Makes others fold, makes the access, and lets all go on.
    fn access(&mut self, vcpu: usize, offset: u64, width: u8, value: Option<u32>) {
        let Ok(access) = Access::checked(offset, width) else { return };
        let others = self.vgic.needs_sync(vcpu, access, value.is_some());
        let mut effects = self.sync(others);
        let core = &mut self.cores[vcpu];
        match value {
            Some(value) => {
                effects |= self.vgic.distributor_write(vcpu, access, value.into(), core);
            }
            None => {
                let (first, more) = self.vgic.distributor_read(vcpu, access, core);
                effects |= more;
                let (second, more) = self.vgic.distributor_read(vcpu, access, core);
                effects |= more;
                assert_eq!(first, second, "two reads of {offset:#x}");
            }
        }
        self.enter(effects);
        self.enter_all();
    }

    fn sync(&mut self, vcpus: VcpuMask) -> Effects {
        let mut effects = Effects::default();
        for vcpu in vcpus.iter() {
            effects |= self.vgic.sync(vcpu, &mut self.cores[vcpu]);
        }
        effects
    }

    fn enter_all(&mut self) {
        self.enter(Effects { kick: VcpuMask((1 << CPUS) - 1) });
    }

    fn step(&mut self, input: &mut Input) {
        let what = input.byte();
        let vcpu = usize::from(what >> 7);
        let width = 1 << (what >> 5 & 3);
        let intid = |byte: u8| u16::from(byte) % INTIDS;
        match what & 0xf {
            0..=2 => {
                let offset = u64::from(input.word() as u16) % 0x1000 / width * width;
                self.access(vcpu, offset, width as u8, None);
            }
            3..=7 => {
                let offset = u64::from(input.word() as u16) % 0x1000 / width * width;
                let value = input.word();
                self.access(vcpu, offset, width as u8, Some(value));
            }
            8 => {
                let effects = self.vgic.set_spi_level(intid(input.byte()), what & 0x40 != 0);
                self.enter(effects);
            }
            9 => {
                let effects = self.vgic.pulse_spi(intid(input.byte()));
                self.enter(effects);
            }
            10 => {
                let ppi = intid(input.byte());
                if ppi != VIRTUAL_TIMER {
                    let effects = self.vgic.set_ppi_level(vcpu, ppi, what & 0x40 != 0);
                    self.enter(effects);
                }
            }
            11 => self.timer(vcpu, what & 0x40 != 0),
            12 => self.cores[vcpu].acknowledge(usize::from(what >> 5 & 3)),
            13 => {
                self.cores[vcpu].end(usize::from(what >> 5 & 3));
                let effects = self.vgic.sync(vcpu, &mut self.cores[vcpu]);
                self.enter(effects);
                self.enter_all();
            }
            14 => {
                let value = input.word();
                self.cores[vcpu].machine_control.ctlr |= 1 << 9;
                let others = self.vgic.deactivate_needs_sync(vcpu, value);
                let mut effects = self.sync(others);
                effects |= self.vgic.deactivate(vcpu, value, &mut self.cores[vcpu]);
                self.enter(effects);
                self.enter_all();
            }
            // The guest's stores to GICC, of any value: no bit of them is refused.
            0xf if what & 0x60 == 0 => self.cores[vcpu].store(input.word()),
            0xf if what & 0x60 == 0x20 => {
                self.cores[vcpu].active_priorities = ActivePriorities(input.word());
            }
            _ => {
                self.checkpoint();
                self.load_all();
            }
        }
    }

    /// The timer's line; it interrupts the core unless it is active.
    fn timer(&mut self, vcpu: usize, line: bool) {
        let core = &mut self.cores[vcpu];
        core.timer_line = line;
        if line && !core.timer_active {
            core.timer_active = true;
            let (linked, effects) = self.vgic.hardware_interrupt(vcpu, VIRTUAL_TIMER);
            assert!(linked);
            self.enter(effects);
        }
    }

    fn check(&self) {
        for core in &self.cores {
            let mut seen = [false; INTIDS as usize];
            for intid in core.residents() {
                let seen = &mut seen[intid as usize];
                assert!(!*seen, "INTID {intid} is twice in {:x?}", core.list_registers);
                *seen = true;
            }
        }
        let spis = |core: &Core| core.residents().filter(|intid| *intid >= 32).collect::<Vec<_>>();
        let [first, second] = &self.cores;
        let first = spis(first);
        let both = spis(second).into_iter().find(|intid| first.contains(intid));
        assert_eq!(both, None, "an SPI is on two cores");
    }

    /// All state to the records and back; a file could have the records.
    fn checkpoint(&mut self) {
        for vcpu in 0..CPUS {
            let effects = self.vgic.save(vcpu, &mut self.cores[vcpu]);
            self.enter(Effects { kick: VcpuMask(effects.kick.0 & !((2 << vcpu) - 1)) });
        }
        let shown = self.vgic.to_string();
        let dist = self.vgic.distributor().clone();
        let cpus: Vec<_> = self.vgic.cpus().iter().map(|cpu| cpu.state.clone()).collect();
        let mut guest = GuestState::reset(CPUS as u8);
        guest.guest.name[..5].copy_from_slice(b"guest");
        *guest.guest.ram_size = 4096;
        *guest.clock.cntfrq = 1;
        *guest.distributor = dist.clone();
        guest.vcpus.iter_mut().zip(&cpus).for_each(|(vcpu, cpu)| vcpu.cpu_interface = cpu.clone());
        if let Err(error) = invariants::check(&guest.records()) {
            panic!("{error} in what was to be stored:\n{shown}");
        }
        match Vgic::from_state(dist.into(), cpus.into_iter()) {
            Ok(vgic) => self.vgic = vgic,
            Err(error) => panic!("{error} in what was saved:\n{shown}"),
        }
    }
}
