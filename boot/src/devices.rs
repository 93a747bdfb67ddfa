//! The machine's devices that guests were given: their pages in a guest's stage 2, their interrupts on the way to it.
//!
//! A device's interrupt comes to the core of the guest's first vCPU, whoever runs there. EL2 drops its priority, leaves it active and
//! notes it in the guest's slot; the guest's own deactivation ends it, through a list register ([`stasis_vgic`], `link.rs`). When the
//! guest stops, its interrupts are disabled and made inactive ([`release`]).

use crate::gic::{self, ThisCore};
use crate::guests;
use crate::machine::Machine;
use crate::memory::image;
use crate::slot::Slot;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use dtoolkit::fdt::Fdt;
use spin::Once;
use spin::mutex::SpinMutex;
use stasis_vgic::ListRegisterFile;
use stasis_vm::board::grant::grant;
use stasis_vm::config::GuestConfig;
use stasis_vm::given::{Given, lay_out};
use stasis_vm::guest::Guest;
use stasis_vm::range::Range;

/// The machine's device tree, and what of it is Stasis's own.
static MACHINE: Once<(Range, Vec<Range>)> = Once::new();
/// Whose each interrupt is, and which of its interrupts.
static OWNERS: SpinMutex<Vec<(u32, usize, Arc<Slot>)>> = SpinMutex::new(Vec::new());

/// Notes what no guest can be given: memory, and the devices that Stasis uses.
pub fn init(machine: &Machine) {
    let gic = machine.gic.iter().flat_map(|gic| [gic.gicd, gic.gicc, gic.gich, gic.gicv]);
    let devices = [machine.uart.device].into_iter().chain(machine.watchdog);
    let devices = devices.chain(machine.sd_hosts.iter().map(|host| host.device));
    let memory = machine.memory.iter().copied();
    let memory = memory.chain(machine.reserved.iter().map(|reserved| reserved.range));
    let own = gic.chain(devices.map(|device| device.frame)).chain(memory).chain([image()]);
    MACHINE.call_once(|| (machine.device_tree, own.collect()));
}

/// What a guest is given, by its configuration.
pub fn give(config: &GuestConfig) -> Result<Given, String> {
    if config.devices.is_empty() {
        return Ok(Given::default());
    }
    let (tree, own) = MACHINE.get().ok_or("the machine is not known yet")?;
    // SAFETY: the firmware put it there, and `free_ram` leaves it out, so nobody writes it.
    let fdt = unsafe { Fdt::from_raw(tree.start as *const u8) }.map_err(|e| e.to_string())?;
    let grants = config.devices.iter().map(|device| grant(fdt, device, &config.devices, own));
    let grants = grants.collect::<Result<_, _>>().map_err(|error| error.to_string())?;
    let given = lay_out(grants).map_err(|error| error.to_string())?;
    for other in guests::all().iter().filter(|other| other.name != config.name) {
        let overlaps = |(_, one): &(u64, Range), (_, two): &(u64, Range)| {
            one.start < two.end && two.start < one.end
        };
        let theirs = &other.given().pages;
        if given.pages.iter().any(|one| theirs.iter().any(|two| overlaps(one, two))) {
            return Err(format!("guest \"{}\" has one of its devices already", other.name));
        }
    }
    Ok(given)
}

/// The guest is there: its devices' interrupts are its own.
pub fn enter(slot: &Arc<Slot>) {
    let core = slot.cores().next().unwrap_or(0);
    for (n, (interrupt, _)) in slot.given().interrupts().enumerate() {
        gic::route_to(interrupt.intid, core, interrupt.is_edge());
        OWNERS.lock().push((interrupt.intid, n, slot.clone()));
    }
}

/// The guest is not there any more.
pub fn leave(slot: &Slot) {
    OWNERS.lock().retain(|(_, _, owner)| owner.number != slot.number);
}

/// The guest runs: its devices' interrupts may come.
pub fn engage(slot: &Slot) {
    slot.given().interrupts().for_each(|(interrupt, _)| gic::enable(interrupt.intid));
}

/// The guest has stopped: its devices' interrupts don't come, and none is active. Its vCPUs are not loaded.
pub fn release(slot: &Slot, guest: &mut Guest) {
    if slot.given().devices.is_empty() {
        return;
    }
    for (interrupt, _) in slot.given().interrupts() {
        gic::disable(interrupt.intid);
    }
    // Nobody is to be kicked: the guest does not run.
    let _ = guest.vgic.release_physical(&mut ThisCore::here());
    slot.forget_interrupts();
    for (interrupt, _) in slot.given().interrupts() {
        ThisCore::here().set_physical_active(interrupt.intid as u16, false);
    }
}

/// Takes a physical interrupt that is some guest's device's. It stays active until the guest has seen to it.
pub fn take_interrupt(intid: u32) -> bool {
    let owner = OWNERS.lock().iter().find(|(owned, _, _)| *owned == intid).cloned();
    match owner {
        Some((_, n, slot)) => {
            slot.interrupt(n);
            true
        }
        None => false,
    }
}

/// Why a guest can't be stored, if it can't: the device has state that nobody can read.
pub fn unstorable(slot: &Slot) -> Option<String> {
    let device = slot.given().devices.first()?;
    let (name, path) = (&slot.name, &device.grant.path);
    Some(format!(
        "guest \"{name}\" has the machine's device \"{path}\", whose state can't be stored"
    ))
}
