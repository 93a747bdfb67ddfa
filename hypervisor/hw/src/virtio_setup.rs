//! The beginning of a virtio device's initialization (3.1.1), which is the same for each kind:
//! [`negotiate`]. Used by [`crate::virtio_blk`] and [`crate::virtio_net`].

use virtio_drivers::transport::{DeviceStatus, Transport};

/// Resets a device and accepts those of its features that are in `wanted`. Returns its status, to
/// which the driver adds `DRIVER_OK` once its queues are there, and the features that were
/// accepted.
///
/// # Errors
///
/// The features, if the device does not work with them.
pub fn negotiate(transport: &mut impl Transport, wanted: u64) -> Result<(DeviceStatus, u64), u64> {
    let mut status = DeviceStatus::empty();
    transport.set_status(status);
    status |= DeviceStatus::ACKNOWLEDGE | DeviceStatus::DRIVER;
    transport.set_status(status);
    let features = transport.read_device_features() & wanted;
    transport.write_driver_features(features);
    if transport.requires_legacy_layout() {
        transport.set_guest_page_size(virtio_drivers::PAGE_SIZE as u32);
        return Ok((status, features));
    }
    status |= DeviceStatus::FEATURES_OK;
    transport.set_status(status);
    match transport.get_status().contains(DeviceStatus::FEATURES_OK) {
        true => Ok((status, features)),
        false => Err(features),
    }
}
