//! Which of the machine's devices a guest is given.

use crate::guests;
use crate::machine::Machine;
use crate::memory::image;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;
use dtoolkit::fdt::Fdt;
use spin::Once;
use stasis_guest::given::Grant;
use stasis_guest::given::{Given, lay_out};
use stasis_host::board::grant::{Own, grant};
use stasis_host::config::GuestConfig;
use stasis_memory::range::Range;

/// The machine's device tree, and what of it is Stasis's own.
static MACHINE: Once<(Range, Own)> = Once::new();

/// Notes what no guest can be given: memory, and the devices that Stasis uses, one of them `disk`.
pub fn init(machine: &Machine, disk: Option<Range>) {
    let mut own = vec![image(), machine.uart.device.frame];
    own.extend_from_slice(&machine.memory);
    own.extend(disk);
    own.extend(machine.watchdog.map(|device| device.frame));
    for reserved in &machine.reserved {
        own.push(reserved.range);
    }
    if let Ok(gic) = &machine.gic {
        own.extend_from_slice(&[gic.gicd, gic.gicc, gic.gich, gic.gicv]);
    }
    for host in &machine.sd_hosts {
        own.push(host.device.frame);
    }
    // The other devices are polled.
    let own = Own { frames: own, interrupts: vec![machine.uart.device.intid] };
    MACHINE.call_once(|| (machine.device_tree, own));
}

/// What a guest is given, by its configuration.
pub fn give(config: &GuestConfig) -> Result<Given, String> {
    if config.devices.is_empty() {
        return Ok(Given::default());
    }
    let (tree, own) = MACHINE.get().ok_or("the machine is not known yet")?;
    // SAFETY: the firmware put it there, and `free_ram` leaves it out, so nobody writes it.
    let fdt = unsafe { Fdt::from_raw(tree.start as *const u8) }.map_err(|e| e.to_string())?;
    let grants = config.devices.iter().map(|device| grant(fdt, device, config, own));
    let grants: Vec<Grant> = grants.collect::<Result<_, _>>().map_err(|error| error.to_string())?;
    report(config, &grants);
    let given = lay_out(grants).map_err(|error| error.to_string())?;
    for other in guests::all().iter().filter(|other| other.name != config.name) {
        if let Some(clash) = given.clash(other.given()) {
            return Err(format!("guest \"{}\" has {clash} already", other.name));
        }
    }
    Ok(given)
}

/// Says what a person should know of devices that are given away.
fn report(config: &GuestConfig, grants: &[Grant]) {
    let guest = &config.name;
    for grant in grants.iter().filter(|grant| !grant.left_out.is_empty()) {
        let (path, left_out) = (&grant.path, grant.left_out.join(", "));
        log::info!(
            "guest \"{guest}\": device \"{path}\" comes without {left_out}, which refer to others"
        );
    }
    let masters = grants.iter().filter(|grant| grant.bus_master).map(|grant| grant.path.as_str());
    let masters: Vec<&str> = masters.collect();
    if !masters.is_empty() {
        let masters = masters.join(", ");
        log::warn!(
            "guest \"{guest}\" is trusted: it can reach all of the machine's memory by {masters}"
        );
    }
}
