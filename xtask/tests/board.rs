//! The device tree of a Raspberry Pi 4, as Linux has it, read by the hypervisor's own code. `cargo
//! xtask setup` fetches it; where it was not fetched there is nothing to read.

use dtoolkit::fdt::Fdt;
use stasis_host::board::{Machine, Start, UartKind};
use xtask::card::boot::RASPI4_DEVICE_TREE;
use xtask::workspace::Workspace;

#[test]
fn a_raspberry_pi_4_is_found_in_its_device_tree() {
    let path = Workspace::find().unwrap().target().join("boards").join(RASPI4_DEVICE_TREE);
    let Ok(bytes) = std::fs::read(&path) else {
        eprintln!("{} is not there", path.display());
        return;
    };
    let machine = Machine::describe(Fdt::new(&bytes).unwrap(), 0x2000_0000).unwrap();
    assert!(machine.is("brcm,bcm2711"));

    // BCM2711 ARM Peripherals, 1.2 and 6.5: all of it in the low peripheral mode.
    let gic = machine.gic.unwrap();
    let starts = [gic.gicd, gic.gicc, gic.gich, gic.gicv].map(|frame| frame.start);
    assert_eq!(starts, [0xff84_1000, 0xff84_2000, 0xff84_4000, 0xff84_6000]);
    assert_eq!(gic.maintenance, 25);
    assert_eq!(machine.uart.kind, UartKind::Mini, "as stdout-path says");
    assert_eq!((machine.uart.device.frame.start, machine.uart.device.intid), (0xfe21_5040, 125));
    assert_eq!(machine.lost_console, None);
    let hosts: Vec<_> =
        machine.sd_hosts.iter().map(|host| (host.device.frame.start, host.fixed)).collect();
    assert_eq!(hosts, [(0xfe34_0000, false), (0xfe30_0000, true)]);
    assert_eq!(machine.watchdog.unwrap().frame.start, 0xfe10_0000);

    let cores: Vec<_> = machine.cores.iter().map(|core| (core.mpidr, core.start)).collect();
    let release = [0xd8, 0xe0, 0xe8, 0xf0].map(Start::SpinTable);
    assert_eq!(cores, [(0, release[0]), (1, release[1]), (2, release[2]), (3, release[3])]);
    assert_eq!((machine.psci, machine.rtc), (None, None));
    assert_eq!(machine.counter_frequency, Some(54_000_000));
    // The firmware fills the memory in; the page of the spin table is reserved.
    let page = machine.reserved.iter().find(|r| (r.range.start, r.range.end) == (0, 0x1000));
    // SD hosts reach the first GiB of memory, and have it elsewhere; what lies beyond is out of
    // their reach.
    for host in &machine.sd_hosts {
        assert_eq!(host.reach.to_bus(page.unwrap().range), Some(0xc000_0000));
        assert_eq!(host.reach.to_bus(gic.gicd), None);
    }
}
