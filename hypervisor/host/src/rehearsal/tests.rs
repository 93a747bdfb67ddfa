use alloc::string::ToString;
use alloc::vec::Vec;

use super::*;
use crate::board::tests::{strings, tree};
use crate::config::{CoreConfig, MemoryMap, NetworkConfig, WindowConfig};
use stasis_guest::shared::SharedRegion;

const MIB: u64 = 1 << 20;
const LOADED: Loaded = Loaded { image: 8 * MIB, archive: 40 * MIB, ram: 0 };

/// Returns what a board like a Raspberry Pi 4, with two cores that can be started and RAM of 948
/// and 3008 MiB, says of these guests.
fn rehearsed(guests: Vec<GuestConfig>, change: impl FnOnce(&mut Configuration)) -> Rehearsed {
    let mut configuration = Configuration { guests, ..Configuration::default() };
    change(&mut configuration);
    let dtb = tree(&[]).to_dtb();
    rehearse(&configuration, Fdt::new(&dtb).unwrap(), LOADED).unwrap()
}

fn said(
    guests: Vec<GuestConfig>,
    change: impl FnOnce(&mut Configuration),
) -> Vec<(Subject, String)> {
    let findings = rehearsed(guests, change).findings;
    findings.iter().map(|finding| (finding.place, finding.complaint.to_string())).collect()
}

fn guest(name: &str, memory: u64) -> GuestConfig {
    GuestConfig::new(name, "image", memory)
}

#[test]
fn a_board_with_room_for_all_says_nothing_and_what_is_left() {
    let all = rehearsed([guest("a", 256 * MIB), guest("b", 64 * MIB)].into(), |_| ());
    assert_eq!((all.cores, &all.findings[..]), (2, &[][..]));
    assert_eq!(all.free_at_first - all.free_at_last, 320 * MIB);
    // The image, the archive and the reserved memory are not free.
    let ram = 0x3b40_0000 + 0xbc00_0000;
    assert!(all.free_at_first < ram - 48 * MIB && all.free_at_first > ram - 60 * MIB);
}

#[test]
fn cores_that_the_board_lacks_are_said_of_plans_and_guests() {
    let wants = GuestConfig { cores: [3].into(), ..guest("a", 64 * MIB) };
    let window = WindowConfig { guest: "a".into(), at_us: 0, length_us: 1000 };
    let plan = CoreConfig { number: 3, frame_us: 10_000, windows: [window].into() };
    let said = said([wants].into(), |configuration| configuration.cores.push(plan));
    let expected = [
        (Subject::Core(0), "core 3 has a frame, and is not there".to_string()),
        (Subject::Guest(0, "cores"), "it wants core 3; there are 2".to_string()),
    ];
    assert_eq!(said, expected);
}

#[test]
fn guests_that_do_not_fit_are_said_and_those_behind_them_are_made() {
    let guests = [guest("a", 2800 * MIB), guest("b", 1000 * MIB), guest("c", 512 * MIB)];
    let said = said(guests.into(), |_| ());
    assert_eq!(said.len(), 1, "{said:?}");
    assert_eq!(said[0].0, Subject::Guest(1, "memory"));
    assert!(said[0].1.starts_with("it needs 1000 MiB of RAM; "), "{said:?}");
}

#[test]
fn a_guest_with_its_memory_mapped_one_to_one_gets_none_below_its_devices() {
    let low =
        |name: &str| GuestConfig { memory_map: MemoryMap::Identity, ..guest(name, 3000 * MIB) };
    let said = said([low("a"), low("b")].into(), |_| ());
    assert!(said[0].1.ends_with(" in one piece at 0x40000000 or above"), "{said:?}");
}

#[test]
fn memory_that_nobody_has_reserved_is_one_block_for_all() {
    let over = |name: &str| GuestConfig { overcommit: true, ..guest(name, 4096 * MIB) };
    let all = rehearsed([over("a"), over("b")].into(), |_| ());
    assert_eq!(all.free_at_first - all.free_at_last, 2 * MIB);
}

#[test]
fn a_region_without_memory_is_said_and_so_are_its_guests() {
    let region = |name: &str, size| SharedRegion {
        name: name.into(),
        size,
        guests: ["a".into(), "b".into()].into(),
    };
    // No region is so large; a board with so little memory would be.
    let regions = [region("small", 4096), region("large", 5000 * MIB)];
    let said =
        said([guest("a", 2 * MIB)].into(), |configuration| configuration.shared.extend(regions));
    assert_eq!((said.len(), said[0].0), (2, Subject::Shared(1)));
    assert!(said[0].1.starts_with("it needs 5000 MiB of RAM"), "{said:?}");
    let lacks = "there is no shared memory \"large\"".to_string();
    assert_eq!(said[1], (Subject::Guest(0, "name"), lacks));
}

#[test]
fn devices_that_are_not_there_or_are_taken_are_said() {
    let wants = |name: &str, device: &str| GuestConfig {
        devices: [device.into()].into(),
        ..guest(name, 2 * MIB)
    };
    let guests = [
        wants("a", "/soc/none@1"),
        wants("b", "/soc/mmc@7e340000"),
        wants("c", "serial0"),
        wants("d", "serial0"),
    ];
    // The second UART is the guests' only if the channel does not have it.
    let board = tree(&[("bootargs", strings(&["channel=off"]))]).to_dtb();
    let configuration = Configuration { guests: guests.into(), ..Default::default() };
    let found = rehearse(&configuration, Fdt::new(&board).unwrap(), LOADED).unwrap().findings;
    let texts: Vec<String> = found.iter().map(|finding| finding.complaint.to_string()).collect();
    assert_eq!(texts.len(), 3, "{texts:?}");
    assert_eq!(texts[0], "the machine has no device \"/soc/none@1\"");
    assert!(texts[1].ends_with("is in use by Stasis itself, or shares a page with one that is"));
    assert!(texts[2].starts_with("guest \"c\" has "), "{texts:?}");
    assert!(found.iter().all(|finding| matches!(finding.place, Subject::Guest(_, "devices"))));
}

#[test]
fn a_counter_slower_than_the_boards_is_said_where_the_tree_tells_it() {
    let slow = || GuestConfig { counter_frequency: Some(1_000_000), ..guest("a", 2 * MIB) };
    assert_eq!(said([slow()].into(), |_| ()), []);
    let mut board = tree(&[]);
    let mut timer = dtoolkit::model::DeviceTreeNode::new_unchecked("timer");
    for (name, value) in [
        ("compatible", strings(&["arm,armv8-timer"])),
        ("clock-frequency", 54_000_000u32.to_be_bytes().to_vec()),
    ] {
        timer.add_property(dtoolkit::model::DeviceTreeProperty::new_unchecked(name, value));
    }
    board.root.add_child(timer);
    let dtb = board.to_dtb();
    let configuration = Configuration { guests: [slow()].into(), ..Configuration::default() };
    let said = rehearse(&configuration, Fdt::new(&dtb).unwrap(), LOADED).unwrap();
    assert_eq!(said.findings[0].place, Subject::Guest(0, "counter-frequency"));
    assert_eq!(said.free_at_first, said.free_at_last);
}

#[test]
fn a_board_without_what_stasis_needs_is_refused() {
    let dtb = dtoolkit::model::DeviceTree::new().to_dtb();
    let configuration = Configuration { guests: [guest("a", MIB)].into(), ..Default::default() };
    let error = rehearse(&configuration, Fdt::new(&dtb).unwrap(), LOADED).unwrap_err();
    assert_eq!(error, MachineError::Missing { what: "PL011 or mini UART" });
}

#[test]
fn a_tree_without_memory_gets_what_is_said() {
    let mut board = tree(&[]);
    board.root.remove_child("memory@0").unwrap();
    let dtb = board.to_dtb();
    let configuration =
        Configuration { guests: [guest("a", 64 * MIB)].into(), ..Default::default() };
    let with = |ram| {
        let fdt = Fdt::new(&dtb).unwrap();
        rehearse(&configuration, fdt, Loaded { ram, ..LOADED }).unwrap()
    };
    assert_eq!((with(0).free_at_first, with(0).findings.len()), (0, 1));
    assert_eq!(
        (with(512 * MIB).free_at_first >> 20, &with(512 * MIB).findings[..]),
        (463, &[][..])
    );
}

#[test]
fn an_uplink_that_is_not_there_is_said_and_one_that_is_there_is_no_guests() {
    let node = |name: &str, properties: &[(&str, Vec<u8>)]| {
        let mut node = dtoolkit::model::DeviceTreeNode::new_unchecked(name);
        for (name, value) in properties {
            let property = dtoolkit::model::DeviceTreeProperty::new_unchecked(*name, value.clone());
            node.add_property(property);
        }
        node
    };
    let cells =
        |cells: &[u32]| cells.iter().flat_map(|cell| cell.to_be_bytes()).collect::<Vec<u8>>();
    let slot = |start: u32, status: &str| {
        [
            ("compatible", strings(&["virtio,mmio"])),
            ("reg", cells(&[0, start, 0x200])),
            ("interrupts", cells(&[0, 45, 1])),
            ("status", strings(&[status])),
        ]
    };
    let mut board = tree(&[]);
    board.root.add_child(node("virtio_mmio@fd003a00", &slot(0xfd00_3a00, "okay")));
    board.root.add_child(node("virtio_mmio@fd003c00", &slot(0xfd00_3c00, "disabled")));
    let dtb = board.to_dtb();
    let said = |uplink: &str, guest: GuestConfig| {
        let network = NetworkConfig { name: "lan".into(), uplink: Some(uplink.into()) };
        let configuration = Configuration {
            guests: [guest].into(),
            networks: [network].into(),
            ..Default::default()
        };
        let found = rehearse(&configuration, Fdt::new(&dtb).unwrap(), LOADED).unwrap().findings;
        found.iter().map(|it| (it.place, it.complaint.to_string())).collect::<Vec<_>>()
    };
    let quiet = || guest("a", 2 * MIB);
    assert_eq!(said("/virtio_mmio@fd003a00", quiet()), []);
    for (uplink, expected) in [
        (
            "/virtio_mmio@a000000",
            "the machine has no device \"/virtio_mmio@a000000\" for its uplink",
        ),
        (
            "/virtio_mmio@fd003c00",
            "its uplink \"/virtio_mmio@fd003c00\" is disabled in the machine's device tree",
        ),
        (
            "/soc/mmc@7e340000",
            "its uplink \"/soc/mmc@7e340000\" is no network card that Stasis drives: those of virtio-mmio are",
        ),
    ] {
        assert_eq!(said(uplink, quiet()), [(Subject::Network(0), expected.to_string())]);
    }
    let wants = GuestConfig {
        devices: ["/virtio_mmio@fd003a00".into()].into(),
        dma_trusted: true,
        memory_map: MemoryMap::Identity,
        ..quiet()
    };
    // The configuration's own rules refuse it before, if both say the path.
    let found = said("/virtio_mmio@fd003a00", wants);
    assert!(found[0].1.contains("is in use by Stasis itself"), "{found:?}");
}
