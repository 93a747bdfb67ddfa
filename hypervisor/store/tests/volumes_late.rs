//! Late writes of volumes: nobody sees a volume without them, a flush has them, and there is room
//! for them.

mod common;

use common::{Counted, FaultyDisk, Writer, add, contents, formatted, open};
use stasis_store::volume::{Before, MOST_LATE};
use stasis_store::{BlockDevice, Error, Store, VolumeFault};

const BLOCK: usize = 4096;

/// Returns a store of this many blocks on a device, which has a volume "v" of 64 blocks, and who
/// makes late writes of it from `offset` on.
fn begun<D: BlockDevice>(disk: D, offset: u64) -> (Store<D>, Writer) {
    let mut store = open(disk);
    store.create_volume("v", 64 * BLOCK as u64, 0).unwrap();
    let writer = Writer::default();
    begin(&mut store, offset, &writer).unwrap();
    (store, writer)
}

/// Begins late writes in a store that knows how much is free, as it does once it was written to.
fn begin<D: BlockDevice>(
    store: &mut Store<D>,
    offset: u64,
    writer: &Writer,
) -> Result<(), Error<D::Error>> {
    store.usage();
    store.volumes_mut().begin_late("v", offset, Box::new(writer.clone()))
}

fn read<D: BlockDevice>(store: &mut Store<D>, offset: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    store.volumes_mut().read("v", offset, &mut bytes).unwrap();
    bytes
}

#[test]
fn late_writes_are_read_and_end_with_that() {
    // Whole blocks, and the ends of others.
    for (offset, len) in [(0, BLOCK), (512, 3 * BLOCK), (BLOCK as u64 * 2 - 512, MOST_LATE)] {
        let (mut store, writer) = begun(formatted(200), offset);
        let data = contents(offset, len);
        assert!(data.chunks(512).all(|sector| writer.write(sector)));
        assert!(read(&mut store, offset, len) == data, "at {offset}");
        assert!(!writer.write(&[1; 512]), "the store would not see it");
        assert!(read(&mut store, offset + len as u64, BLOCK).iter().all(|byte| *byte == 0));
    }
}

#[test]
fn late_writes_come_before_what_is_written_behind_them() {
    let (mut store, writer) = begun(formatted(200), 0);
    assert!(writer.write(&[1; 2 * BLOCK]));
    store.volumes_mut().write("v", BLOCK as u64, &[2; BLOCK]).unwrap();
    assert!(read(&mut store, 0, BLOCK) == [1; BLOCK]);
    assert!(read(&mut store, BLOCK as u64, BLOCK) == [2; BLOCK]);
    begin(&mut store, 0, &writer).unwrap();
    assert!(writer.write(&[3; BLOCK]));
    // As the next ones begin, in the same place, those before are written.
    begin(&mut store, 2 * BLOCK as u64, &writer).unwrap();
    assert!(writer.write(&[4; BLOCK]));
    store.volumes_mut().zero("v", 0, 512).unwrap();
    assert!(read(&mut store, 512, BLOCK - 512) == [3; BLOCK - 512]);
    assert!(read(&mut store, 2 * BLOCK as u64, BLOCK) == [4; BLOCK]);
}

#[test]
fn a_flush_and_an_instant_have_late_writes() {
    let (mut store, writer) = begun(formatted(200), 0);
    assert!(writer.write(&[1; BLOCK]));
    store.volumes_mut().flush("v").unwrap();
    let mut store = open(store.into_device());
    assert!(read(&mut store, 0, BLOCK) == [1; BLOCK]);
    begin(&mut store, 0, &writer).unwrap();
    assert!(writer.write(&[2; BLOCK]));
    let taken = store.take_instants(&["v"]).unwrap();
    assert!(!writer.write(&[3; BLOCK]), "it would not be as of the instant");
    let mut pages = store.begin("it", 5000, 0).unwrap();
    pages.set_instants(taken).unwrap();
    pages.write(&contents(1, 5000)).unwrap();
    let number = pages.commit().unwrap().number;
    begin(&mut store, 0, &writer).unwrap();
    assert!(writer.write(&[4; BLOCK]));
    // What the volume had become has them, too.
    let kept = store.bring_back(&[number], Before::Kept).unwrap();
    assert!(read(&mut store, 0, BLOCK) == [2; BLOCK]);
    let mut before = vec![0; BLOCK];
    store.volumes_mut().read(&kept[0].1, 0, &mut before).unwrap();
    assert!(before == [4; BLOCK]);
}

#[test]
fn all_volumes_are_flushed_with_their_late_writes_also_if_nothing_else_was_written() {
    let (mut store, writer) = begun(formatted(200), 0);
    assert!(writer.write(&[1; BLOCK]));
    assert_eq!(store.flush_volumes(), []);
    let mut store = open(store.into_device());
    assert!(read(&mut store, 0, BLOCK) == [1; BLOCK]);
}

#[test]
fn a_volume_that_is_closed_or_whose_disk_is_gone_takes_no_late_writes() {
    let (mut store, writer) = begun(formatted(200), 0);
    assert!(writer.write(&[1; BLOCK]));
    store.volumes_mut().close("v");
    assert!(!writer.write(&[2; BLOCK]));
    assert!(read(&mut store, 0, BLOCK) == [0; BLOCK], "they are given up");
    begin(&mut store, 0, &writer).unwrap();
    assert!(writer.write(&[1; BLOCK]));
    let unflushed = store.unflushed_volumes();
    assert!(unflushed.iter().map(|name| name.as_str()).eq(["v"]));
    assert!(!writer.write(&[2; BLOCK]), "nobody would say that it is lost");
    let mut store = open(store.into_device());
    store.lose_writes(unflushed);
    assert!(matches!(
        begin(&mut store, 0, &writer),
        Err(Error::Volume(VolumeFault::WritesLost { .. }))
    ));
    store.volumes_mut().close("v");
    begin(&mut store, 0, &writer).unwrap();
    drop(store);
    assert!(!writer.write(&[2; BLOCK]));
}

#[test]
fn late_writes_that_the_device_refuses_are_written_the_next_time() {
    let (mut store, writer) = begun(FaultyDisk::new(formatted(200)), 512);
    let data = contents(1, 2 * BLOCK);
    assert!(writer.write(&data));
    for _ in 0..2 {
        let next = store.device_mut().operations + 1;
        store.device_mut().fails_at = vec![next];
        assert!(matches!(store.volumes_mut().flush("v"), Err(Error::Device { .. })));
        assert!(!writer.write(&[1; 512]));
    }
    store.volumes_mut().flush("v").unwrap();
    let mut store = open(store.into_device());
    assert!(read(&mut store, 512, data.len()) == data);
}

/// Returns a store with a volume "v" whose block 0, which is 1, is worn, such that its late write
/// of 2 is refused each time; who makes such; and the number of a checkpoint that has the volume as
/// it was last flushed: block 40 is 9, and all else is zeros.
fn worn() -> (Store<FaultyDisk>, Writer, u64) {
    let mut store = open(FaultyDisk::new(formatted(200)));
    store.create_volume("v", 64 * BLOCK as u64, 0).unwrap();
    store.volumes_mut().write("v", 40 * BLOCK as u64, &[9; BLOCK]).unwrap();
    store.volumes_mut().flush("v").unwrap();
    let taken = store.take_instants(&["v"]).unwrap();
    let mut pages = store.begin("it", 5000, 0).unwrap();
    pages.set_instants(taken).unwrap();
    pages.write(&contents(1, 5000)).unwrap();
    let number = pages.commit().unwrap().number;
    // What is written there next, before a flush, goes to the same place.
    store.volumes_mut().write("v", 0, &[1; BLOCK]).unwrap();
    let writer = Writer::default();
    begin(&mut store, 0, &writer).unwrap();
    assert!(writer.write(&[2; 512]));
    let next = store.device_mut().operations;
    store.device_mut().fails_at = vec![next];
    let Err(Error::Device { lba, .. }) = store.volumes_mut().flush("v") else {
        panic!("the flush lacks what was written late");
    };
    store.device_mut().worn = lba..lba + 8;
    (store, writer, number)
}

#[test]
fn where_late_writes_are_refused_other_blocks_are_read() {
    let (mut store, writer, _) = worn();
    for _ in 0..3 {
        let before = store.device_mut().operations;
        assert!(read(&mut store, 40 * BLOCK as u64, BLOCK) == [9; BLOCK]);
        assert!(read(&mut store, BLOCK as u64, 2 * BLOCK) == [0; 2 * BLOCK]);
        assert_eq!(store.device_mut().operations, before, "a read need not try again");
        // What is around it in its block, the disk may have changed.
        for (offset, len) in [(0, 512), (512, 512), (0, 64 * BLOCK)] {
            let read = store.volumes_mut().read("v", offset, &mut vec![0; len]);
            assert!(matches!(read, Err(Error::Device { .. })), "{offset}: {read:?}");
        }
        assert!(store.volumes_mut().flush("v").is_err());
        assert!(store.volumes_mut().write("v", 40 * BLOCK as u64, &[8; BLOCK]).is_err());
        assert!(store.take_instants(&["v"]).is_err());
        assert!(begin(&mut store, 0, &writer).is_err());
        assert!(!writer.write(&[3; 512]));
    }
    // The disk takes them again, and nothing is lost.
    store.device_mut().worn = 0..0;
    store.volumes_mut().flush("v").unwrap();
    let mut store = open(store.into_device());
    assert!(read(&mut store, 0, 512) == [2; 512]);
    assert!(read(&mut store, 512, BLOCK - 512) == [1; BLOCK - 512]);
}

#[test]
fn the_first_try_that_is_refused_lets_a_read_of_other_blocks_pass() {
    let (mut store, writer) = begun(FaultyDisk::new(formatted(200)), 512);
    assert!(writer.write(&[1; BLOCK]));
    store.device_mut().worn = 0..u64::MAX;
    assert!(read(&mut store, 2 * BLOCK as u64, BLOCK) == [0; BLOCK]);
    assert!(!writer.write(&[2; 512]), "nobody would see it");
    store.device_mut().worn = 0..0;
    // The late writes are tried again, as this is beside them no more.
    assert!(read(&mut store, BLOCK as u64, 512) == [1; 512]);
}

/// What the device has failed may be a write of the checkpoint, which was only begun.
#[test]
fn a_checkpoint_learns_of_late_writes_that_were_refused_before_a_read_passed() {
    let (mut store, writer) = begun(FaultyDisk::new(formatted(200)), 0);
    assert!(writer.write(&[1; BLOCK]));
    let mut pages = store.begin_open("it", 0).unwrap();
    pages.write(&contents(1, BLOCK)).unwrap();
    pages.device_mut().worn = 0..u64::MAX;
    pages.volumes_mut().read("v", 2 * BLOCK as u64, &mut [0; BLOCK]).unwrap();
    pages.device_mut().worn = 0..0;
    assert_eq!(pages.write(&contents(2, BLOCK)), Err(Error::WriterFailed));
}

#[test]
fn a_guest_that_starts_anew_gives_up_late_writes_that_are_refused() {
    let (mut store, writer, _) = worn();
    assert!(!store.has_lost_writes("v"));
    assert!(store.volumes_mut().accept_loss("v") && !store.volumes_mut().accept_loss("v"));
    assert!(!writer.write(&[3; 512]));
    // What its last flush has made it, and it can be written elsewhere.
    assert!(read(&mut store, 0, BLOCK) == [0; BLOCK]);
    assert!(read(&mut store, 40 * BLOCK as u64, BLOCK) == [9; BLOCK]);
    store.volumes_mut().write("v", 40 * BLOCK as u64, &[8; BLOCK]).unwrap();
    store.volumes_mut().flush("v").unwrap();
}

#[test]
fn late_writes_that_a_disk_takes_again_are_not_given_up() {
    let (mut store, _, _) = worn();
    store.device_mut().worn = 0..0;
    assert!(!store.volumes_mut().accept_loss("v"));
    assert!(read(&mut store, 0, 512) == [2; 512]);
}

#[test]
fn a_resume_gives_up_late_writes_that_are_refused_and_keeps_the_last_flush() {
    let (mut store, writer, number) = worn();
    // The last flush is what the checkpoint has: there is nothing to keep.
    assert_eq!(store.bring_back(&[number], Before::Kept), Ok(vec![]));
    assert!(!writer.write(&[3; 512]));
    assert!(read(&mut store, 0, BLOCK) == [0; BLOCK]);
    store.volumes_mut().write("v", 40 * BLOCK as u64, &[8; BLOCK]).unwrap();
    store.volumes_mut().flush("v").unwrap();
    begin(&mut store, 0, &writer).unwrap();
    assert!(writer.write(&[2; 512]));
    store.device_mut().worn = 0..u64::MAX;
    assert!(store.volumes_mut().flush("v").is_err());
    // A disk that refuses the catalog as well leaves all as it is.
    assert!(store.bring_back(&[number], Before::Kept).is_err());
    store.device_mut().worn = 0..0;
    let next = store.device_mut().operations;
    store.device_mut().fails_at = vec![next, next + 1];
    let kept = store.bring_back(&[number], Before::Kept).unwrap();
    let mut before = vec![0; BLOCK];
    store.volumes_mut().read(&kept[0].1, 40 * BLOCK as u64, &mut before).unwrap();
    assert!(before == [8; BLOCK]);
    assert!(read(&mut store, 40 * BLOCK as u64, BLOCK) == [9; BLOCK]);
}

#[test]
fn a_resume_keeps_late_writes_that_are_refused_once() {
    let (mut store, _, number) = worn();
    store.device_mut().worn = 0..0;
    let next = store.device_mut().operations;
    store.device_mut().fails_at = vec![next];
    let kept = store.bring_back(&[number], Before::Kept).unwrap();
    let mut before = vec![0; BLOCK];
    store.volumes_mut().read(&kept[0].1, 0, &mut before).unwrap();
    assert!(before[..512] == [2; 512] && before[512..] == [1; BLOCK - 512]);
}

/// A look at all maps for each small write would take longer than the writes.
#[test]
fn a_store_that_is_almost_full_is_not_swept_for_late_writes() {
    let mut store = open(Counted::new(formatted(90)));
    store.create_volume("v", 2000 * BLOCK as u64, 0).unwrap();
    let mut at = 0;
    loop {
        store.volumes_mut().write("v", at, &[9; BLOCK]).unwrap();
        store.volumes_mut().flush("v").unwrap();
        at += BLOCK as u64;
        store.usage();
        // What a flush has left of the map is known to be nobody's only by a look.
        store.volumes_mut().write("v", 0, &[at as u8; BLOCK]).unwrap();
        let before = store.device_mut().read;
        let writes = Box::new(Writer::default());
        match store.volumes_mut().begin_late("v", at, writes) {
            Ok(()) => {}
            Err(why) => {
                assert!(matches!(why, Error::Volume(VolumeFault::Full { .. })), "{why}");
                assert_eq!(store.device_mut().read, before, "of a store with {at} bytes");
                return;
            }
        }
    }
}

/// Others write until the store is full, between the begin of late writes and their end.
#[test]
fn there_is_room_for_late_writes_once_they_have_begun() {
    let mut refused = 0;
    for free in 0..60 {
        let mut store = open(formatted(90));
        store.create_volume("v", 2000 * BLOCK as u64, 0).unwrap();
        store.create_volume("other", 2000 * BLOCK as u64, 0).unwrap();
        for at in 0..60 - free {
            store.volumes_mut().write("v", at * BLOCK as u64, &[9; BLOCK]).unwrap();
        }
        // In two leaves of the map, and in parts of blocks.
        let offset = (496 - 8) * BLOCK as u64 + 512;
        let writer = Writer::default();
        match begin(&mut store, offset, &writer) {
            Ok(()) => assert!(writer.write(&[1; MOST_LATE])),
            Err(why) => {
                assert!(matches!(why, Error::Volume(VolumeFault::Full { .. })), "{why}");
                refused += 1;
                continue;
            }
        }
        let full = (0..200)
            .find(|at| store.volumes_mut().write("other", at * BLOCK as u64, &[7; BLOCK]).is_err());
        assert!(full.is_some(), "nothing was tried");
        let _ = add(&mut store, "it", &contents(1, 40 * BLOCK));
        store.volumes_mut().flush("v").unwrap();
        assert!(read(&mut store, offset, MOST_LATE) == [1; MOST_LATE], "{free}");
    }
    assert!((1..60).contains(&refused), "{refused} were refused");
}
