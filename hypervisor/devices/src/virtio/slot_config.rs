//! What a driver reads of the configuration of its slot. VIRTIO 1.2, 5.

use stasis_state::virtio::{MAX_VIRTIO, device_id};

use super::config::Config;
use super::{Slots, block, net};
use crate::access::Width;

impl Slots {
    /// Reads from the configuration of slot `n`, which may be empty.
    pub(super) fn read_config(&self, n: usize, offset: u64, width: Width) -> u64 {
        let id = if n < MAX_VIRTIO { self.record.device_id[n] } else { device_id::NONE };
        match id {
            device_id::BLOCK => block::config(&self.record, n).read(offset, width),
            device_id::NETWORK => net::config(&self.record, n).read(offset, width),
            device_id::NONE => 0,
            _ => Config::zeros(0).read(offset, width),
        }
    }
}
