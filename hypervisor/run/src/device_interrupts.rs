//! The interrupts of the machine's devices that guests were given, on their way to the guests.
//!
//! Such an interrupt comes to the core of the guest's first vCPU, whoever runs there. EL2 drops its
//! priority, leaves it active and notes it in the guest's domain. The guest's own deactivation ends
//! it, through a list register ([`stasis_vgic`], `link.rs`). When the guest stops, its interrupts
//! are disabled and made inactive ([`release`]).

use crate::domain::Domain;
use crate::gic::{self, ThisCore};
use alloc::sync::Arc;
use alloc::vec::Vec;
use spin::mutex::SpinMutex;
use stasis_guest::Guest;
use stasis_guest::given::Device;
use stasis_hw::mmio::Frame;
use stasis_hw::virtio_mmio::VirtioMmio;
use stasis_vgic::VirtualInterface;

/// INTID of each interrupt, its number among the interrupts of its guest, and the guest's domain.
static OWNERS: SpinMutex<Vec<(u32, usize, Arc<Domain>)>> = SpinMutex::new(Vec::new());

/// Registers a new guest as the owner of its devices' interrupts, and routes them to the core of
/// its first vCPU. They stay disabled.
pub fn enter(domain: &Arc<Domain>) {
    let core = domain.cores().next().unwrap_or(0);
    for (n, (interrupt, _)) in domain.given().interrupts.iter().enumerate() {
        gic::route_to(interrupt.intid, core, interrupt.is_edge());
        OWNERS.lock().push((interrupt.intid, n, domain.clone()));
    }
}

/// Ends the ownership of a guest that was removed.
pub fn leave(domain: &Domain) {
    OWNERS.lock().retain(|(_, _, owner)| owner.number != domain.number);
}

/// Enables the interrupts of the devices of a guest that runs from now on.
pub fn engage(domain: &Domain) {
    domain.given().interrupts.iter().for_each(|(interrupt, _)| gic::enable(interrupt.intid));
}

/// Stops the devices of a guest that has stopped: they access no memory any more, their interrupts
/// are disabled, and none is active. The caller holds the lock of what the guest's vCPUs share, and
/// none of them is loaded.
pub fn release(domain: &Domain, guest: &mut Guest) {
    if domain.given().devices.is_empty() {
        return;
    }
    domain.given().devices.iter().filter(|device| device.grant.bus_master).for_each(stop);
    for (interrupt, _) in &domain.given().interrupts {
        gic::disable(interrupt.intid);
        gic::forget(interrupt.intid);
    }
    // Kick nobody: the guest does not run.
    let _ = guest.vgic.release_physical(&mut ThisCore::here());
    domain.forget_interrupts();
    for (interrupt, _) in &domain.given().interrupts {
        ThisCore::here().set_physical_active(interrupt.intid as u16, false);
    }
}

/// Resets a device that accesses memory by itself, so that it stops: the memory may be another
/// guest's next.
fn stop(device: &Device) {
    for frame in &device.grant.frames {
        // SAFETY: 1. Such a device is a virtio-mmio slot, which is mapped one to one as device
        // memory for ever, by condition 2 of `Domain::new`. 2. The driver resets the device, which
        // changes no memory, and ends the device's own accesses.
        let frame = unsafe { Frame::new(frame.start as usize) };
        if !VirtioMmio::new(frame).reset() {
            log::error!("device \"{}\" can't be stopped", device.grant.path);
        }
    }
}

/// Notes a physical interrupt in its guest's domain, if a guest was given its device. Returns
/// whether one was. The interrupt stays active until the guest has handled it.
pub fn take(intid: u32) -> bool {
    let owner = OWNERS.lock().iter().find(|(owned, _, _)| *owned == intid).cloned();
    match owner {
        Some((_, n, domain)) => {
            domain.interrupt(n);
            true
        }
        None => false,
    }
}
