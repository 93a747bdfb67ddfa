use super::super::give::{GiveError, give, remarks};
use super::*;
use dtoolkit::model::{DeviceTree, DeviceTreeNode, DeviceTreeProperty};
use stasis_guest::given::Given;

fn put(node: &mut DeviceTreeNode, name: &str, value: &[u8]) {
    node.add_property(DeviceTreeProperty::new_unchecked(name, value));
}

fn cells(values: &[u32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_be_bytes()).collect()
}

fn node(name: &str, compatible: &str, frame: Option<(u32, u32)>, spis: &[u32]) -> DeviceTreeNode {
    let mut node = DeviceTreeNode::new_unchecked(name);
    put(&mut node, "compatible", [compatible.as_bytes(), b"\0"].concat().as_slice());
    if let Some((start, len)) = frame {
        put(&mut node, "reg", &cells(&[start, len]));
    }
    let interrupts: Vec<u32> = spis.iter().flat_map(|spi| [0, *spi, 4]).collect();
    if !interrupts.is_empty() {
        put(&mut node, "interrupts", &cells(&interrupts));
    }
    node
}

/// Returns a machine with a clock, two devices on one page, one that is disabled, and others that
/// can't be given.
fn machine() -> Vec<u8> {
    let mut tree = DeviceTree::new();
    let root = &mut tree.root;
    put(root, "#address-cells", &cells(&[1]));
    put(root, "#size-cells", &cells(&[1]));
    put(root, "interrupt-parent", &cells(&[7]));
    let mut gic = node("intc@1000", "arm,gic-400", Some((0x1000, 0x1000)), &[]);
    put(&mut gic, "phandle", &cells(&[7]));
    let mut crystal = node("crystal", "fixed-clock", None, &[]);
    put(&mut crystal, "phandle", &cells(&[9]));
    put(&mut crystal, "clock-frequency", &cells(&[24_000_000]));
    let mut rtc = node("rtc@4000", "arm,pl031", Some((0x4000, 0x1000)), &[2]);
    put(&mut rtc, "clocks", &cells(&[9]));
    put(&mut rtc, "clock-names", b"apb_pclk\0");
    let mut off = node("off@8000", "arm,pl061", Some((0x8000, 0x1000)), &[]);
    put(&mut off, "status", b"disabled\0");
    let mut cascaded = node("cascaded@9000", "x", Some((0x9000, 0x1000)), &[3]);
    put(&mut cascaded, "interrupt-parent", &cells(&[8]));
    let mut private = node("private@a000", "x", Some((0xa000, 0x1000)), &[]);
    put(&mut private, "interrupts", &cells(&[1, 3, 4]));
    let mut extended = node("extended@1a000", "x", Some((0x1_a000, 0x1000)), &[]);
    put(&mut extended, "interrupts-extended", &cells(&[8, 0, 3, 4]));
    let mut divider = node("divider", "x-clock", None, &[]);
    put(&mut divider, "phandle", &cells(&[10]));
    put(&mut divider, "clock-frequency", &cells(&[12_000_000]));
    let mut other_crystal = node("other-crystal", "fixed-clock", None, &[]);
    put(&mut other_crystal, "phandle", &cells(&[12]));
    put(&mut other_crystal, "clock-frequency", &cells(&[12_000_000]));
    let mut divided = node("divided@1b000", "x", Some((0x1_b000, 0x1000)), &[]);
    put(&mut divided, "clocks", &cells(&[10]));
    let mut two_clocks = node("two-clocks@1c000", "x", Some((0x1_c000, 0x1000)), &[]);
    put(&mut two_clocks, "clocks", &cells(&[9, 12]));
    let twin = node("twin@1d000", "x", Some((0x1_d000, 0x1000)), &[89]);
    let mut gated = node("gated@b000", "x", Some((0xb000, 0x1000)), &[]);
    put(&mut gated, "clocks", &cells(&[7]));
    let mut aliases = DeviceTreeNode::new_unchecked("aliases");
    put(&mut aliases, "clock0", b"/rtc@4000\0");
    let left = node("left@6000", "x", Some((0x6000, 0x200)), &[40]);
    let right = node("right@6200", "x", Some((0x6200, 0x200)), &[41]);
    let dma = node("dma@c000", "arm,pl330", Some((0xc000, 0x1000)), &[42]);
    let mut disk = node("disk@d000", "virtio,mmio", Some((0xd000, 0x1000)), &[43]);
    put(&mut disk, "dma-coherent", &[]);
    put(&mut disk, "serial-number", b"x7\0");
    put(&mut disk, "iommus", &cells(&[7]));
    put(&mut disk, "card-detect-gpios", &cells(&[7, 1]));
    put(&mut disk, "phandle", &cells(&[11]));
    let plain = node("disk@e000", "virtio,mmio", Some((0xe000, 0x1000)), &[44]);
    let mut soc = DeviceTreeNode::new_unchecked("soc");
    put(&mut soc, "ranges", &[]);
    put(&mut soc, "dma-ranges", &cells(&[0xc000_0000, 0, 0x4000_0000]));
    put(&mut soc, "#address-cells", &cells(&[1]));
    put(&mut soc, "#size-cells", &cells(&[1]));
    soc.add_child(node("disk@f000", "virtio,mmio", Some((0xf000, 0x1000)), &[45]));
    let plain_ones = [gic, crystal, rtc, off, cascaded, private, gated, aliases, left, right];
    let clocks = [divider, other_crystal, divided, two_clocks];
    let others = [extended, twin, dma, disk, plain, soc];
    for child in plain_ones.into_iter().chain(clocks).chain(others) {
        root.add_child(child);
    }
    tree.to_dtb()
}

fn ask(device: &str, given: &[&str]) -> Result<Grant, GrantError> {
    ask_for(device, given, |_| {})
}

fn ask_for(
    device: &str,
    given: &[&str],
    change: impl Fn(&mut GuestConfig),
) -> Result<Grant, GrantError> {
    let dtb = machine();
    let mut guest = GuestConfig::new("guest", "image", 2 << 20);
    guest.devices = given.iter().map(ToString::to_string).collect();
    change(&mut guest);
    let own = Own { frames: vec![Range::new(0x1000, 0x1000)], interrupts: vec![121] };
    grant(Fdt::new(&dtb).unwrap(), device, &guest, &own)
}

fn trusted(guest: &mut GuestConfig) {
    guest.memory_map = MemoryMap::Identity;
    guest.dma_trusted = true;
}

#[test]
fn a_device_that_accesses_memory_needs_its_guests_memory_and_trust() {
    let disk = "/disk@d000".to_string();
    let ask = |change: fn(&mut GuestConfig)| ask_for(&disk, &[&disk], change);
    assert_eq!(ask(|_| {}), Err(GrantError::Elsewhere(disk.clone())));
    let identity = |guest: &mut GuestConfig| guest.memory_map = MemoryMap::Identity;
    assert_eq!(ask(identity), Err(GrantError::NotTrusted(disk.clone())));
    assert!(ask(trusted).unwrap().bus_master);
    let translated = "/soc/disk@f000";
    assert_eq!(
        ask_for(translated, &[translated], trusted),
        Err(GrantError::Translated(translated.to_string()))
    );
    // Trust is not all that it takes.
    let unstoppable = ask_for("/dma@c000", &["/dma@c000"], trusted);
    assert_eq!(unstoppable, Err(GrantError::AccessesMemory("/dma@c000".to_string())));
    assert!(!ask_for("/rtc@4000", &["/rtc@4000"], trusted).unwrap().bus_master);
}

#[test]
fn what_a_node_says_is_passed_on_but_for_what_the_guest_does_not_have() {
    let disk = ask_for("/disk@d000", &["/disk@d000"], trusted).unwrap();
    let coherent = ("dma-coherent".to_string(), Vec::new());
    assert_eq!(disk.properties, [coherent, ("serial-number".to_string(), b"x7\0".to_vec())]);
    assert_eq!(disk.left_out, ["iommus", "card-detect-gpios"]);
    // The guest's tree says that devices are coherent, which this one is not.
    let plain = ask_for("/disk@e000", &["/disk@e000"], trusted).unwrap();
    assert_eq!(plain.properties, [("dma-noncoherent".to_string(), Vec::new())]);
    assert_eq!(ask("/rtc@4000", &["/rtc@4000"]).unwrap().properties, []);
}

#[test]
fn a_device_is_found_by_its_path_and_by_its_alias() {
    let rtc = ask("/rtc@4000", &["/rtc@4000"]).unwrap();
    assert_eq!(rtc.frames, [Range::new(0x4000, 0x1000)]);
    assert_eq!(rtc.interrupts, [Interrupt { intid: 34, flags: 4 }]);
    assert_eq!(rtc.clocks, Some((vec!["apb_pclk".to_string()], 24_000_000)));
    assert_eq!(ask("clock0", &["clock0"]), Ok(rtc));
}

#[test]
fn an_interrupt_is_level_or_edge_triggered_as_its_node_says() {
    // Arm GIC binding: 1 and 2 are edges, 4 and 8 are levels.
    for (flags, is_edge) in [(1, true), (2, true), (4, false), (8, false)] {
        assert_eq!(Interrupt { intid: 34, flags }.is_edge(), is_edge, "{flags}");
    }
}

#[test]
fn devices_of_one_page_are_given_together_or_not_at_all() {
    let why = ask("/left@6000", &["/left@6000"]).unwrap_err().to_string();
    assert!(why.contains("shares a page of registers with \"/right@6200\""), "{why}");
    let both = ["/left@6000", "/right@6200"];
    assert!(both.iter().all(|device| ask(device, &both).is_ok()));
}

#[test]
fn what_cannot_be_given_is_told_apart() {
    let path = String::from;
    for (device, why) in [
        ("/nothing", GrantError::NotThere(path("/nothing"))),
        ("/off@8000", GrantError::Disabled(path("/off@8000"))),
        ("/crystal", GrantError::NoRegisters(path("/crystal"))),
        ("/intc@1000", GrantError::Own(path("/intc@1000"))),
        ("/cascaded@9000", GrantError::NotAnSpi(path("/cascaded@9000"))),
        ("/private@a000", GrantError::NotAnSpi(path("/private@a000"))),
        ("/extended@1a000", GrantError::NotAnSpi(path("/extended@1a000"))),
        ("/twin@1d000", GrantError::OwnInterrupt { path: path("/twin@1d000"), intid: 121 }),
        ("/gated@b000", GrantError::Clock(path("/gated@b000"))),
        ("/divided@1b000", GrantError::Clock(path("/divided@1b000"))),
        ("/two-clocks@1c000", GrantError::Clock(path("/two-clocks@1c000"))),
        ("/dma@c000", GrantError::AccessesMemory(path("/dma@c000"))),
    ] {
        assert_eq!(ask(device, &[device]), Err(why));
    }
}

fn given(devices: &[&str], others: &[(&str, &Given)]) -> Result<Given, GiveError> {
    let dtb = machine();
    let mut guest = GuestConfig::new("guest", "image", 2 << 20);
    guest.devices = devices.iter().map(ToString::to_string).collect();
    trusted(&mut guest);
    give(Fdt::new(&dtb).unwrap(), &guest, &Own::default(), others.iter().copied())
}

#[test]
fn a_device_that_another_guest_has_is_not_given_again() {
    let rtc = given(&["/rtc@4000"], &[]).unwrap();
    assert_eq!(
        given(&["/rtc@4000"], &[("rt", &rtc)]).unwrap_err().to_string(),
        "guest \"rt\" has one of its devices already"
    );
    assert_eq!(given(&["/rtc@4000"], &[("guest", &rtc)]), Ok(rtc.clone()), "it has it itself");
    assert!(given(&["/disk@d000"], &[("rt", &rtc)]).is_ok());
    assert!(matches!(given(&["/nothing"], &[]), Err(GiveError::Grant(_))));
}

#[test]
fn a_person_hears_what_a_device_comes_without_and_who_reaches_all_memory() {
    let said = |devices: &[&str]| -> Vec<String> {
        remarks(&given(devices, &[]).unwrap()).iter().map(ToString::to_string).collect()
    };
    assert_eq!(said(&["/rtc@4000"]), [""; 0]);
    assert_eq!(
        said(&["/disk@d000", "/disk@e000"]),
        [
            ": device \"/disk@d000\" comes without iommus, card-detect-gpios, which refer to others",
            " is trusted: it can reach all of the machine's memory by /disk@d000, /disk@e000",
        ]
    );
}
