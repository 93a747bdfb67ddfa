//! The interrupts of the machine's devices that guests were given, on their way to them.
//!
//! Such an interrupt comes to the core of the guest's first vCPU, whoever runs there. EL2 drops its priority, leaves it active and
//! notes it in the guest's slot; the guest's own deactivation ends it, through a list register ([`stasis_vgic`], `link.rs`). When the
//! guest stops, its interrupts are disabled and made inactive ([`release`]).

use crate::gic::{self, ThisCore};
use crate::slot::Slot;
use alloc::sync::Arc;
use alloc::vec::Vec;
use spin::mutex::SpinMutex;
use stasis_guest::Guest;
use stasis_guest::given::Device;
use stasis_hw::mmio::Frame;
use stasis_hw::virtio_mmio::VirtioMmio;
use stasis_vgic::VirtualInterface;

/// Whose each interrupt is, and which of its interrupts.
static OWNERS: SpinMutex<Vec<(u32, usize, Arc<Slot>)>> = SpinMutex::new(Vec::new());

/// The guest is there: its devices' interrupts are its own.
pub fn enter(slot: &Arc<Slot>) {
    let core = slot.cores().next().unwrap_or(0);
    for (n, (interrupt, _)) in slot.given().interrupts.iter().enumerate() {
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
    slot.given().interrupts.iter().for_each(|(interrupt, _)| gic::enable(interrupt.intid));
}

/// The guest has stopped: its devices access no memory, their interrupts don't come, and none is active. Its vCPUs are not loaded.
pub fn release(slot: &Slot, guest: &mut Guest) {
    if slot.given().devices.is_empty() {
        return;
    }
    slot.given().devices.iter().filter(|device| device.grant.bus_master).for_each(stop);
    for (interrupt, _) in &slot.given().interrupts {
        gic::disable(interrupt.intid);
        gic::forget(interrupt.intid);
    }
    // Nobody is to be kicked: the guest does not run.
    let _ = guest.vgic.release_physical(&mut ThisCore::here());
    slot.forget_interrupts();
    for (interrupt, _) in &slot.given().interrupts {
        ThisCore::here().set_physical_active(interrupt.intid as u16, false);
    }
}

/// Has a device that accesses memory by itself do so no more: the memory may be another guest's next.
fn stop(device: &Device) {
    for frame in &device.grant.frames {
        // SAFETY: such a device is a virtio-mmio slot, all of which are mapped as devices; its guest does not run.
        let frame = unsafe { Frame::new(frame.start as usize) };
        if !VirtioMmio::new(frame).reset() {
            log::error!("device \"{}\" can't be stopped", device.grant.path);
        }
    }
}

/// Takes a physical interrupt that is some guest's device's. It stays active until the guest has seen to it.
pub fn take(intid: u32) -> bool {
    let owner = OWNERS.lock().iter().find(|(owned, _, _)| *owned == intid).cloned();
    match owner {
        Some((_, n, slot)) => {
            slot.interrupt(n);
            true
        }
        None => false,
    }
}
