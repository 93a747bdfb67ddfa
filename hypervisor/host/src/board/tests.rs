use super::*;
use dtoolkit::fdt::Fdt;
use dtoolkit::memreserve::MemoryReservation;
use dtoolkit::model::{DeviceTree, DeviceTreeNode, DeviceTreeProperty};
use std::vec::Vec;

const GIB: u64 = 1 << 30;

/// Returns a property of cells.
fn cells(values: &[u32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_be_bytes()).collect()
}

/// Returns a property of strings.
pub(crate) fn strings(values: &[&str]) -> Vec<u8> {
    values.iter().flat_map(|value| [value.as_bytes(), b"\0"].concat()).collect()
}

fn put(node: &mut DeviceTreeNode, name: &str, value: Vec<u8>) {
    node.add_property(DeviceTreeProperty::new_unchecked(name, value));
}

fn node(
    name: &str,
    properties: &[(&str, Vec<u8>)],
    children: impl IntoIterator<Item = DeviceTreeNode>,
) -> DeviceTreeNode {
    let mut node = DeviceTreeNode::new_unchecked(name);
    for (name, value) in properties {
        put(&mut node, name, value.clone());
    }
    children.into_iter().for_each(|child| node.add_child(child));
    node
}

fn uart(name: &str, compatible: &str, address: u32, interrupt: u32) -> DeviceTreeNode {
    let properties = [
        ("compatible", strings(&[compatible])),
        ("reg", cells(&[address, 0x200])),
        ("interrupts", cells(&[0, interrupt, 4])),
    ];
    node(name, &properties, [])
}

fn cpu(number: u32, enable_method: &[(&str, Vec<u8>)]) -> DeviceTreeNode {
    let mut properties = [("device_type", strings(&["cpu"])), ("reg", cells(&[number]))].to_vec();
    properties.extend_from_slice(enable_method);
    node(&std::format!("cpu@{number}"), &properties, [])
}

fn spin_table(release: u64) -> [(&'static str, Vec<u8>); 2] {
    let address = cells(&[(release >> 32) as u32, release as u32]);
    [("enable-method", strings(&["spin-table"])), ("cpu-release-addr", address)]
}

/// Returns the tree of a board that is made like a Raspberry Pi 4: two cells for an address, one
/// for a size, and a bus whose windows lie elsewhere for the CPU.
pub(crate) fn tree(chosen: &[(&str, Vec<u8>)]) -> DeviceTree {
    let mut tree = DeviceTree::new();
    let size = [("#address-cells", cells(&[2])), ("#size-cells", cells(&[1]))];
    let cpus = [("#address-cells", cells(&[1])), ("#size-cells", cells(&[0]))];
    let soc = [
        ("#address-cells", cells(&[1])),
        ("#size-cells", cells(&[1])),
        (
            "ranges",
            cells(&[
                0x7e00_0000,
                0,
                0xfe00_0000,
                0x180_0000,
                0x4000_0000,
                1,
                0xff80_0000,
                0x80_0000,
            ]),
        ),
    ];
    let gic = [
        ("compatible", strings(&["arm,gic-400"])),
        (
            "reg",
            cells(&[
                0x4004_1000,
                0x1000,
                0x4004_2000,
                0x2000,
                0x4004_4000,
                0x2000,
                0x4004_6000,
                0x2000,
            ]),
        ),
        ("interrupts", cells(&[1, 9, 0xf04])),
    ];
    let mut disabled = uart("serial@7e201400", "arm,pl011", 0x7e20_1400, 121);
    put(&mut disabled, "status", strings(&["disabled"]));
    let mmc = |name: &str, compatible: &str, address: u32| {
        let properties =
            [("compatible", strings(&[compatible])), ("reg", cells(&[address, 0x100]))];
        node(name, &properties, [])
    };
    let mut radio = mmc("mmc@7e300000", "brcm,bcm2835-sdhci", 0x7e30_0000);
    put(&mut radio, "non-removable", Vec::new());
    let memory = [
        ("device_type", strings(&["memory"])),
        // In two pieces, the second one above 1 GiB, and neither of whole pages.
        ("reg", cells(&[0, 0, 0x3b40_0800, 0, 0x4000_0000, 0xbc00_0001])),
    ];
    let reserved = [size[0].clone(), size[1].clone(), ("ranges", Vec::new())];
    let secure = [("reg", cells(&[0, 0x100_0000, 0x8_0000])), ("no-map", Vec::new())];
    let nvram = [("reg", cells(&[0, 0x200_0000, 0x1000]))];
    let unplaced = [("size", cells(&[0x400_0000]))];

    let root = &mut tree.root;
    for (name, value) in size {
        put(root, name, value);
    }
    put(root, "compatible", strings(&["acme,board", "brcm,bcm2711"]));
    let aliases = [
        ("serial0", strings(&["/soc/serial@7e215040"])),
        ("serial1", strings(&["/soc/serial@7e201000"])),
        ("serial2", strings(&["/soc/serial@7e201400"])),
    ];
    root.add_child(node("aliases", &aliases, []));
    root.add_child(node("chosen", chosen, []));
    root.add_child(node(
        "cpus",
        &cpus,
        [
            cpu(0, &spin_table(0xd8)),
            cpu(1, &spin_table(0x1_0000_00e0)),
            cpu(2, &spin_table(0xe4)),
            cpu(3, &[("enable-method", strings(&["psci"]))]),
        ],
    ));
    root.add_child(node("memory@0", &memory, []));
    root.add_child(node(
        "reserved-memory",
        &reserved,
        [
            node("secure@1000000", &secure, []),
            node("nvram@2000000", &nvram, []),
            node("linux,cma", &unplaced, []),
        ],
    ));
    // The child's addresses are none of the CPU's.
    let i2c = uart("serial@9000000", "arm,pl011", 0x900_0000, 1);
    let one_cell = [("#address-cells", cells(&[1])), ("#size-cells", cells(&[1]))];
    root.add_child(node("i2c", &one_cell, [i2c]));
    root.add_child(node(
        "soc",
        &soc,
        [
            disabled,
            uart("serial@7e201000", "arm,pl011", 0x7e20_1000, 121),
            uart("serial@7e215040", "brcm,bcm2835-aux-uart", 0x7e21_5040, 93),
            node("interrupt-controller@40041000", &gic, []),
            radio,
            mmc("mmc@7e340000", "brcm,bcm2711-emmc2", 0x7e34_0000),
            // Behind every window.
            mmc("mmc@10000000", "brcm,bcm2711-emmc2", 0x1000_0000),
            mmc("watchdog@7e100000", "brcm,bcm2835-pm-wdt", 0x7e10_0000),
            mmc("rng@7e104000", "brcm,bcm2711-rng200", 0x7e10_4000),
        ],
    ));
    tree.memory_reservations.push(MemoryReservation::new(0, 0x1000));
    tree
}

fn with<T>(tree: &DeviceTree, look: impl FnOnce(Machine<'_>) -> T) -> T {
    let dtb = tree.to_dtb();
    look(Machine::describe(Fdt::new(&dtb).unwrap(), 0x300_0000).unwrap())
}

fn chosen(name: &'static str, value: &str) -> DeviceTree {
    tree(&[(name, strings(&[value]))])
}

#[test]
fn the_firmwares_random_bytes_are_taken_as_far_as_there_is_room() {
    let seed = |chosen: &[(&str, Vec<u8>)]| with(&tree(chosen), |machine| machine.seed.to_vec());
    assert_eq!(seed(&[]), []);
    assert_eq!(seed(&[("kaslr-seed", vec![1; 8])]), [1; 8]);
    assert_eq!(seed(&[("kaslr-seed", vec![1; 8]), ("rng-seed", vec![2; 100])]), [2; 64]);
}

#[test]
fn a_device_is_where_the_bus_has_it_for_the_cpu() {
    with(&tree(&[]), |machine| {
        let gic = machine.gic.unwrap();
        assert_eq!(gic.gicd, Range::new(0x1_ff84_1000, 0x1000), "beyond 32 bits");
        assert_eq!((gic.gicv, gic.maintenance), (Range::new(0x1_ff84_6000, 0x2000), 25));
        assert_eq!(machine.watchdog.unwrap().frame.start, 0xfe10_0000);
        assert_eq!(machine.random.unwrap().frame.start, 0xfe10_4000);
        assert!(machine.is("brcm,bcm2711") && !machine.is("brcm,bcm2712"));
    });
}

#[test]
fn what_the_cpu_cannot_reach_is_not_found() {
    with(&tree(&[]), |machine| {
        let starts: Vec<u64> =
            machine.sd_hosts.iter().map(|host| host.device.frame.start).collect();
        assert_eq!(starts, [0xfe34_0000, 0xfe30_0000], "the one for cards is first");
        assert!(!machine.sd_hosts[0].fixed && machine.sd_hosts[1].fixed);
    });
}

#[test]
fn the_console_is_the_one_that_is_asked_for() {
    let pl011 = Uart {
        kind: UartKind::Pl011,
        device: Device { frame: Range::new(0xfe20_1000, 0x200), intid: 153 },
    };
    let mini = Uart {
        kind: UartKind::Mini,
        device: Device { frame: Range::new(0xfe21_5040, 0x200), intid: 125 },
    };
    let console = |tree: DeviceTree| with(&tree, |m| (m.uart, m.lost_console.is_some()));
    assert_eq!(console(tree(&[])), (pl011, false), "the first that is in use");
    for (name, uart) in [
        ("serial0:115200n8", mini),
        ("serial1", pl011),
        ("/soc/serial@7e215040:115200", mini),
        ("/soc/serial", pl011),
    ] {
        let found = console(chosen("stdout-path", name));
        // A name without an address means the first, which is not in use.
        let expected = if name == "/soc/serial" { (pl011, true) } else { (uart, false) };
        assert_eq!(found, expected, "{name}");
    }
    for (name, uart) in [
        ("console=ttyS0,115200 log=debug", mini),
        ("console=tty1 console=ttyAMA0,115200", pl011),
        ("console=ttyAMA1", pl011),
        ("console=serial0,115200", mini),
        ("console=/soc/serial@7e201000", pl011),
    ] {
        let tree = tree(&[("stdout-path", strings(&["serial1"])), ("bootargs", strings(&[name]))]);
        assert_eq!(console(tree), (uart, false), "{name}");
    }
}

#[test]
fn a_console_that_is_not_there_is_told_of() {
    for name in ["serial2", "serial7", "/soc/serial@1", "/i2c/serial@9000000", "/", "", "/aliases"]
    {
        let dtb = chosen("stdout-path", name).to_dtb();
        let machine = Machine::describe(Fdt::new(&dtb).unwrap(), 0).unwrap();
        assert_eq!((machine.uart.kind, machine.lost_console), (UartKind::Pl011, Some(name)));
    }
    let mut bare = DeviceTree::new();
    bare.root.add_child(node("chosen", &[("stdout-path", strings(&["serial0"]))], []));
    let dtb = bare.to_dtb();
    let error = Machine::describe(Fdt::new(&dtb).unwrap(), 0).unwrap_err();
    assert_eq!(error, MachineError::Missing { what: "PL011 or mini UART" });
}

#[test]
fn cores_are_started_as_the_firmware_wants_it() {
    with(&tree(&[]), |machine| {
        let starts: Vec<Start> = machine.cores.iter().map(|core| core.start).collect();
        let expected = [
            Start::SpinTable(0xd8),
            Start::SpinTable(0x1_0000_00e0),
            // Not aligned: no table that could be written whole.
            Start::Unknown,
            Start::Psci,
        ];
        assert_eq!(starts, expected);
    });
}

#[test]
fn ram_is_free_but_for_what_is_in_use_or_reserved() {
    let initrd =
        [("linux,initrd-start", cells(&[0x400_0800])), ("linux,initrd-end", cells(&[0x400_1001]))];
    let image = Range { start: 0x20_0000, end: 0x60_0000 };
    with(&tree(&initrd), |machine| {
        let tree = machine.device_tree.outward(4096).end;
        let free = machine.free_ram(image);
        let expected = [
            (0x1000, 0x20_0000),
            (0x60_0000, 0x100_0000),
            (0x108_0000, 0x200_0000),
            (0x200_1000, 0x300_0000),
            (tree, 0x400_0000),
            (0x400_2000, 0x3b40_0000),
            (GIB, 0xfc00_0000),
        ];
        let found: Vec<(u64, u64)> =
            free.free().iter().map(|range| (range.start, range.end)).collect();
        assert_eq!(found, expected);
    });
}

#[test]
fn what_must_not_be_mapped_is_left_out_and_release_addresses_are_not() {
    with(&tree(&[]), |machine| {
        let mapped: Vec<(u64, u64)> =
            machine.mappable_ram().free().iter().map(|range| (range.start, range.end)).collect();
        let expected = [
            (0, 0x100_0000),
            (0x108_0000, 0x3b40_0000),
            (GIB, 0xfc00_0000),
            (0x1_0000_0000, 0x1_0000_1000),
        ];
        assert_eq!(mapped, expected);
        assert!(
            machine.free_ram(Range::new(0, 0)).free().iter().all(|range| range.end <= 0xfc00_0000)
        );
    });
}

#[test]
fn the_counters_frequency_is_the_timers_or_the_oscillators() {
    let mut tree = tree(&[]);
    assert_eq!(with(&tree, |machine| machine.counter_frequency), None);
    let osc = [
        ("compatible", strings(&["fixed-clock"])),
        ("clock-output-names", strings(&["osc"])),
        ("clock-frequency", cells(&[54_000_000])),
    ];
    tree.root.add_child(node("clk-osc", &osc, []));
    assert_eq!(with(&tree, |machine| machine.counter_frequency), Some(54_000_000));
    let timer =
        [("compatible", strings(&["arm,armv8-timer"])), ("clock-frequency", cells(&[1_000_000]))];
    tree.root.add_child(node("timer", &timer, []));
    assert_eq!(with(&tree, |machine| machine.counter_frequency), Some(1_000_000));
}

#[test]
fn a_gic_without_frames_for_guests_is_named() {
    let mut tree = tree(&[]);
    let gic = [
        ("compatible", strings(&["arm,cortex-a15-gic"])),
        ("reg", cells(&[0, 0x800_0000, 0x1000])),
    ];
    tree.root.add_child(node("aaa", &gic, []));
    // The first of a kind counts, and that is the SoC's.
    assert!(with(&tree, |machine| machine.gic).is_ok());
    let mut bare = DeviceTree::new();
    put(&mut bare.root, "#size-cells", cells(&[1]));
    put(&mut bare.root, "#address-cells", cells(&[2]));
    bare.root.add_child(node("gic", &gic, []));
    let mut serial = uart("serial", "arm,pl011", 0, 0);
    put(&mut serial, "reg", cells(&[0, 0x900_0000, 0x1000]));
    bare.root.add_child(serial);
    assert_eq!(with(&bare, |machine| machine.gic), Err(MachineError::GicFrames { found: 1 }));
}

#[test]
fn what_stasis_uses_itself_is_no_guests() {
    with(&tree(&[]), |machine| {
        let (image, disk) = (Range::new(0x20_0000, 0x10_0000), Range::new(0xa00_0000, 0x200));
        let own = machine.own(image, Some(Device { frame: disk, intid: 79 }));
        let gic = machine.gic.unwrap();
        let rest = [
            ("its image", image),
            ("its disk", disk),
            ("the console", machine.uart.device.frame),
            ("the watchdog", machine.watchdog.unwrap().frame),
            ("memory", machine.memory[1]),
            ("what the firmware has", machine.reserved[0].range),
            ("the GIC", gic.gicd),
            ("the guests' GIC", gic.gicv),
            ("an SD host", machine.sd_hosts[1].device.frame),
        ];
        for (what, frame) in rest {
            assert!(own.frames.contains(&frame), "{what}");
        }
        let generator = machine.random.unwrap().frame;
        assert!(!own.frames.contains(&generator), "it is used at boot alone");
        let channel = machine.channel.unwrap().device;
        assert!(own.frames.contains(&channel.frame));
        assert_eq!(own.interrupts, [machine.uart.device.intid, channel.intid, 79]);
    });
}

#[test]
fn el2_maps_what_it_drives_and_not_what_is_for_guests_alone() {
    with(&tree(&[]), |machine| {
        let mapped = machine.device_frames();
        let is_mapped =
            |frame: Range| mapped.free().iter().any(|range| range.contains(frame.start));
        let gic = machine.gic.unwrap();
        assert!([gic.gicd, gic.gicc, gic.gich].into_iter().all(is_mapped));
        assert!(!is_mapped(gic.gicv), "stage 2 maps it, for guests");
        assert!(is_mapped(machine.uart.device.frame));
        assert!(is_mapped(machine.watchdog.unwrap().frame));
        assert!(is_mapped(machine.random.unwrap().frame));
        assert!(machine.sd_hosts.iter().all(|host| is_mapped(host.device.frame)));
        assert!(mapped.free().iter().all(|range| range.start % PAGE_SIZE == 0));
    });
}
