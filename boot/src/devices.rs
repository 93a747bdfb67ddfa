//! Giving guests the machine's devices, of which [`stasis_host::board`] says what can be given.

use crate::guests;
use crate::machine::Machine;
use crate::memory::image;
use dtoolkit::error::FdtParseError;
use dtoolkit::fdt::Fdt;
use spin::Once;
use stasis_guest::given::Given;
use stasis_host::board::give::{self, GiveError, Remark, remarks};
use stasis_host::board::own::Own;
use stasis_host::config::GuestConfig;
use stasis_memory::range::Range;

/// Why a guest is not given its devices.
#[derive(Debug, thiserror::Error)]
pub enum DevicesError {
    /// The machine was not looked at.
    #[error("the machine is not known yet")]
    Unknown,
    /// Its device tree is damaged.
    #[error(transparent)]
    DeviceTree(#[from] FdtParseError),
    /// A rule speaks against it.
    #[error(transparent)]
    Give(#[from] GiveError),
}

/// The machine's device tree, and what of it is Stasis's own.
static MACHINE: Once<(Range, Own)> = Once::new();

/// Notes what no guest can be given: memory, and the devices that Stasis uses, one of them `disk`.
pub fn init(machine: &Machine, disk: Option<Range>) {
    MACHINE.call_once(|| (machine.device_tree, machine.own(image(), disk)));
}

/// Returns what a guest is given by its configuration, and says what a person should know of it.
pub fn give(config: &GuestConfig) -> Result<Given, DevicesError> {
    if config.devices.is_empty() {
        return Ok(Given::default());
    }
    let (tree, own) = MACHINE.get().ok_or(DevicesError::Unknown)?;
    // SAFETY: the firmware put it there, and `free_ram` leaves it out, so nobody writes it.
    let fdt = unsafe { Fdt::from_raw(tree.start as *const u8) }?;
    let guests = guests::all();
    let others = guests.iter().map(|slot| (slot.name.as_str(), slot.given()));
    let given = give::give(fdt, config, own, others)?;
    for remark in remarks(&given) {
        match remark {
            Remark::LeftOut { .. } => log::info!("guest \"{}\"{remark}", config.name),
            Remark::Trusted { .. } => log::warn!("guest \"{}\"{remark}", config.name),
        }
    }
    Ok(given)
}
