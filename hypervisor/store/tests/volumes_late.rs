//! Late writes of volumes: nobody sees a volume without them, a flush has them, and there is room
//! for them.

mod common;

use common::{FaultyDisk, Writer, add, contents, formatted, open};
use stasis_store::volume::{Before, MOST_LATE};
use stasis_store::{BlockDevice, Error, Store};

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

fn begin<D: BlockDevice>(
    store: &mut Store<D>,
    offset: u64,
    writer: &Writer,
) -> Result<(), Error<D::Error>> {
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
    assert!(matches!(begin(&mut store, 0, &writer), Err(Error::WritesLost { .. })));
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
                assert!(matches!(why, Error::VolumeFull { .. }), "{why}");
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
