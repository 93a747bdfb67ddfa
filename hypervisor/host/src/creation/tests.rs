use super::*;
use crate::archive;
use crate::config::DiskConfig;
use alloc::string::ToString;
use alloc::vec;
use stasis_devices::virtio::fitting::Fitting;
use stasis_guest::given::{Grant, lay_out};
use stasis_guest::image::Kind;

const MIB: u64 = 1 << 20;

/// Returns an archive with the image of a guest.
fn archive() -> Vec<u8> {
    archive::tests::archive(&[("Image", b"\0\0\0\x14")])
}

fn loaded() -> Boot {
    Boot {
        kind: Kind::Raw,
        entry: RAM_BASE + 0x8_0000,
        x0: RAM_BASE + MIB,
        image: RAM_BASE + 0x8_0000..RAM_BASE + 0x8_0004,
        initrd: None,
        dtb: RAM_BASE + MIB..RAM_BASE + MIB + 16,
        dtb_copy: None,
        granule: None,
        warning: None,
    }
}

fn config() -> GuestConfig {
    let watchdog_us = Some(1_500_000);
    GuestConfig { vcpus: 2, watchdog_us, ..GuestConfig::new("rt", "Image", 4 * MIB) }
}

const IDENTITY: fn() -> Identity = Identity::default;
const HZ: u64 = 62_500_000;

#[test]
fn a_guest_is_made_of_what_its_configuration_says() {
    let (config, given, bytes) = (config(), Given::default(), archive());
    let names = ["linux", "rt"].map(Into::into).to_vec();
    let ring = SharedRegion { name: "ring".into(), size: 2 * MIB, guests: names };
    let regions = [ring];
    let blueprint = Blueprint::new(&config, &regions, &given, RAM_BASE, None);
    let parts = blueprint.parts(&Archive::open(&bytes).unwrap()).unwrap();
    assert_eq!((parts.image, parts.vcpus, parts.ram_base), (&b"\0\0\0\x14"[..], 2, RAM_BASE));
    assert_eq!(parts.equipment.watchdog_us, Some(1_500_000));
    let shared = parts.equipment.shared;
    assert_eq!((shared.len(), shared[0].index), (1, 1));
    let identity = IDENTITY();
    let here = Here { identity: &identity, counter_hz: HZ, wall_time: 5, can_leave: true };
    let (mut guest, mut vcpus) = blueprint.build(&loaded(), here).unwrap();
    assert_eq!((guest.name(), guest.ram_base(), guest.ram_size()), ("rt", RAM_BASE, 4 * MIB));
    assert_eq!((*vcpus[0].core.pc, vcpus[0].core.x[0]), (RAM_BASE + 0x8_0000, RAM_BASE + MIB));
    let records = guest.records(vcpus.iter_mut(), 0, 0);
    assert_eq!(*records.clock.cntfrq, HZ);
    assert_eq!(records.vcpus.len(), 2);
}

#[test]
fn a_guest_that_may_leave_is_shown_caches_for_any_board_and_others_the_cores_own() {
    const PIPT: u64 = 0x8444_c004;
    const VIPT: u64 = 0x8444_8004;
    let (given, mut identity) = (Given::default(), IDENTITY());
    *identity.ctr_el0 = PIPT;
    for (portable, can_leave, shown) in
        [(true, true, VIPT), (true, false, PIPT), (false, true, PIPT), (false, false, PIPT)]
    {
        let config = GuestConfig { portable, ..config() };
        let here = Here { identity: &identity, counter_hz: HZ, wall_time: 0, can_leave };
        let blueprint = Blueprint::new(&config, &[], &given, RAM_BASE, None);
        let (_, vcpus) = blueprint.build(&loaded(), here).unwrap();
        assert!(vcpus.iter().all(|vcpu| *vcpu.identity.ctr_el0 == shown), "{portable} {can_leave}");
    }
}

#[test]
fn a_guest_whose_image_the_archive_lacks_is_not_made() {
    let (mut config, given, bytes) = (config(), Given::default(), archive());
    let archive = Archive::open(&bytes).unwrap();
    config.initrd = Some("initrd".into());
    let blueprint = Blueprint::new(&config, &[], &given, RAM_BASE, None);
    let error = blueprint.parts(&archive).unwrap_err();
    assert!(matches!(error, CreationError::Archive(_)));
    assert!(error.to_string().contains("initrd"));
}

#[test]
fn a_guest_that_is_configured_with_a_counter_slower_than_the_machines_is_not_made() {
    let config = GuestConfig { counter_frequency: Some(1_000_000), ..config() };
    let given = Given::default();
    let blueprint = Blueprint::new(&config, &[], &given, RAM_BASE, None);
    let identity = IDENTITY();
    let here = Here { identity: &identity, counter_hz: HZ, wall_time: 0, can_leave: true };
    let error = blueprint.build(&loaded(), here).unwrap_err();
    assert_eq!(error, PaceError::Configured { asked: 1_000_000, host: HZ }.into());
}

#[test]
fn all_ram_counts_as_written_where_a_device_may_write() {
    let (config, given) = (config(), Given::default());
    assert!(!Blueprint::new(&config, &[], &given, RAM_BASE, None).is_written_unseen());
    let frames = vec![Range::new(0xa00_0000, 0x200)];
    let disk = Grant { path: "/virtio".into(), frames, bus_master: true, ..Grant::default() };
    let given = lay_out(vec![disk]).unwrap();
    assert!(Blueprint::new(&config, &[], &given, RAM_BASE, None).is_written_unseen());
}

#[test]
fn a_guest_is_started_again_in_a_place_of_its_own_size_alone() {
    let config = config();
    let ram = Range::new(RAM_BASE, 4 * MIB);
    assert_eq!(check_restart(&config, 2, ram), Ok(()));
    let other = Err(NotStartable::OtherGuest);
    assert_eq!(check_restart(&config, 1, ram), other);
    assert_eq!(check_restart(&config, 2, Range::new(RAM_BASE, 2 * MIB)), other);
    let elsewhere = Range::new(RAM_BASE + 2 * MIB, 4 * MIB);
    assert_eq!(check_restart(&config, 2, elsewhere), other);
    let identity = GuestConfig { memory_map: MemoryMap::Identity, ..config };
    assert_eq!(check_restart(&identity, 2, elsewhere), Ok(()), "it has it where the machine has");
}

#[test]
fn a_terminal_is_the_last_of_the_virtio_devices_and_needs_no_source_of_random_bytes() {
    let config = GuestConfig { terminal: true, entropy: true, ..config() };
    let given = Given::default();
    let fittings = |random| Blueprint::new(&config, &[], &given, RAM_BASE, random).fittings;
    assert_eq!(fittings(Some([1; 16])), [Fitting::Entropy, Fitting::Terminal]);
    assert_eq!(fittings(None), [Fitting::Terminal]);
}

#[test]
fn memory_is_cleared_before_a_guest_runs_if_devices_or_a_window_want_it() {
    let bare = GuestConfig::new("web", "Image", 64 * MIB);
    assert_eq!(NewRam::of(&bare, false), NewRam::Stale);
    assert_eq!(NewRam::of(&bare, true), NewRam::Cleared);
    let trusted = GuestConfig { dma_trusted: true, ..bare.clone() };
    let entropy = GuestConfig { entropy: true, ..bare.clone() };
    let networks = GuestConfig { networks: vec!["lan".into()], ..bare.clone() };
    for config in [trusted, entropy, networks] {
        assert_eq!(NewRam::of(&config, false), NewRam::Cleared);
    }
    // A window forbids that it waits for memory, which the configuration's check knows.
    let overcommit = GuestConfig { overcommit: true, ..bare };
    assert_eq!(NewRam::of(&overcommit, false), NewRam::Overcommitted);
}

#[test]
fn a_clone_starts_as_its_original_with_its_own_name_and_disks() {
    let disk = |volume: &str| DiskConfig { volume: volume.into(), size: 5 * MIB, from: None };
    let disks = vec![disk("root"), disk("data")];
    let original = GuestConfig { disks, networks: vec!["lan".into()], ..config() };
    let volumes = ["root-twin", "data-twin"].map(String::from);
    let copy = config_under_name(&original, "twin", volumes.to_vec()).unwrap();
    let disks = copy.disks.iter().map(|disk| (disk.volume.as_str(), disk.size));
    assert!(disks.eq([("root-twin", 5 * MIB), ("data-twin", 5 * MIB)]));
    assert_eq!(copy.name, "twin");
    // All else is the same.
    let disks = original.disks.clone();
    assert_eq!(GuestConfig { name: "rt".into(), disks, ..copy }, original);
    let short = config_under_name(&original, "twin", vec!["root-twin".into()]);
    assert_eq!(short, Err(NotStartable::OtherDisks));
}
