//! The virtio devices behind virtio-mmio transports: their sections
//! `virtio-mmio@ADDRESS/virtio-KIND` (hw/virtio/virtio-mmio.c; hw/block/virtio-blk.c;
//! hw/net/virtio-net.c).
//!
//! [`write`] and [`read`] pass the state of all devices of a guest; [`layout`](super::layout) says
//! what is where in a section. What is behind a device (an image, a network) is in no stream.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::ops::Range;

use stasis_state::machine::{DeviceKind, Entry};
use stasis_state::virtio::{MAX_QUEUE, MAX_VIRTIO, VIRTIO_QUEUES, Virtio, device_id};

use super::fields::Way;
use super::layout::{Layout, Pass, QueuePlaces, header};
use super::request::{MOST_REQUESTS, Request};
use super::sections::{Sections, resize};
use crate::error::Error;

/// Guest-physical address of the first transport, and bytes of each.
const FIRST: u64 = 0x0a00_0000;
const SIZE: u64 = 0x200;
/// INTID of the first transport, and how many there are.
const FIRST_INTID: u64 = 48;
const SLOTS: u64 = 32;
/// Bits of the status: the features are accepted; the driver is there; the device waits for a
/// reset.
const FEATURES_OK: u32 = 8;
const DRIVER_OK: u32 = 4;
const NEEDS_RESET: u32 = 0x40;
/// What a disk has of its own at the end, and a machine of QEMU's alone: that there are no more
/// requests that were begun. QEMU finishes them before it stops a machine, but for those that have
/// failed.
const NO_REQUESTS: &[u8] = &[0];
/// What a card has of its own begins with its address; then come whether frames to send wait, how
/// it receives, and `status`.
const MAC: Range<usize> = 0..6;
const TX_WAITING: Range<usize> = 6..10;
const STATUS: Range<usize> = 14..16;
/// Offset of `idx` in the used ring.
const IDX: u64 = 2;

/// The kinds of devices: the ID, QEMU's name, and the number of queues.
const KINDS: [(u32, &str, usize); 3] = [
    (device_id::BLOCK, "virtio-blk", 1),
    (device_id::NETWORK, "virtio-net", 3),
    (device_id::ENTROPY, "virtio-rng", 1),
];

/// Returns a number of 16 bits in a machine's RAM, by its guest-physical address; `None` if it is
/// not there.
pub type Load<'a> = dyn Fn(u64) -> Option<u16> + 'a;

/// Returns whether an entry of a guest's machine is of transports where QEMU has its own, without a
/// device or with one that QEMU has, too.
pub(crate) fn is_slot(entry: &Entry) -> bool {
    let is_known = |id: u8| KINDS.into_iter().any(|(known, ..)| known == u32::from(id));
    let is_kind =
        entry.kind == DeviceKind::EMPTY_SLOT || entry.kind.virtio_id().is_some_and(is_known);
    let first = entry.base.checked_sub(FIRST).map_or(SLOTS, |offset| offset / SIZE).min(SLOTS);
    let is_there = entry.base == FIRST + first * SIZE && first + u64::from(entry.count) <= SLOTS;
    is_kind && entry.size == SIZE && is_there && u64::from(entry.intid) == FIRST_INTID + first
}

/// Returns the slot and the kind of the device whose section has this name; `None` if Stasis has
/// none like it.
pub(super) fn device_of(name: &str) -> Option<(usize, (u32, &'static str, usize))> {
    let all = (0..MAX_VIRTIO).flat_map(|slot| KINDS.map(|kind| (slot, kind)));
    all.into_iter().find(|(slot, (_, kind, _))| name == section_name(*slot, kind))
}

/// Returns the slots that have a device like one of Stasis's in the machine of a stream, each with
/// the device's ID.
pub fn devices(sections: &Sections) -> impl Iterator<Item = (usize, u32)> {
    let found = sections.all.iter().filter_map(|section| device_of(&section.device.name));
    found.map(|(slot, (id, ..))| (slot, id))
}

/// Returns the name of the section of a device in a slot.
fn section_name(slot: usize, kind: &str) -> String {
    format!("virtio-mmio@{:016x}/{kind}", FIRST + slot as u64 * SIZE)
}

/// Puts the state of a guest's devices in the place of the base's, and the `requests` of its disks
/// that are not completed, all of them, in the order of each queue. A section may grow, so the last
/// one is written first: the places of the others stay true.
///
/// # Errors
///
/// The base has not the devices of the guest, or has them as this QEMU does not; or there are too
/// many requests.
pub(crate) fn write(
    virtio: &Virtio,
    requests: &[Request],
    base: &mut Vec<u8>,
    sections: &Sections,
) -> Result<(), Error> {
    let there = sections.all.iter().filter(|one| device_of(&one.device.name).is_some()).count();
    let has = virtio.slots().count();
    if there != has {
        return Err(Error::VirtioDevices { stream: there, guest: has });
    }
    if requests.len() > MOST_REQUESTS {
        return Err(Error::ManyRequests { found: requests.len(), limit: MOST_REQUESTS });
    }
    for section in sections.all.iter().rev() {
        let Some((slot, (id, _, queues))) = device_of(&section.device.name) else { continue };
        if virtio.device_id[slot] != id {
            return Err(Error::UnknownDevice { name: section.device.name.clone() });
        }
        let place = section.contents.clone();
        let bytes = base.get_mut(place.clone()).ok_or(Error::NoDescription)?;
        let layout = Layout::find(bytes, section)?;
        layout.expect_queues(queues)?;
        let (begun, count) = begun(requests, slot)?;
        let mut virtio = virtio.clone();
        // QEMU has taken them from the queue, which only a disk's first one has.
        let next = &mut virtio.queue_next_avail[slot * VIRTIO_QUEUES];
        *next = next.wrapping_add(count);
        device(&mut Pass { bytes, way: Way::ToQemu }, &layout, &mut virtio, slot)?;
        let more = in_use(virtio.status[slot]);
        let own = place.start + layout.own.start;
        base.splice(place.end..place.end, more.iter().copied());
        base.splice(own..own, begun.iter().copied());
        resize(base, section, begun.len() + more.len())?;
    }
    Ok(())
}

/// Returns the requests of the disk in a slot as they stand before the other things that it has of
/// its own, and their number.
fn begun(requests: &[Request], slot: usize) -> Result<(Vec<u8>, u16), Error> {
    let (mut bytes, mut count) = (Vec::new(), 0);
    for request in requests.iter().filter(|request| request.slot == slot) {
        bytes.extend(request.encode()?);
        count += 1;
    }
    Ok((bytes, count))
}

/// Returns the subsections that only devices in use have: the device waits for a reset; it has
/// begun its work.
fn in_use(status: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (bit, name) in [(NEEDS_RESET, "virtio/broken"), (DRIVER_OK, "virtio/started")] {
        if status & bit != 0 {
            bytes.extend(header(name));
            bytes.push(1);
        }
    }
    bytes
}

/// Reads the devices of a machine into a guest's record. What is behind them, and what they offer,
/// the stream does not say.
///
/// # Errors
///
/// A device that Stasis has not like this, by its section.
pub(crate) fn read(
    bytes: &mut [u8],
    sections: &Sections,
    load: &Load<'_>,
) -> Result<Virtio, Error> {
    let mut virtio = Virtio::default();
    for section in &sections.all {
        let Some((slot, (id, _, queues))) = device_of(&section.device.name) else { continue };
        let bytes = bytes.get_mut(section.contents.clone()).ok_or(Error::NoDescription)?;
        let layout = Layout::find(bytes, section)?;
        layout.expect_queues(queues)?;
        if id == device_id::BLOCK && bytes[layout.own.clone()] != *NO_REQUESTS {
            return Err(layout.other("it has requests that were begun, and have failed"));
        }
        virtio.device_id[slot] = id;
        device(&mut Pass { bytes, way: Way::FromQemu }, &layout, &mut virtio, slot)?;
        for at in (0..VIRTIO_QUEUES).map(|queue| slot * VIRTIO_QUEUES + queue) {
            settle_queue(&mut virtio, at, &layout, load)?;
        }
    }
    Ok(virtio)
}

/// Makes a device begin again with the first request that is not completed, whatever it had taken.
fn settle_queue(
    virtio: &mut Virtio,
    at: usize,
    layout: &Layout,
    load: &Load<'_>,
) -> Result<(), Error> {
    if virtio.queue_ready[at] == 0 {
        return Ok(());
    }
    let num = virtio.queue_num[at];
    if !num.is_power_of_two() || num > MAX_QUEUE {
        return Err(layout.other("it has a queue of a size that Stasis's can't have"));
    }
    let used = load(virtio.queue_device[at].wrapping_add(IDX));
    let used = used.ok_or_else(|| layout.other("it has a queue that is not in RAM"))?;
    (virtio.queue_used[at], virtio.queue_next_avail[at]) = (used, used);
    Ok(())
}

/// Passes the state of the device in a slot.
fn device(
    pass: &mut Pass<'_>,
    layout: &Layout,
    virtio: &mut Virtio,
    slot: usize,
) -> Result<(), Error> {
    pass.number(layout.status(), &mut virtio.status[slot])?;
    pass.number(layout.interrupt_status(), &mut virtio.interrupt_status[slot])?;
    // QEMU's has 16 bits, and no queue has a number beyond that.
    let mut selected = virtio.queue_sel[slot].min(u16::MAX.into());
    pass.number(layout.queue_sel(), &mut selected)?;
    virtio.queue_sel[slot] = selected;
    let mut low = virtio.driver_features[slot] as u32;
    pass.number(layout.driver_features_low(), &mut low)?;
    let mut written = virtio.driver_features[slot];
    pass.halves(layout.written_features(), &mut written)?;
    pass.number(layout.driver_features(), &mut virtio.driver_features[slot])?;
    if virtio.status[slot] & FEATURES_OK == 0 {
        virtio.driver_features[slot] = written;
    }
    pass.number(layout.features_sel(), &mut virtio.features_sel[slot])?;
    pass.number(layout.driver_features_sel(), &mut virtio.driver_features_sel[slot])?;
    let queues = KINDS.into_iter().find(|(id, ..)| *id == virtio.device_id[slot]);
    for n in 0..queues.map_or(0, |(.., queues)| queues) {
        queue(pass, &layout.queue(n), virtio, slot * VIRTIO_QUEUES + n)?;
    }
    if virtio.device_id[slot] == device_id::NETWORK {
        card(pass, layout, virtio, slot)?;
    }
    Ok(())
}

/// Passes the state of a queue, which is number `at` of the record. One that is not ready is at
/// reset in the device.
fn queue(
    pass: &mut Pass<'_>,
    places: &QueuePlaces,
    virtio: &mut Virtio,
    at: usize,
) -> Result<(), Error> {
    pass.number(places.written_num, &mut virtio.queue_num[at])?;
    pass.number(places.ready, &mut virtio.queue_ready[at])?;
    pass.halves(places.written[0], &mut virtio.queue_desc[at])?;
    pass.halves(places.written[1], &mut virtio.queue_driver[at])?;
    pass.halves(places.written[2], &mut virtio.queue_device[at])?;
    if virtio.queue_ready[at] == 0 {
        return Ok(());
    }
    pass.number(places.num, &mut virtio.queue_num[at])?;
    pass.number(places.desc, &mut virtio.queue_desc[at])?;
    pass.number(places.driver, &mut virtio.queue_driver[at])?;
    pass.number(places.device, &mut virtio.queue_device[at])?;
    pass.number(places.next_avail, &mut virtio.queue_next_avail[at])
}

/// Passes what a card has of its own.
fn card(
    pass: &mut Pass<'_>,
    layout: &Layout,
    virtio: &mut Virtio,
    slot: usize,
) -> Result<(), Error> {
    let mut mac = virtio.mac[slot].swap_bytes() >> 16;
    pass.number(layout.own(MAC)?, &mut mac)?;
    virtio.mac[slot] = (mac << 16).swap_bytes();
    // QEMU looks at once at what there is to send.
    let mut waits = u32::from(virtio.status[slot] & DRIVER_OK != 0);
    pass.number(layout.own(TX_WAITING)?, &mut waits)?;
    pass.number(layout.own(STATUS)?, &mut virtio.net_status[slot])
}
