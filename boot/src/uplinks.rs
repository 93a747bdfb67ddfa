//! The uplinks of the networks: cards of the machine, which are Stasis's before a guest gets
//! devices. [`stasis_run::network::uplink`] moves their frames.

use crate::devices::{self, DevicesError};
use crate::machine::Machine;
use alloc::boxed::Box;
use alloc::vec::Vec;
use stasis_host::board::Device;
use stasis_host::config::NetworkConfig;
use stasis_hw::network_card::NetworkCard;
use stasis_hw::virtio_blk::Slot;
use stasis_hw::virtio_net::{self, CardMemory, VirtioNet};
use stasis_run::network::uplink::{self, Uplink};

/// Why a network has no uplink.
#[derive(Debug, thiserror::Error)]
enum NoUplink {
    /// The device tree says that the device can't be one.
    #[error(transparent)]
    Device(#[from] DevicesError),
    /// There is no network card, or it can't be used.
    #[error(transparent)]
    Card(#[from] virtio_net::Error),
}

/// Connects the networks to their uplinks, and logs which they are. A network whose uplink is not
/// there has none, and that is logged. Called at most once.
pub fn init(machine: &Machine, networks: &[NetworkConfig]) {
    let mut uplinks = Vec::new();
    let wanted = networks.iter().filter_map(|it| Some((&it.name, it.uplink.as_ref()?)));
    for (network, device) in wanted {
        match connect(machine, device) {
            Ok((card, intid)) => {
                log::info!("network \"{network}\": its uplink is {device}");
                uplinks.push(Uplink::new(network, intid, card));
            }
            Err(error) => log::error!("network \"{network}\": {error}"),
        }
    }
    uplink::init(uplinks);
}

/// Returns the driver of a card, and its interrupt. No guest gets the card from now on, also if it
/// can't be set up: it may know memory of Stasis's. A slot without a card stays the guests'.
fn connect(machine: &Machine, device: &str) -> Result<(Box<dyn NetworkCard>, u32), NoUplink> {
    let device = devices::find_uplink(machine, device)?;
    let Device { frame, intid } = device;
    let slot = Slot { address: frame.start as usize, size: frame.len() as usize };
    // SAFETY: bytes and arrays of bytes are all that is in it, and zeros are fit for them. The
    // memory is cleared where it lies, for it is larger than the stack.
    let memory = unsafe { Box::<CardMemory>::new_zeroed().assume_init() };
    // SAFETY: 1. `Machine` is proof that this is a virtio slot, mapped as a device for ever. It was
    // no guest's, for there is none yet, and a network card in it is kept for Stasis below; the
    // disk's driver uses another slot, and other uplinks do: `find_uplink` refuses what is kept. 2.
    // The heap is part of the image, which the final translation maps one to one. The card has its
    // memory for ever.
    let started = unsafe { VirtioNet::start(slot, Box::leak(memory)) };
    if !started.as_ref().is_err_and(virtio_net::Error::is_no_card) {
        devices::keep(device)?;
    }
    Ok((Box::new(started?), intid))
}
