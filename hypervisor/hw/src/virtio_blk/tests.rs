//! The driver on a device that carries out its requests ([`fake`](super::fake)).

use super::fake::{Attack, Clock, Device, Manner, PATIENCE_MS, Registers, filled, start, start_on};
use super::{DEPTH, DiskMemory, Error, MAX_TRANSFER, Request, SECTOR, Slot, VirtioBlk, feature};
use std::boxed::Box;
use std::vec;
use std::vec::Vec;
use virtio_drivers::Error as Virtio;

/// Sectors of a disk that has room for a long transfer.
const SECTORS: u64 = LONG as u64 + 250;
/// Sectors of a long transfer: more than the device has requests for at a time, and a piece that is
/// shorter than the others.
const LONG: usize = (DEPTH + 1) * MAX_TRANSFER / SECTOR + 3;
/// Sectors of one request.
const WHOLE: usize = MAX_TRANSFER / SECTOR;

fn started(device: Device) -> (VirtioBlk<Registers>, Clock) {
    start(device).expect("it is a disk")
}

/// Returns `sectors` sectors that are not those of a new disk.
fn data(sectors: usize) -> Vec<u8> {
    filled((0..sectors).map(|sector| (sector * 7 + 13) as u8))
}

/// Begins to write what [`data`] returns.
fn begin(
    disk: &mut VirtioBlk<Registers>,
    clock: &mut Clock,
    sector: u64,
    sectors: usize,
) -> Result<(), Error> {
    let data = data(sectors);
    let mut rest = &data[..];
    let begun = disk.begin_write_while(clock, sector, data.len(), &mut |piece| {
        let (now, later) = rest.split_at(piece.len());
        piece.copy_from_slice(now);
        rest = later;
        true
    });
    begun.map(drop)
}

#[test]
fn what_is_written_is_on_the_disk_and_is_read_again() {
    for legacy in [false, true] {
        let (mut disk, mut clock) = started(Device { legacy, ..Device::new(100) });
        assert_eq!(disk.capacity(), 100);
        let written = data(5);
        disk.write(&mut clock, 3, &written).unwrap();
        let mut read = vec![0; 7 * SECTOR];
        disk.read(&mut clock, 2, &mut read).unwrap();
        let [before, between @ .., after] = read.as_chunks::<SECTOR>().0 else { unreachable!() };
        assert_eq!((before, after), (&[2; SECTOR], &[8; SECTOR]));
        assert_eq!(between.as_flattened(), written);
        assert_eq!(clock.device.borrow().log, [(1, 3), (0, 2)]);
    }
}

#[test]
fn a_long_transfer_is_several_requests_that_end_in_any_order() {
    let (mut disk, mut clock) =
        started(Device { manner: Manner::AnyOrder, ..Device::new(SECTORS) });
    disk.write(&mut clock, 100, &data(LONG)).unwrap();
    let mut read = vec![0; LONG * SECTOR];
    disk.read(&mut clock, 100, &mut read).unwrap();
    assert!(read == data(LONG), "what was read is not what was written");
    let device = clock.device.borrow();
    assert_eq!(device.most, DEPTH, "so many requests are under way at a time");
    assert_eq!(device.log.len(), 2 * (DEPTH + 2));
    assert!(clock.ticks.now.get() < PATIENCE_MS * 1000, "nobody has slept through an interrupt");
    assert!(clock.ticks.pauses >= 2 * (DEPTH + 2), "others can run with each request");
}

#[test]
fn pieces_are_read_in_their_order() {
    let (mut disk, mut clock) =
        started(Device { manner: Manner::AnyOrder, ..Device::new(SECTORS) });
    let mut found = vec![];
    disk.read_with(&mut clock, 5, LONG * SECTOR, &mut |piece| found.extend_from_slice(piece))
        .unwrap();
    let expected: Vec<u8> = filled((5..).take(LONG).map(|sector: u64| sector as u8));
    assert!(found == expected);
}

#[test]
fn a_write_that_was_begun_is_under_way_until_it_is_ended() {
    let (mut disk, mut clock) =
        started(Device { manner: Manner::AnyOrder, ..Device::new(SECTORS) });
    begin(&mut disk, &mut clock, 0, DEPTH * WHOLE).unwrap();
    assert_eq!(clock.device.borrow().log, [], "nobody has waited");
    begin(&mut disk, &mut clock, (DEPTH * WHOLE) as u64, WHOLE).unwrap();
    assert_eq!(clock.device.borrow().log.len(), 1, "only until one has ended");
    disk.end_requests(&mut clock).unwrap();
    assert_eq!(clock.device.borrow().log.len(), DEPTH + 1);
    disk.flush(&mut clock).unwrap();
    assert!(clock.device.borrow().medium.starts_with(&data(DEPTH * WHOLE)));
}

#[test]
fn a_piece_that_is_refused_is_not_written_and_nor_is_what_is_behind_it() {
    let (mut disk, mut clock) = started(Device::new(SECTORS));
    let mut left = 2;
    let begun = disk.begin_write_while(&mut clock, 0, 4 * WHOLE * SECTOR, &mut |piece| {
        piece.fill(0xee);
        left -= 1;
        left >= 0
    });
    assert_eq!((begun, left), (Ok(false), -1), "nobody asks again");
    disk.end_requests(&mut clock).unwrap();
    disk.flush(&mut clock).unwrap();
    let device = clock.device.borrow();
    let written = device.medium.iter().take_while(|byte| **byte == 0xee).count();
    assert_eq!((written, device.log.len()), (2 * WHOLE * SECTOR, 3));
}

#[test]
fn what_was_flushed_lasts_with_all_that_was_begun_before() {
    let (mut disk, mut clock) =
        started(Device { manner: Manner::AnyOrder, ..Device::new(SECTORS) });
    begin(&mut disk, &mut clock, 7, LONG).unwrap();
    disk.flush(&mut clock).unwrap();
    let device = clock.device.borrow();
    assert!(device.cache.is_empty() && device.medium[7 * SECTOR..].starts_with(&data(LONG)));
    assert_eq!(device.log.last(), Some(&(4, 0)), "the flush came after all writes");
}

#[test]
fn a_disk_without_a_cache_is_not_flushed() {
    for feature in [0, feature::RO | feature::FLUSH] {
        let (mut disk, mut clock) = started(Device { features: feature, ..Device::new(100) });
        disk.flush(&mut clock).unwrap();
        assert_eq!(clock.device.borrow().log, []);
    }
}

#[test]
fn a_request_that_fails_is_named_and_the_disk_goes_on() {
    let device = Device { manner: Manner::AnyOrder, fails: vec![0], ..Device::new(SECTORS) };
    let (mut disk, mut clock) = started(device);
    let mut taken = 0;
    let read = disk.read_with(&mut clock, 0, LONG * SECTOR, &mut |piece| taken += piece.len());
    let failed = clock.device.borrow().log[0].1;
    let request = Request::Read(failed, WHOLE);
    assert_eq!(read, Err(Error::Failed { request, status: 1 }));
    assert!(taken as u64 <= failed * SECTOR as u64, "nothing behind the failure is handed out");
    disk.read(&mut clock, 0, &mut vec![0; LONG * SECTOR]).unwrap();

    let next = clock.device.borrow().log.len();
    clock.device.borrow_mut().fails = vec![next];
    let request = Request::Flush;
    assert_eq!(disk.flush(&mut clock), Err(Error::Failed { request, status: 1 }));
    disk.flush(&mut clock).unwrap();
}

#[test]
fn a_write_that_fails_late_is_reported_until_it_is_ended_and_then_no_more() {
    let device = Device { manner: Manner::AnyOrder, fails: vec![0], ..Device::new(SECTORS) };
    let (mut disk, mut clock) = started(device);
    begin(&mut disk, &mut clock, 0, WHOLE).unwrap();
    let failure = Err(Error::Failed { request: Request::Write(0, WHOLE), status: 1 });
    assert_eq!(disk.flush(&mut clock), failure, "it would not cover the write");
    assert_eq!(
        disk.read(&mut clock, 0, &mut [0; SECTOR]),
        Ok(()),
        "whoever reads has no part in it"
    );
    assert_eq!(begin(&mut disk, &mut clock, 200, WHOLE), failure);
    assert_eq!(disk.end_requests(&mut clock), failure);
    assert_eq!(clock.device.borrow().log, [(1, 0), (0, 0)], "nothing was written behind it");
    assert_eq!(disk.end_requests(&mut clock), Ok(()));
    disk.write(&mut clock, 0, &data(LONG)).unwrap();
}

#[test]
fn a_read_that_fails_is_not_taken_for_a_write() {
    let device = Device { manner: Manner::AnyOrder, fails: vec![1], ..Device::new(SECTORS) };
    let (mut disk, mut clock) = started(device);
    begin(&mut disk, &mut clock, 0, WHOLE).unwrap();
    const LAST: u64 = SECTORS - 1;
    let failure = Err(Error::Failed { request: Request::Read(LAST, 1), status: 1 });
    assert_eq!(disk.read(&mut clock, LAST, &mut [0; SECTOR]), failure);
    begin(&mut disk, &mut clock, 200, WHOLE).unwrap();
    assert_eq!(disk.end_requests(&mut clock), Ok(()));
    assert_eq!(disk.flush(&mut clock), Ok(()));
}

#[test]
fn of_several_failures_the_first_is_reported() {
    let device = Device { manner: Manner::AnyOrder, fails: vec![1, 2], ..Device::new(SECTORS) };
    let (mut disk, mut clock) = started(device);
    begin(&mut disk, &mut clock, 0, DEPTH * WHOLE).unwrap();
    let error = disk.end_requests(&mut clock).unwrap_err();
    let device = clock.device.borrow();
    assert_eq!(device.log.len(), DEPTH, "all have ended");
    let request = Request::Write(device.log[1].1, WHOLE);
    assert_eq!(error, Error::Failed { request, status: 1 });
}

#[test]
fn a_disk_that_does_not_answer_is_reset_and_not_used_again() {
    let (mut disk, mut clock) = started(Device { manner: Manner::Never, ..Device::new(SECTORS) });
    begin(&mut disk, &mut clock, 8, 2 * WHOLE).unwrap();
    let request = Request::Write(8, WHOLE);
    assert_eq!(disk.end_requests(&mut clock), Err(Error::TimedOut { request, ms: PATIENCE_MS }));
    assert!(clock.device.borrow().status.is_empty(), "it can't write to memory any more");
    let late = clock.ticks.now.get();
    let given_up = Err(Error::GivenUp { since: request });
    assert_eq!(disk.read(&mut clock, 0, &mut [0; SECTOR]), given_up);
    assert_eq!(disk.write(&mut clock, 0, &[0; SECTOR]), given_up);
    assert_eq!(begin(&mut disk, &mut clock, 0, LONG), given_up);
    assert_eq!(disk.flush(&mut clock), given_up);
    assert_eq!(disk.end_requests(&mut clock), given_up);
    assert_eq!(disk.check(), given_up);
    assert_eq!(clock.ticks.now.get(), late, "nobody waits for it again");
}

#[test]
fn a_disk_that_works_only_while_a_core_is_awake_is_polled() {
    let device = Device { manner: Manner::WhilePolled, ..Device::new(SECTORS) };
    let (mut disk, mut clock) = started(device);
    disk.write(&mut clock, 0, &data(LONG)).unwrap();
    disk.flush(&mut clock).unwrap();
    assert!(clock.device.borrow().medium.starts_with(&data(LONG)));
}

#[test]
fn an_interrupt_that_comes_before_the_driver_sleeps_is_not_slept_through() {
    let device = Device { manner: Manner::WorstMoment, ..Device::new(SECTORS) };
    let (mut disk, mut clock) = started(device);
    disk.write(&mut clock, 0, &data(LONG)).unwrap();
    disk.flush(&mut clock).unwrap();
    assert!(clock.device.borrow().medium.starts_with(&data(LONG)));
    assert!(clock.ticks.now.get() < 1000, "it slept for {} us", clock.ticks.now.get());
}

#[test]
fn what_is_not_whole_sectors_of_the_disk_is_refused_before_the_device_hears_of_it() {
    let (mut disk, mut clock) = started(Device::new(100));
    assert_eq!(disk.read(&mut clock, 0, &mut [0; 700]), Err(Error::Length { len: 700 }));
    assert_eq!(disk.write(&mut clock, 0, &[0; 1]), Err(Error::Length { len: 1 }));
    for (sector, count) in [(100, 1), (99, 2), (u64::MAX, 1)] {
        let mut bytes = vec![0; count * SECTOR];
        let request = Request::Read(sector, count);
        let refused = disk.read(&mut clock, sector, &mut bytes);
        assert_eq!(refused, Err(Error::BeyondEnd { request, capacity: 100 }));
        let request = Request::Write(sector, count);
        let refused = disk.write(&mut clock, sector, &bytes);
        assert_eq!(refused, Err(Error::BeyondEnd { request, capacity: 100 }));
    }
    disk.write(&mut clock, 100, &[]).unwrap();
    assert_eq!(clock.device.borrow().log, []);
}

#[test]
fn a_read_only_disk_is_read_and_not_written() {
    let features = feature::RO | feature::VERSION_1;
    let (mut disk, mut clock) = started(Device { features, ..Device::new(100) });
    let refused = Err(Error::ReadOnly(Request::Write(1, 1)));
    assert_eq!(disk.write(&mut clock, 1, &[0; SECTOR]), refused);
    assert_eq!(begin(&mut disk, &mut clock, 1, 1), refused);
    let mut read = [0; SECTOR];
    disk.read(&mut clock, 77, &mut read).unwrap();
    assert_eq!(read, [77; SECTOR]);
}

#[test]
fn a_device_that_gives_back_what_it_does_not_have_is_given_up() {
    let attacks = [
        Attack::Token(5),
        Attack::Token(u32::MAX),
        Attack::Ahead(1),
        Attack::Ahead(0x7fff),
        Attack::Twice,
    ];
    for (attack, manner) in
        attacks.into_iter().flat_map(|it| [(it, Manner::AtOnce), (it, Manner::AnyOrder)])
    {
        let device = Device { attack: Some(attack), manner, ..Device::new(SECTORS) };
        let (mut disk, mut clock) = started(device);
        // What it says of a single request may be the truth.
        let outcome = disk.write(&mut clock, 0, &data(LONG)).and_then(|()| disk.flush(&mut clock));
        let confused = |error| matches!(error, Error::Confused { .. } | Error::TimedOut { .. });
        assert!(outcome.is_err_and(confused), "{attack:?}, {manner:?}: {outcome:?}");
        assert!(clock.device.borrow().status.is_empty());
        assert!(matches!(disk.flush(&mut clock), Err(Error::GivenUp { .. })));
    }
}

#[test]
fn what_is_under_way_when_the_disk_is_released_is_not_carried_out_later() {
    let (mut disk, mut clock) =
        started(Device { manner: Manner::AnyOrder, ..Device::new(SECTORS) });
    begin(&mut disk, &mut clock, 0, DEPTH * WHOLE).unwrap();
    let memory = disk.release().unwrap();
    assert!(clock.device.borrow().status.is_empty());
    let mut disk = start_on(memory, &clock.device).unwrap();
    let mut read = vec![0; LONG * SECTOR];
    disk.read(&mut clock, 0, &mut read).unwrap();
    assert!(read.starts_with(&[0; SECTOR]) && read.ends_with(&[(LONG - 1) as u8; SECTOR]));
    assert!(clock.device.borrow().log.iter().all(|(kind, _)| *kind == 0));
}

#[test]
fn the_memory_of_a_disk_that_does_not_end_its_reset_is_not_used_again() {
    let device = Device { manner: Manner::Never, ignores_reset: true, ..Device::new(SECTORS) };
    let (mut disk, mut clock) = started(device);
    begin(&mut disk, &mut clock, 0, WHOLE).unwrap();
    assert!(matches!(disk.end_requests(&mut clock), Err(Error::TimedOut { .. })));
    assert!(!clock.device.borrow().status.is_empty(), "it may write to memory at any time");
    assert!(disk.release().is_none());
}

#[test]
fn a_disk_is_dropped_with_requests_under_way() {
    let (mut disk, mut clock) =
        started(Device { manner: Manner::AnyOrder, ..Device::new(SECTORS) });
    begin(&mut disk, &mut clock, 0, WHOLE).unwrap();
    drop(disk);
    assert!(clock.device.borrow().status.is_empty(), "it has no memory of ours any more");
}

#[test]
fn a_device_that_is_not_as_it_must_be_is_refused() {
    let address = 0xa00_0000;
    let refusal = |device: Device| start(device).err();
    let found = refusal(Device { block_size: 4096, ..Device::new(100) });
    assert_eq!(found, Some(Error::BlockSize { address, found: 4096 }));
    let found = refusal(Device { refuses_features: true, ..Device::new(100) });
    assert!(matches!(found, Some(Error::Features { .. })), "{found:?}");
    let found = refusal(Device { queue_max: 8, ..Device::new(100) });
    assert_eq!(found, Some(Error::Setup { address, error: Virtio::InvalidParam }));
    let found = refusal(Device { restless: true, ..Device::new(100) });
    assert_eq!(found, Some(Error::Setup { address, error: Virtio::NotReady }));
    let (disk, _) = started(Device { capacity: 5 << 40, ..Device::new(100) });
    assert_eq!(disk.capacity(), 5 << 40);
}

#[test]
fn slots_without_a_disk_are_left_as_they_are() {
    /// Registers of a slot (4.2.2): magic, version, device.
    fn slot(device: u32) -> &'static mut [u32; 0x80] {
        let mut registers = Box::new([0; 0x80]);
        registers[..3].copy_from_slice(&[0x7472_6976, 2, device]);
        Box::leak(registers)
    }
    let slots = [slot(0), slot(3), Box::leak(Box::new([0; 0x80]))];
    let before = slots.each_ref().map(|slot| **slot);
    let addresses = slots.map(|slot| (&raw mut *slot).expose_provenance());
    let found = addresses.into_iter().chain([0]).map(|address| Slot { address, size: 0x200 });
    let memory = Box::leak(Box::new(DiskMemory::new()));
    // SAFETY: 1. These are registers, as far as the driver looks at them, and live for ever. 2.
    // Addresses are physical ones here.
    let disk = unsafe { VirtioBlk::find(found, memory, PATIENCE_MS) };
    assert_eq!(disk.unwrap_err(), Error::NoDisk { slots: 4 });
    for (address, before) in addresses.into_iter().zip(before) {
        let registers = std::ptr::with_exposed_provenance::<[u32; 0x80]>(address);
        // SAFETY: the registers live for ever, and nothing refers to them any more.
        assert!(unsafe { registers.read() } == before, "a slot was written to");
    }
}
