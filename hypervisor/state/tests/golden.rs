//! Files of every released minor are read for ever.

mod common;

use std::{fs, path::PathBuf};

use common::{
    edit::Edited, generation, load, load_all, pl061, ram, save_all, shared, state, virtio, watchdog,
};
use stasis_state::{
    GuestState, WriteRam,
    device::SharedMemory,
    guest::{GuestPower, GuestPowerState, Lineage},
    machine::{DeviceKind, Entry, Machine},
    virtio::{Virtio, device_id},
};

/// The files of each version, and the number of vCPUs in each.
const NAMES: [(&str, u8); 2] = [("one-vcpu", 1), ("four-vcpus", 4)];

fn folder(version: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden").join(version)
}

/// Returns the RAM of the guests of the golden files of a minor. Since there are blocks, they have
/// two of them, and pages of all kinds.
fn golden_ram(minor: u16) -> Vec<u8> {
    match minor {
        ..5 => ram("g..o"),
        _ => ram(&("Gw.o".to_owned() + &".".repeat(510) + "Z")),
    }
}

/// Returns the golden files: the version, the number of vCPUs, and the bytes of each.
fn files() -> Vec<(String, u8, Vec<u8>)> {
    let mut files = Vec::new();
    for minor in 0..=stasis_state::header::VERSION.minor {
        let version = format!("1.{minor}");
        let folder = folder(&version);
        assert_eq!(fs::read_dir(&folder).unwrap().count(), NAMES.len());
        for (name, nr_vcpus) in NAMES {
            let file = fs::read(folder.join(name).with_extension("stasis")).unwrap();
            files.push((version.clone(), nr_vcpus, file));
        }
    }
    files
}

/// Returns whether there is time to write a file's guest again. Under Miri, the 2 MiB of memory of
/// the minors with blocks take most of an hour: so it has those before, with one vCPU.
fn is_written_again(minor: u16, nr_vcpus: u8) -> bool {
    !cfg!(miri) || nr_vcpus == 1 && minor < 5
}

/// Returns the guests of the golden files of a version.
fn golden(version: &str) -> impl Iterator<Item = GuestState> {
    let files = files().into_iter().filter(move |(of, ..)| of == version);
    files.map(|(_, _, file)| load(&file).unwrap().state)
}

#[test]
fn every_golden_file_is_read_and_written_again_byte_for_byte() {
    for (version, nr_vcpus, file) in files() {
        let checkpoint = load(&file).unwrap();
        assert_eq!(checkpoint.header.version().to_string(), version);
        assert!(checkpoint.skipped.is_empty());
        let state = &checkpoint.state;
        assert_eq!(state.vcpus.len(), usize::from(nr_vcpus));
        if !is_written_again(checkpoint.header.minor, nr_vcpus) {
            continue;
        }
        let (mut ring, mut log) = (ram("xx"), ram("x"));
        let shares = state.devices.shared.is_some();
        let wanted: Vec<Option<&mut dyn WriteRam>> = match shares {
            true => vec![Some(&mut ring), Some(&mut log)],
            false => Vec::new(),
        };
        let memory = load_all(&file, &checkpoint, wanted).unwrap();
        assert!(memory == golden_ram(checkpoint.header.minor));
        assert!(!shares || ring == ram(".s") && log == ram("h"));
        let shared: &[&[u8]] = if shares { &[&ring, &log] } else { &[] };
        let (saved, _) = save_all(state, &memory, shared);
        let again = match checkpoint.header.minor {
            minor @ ..5 => {
                let shared = state.devices.shared.iter().flat_map(SharedMemory::ranges);
                let mut parts = vec![(*state.guest.ram_base, &memory[..])];
                let regions = [&ring[..], &log[..]];
                parts.extend(shared.map(|range| range.start).zip(regions));
                parts.sort_unstable_by_key(|(base, _)| *base);
                Edited::from_file(&saved).into_older_file(minor, &parts)
            }
            _ => saved,
        };
        assert!(again == file, "{version} is written differently now");
    }
}

#[test]
fn a_file_of_1_0_has_what_every_guest_has() {
    for state in golden("1.0") {
        assert!(state.guest.name.starts_with(b"golden\0"));
        assert_eq!(*state.clock.cntvct, 123_456_789);
        let nr_vcpus = *state.guest.nr_vcpus;
        for (index, vcpu) in (0..).zip(&state.vcpus) {
            assert_eq!(*vcpu.core.pc, 0x4000_1000 + index);
            assert_eq!(vcpu.core.x[30], index << 32 | 0xabcd_001f);
            assert_eq!(*vcpu.identity.mpidr_el1, 0x8000_0000 | index);
            assert_eq!(vcpu.cpu_interface.sgi_src[5], u8::MAX >> (8 - nr_vcpus));
        }
        let last = &state.vcpus[usize::from(nr_vcpus) - 1].cpu_interface;
        assert_eq!(last.cc_apr[2], 1 << 16);
        assert_eq!(state.distributor.spi_active_cpu[1], nr_vcpus - 1);
        assert_eq!(state.devices.pl011.rx_fifo[0], 0x141);
    }
}

#[test]
fn a_file_of_1_1_has_a_watchdog() {
    for state in golden("1.1") {
        assert_eq!(state.devices.watchdog, Some(watchdog()));
    }
}

#[test]
fn a_file_of_1_2_shares_memory() {
    for state in golden("1.2") {
        let regions = state.devices.shared.unwrap();
        assert_eq!((regions.name_text(0), regions.name_text(1)), ("ring", "log"));
        assert_eq!((regions.peers[1], regions.status[1]), (3, 0b101));
    }
}

#[test]
fn a_guest_of_a_file_of_1_3_is_off() {
    for state in golden("1.3") {
        assert_eq!(state.power_state(), GuestPowerState::Off);
    }
}

#[test]
fn the_power_key_of_a_guest_of_a_file_of_1_4_is_down() {
    for state in golden("1.4") {
        assert_eq!(state.devices.pl061, pl061());
    }
}

#[test]
fn a_file_of_1_5_has_its_memory_in_blocks_and_an_identity() {
    for (_, _, file) in files().iter().filter(|(version, ..)| version == "1.5") {
        let stats = load(file).unwrap().stats;
        assert_eq!((stats.pages_stored, stats.pages_word, stats.pages_zero), (2, 4, 512));
    }
    for state in golden("1.5") {
        assert_eq!(state.lineage, Some(lineage()));
    }
}

#[test]
fn a_file_of_1_6_says_which_devices_the_guest_has() {
    for state in golden("1.6") {
        assert_eq!(state.machine(), machine(&state));
        assert_ne!(state.machine(), Machine::before(&state.devices.records()));
    }
    for state in golden("1.5") {
        assert_eq!(state.machine(), Machine::before(&state.devices.records()));
    }
}

/// Returns the machine of a guest that has, besides what all guests before 1.6 had, a virtio device
/// behind its last slot.
fn machine(state: &GuestState) -> Machine {
    let before = Machine::before(&state.devices.records());
    let mut entries: Vec<Entry> = before.entries().collect();
    let slots = entries.iter_mut().find(|entry| entry.kind == DeviceKind::EMPTY_SLOT).unwrap();
    slots.count -= 1;
    let (base, intid) = (0x0a00_3e00, 79);
    entries.push(Entry { kind: DeviceKind::virtio(4), base, size: 0x200, count: 1, intid });
    Machine::of(&mut entries)
}

#[test]
fn a_file_of_1_6_has_virtio_devices_and_a_generation_id() {
    for state in golden("1.6") {
        assert_eq!(state.devices.virtio, virtio());
        assert_eq!(state.devices.generation, Some(generation()));
    }
}

#[test]
fn a_file_of_1_7_has_a_queue_of_more_than_256_entries() {
    for state in golden("1.7") {
        assert_eq!(state.devices.virtio, long_queue());
    }
}

#[test]
fn a_file_is_of_1_7_only_where_a_queue_that_is_ready_is_long() {
    for (num, ready, version) in [(256, 1, "1.6"), (512, 0, "1.6"), (512, 1, "1.7")] {
        let mut state = golden("1.6").next().unwrap();
        (state.devices.virtio.queue_num[0], state.devices.virtio.queue_ready[0]) = (num, ready);
        let memory = vec![0; *state.guest.ram_size as usize];
        let (file, _) = save_all(&state, &memory, &[&ram(".s"), &ram("h")]);
        assert_eq!(load(&file).unwrap().header.version().to_string(), version);
    }
}

#[test]
fn a_file_of_1_8_has_a_terminal() {
    for state in golden("1.8") {
        assert_eq!(state.devices.virtio, terminal());
    }
}

#[test]
fn a_console_without_a_name_was_possible_before_1_8() {
    for (name, version) in [("", "1.6"), ("terminal", "1.8")] {
        let mut state = golden("1.6").next().unwrap();
        state.devices.virtio.device_id[3] = device_id::CONSOLE;
        state.devices.virtio.set_name(3, name);
        let memory = vec![0; *state.guest.ram_size as usize];
        let (file, _) = save_all(&state, &memory, &[&ram(".s"), &ram("h")]);
        assert_eq!(load(&file).unwrap().header.version().to_string(), version);
    }
}

/// Returns virtio devices of which one is a console whose driver is at work.
fn terminal() -> Virtio {
    let mut virtio = long_queue();
    virtio.device_id[3] = device_id::CONSOLE;
    virtio.set_name(3, "terminal");
    virtio.features[3] = 1 << 32 | 1 << 28;
    virtio.driver_features[3] = 1 << 32;
    virtio.status[3] = 0xf;
    for queue in 9..11 {
        virtio.queue_num[queue] = 64;
        virtio.queue_ready[queue] = 1;
        virtio.queue_desc[queue] = 0x4000_0000 + queue as u64 * 0x1000;
        virtio.queue_next_avail[queue] = 0x7ff0 + queue as u16;
    }
    virtio
}

/// Returns virtio devices of which one has a queue as long as QEMU's.
fn long_queue() -> Virtio {
    let mut virtio = virtio();
    virtio.queue_num[0] = 1024;
    virtio
}

fn lineage() -> Lineage {
    Lineage::new(0x0123_4567_89ab_cdef_0011_2233_4455_6677, 0x8899 << 96, 0xaabb)
}

/// Never again for a version that was released: its files are the promise.
#[test]
#[ignore = "writes the golden files of a new minor"]
fn write_golden_files() {
    let version = stasis_state::header::VERSION.to_string();
    fs::create_dir_all(folder(&version)).unwrap();
    let memory = golden_ram(stasis_state::header::VERSION.minor);
    for (name, nr_vcpus) in NAMES {
        let path = folder(&version).join(name).with_extension("stasis");
        let mut state = state(nr_vcpus, memory.len());
        state.power = GuestPower::of(GuestPowerState::Off);
        state.devices.watchdog = Some(watchdog());
        state.devices.shared = Some(shared());
        state.devices.pl061 = pl061();
        state.devices.virtio = terminal();
        state.devices.generation = Some(generation());
        state.lineage = Some(lineage());
        state.machine = Some(Box::new(machine(&state)));
        let (file, _) = save_all(&state, &memory, &[&ram(".s"), &ram("h")]);
        assert!(!path.exists(), "{} is there already", path.display());
        fs::write(path, file).unwrap();
    }
}
