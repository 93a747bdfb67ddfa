//! The virtio devices of a new guest at reset: the record that its [`Fitting`]s come to, and the
//! features that each offers.

use stasis_state::virtio::{MAX_VIRTIO, Virtio, device_id};

use super::fitting::Fitting;
use super::{INDIRECT_DESC, VERSION_1, block, console, net};

/// Returns the record of these devices, at reset. There is room for [`MAX_VIRTIO`].
pub(super) fn record(fittings: &[Fitting<'_>]) -> Virtio {
    let mut record = Virtio::default();
    for (n, fitting) in fittings.iter().take(MAX_VIRTIO).enumerate() {
        let id = match *fitting {
            Fitting::Disk { volume, sectors } => {
                record.set_name(n, volume);
                record.capacity[n] = sectors;
                device_id::BLOCK
            }
            Fitting::Card { network, address: [a, b, c, d, e, f] } => {
                record.set_name(n, network);
                record.mac[n] = u64::from_le_bytes([a, b, c, d, e, f, 0, 0]);
                record.net_status[n] = net::LINK_UP;
                device_id::NETWORK
            }
            Fitting::Entropy => device_id::ENTROPY,
            Fitting::Terminal => {
                record.set_name(n, console::NAME);
                device_id::CONSOLE
            }
        };
        record.device_id[n] = id;
        record.features[n] = offered(id);
    }
    record
}

/// Returns the features that a device with this ID offers.
pub fn offered(id: u32) -> u64 {
    let own = match id {
        device_id::BLOCK => block::FEATURES,
        device_id::NETWORK => net::FEATURES,
        _ => 0,
    };
    own | VERSION_1 | INDIRECT_DESC
}
