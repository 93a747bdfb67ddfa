//! The machine's network card that is a network's uplink: which device that is, and whether Stasis
//! can have it.

use alloc::string::{String, ToString};

use dtoolkit::fdt::Fdt;

use super::grant::{all, resolve};
use super::lookup::Lookup;
use super::own::Own;
use super::{Device, Machine};

/// Why a device can't be the uplink of a network, as far as the device tree tells.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UplinkError {
    /// The machine has no such device.
    #[error("the machine has no device \"{0}\" for its uplink")]
    NotThere(String),
    /// The device's node says that it is not in use.
    #[error("its uplink \"{0}\" is disabled in the machine's device tree")]
    Disabled(String),
    /// The device is of no kind for which Stasis has a driver.
    #[error("its uplink \"{0}\" is no network card that Stasis drives: those of virtio-mmio are")]
    NoCard(String),
    /// Nobody would know when frames come.
    #[error("its uplink \"{0}\" has no interrupt")]
    NoInterrupt(String),
    /// Stasis uses the device for something else.
    #[error("its uplink \"{0}\" is in use by Stasis itself")]
    Own(String),
}

/// Returns the device that a person means by its path or its alias as an uplink. Whether there is a
/// card in a slot of virtio's, only the hardware knows.
///
/// # Errors
///
/// [`UplinkError`].
pub fn uplink(
    machine: &Machine<'_>,
    fdt: Fdt<'_>,
    device: &str,
    own: &Own,
) -> Result<Device, UplinkError> {
    let path = resolve(fdt, device);
    let nodes = all(fdt);
    let found = nodes.iter().find(|found| found.path == path);
    let found = found.ok_or_else(|| UplinkError::NotThere(device.to_string()))?;
    if !found.node.enabled() {
        return Err(UplinkError::Disabled(path));
    }
    let frame = found.bus.frames(found.node).next();
    let mut slots = machine.virtio.iter();
    let slot = slots.find(|slot| frame.is_some_and(|frame| frame.start == slot.frame.start));
    let slot = *slot.ok_or_else(|| UplinkError::NoCard(path.clone()))?;
    if slot.intid == 0 {
        return Err(UplinkError::NoInterrupt(path));
    }
    if own.frames.iter().any(|frame| frame.overlaps(slot.frame)) {
        return Err(UplinkError::Own(path));
    }
    Ok(slot)
}
