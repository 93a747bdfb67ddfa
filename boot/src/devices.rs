//! Gives guests the machine's devices. [`stasis_host::board`] decides which devices can be given.

use crate::machine::Machine;
use crate::memory::image;
use crate::registry;
use core::ops::Deref;
use dtoolkit::error::FdtParseError;
use dtoolkit::fdt::Fdt;
use spin::Once;
use spin::mutex::SpinMutex;
use stasis_guest::given::Given;
use stasis_host::board::Device;
use stasis_host::board::give::{self, GiveError, Remark, remarks};
use stasis_host::board::own::Own;
use stasis_host::board::uplink::{UplinkError, uplink};
use stasis_host::config::GuestConfig;
use stasis_memory::range::Range;

/// Why a guest does not get the devices of its configuration.
#[derive(Debug, thiserror::Error)]
pub enum DevicesError {
    /// The machine's device tree was not read yet.
    #[error("the machine is not known yet")]
    Unknown,
    /// The machine's device tree is damaged.
    #[error(transparent)]
    DeviceTree(#[from] FdtParseError),
    /// A rule of [`stasis_host::board`] forbids it.
    #[error(transparent)]
    Give(#[from] GiveError),
    /// The device can't be a network's uplink.
    #[error(transparent)]
    Uplink(#[from] UplinkError),
}

/// The addresses of the machine's device tree, and the parts of the machine that Stasis itself
/// uses. Core 0 alone has the lock, while it makes a guest or connects a network.
static MACHINE: Once<(Range, SpinMutex<Own>)> = Once::new();

/// Notes what no guest can get: Stasis's memory, and the devices that it uses. `disk` is one of
/// them.
pub fn init(machine: &Machine, disk: Option<Device>) {
    MACHINE.call_once(|| (machine.device_tree, SpinMutex::new(machine.own(image(), disk))));
}

/// Returns the machine's device tree, and what Stasis itself uses.
fn known() -> Result<(Fdt<'static>, &'static SpinMutex<Own>), DevicesError> {
    let (tree, own) = MACHINE.get().ok_or(DevicesError::Unknown)?;
    // SAFETY: 1. A valid device tree stands there: `init` got the `Machine` that it describes. 2.
    // The tree lies in RAM, which `Machine` is proof is mapped for ever, and nobody writes the
    // tree, because `free_ram` leaves it out.
    let fdt = unsafe { Fdt::from_raw(tree.start as *const u8) }?;
    Ok((fdt, own))
}

/// Returns the device that is the uplink of a network, once [`keep`] has it.
///
/// # Errors
///
/// Why the device can't be an uplink.
pub fn find_uplink(machine: &Machine, device: &str) -> Result<Device, DevicesError> {
    let (fdt, own) = known()?;
    Ok(uplink(machine, fdt, device, &own.lock())?)
}

/// Keeps a device for Stasis. No guest gets it from now on, nor another network.
///
/// # Errors
///
/// [`DevicesError::Unknown`], or [`DevicesError::DeviceTree`].
pub fn keep(device: Device) -> Result<(), DevicesError> {
    known()?.1.lock().add(device);
    Ok(())
}

/// Devices of the machine for a guest that is not there yet, and the proof that the rules of
/// [`stasis_host::board`] let it have them: [`give`] alone finds some.
pub struct Granted(Given);

impl Granted {
    /// Returns no devices.
    pub fn none() -> Self {
        Self(Given::default())
    }

    /// Returns the devices for the guest with the name `guest`, which gets them now.
    ///
    /// # Errors
    ///
    /// [`GiveError::Taken`] if another guest has got one of them since [`give`].
    pub fn into_given(self, guest: &str) -> Result<Given, GiveError> {
        let guests = registry::all();
        let others = guests.iter().map(|domain| (domain.name.as_str(), domain.given()));
        give::check_others(&self.0, guest, others)?;
        Ok(self.0)
    }
}

impl Deref for Granted {
    type Target = Given;

    fn deref(&self) -> &Given {
        &self.0
    }
}

/// Returns the devices that a guest gets by its configuration. Logs what a person should know about
/// them.
///
/// # Errors
///
/// The first device that the guest can't get.
pub fn give(config: &GuestConfig) -> Result<Granted, DevicesError> {
    if config.devices.is_empty() {
        return Ok(Granted::none());
    }
    let (fdt, own) = known()?;
    let guests = registry::all();
    let others = guests.iter().map(|domain| (domain.name.as_str(), domain.given()));
    let given = give::give(fdt, config, &own.lock(), others)?;
    for remark in remarks(&given) {
        match remark {
            Remark::LeftOut { .. } => log::info!("guest \"{}\"{remark}", config.name),
            Remark::Trusted { .. } => log::warn!("guest \"{}\"{remark}", config.name),
        }
    }
    Ok(Granted(given))
}
