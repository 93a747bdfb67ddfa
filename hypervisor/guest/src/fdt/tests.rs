use std::string::ToString;
use std::vec::Vec;

use dtoolkit::fdt::{Fdt, FdtNode};
use dtoolkit::{FdtStringListIterator, Node, Property};

use super::*;
use crate::given::lay_out;
use crate::given::{Grant, Interrupt};
use crate::shared::{self, SharedRegion};
use stasis_devices::virtio::fitting::Fitting;
use stasis_memory::range::Range;

fn linux() -> Vec<u8> {
    generate(&Machine {
        ram_base: 0x4000_0000,
        ram_size: 256 << 20,
        vcpus: 2,
        bootargs: "console=ttyAMA0",
        initrd: Some(0x4800_0000..0x4810_0000),
        counter_frequency: Some(62_500_000),
        equipment: Equipment {
            virtio: &[Fitting::Entropy, Fitting::Entropy],
            ..Equipment::default()
        },
        given: &[],
    })
}

fn cells(node: &FdtNode<'_>, property: &str) -> Vec<u32> {
    let property = node.property(property).expect("the property");
    property.value().chunks(4).map(|cell| u32::from_be_bytes(cell.try_into().unwrap())).collect()
}

fn strings<'a>(node: &FdtNode<'a>, property: &str) -> Vec<&'a str> {
    node.property(property).unwrap().value_as::<FdtStringListIterator<'_>>().unwrap().collect()
}

#[test]
fn the_chosen_node_tells_what_the_kernel_needs() {
    let dtb = linux();
    let fdt = Fdt::new(&dtb).unwrap();
    let chosen = fdt.find_node("/chosen").unwrap();
    assert_eq!(strings(&chosen, "bootargs"), ["console=ttyAMA0"]);
    assert_eq!(strings(&chosen, "stdout-path"), ["/pl011@9000000"]);
    assert_eq!(cells(&chosen, "linux,initrd-start"), [0, 0x4800_0000]);
    assert_eq!(cells(&chosen, "linux,initrd-end"), [0, 0x4810_0000]);
    assert!(fdt.find_node("/pl011@9000000").is_some());
}

#[test]
fn nothing_random_is_in_it() {
    let dtb = linux();
    assert_eq!(dtb, linux());
    let chosen = Fdt::new(&dtb).unwrap().find_node("/chosen").unwrap();
    assert!(chosen.property("kaslr-seed").is_none() && chosen.property("rng-seed").is_none());
}

#[test]
fn memory_and_cpus_are_as_configured() {
    let dtb = linux();
    let fdt = Fdt::new(&dtb).unwrap();
    let memory = fdt.find_node("/memory@40000000").unwrap();
    assert_eq!(cells(&memory, "reg"), [0, 0x4000_0000, 0, 0x1000_0000]);
    let cpus: Vec<FdtNode<'_>> = fdt.find_node("/cpus").unwrap().children().collect();
    assert_eq!(cpus.len(), 2);
    assert_eq!(cells(&cpus[1], "reg"), [1]);
    assert_eq!(strings(&cpus[1], "enable-method"), ["psci"]);
    // The private interrupts' mask has both vCPUs.
    let timer = fdt.find_node("/timer").unwrap();
    assert_eq!(
        cells(&timer, "interrupts"),
        [1, 13, 0x304, 1, 14, 0x304, 1, 11, 0x304, 1, 10, 0x304]
    );
    assert_eq!(cells(&timer, "clock-frequency"), [62_500_000]);
}

/// What QEMU 10.0.2 dumps for `-M virt,gic-version=2` with one CPU, of each node that is provided
/// here.
#[test]
fn nodes_are_as_in_qemu() {
    let dtb = generate(&Machine { ram_size: 256 << 20, vcpus: 1, ..Machine::default() });
    let fdt = Fdt::new(&dtb).unwrap();
    let root = fdt.root();
    assert_eq!(strings(&root, "compatible"), ["linux,dummy-virt"]);

    let timer = fdt.find_node("/timer").unwrap();
    assert_eq!(strings(&timer, "compatible"), ["arm,armv8-timer", "arm,armv7-timer"]);
    assert_eq!(
        cells(&timer, "interrupts"),
        [1, 13, 0x104, 1, 14, 0x104, 1, 11, 0x104, 1, 10, 0x104]
    );
    assert!(timer.property("clock-frequency").is_none());

    let uart = fdt.find_node("/pl011@9000000").unwrap();
    assert_eq!(strings(&uart, "compatible"), ["arm,pl011", "arm,primecell"]);
    assert_eq!(strings(&uart, "clock-names"), ["uartclk", "apb_pclk"]);
    assert_eq!(cells(&uart, "reg"), [0, 0x900_0000, 0, 0x1000]);
    assert_eq!(cells(&uart, "interrupts"), [0, 1, 4]);

    let rtc = fdt.find_node("/pl031@9010000").unwrap();
    assert_eq!(strings(&rtc, "compatible"), ["arm,pl031", "arm,primecell"]);
    assert_eq!(cells(&rtc, "interrupts"), [0, 2, 4]);

    let gpio = fdt.find_node("/pl061@9030000").unwrap();
    assert_eq!(strings(&gpio, "compatible"), ["arm,pl061", "arm,primecell"]);
    assert_eq!(strings(&gpio, "clock-names"), ["apb_pclk"]);
    assert_eq!(cells(&gpio, "reg"), [0, 0x903_0000, 0, 0x1000]);
    assert_eq!(cells(&gpio, "interrupts"), [0, 7, 4]);
    assert_eq!(cells(&gpio, "#gpio-cells"), [2]);
    assert!(gpio.property("gpio-controller").is_some());
    assert_eq!(gpio.properties().count(), 8);
    assert_eq!(strings(&fdt.find_node("/gpio-keys").unwrap(), "compatible"), ["gpio-keys"]);
    let key = fdt.find_node("/gpio-keys/poweroff").unwrap();
    assert_eq!(strings(&key, "label"), ["GPIO Key Poweroff"]);
    assert_eq!(cells(&key, "linux,code"), [116]);
    assert_eq!(cells(&key, "gpios"), [cells(&gpio, "phandle")[0], 3, 0]);

    let gic = fdt.find_node("/intc@8000000").unwrap();
    assert_eq!(strings(&gic, "compatible"), ["arm,cortex-a15-gic"]);
    assert_eq!(cells(&gic, "reg"), [0, 0x800_0000, 0, 0x1_0000, 0, 0x801_0000, 0, 0x2000]);
    assert_eq!(cells(&gic, "phandle"), cells(&root, "interrupt-parent"));

    let clock = fdt.find_node("/apb-pclk").unwrap();
    assert_eq!(cells(&clock, "clock-frequency"), [24_000_000]);
    assert_eq!(
        cells(&uart, "clocks"),
        [cells(&clock, "phandle"), cells(&clock, "phandle")].concat()
    );
    assert!(fdt.find_node("/chosen").unwrap().property("bootargs").is_none());
}

#[test]
fn a_watchdog_is_described_as_linux_wants_it() {
    let generate = |us| {
        let equipment = Equipment { watchdog_us: Some(us), ..Equipment::default() };
        generate(&Machine { ram_size: 256 << 20, vcpus: 1, equipment, ..Machine::default() })
    };
    let dtb = generate(4_000_001);
    let watchdog = Fdt::new(&dtb).unwrap().find_node("/watchdog@9100000").unwrap();
    assert_eq!(strings(&watchdog, "compatible"), ["arm,sbsa-gwdt"]);
    let frames = [0, 0x910_0000, 0, 0x1000, 0, 0x910_1000, 0, 0x1000];
    assert_eq!(cells(&watchdog, "reg"), frames, "control, then refresh");
    assert_eq!(cells(&watchdog, "interrupts"), [0, 10, 4]);
    assert_eq!(cells(&watchdog, "timeout-sec"), [5]);
    let dtb = generate(0);
    let watchdog = Fdt::new(&dtb).unwrap().find_node("/watchdog@9100000").unwrap();
    assert!(watchdog.property("timeout-sec").is_none());
}

#[test]
fn shared_memory_is_described_with_its_doorbell() {
    let region = |name: &str| SharedRegion {
        name: name.to_string(),
        size: 2 << 20,
        guests: ["linux", "rt"].map(ToString::to_string).to_vec(),
    };
    let regions = [region("ring"), region("log")];
    let shared = &shared::connections(&regions, "rt")[..];
    let equipment = Equipment { shared, ..Equipment::default() };
    let machine = Machine { ram_size: 256 << 20, vcpus: 1, equipment, ..Machine::default() };
    let dtb = generate(&machine);
    let log = Fdt::new(&dtb).unwrap().find_node("/shared-memory@18000000").unwrap();
    assert_eq!(strings(&log, "compatible"), ["stasis,shared-memory", "generic-uio"]);
    let pieces = [0, 0x1800_0000, 0, 2 << 20, 0, 0x911_1000, 0, 0x1000];
    assert_eq!(cells(&log, "reg"), pieces);
    assert_eq!(strings(&log, "reg-names"), ["memory", "doorbell"]);
    assert_eq!(cells(&log, "interrupts"), [0, 12, 4]);
    assert_eq!(strings(&log, "label"), ["log"]);
    assert_eq!(cells(&log, "stasis,index"), [1]);
    assert_eq!(strings(&log, "stasis,guests"), ["linux", "rt"]);
}

#[test]
fn a_device_of_the_machine_is_described_where_the_guest_has_it() {
    let grant = Grant {
        path: "/soc/pl031@9010000".to_string(),
        compatible: ["arm,pl031", "arm,primecell"].map(ToString::to_string).to_vec(),
        frames: [Range::new(0x0901_0000, 0x1000)].to_vec(),
        interrupts: [Interrupt { intid: 34, flags: 4 }].to_vec(),
        clocks: Some(([("apb_pclk".to_string())].to_vec(), 24_000_000)),
        properties: [("dma-coherent".to_string(), Vec::new())].to_vec(),
        ..Grant::default()
    };
    let given = &lay_out([grant].to_vec()).unwrap().devices[..];
    let dtb = generate(&Machine { ram_size: 256 << 20, vcpus: 1, given, ..Machine::default() });
    let fdt = Fdt::new(&dtb).unwrap();
    let clock = fdt.find_node("/pl031@c000000").unwrap();
    assert_eq!(strings(&clock, "compatible"), ["arm,pl031", "arm,primecell"]);
    assert_eq!(cells(&clock, "reg"), [0, 0x0c00_0000, 0, 0x1000]);
    assert_eq!(cells(&clock, "interrupts"), [0, 112, 4]);
    assert_eq!(strings(&clock, "clock-names"), ["apb_pclk"]);
    assert_eq!(cells(&clock, "dma-coherent"), []);
    let crystal = fdt.find_node("/device-clock-0").unwrap();
    assert_eq!(cells(&clock, "clocks"), cells(&crystal, "phandle"));
    assert_eq!(cells(&crystal, "clock-frequency"), [24_000_000]);
}

#[test]
fn nothing_is_offered_that_is_not_there() {
    let dtb = generate(&Machine { ram_size: 256 << 20, vcpus: 1, ..Machine::default() });
    let text = Fdt::new(&dtb).unwrap().to_string();
    for absent in
        ["virtio", "v2m", "pmu", "pcie", "fw-cfg", "flash", "platform-bus", "watchdog", "shared"]
    {
        assert!(!text.contains(absent), "{absent}");
    }
    let dtb = linux();
    let slot = Fdt::new(&dtb).unwrap().find_node("/virtio_mmio@a000200").unwrap();
    assert_eq!(cells(&slot, "interrupts"), [0, 17, 1]);
}
