use alloc::vec::Vec;

use stasis_state::virtio::device_id;
use stasis_store::{Partition, RamDisk};

use super::*;
use crate::archive::tests::archive;

const MIB: u64 = 1 << 20;

/// Returns an empty store on a disk in memory of so many MiB.
fn store(mib: u64) -> Store<RamDisk> {
    let disk = RamDisk::new(mib * MIB / SECTOR);
    let partition = Partition::whole(&disk);
    Store::format(disk, partition).unwrap()
}

fn disk(volume: &str, size: u64, from: Option<&str>) -> DiskConfig {
    DiskConfig { volume: volume.into(), size, from: from.map(String::from) }
}

/// Provides a disk. Returns the size that it got, and how many pauses there were.
fn provided(
    store: &mut Store<RamDisk>,
    mut disk: DiskConfig,
    files: &[u8],
) -> Result<(u64, usize), NotProvided<<RamDisk as BlockDevice>::Error>> {
    let mut pauses = 0;
    let files = Archive::open(files).unwrap();
    provide(store, &mut disk, &files, 7, &mut |_| pauses += 1)?;
    Ok((disk.size, pauses))
}

#[test]
fn a_volume_that_is_not_there_is_made_of_zeros() {
    let (mut store, files) = (store(8), archive(&[]));
    assert_eq!(provided(&mut store, disk("web", MIB, None), &files).unwrap(), (MIB, 0));
    let made = store.find_volume("web").unwrap();
    assert_eq!((made.length, made.created), (MIB, 7));
}

#[test]
fn a_volume_is_made_of_its_image_and_as_large_as_that_needs() {
    let mut image: Vec<u8> = (0..300_001_u32).map(|n| n as u8).collect();
    image[131_072..262_144].fill(0);
    let (mut store, files) = (store(8), archive(&[("web.img", &image)]));
    let (size, pauses) = provided(&mut store, disk("web", 4096, Some("web.img")), &files).unwrap();
    assert_eq!((size, pauses), (303_104, 3), "whole blocks, in pieces of 128 KiB");
    let mut read = alloc::vec![0xff; size as usize];
    store.volumes_mut().read("web", 0, &mut read).unwrap();
    image.resize(size as usize, 0);
    assert!(read == image, "behind the image are zeros");
}

#[test]
fn a_volume_that_is_there_stays_as_it_is_and_the_disk_gets_its_size() {
    let (mut store, files) = (store(8), archive(&[("web.img", &[1; 4096])]));
    store.create_volume("web", 2 * MIB, 3).unwrap();
    let wanted = disk("web", MIB, Some("web.img"));
    assert_eq!(provided(&mut store, wanted, &files).unwrap(), (2 * MIB, 0));
    let mut read = [0xff; 4096];
    store.volumes_mut().read("web", 0, &mut read).unwrap();
    assert_eq!(read, [0; 4096]);
    let error = provided(&mut store, disk("web", 3 * MIB, None), &files).unwrap_err();
    let said = "volume \"web\" has 2097152 bytes, fewer than the 3145728 of the disk";
    assert_eq!(error.to_string(), said);
}

#[test]
fn a_volume_whose_image_is_not_there_or_finds_no_room_is_not_made() {
    let (mut store, files) = (store(2), archive(&[("web.img", &[1; 4 << 20])]));
    let error = provided(&mut store, disk("web", MIB, Some("wep.img")), &files).unwrap_err();
    assert!(matches!(error, NotProvided::Archive(_)), "{error}");
    let error = provided(&mut store, disk("web", MIB, Some("web.img")), &files).unwrap_err();
    assert!(matches!(error, NotProvided::Store(_)), "{error}");
    assert!(store.find_volume("web").is_err());
    // The name is free again.
    assert_eq!(provided(&mut store, disk("web", MIB, None), &files).unwrap().0, MIB);
}

#[test]
fn disks_that_stay_as_they_are_must_be_there_and_large_enough() {
    let mut store = store(8);
    let mut virtio = Virtio::default();
    virtio.device_id[1] = device_id::BLOCK;
    virtio.capacity[1] = MIB / SECTOR;
    virtio.set_name(1, "web");
    assert_eq!(check_kept(&store, &virtio), Err(NotKept::Gone("web".into())));
    store.create_volume("web", MIB - 4096, 0).unwrap();
    let (length, size) = (MIB - 4096, MIB);
    let too_small = NotKept::TooSmall { volume: "web".into(), length, size };
    assert_eq!(check_kept(&store, &virtio), Err(too_small));
    virtio.capacity[1] = (MIB - 4096) / SECTOR;
    assert_eq!(check_kept(&store, &virtio), Ok(()));
}

#[test]
fn a_guest_is_not_brought_back_to_disks_that_its_checkpoint_lacks() {
    let mut store = store(8);
    let mut virtio = Virtio::default();
    for (slot, volume) in [(1, "web"), (2, "data")] {
        store.create_volume(volume, MIB, 0).unwrap();
        virtio.device_id[slot] = device_id::BLOCK;
        virtio.set_name(slot, volume);
    }
    let mut checkpoint = |volumes: &[&str]| {
        let instants = store.take_instants(volumes).unwrap();
        let mut writer = store.begin("it", 4096, 0).unwrap();
        writer.set_instants(instants).unwrap();
        writer.write(&[1; 4096]).unwrap();
        writer.commit().unwrap().number
    };
    let [all, one, none] = [&["web", "data"][..], &["web"], &[]].map(&mut checkpoint);
    check_stored(&mut store, all, &virtio).unwrap();
    let said = check_stored(&mut store, one, &virtio).unwrap_err().to_string();
    assert!(said.starts_with("checkpoint 2 came without disk \"data\""), "{said}");
    let said = check_stored(&mut store, none, &virtio).unwrap_err().to_string();
    assert!(said.starts_with("checkpoint 3 came without disk \"web\""), "{said}");
    check_stored(&mut store, none, &Virtio::default()).unwrap();
}

#[test]
fn two_guests_of_a_set_have_no_volume_in_common() {
    let own = [("root", "one"), ("data", "one"), ("other", "two")];
    assert_eq!(in_common(own), None);
    assert_eq!(in_common(own.into_iter().chain([("data", "two")])), Some(("data", "one")));
    assert_eq!(in_common([("root", "one"), ("root", "one")]), Some(("root", "one")));
}

/// Stores a checkpoint of nothing with these volumes.
fn commit(store: &mut Store<RamDisk>, name: &str, volumes: &[&str]) {
    let instants = store.take_instants(volumes).unwrap();
    let mut writer = store.begin(name, 0, 0).unwrap();
    writer.set_instants(instants).unwrap();
    writer.commit().unwrap();
}

#[test]
fn what_a_resume_has_set_aside_is_the_guests_that_was_resumed() {
    let mut store = store(8);
    for volume in ["root", "data"] {
        store.create_volume(volume, MIB, 0).unwrap();
    }
    commit(&mut store, "linux", &["root"]);
    commit(&mut store, "other", &[]);
    commit(&mut store, "web", &["data"]);
    let guests = |_: &mut Store<RamDisk>, number| {
        Some(["linux", "other", "web"][number as usize - 1].to_string())
    };
    let origin = |volume: &str, checkpoint, guest: Option<&str>| Origin {
        volume: volume.to_string(),
        checkpoint,
        guest: guest.map(str::to_string),
    };
    for (name, expected) in [
        ("root", None),
        ("root-before-1", Some(origin("root", Some(1), Some("linux")))),
        // Checkpoint 2 has no such volume, and there is no checkpoint 9.
        ("root-before-2", Some(origin("root", Some(2), None))),
        ("root-before-9", Some(origin("root", Some(9), None))),
        ("data-recovered-1", Some(origin("data", None, Some("web")))),
        ("gone-recovered-1", Some(origin("gone", None, None))),
    ] {
        assert_eq!(origin_of(&mut store, name, guests), expected, "{name}");
    }
}
