//! What is saved is what is loaded.

mod common;

use common::{edit::Edited, load, load_all, load_ram, ram, save, save_all, state};
use proptest::prelude::*;
use stasis_state::{
    Capture, Error, GuestState, LoadError, PAGE_SIZE, Record, RecordHeader, RecordType, Routines,
    SaveError, Sink, Source, Target, VcpuState, WriteRam,
    guest::{GuestPower, GuestPowerState},
    machine::Machine,
    register::VALUE_OFFSET,
    vcpu::{PowerState, defined_pstate},
    warnings::warnings,
};

#[test]
fn a_loaded_state_is_the_saved_one_and_saves_to_the_same_bytes() {
    for nr_vcpus in [1, 2, 8] {
        let memory = ram("A..Bc.D.");
        let saved = state(nr_vcpus, memory.len());
        let (file, stats) = save(&saved, &memory);
        assert_eq!((stats.pages_stored, stats.pages_word, stats.pages_zero), (3, 1, 4));
        let checkpoint = load(&file).unwrap();
        assert_eq!(checkpoint.stats, stats);
        assert_eq!(checkpoint.state, saved);
        let loaded = load_ram(&file, &checkpoint).unwrap();
        assert!(loaded == memory);
        assert_eq!(save(&checkpoint.state, &loaded).0, file);
    }
}

#[test]
fn a_guest_is_written_in_the_version_that_has_blocks() {
    let memory = ram("a");
    let mut saved = state(1, memory.len());
    for minor in 0..5 {
        let (file, _) = save(&saved, &memory);
        let older = Edited::from_file(&file).into_older_file(minor, &[(0x4000_0000, &memory)]);
        for (file, version) in [(&file, "1.5".to_owned()), (&older, format!("1.{minor}"))] {
            let checkpoint = load(file).unwrap();
            assert_eq!(checkpoint.state, saved);
            assert_eq!(checkpoint.header.version().to_string(), version);
        }
        match minor {
            0 => saved.devices.watchdog = Some(common::watchdog()),
            2 => saved.power = GuestPower::of(GuestPowerState::Off),
            3 => saved.devices.pl061 = common::pl061(),
            _ => {}
        }
    }
}

#[test]
fn an_older_reader_may_skip_the_machine_that_it_takes_for_granted_and_no_other() {
    let memory = ram("a");
    let mut saved = state(1, memory.len());
    saved.devices.watchdog = Some(common::watchdog());
    let known = Machine::before(&saved.devices.records());
    let mut other = known.clone();
    other.intid[0] += 1;
    for (machine, is_optional) in [(known, true), (other, false)] {
        saved.machine = Some(Box::new(machine));
        let (file, _) = save(&saved, &memory);
        let header = Edited::from_file(&file).record(RecordType::Machine, 0).header;
        assert_eq!(header.kind & RecordHeader::OPTIONAL != 0, is_optional);
        let checkpoint = load(&file).unwrap();
        assert_eq!(checkpoint.header.version().to_string(), "1.6");
        assert_eq!(checkpoint.state, saved);
    }
}

#[test]
fn a_guest_with_virtio_devices_is_written_in_the_version_that_has_them() {
    let memory = ram("a");
    let with_virtio = |state: &mut GuestState| state.devices.virtio = common::virtio();
    let with_id = |state: &mut GuestState| state.devices.generation = Some(common::generation());
    let gives: [&dyn Fn(&mut GuestState); 2] = [&with_virtio, &with_id];
    for give in gives {
        let mut saved = state(1, memory.len());
        give(&mut saved);
        let checkpoint = load(&save(&saved, &memory).0).unwrap();
        assert_eq!(checkpoint.state, saved);
        assert_eq!(checkpoint.header.version().to_string(), "1.6");
    }
}

#[test]
fn what_no_virtio_device_can_have_is_refused() {
    let memory = ram("a");
    type Change = fn(&mut GuestState);
    let changes: [(&str, Change); 8] = [
        ("device_id", |state| state.devices.virtio.device_id[7] = 5),
        ("driver_features", |state| state.devices.virtio.driver_features[0] = 1),
        ("interrupt_status", |state| state.devices.virtio.interrupt_status[2] = 4),
        ("queue_num", |state| state.devices.virtio.queue_num[0] = 12),
        ("queue_ready", |state| state.devices.virtio.queue_ready[3] = 2),
        ("capacity", |state| state.devices.virtio.capacity[0] = 1 << 54),
        ("mac", |state| state.devices.virtio.mac[1] = 1 << 48),
        ("name", |state| state.devices.virtio.set_name(2, "x")),
    ];
    for (register, change) in changes {
        let mut saved = state(1, memory.len());
        saved.devices.virtio = common::virtio();
        change(&mut saved);
        let capture = Capture::new(saved.records(), &memory, &[], Routines::default());
        let error = capture.expect_err(register).to_string();
        assert!(error.contains(register), "{error}");
    }
}

#[test]
fn a_guest_that_is_off_or_has_reset_its_machine_is_so_when_it_is_loaded() {
    let memory = ram("a");
    let loaded = |saved: &GuestState| load(&save(saved, &memory).0).unwrap().state.power_state();
    let mut saved = state(2, memory.len());
    for power in [GuestPowerState::On, GuestPowerState::Off, GuestPowerState::Reset] {
        saved.power = GuestPower::of(power);
        assert_eq!(loaded(&saved), power);
    }
    saved.power = None;
    *saved.vcpus[1].power.state = PowerState::Off as u8;
    assert_eq!(loaded(&saved), GuestPowerState::On, "one vCPU is on");
    *saved.vcpus[0].power.state = PowerState::Off as u8;
    assert_eq!(loaded(&saved), GuestPowerState::Off, "nobody is left to switch a vCPU on");
    saved.power = GuestPower::of(GuestPowerState::Reset);
    assert_eq!(loaded(&saved), GuestPowerState::Reset);
}

#[test]
fn what_is_shared_is_saved_and_loaded_as_far_as_it_is_wanted() {
    let memory = ram("A.b");
    let mut saved = state(1, memory.len());
    saved.devices.shared = Some(common::shared());
    let (file, stats) = save_all(&saved, &memory, &[&ram(".X"), &ram("y")]);
    assert_eq!((stats.pages_stored, stats.pages_word, stats.pages_zero), (2, 2, 2));
    let checkpoint = load(&file).unwrap();
    assert_eq!(checkpoint.stats, stats);
    assert_eq!(checkpoint.state, saved);
    let (mut ring, mut log) = (ram("zz"), ram("z"));
    let wanted = vec![None, Some(&mut log as &mut dyn WriteRam)];
    assert!(load_all(&file, &checkpoint, wanted).unwrap() == memory);
    assert!(log == ram("y"));
    assert!(load_ram(&file, &checkpoint).unwrap() == memory, "none of it is wanted");
    let wanted = vec![Some(&mut ring as &mut dyn WriteRam), None];
    load_all(&file, &checkpoint, wanted).unwrap();
    assert!(ring == ram(".X"));
    let error = load_all(&file, &checkpoint, vec![Some(&mut log)]).unwrap_err();
    assert_eq!(error, Error::RamSize { found: 8192, given: 4096 });
    let capture = Capture::new(saved.records(), &memory, &[&ring], Routines::default());
    assert_eq!(capture.unwrap_err(), Error::RamSize { found: 4096, given: 0 });
}

#[test]
fn a_checkpoint_tells_whose_it_is_before_its_memory_is_read() {
    let memory = ram("abc");
    let mut saved = state(2, memory.len());
    *saved.guest.name = [0; 32];
    saved.guest.name[..5].copy_from_slice(b"linux");
    let (mut file, _) = save(&saved, &memory);
    let name = stasis_state::read_name(&mut &file[..], Routines::default()).unwrap();
    assert_eq!(name, "linux");
    let half = file.len() / 2;
    file.truncate(half);
    assert!(stasis_state::read_name(&mut &file[..], Routines::default()).is_err(), "it is cut");
}

#[test]
fn memory_longer_than_an_extent_and_the_buffers_survives() {
    let mut memory = ram(&("x".repeat(300) + &".".repeat(130) + "y"));
    for (i, byte) in memory[..300 * PAGE_SIZE].iter_mut().enumerate() {
        *byte = (i / 7) as u8;
    }
    let saved = state(1, memory.len());
    let (file, stats) = save(&saved, &memory);
    assert_eq!((stats.pages_stored, stats.pages_word, stats.pages_zero), (300, 1, 130));
    let checkpoint = load(&file).unwrap();
    assert!(load_ram(&file, &checkpoint).unwrap() == memory);
}

#[test]
fn progress_ascends_to_the_end() {
    let memory = vec![7; 3 << 20];
    let saved = state(1, memory.len());
    let capture = Capture::new(saved.records(), &memory, &[], Routines::default()).unwrap();
    let (mut file, mut seen) = (Vec::new(), vec![]);
    capture.write(&mut file, &mut |done, total| seen.push((done, total))).unwrap();
    assert_eq!(seen, [(2 << 20, 3 << 20), (3 << 20, 3 << 20)]);
    let total = file.len() as u64;
    let mut read = vec![];
    let routines = Routines::default();
    let checkpoint =
        stasis_state::read(&mut &file[..], routines, &mut |d, t| read.push((d, t))).unwrap();
    assert_eq!(read.last(), Some(&(total, total)));
    let mut loaded = vec![];
    let mut target = vec![0; memory.len()];
    let target = Target { ram: &mut target, shared: vec![] };
    stasis_state::read_memory(&mut &file[..], &checkpoint, target, routines, &mut |d, t| {
        loaded.push((d, t))
    })
    .unwrap();
    for seen in [read, loaded] {
        assert!(seen.is_sorted() && seen.len() >= 2);
        assert!(seen.iter().all(|&(done, all)| done <= total && all == total));
    }
}

#[test]
fn a_sound_state_has_no_warnings() {
    assert_eq!(warnings(&state(4, PAGE_SIZE).records()), []);
}

#[test]
fn what_a_guest_may_do_to_active_interrupts_is_a_warning_and_no_error() {
    let mut odd = state(1, PAGE_SIZE);
    // The guest changed the priority of an active interrupt.
    odd.distributor.spi_prio[1] = 0x80;
    let found: Vec<_> = warnings(&odd.records()).iter().map(ToString::to_string).collect();
    assert_eq!(
        found,
        [
            "vCPU 0: priority 0xa0 is active, but no interrupt of it is",
            "vCPU 0: interrupt 33 is active, but its priority 0x80 is not",
        ]
    );
    assert_eq!(load(&save(&odd, &ram("a")).0).unwrap().state, odd);

    // With EOImode 1, the priority drops before the interrupt is deactivated.
    let mut dropped = state(1, PAGE_SIZE);
    *dropped.vcpus[0].cpu_interface.cc_ctlr = 0x201;
    dropped.vcpus[0].cpu_interface.cc_apr = GuestState::reset(1).vcpus[0].cpu_interface.cc_apr;
    assert_eq!(warnings(&dropped.records()), []);
}

#[test]
fn an_unsound_state_is_not_saved() {
    let memory = ram("a");
    let routines = Routines::default();
    let mut unsound = state(1, memory.len());
    *unsound.vcpus[0].core.pstate = 0x3c9;
    let error = Capture::new(unsound.records(), &memory, &[], routines).unwrap_err();
    assert_eq!(
        error.to_string(),
        "VCPU_CORE, vCPU 0: pstate is 0x3c9, which it cannot be: the guest runs at EL1 or EL0"
    );
    let mut damaged = state(1, memory.len());
    damaged.devices.pl031 = zerocopy::FromZeros::new_zeroed();
    let error = Capture::new(damaged.records(), &memory, &[], routines).unwrap_err();
    assert_eq!(error.to_string(), "DEVICE_PL031: the headers of its registers are damaged");
    let other = state(1, 2 * PAGE_SIZE);
    let error = Capture::new(other.records(), &memory, &[], routines).unwrap_err();
    assert_eq!(error, Error::RamSize { found: 8192, given: 4096 });
}

/// Storage that fails from some byte on.
struct Failing<T>(T, u64);

impl Source for Failing<&[u8]> {
    type Error = &'static str;

    fn len(&self) -> u64 {
        self.0.len() as u64
    }

    fn read_at(&mut self, offset: u64, buf: &mut [u8]) -> Result<(), Self::Error> {
        if offset + buf.len() as u64 > self.1 {
            return Err("the disk is gone");
        }
        let Ok(()) = self.0.read_at(offset, buf);
        Ok(())
    }
}

impl Sink for Failing<Vec<u8>> {
    type Error = &'static str;

    fn rewrite(&mut self, bytes: &[u8]) -> Result<(), Self::Error> {
        let Ok(()) = self.0.rewrite(bytes);
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Self::Error> {
        if self.0.len() as u64 >= self.1 {
            return Err("the disk is gone");
        }
        let Ok(()) = Sink::write(&mut self.0, bytes);
        Ok(())
    }
}

#[test]
fn a_failure_of_the_storage_is_reported_as_such() {
    let memory = ram("ABC");
    let saved = state(1, memory.len());
    let capture = Capture::new(saved.records(), &memory, &[], Routines::default()).unwrap();
    let mut sink = Failing(Vec::new(), 20000);
    let error = capture.write(&mut sink, &mut |_, _| ()).unwrap_err();
    assert_eq!(error, SaveError::Sink("the disk is gone"));

    let file = save(&saved, &memory).0;
    let mut source = Failing(&file[..], 20000);
    let error = stasis_state::read(&mut source, Routines::default(), &mut |_, _| ()).unwrap_err();
    assert_eq!(error, LoadError::Source("the disk is gone"));
    assert_eq!(error.to_string(), "reading failed: the disk is gone");
}

/// Fills every register of a record with bytes from a generator.
fn fill<R: Record>(record: &mut R, next: &mut impl FnMut() -> u8) {
    for register in R::REGISTERS {
        let start = register.offset + VALUE_OFFSET;
        let len = usize::from(register.shape.width) * usize::from(register.shape.count);
        record.as_mut_bytes()[start..start + len].fill_with(&mut *next);
    }
}

/// Gives every register any value that the invariants allow.
fn scramble(state: &mut GuestState, next: &mut impl FnMut() -> u8) {
    let nr_cpus = *state.guest.nr_vcpus;
    let cpus = u8::MAX >> (8 - nr_cpus);
    for vcpu in &mut state.vcpus {
        let VcpuState { core, system, fp, debug, power, identity, cpu_interface: gic } = vcpu;
        fill(core, next);
        *core.pstate = defined_pstate(*core.pstate & !0x1f | 0x5);
        fill(system, next);
        fill(fp, next);
        fill(debug, next);
        *debug.os_lock &= 1;
        fill(power, next);
        *power.state &= 3;
        *power.serror_pending &= 1;
        fill(identity, next);
        fill(gic, next);
        *gic.priv_enable |= 0xffff;
        *gic.priv_edge |= 0xffff;
        *gic.priv_latch &= !0xffff;
        *gic.priv_level &= !0xffff;
        gic.priv_prio.iter_mut().for_each(|prio| *prio &= 0xf8);
        gic.sgi_src.iter_mut().for_each(|mask| *mask &= cpus);
        for sgi in 0..16 {
            let active = *gic.priv_active >> sgi & 1 != 0;
            gic.sgi_active_src[sgi] = if active { gic.sgi_active_src[sgi] % nr_cpus } else { 0 };
        }
        *gic.cc_ctlr &= 0x21f;
        *gic.cc_pmr &= 0xf8;
        *gic.cc_bpr = 2 + *gic.cc_bpr % 6;
        *gic.cc_abpr = 3 + *gic.cc_abpr % 5;
        gic.cc_apr.iter_mut().for_each(|word| *word &= 0x1111_1111);
    }
    let dist = &mut state.distributor;
    *dist.ctlr = u32::from(next() & 3);
    *dist.iidr = u32::from(next());
    for spi in 0..256 {
        dist.spi_prio[spi] = next() & 0xf8;
        dist.spi_targets[spi] = next() & cpus;
        if next() & 1 != 0 {
            dist.spi_active[spi / 32] |= 1 << (spi % 32);
            dist.spi_active_cpu[spi] = next() % nr_cpus;
        }
    }
    for word in 0..8 {
        dist.spi_group[word] = u32::from_le_bytes([(); 4].map(|()| next()));
        dist.spi_enable[word] = u32::from_le_bytes([(); 4].map(|()| next()));
        dist.spi_latch[word] = u32::from_le_bytes([(); 4].map(|()| next()));
        dist.spi_level[word] = u32::from_le_bytes([(); 4].map(|()| next()));
        dist.spi_edge[word] = u32::from_le_bytes([(); 4].map(|()| next()));
    }
    fill(&mut state.devices.pl031, next);
    fill(&mut state.devices.pl061, next);
    fill(&mut state.devices.pl011, next);
    *state.devices.pl011.rx_count %= 17;
    state.devices.pl011.rx_fifo.iter_mut().for_each(|entry| *entry &= 0xfff);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn any_registers_and_any_zero_pages_survive(
        nr_vcpus in 1u8..=8,
        seed in any::<u64>(),
        pages in proptest::collection::vec(prop_oneof![Just('.'), Just('a'), Just('B')], 1..200),
    ) {
        let mut random = seed | 1;
        let mut next = || {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (random >> 33) as u8
        };
        let memory = ram(&pages.iter().collect::<String>());
        let mut saved = state(nr_vcpus, memory.len());
        saved.distributor = GuestState::reset(nr_vcpus).distributor;
        *saved.distributor.nr_irqs = 288;
        scramble(&mut saved, &mut next);
        let (file, _) = save(&saved, &memory);
        let checkpoint = load(&file).unwrap();
        prop_assert_eq!(&checkpoint.state, &saved);
        let loaded = load_ram(&file, &checkpoint).unwrap();
        prop_assert!(loaded == memory);
        prop_assert!(save(&checkpoint.state, &loaded).0 == file);
    }
}
