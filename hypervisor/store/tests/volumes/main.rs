//! Volumes: what was written is read, what was flushed stays, and blocks are shared until somebody
//! writes them. Here is what a volume can be; the files beside this one have what is done with it.

mod accesses;
#[path = "../common/mod.rs"]
mod common;
mod history;
mod instants;
mod room;

use common::{add, contents, formatted, formatted_as, open, read};
use stasis_store::volume::Source;
use stasis_store::{BlockDevice, Error, Store, VolumeFault};

const BLOCK: usize = 4096;

fn whole<D: BlockDevice>(store: &mut Store<D>, name: &str) -> Vec<u8> {
    let mut bytes = vec![0xee; store.volumes_mut().length(name).unwrap() as usize];
    store.volumes_mut().read(name, 0, &mut bytes).unwrap();
    bytes
}

/// Adds a checkpoint that has these volumes as they are now.
fn checkpoint<D: BlockDevice>(store: &mut Store<D>, volumes: &[&str]) -> u64 {
    let instants = store.take_instants(volumes).unwrap();
    let mut writer = store.begin("it", 5000, 0).unwrap();
    writer.set_instants(instants).unwrap();
    writer.write(&contents(1, 5000)).unwrap();
    writer.commit().unwrap().number
}

#[test]
fn a_store_has_version_4_with_its_first_volume_and_not_before() {
    let mut store = open(formatted(60));
    add(&mut store, "it", &[1; 5000]).unwrap();
    assert_eq!(store.version(), 3);
    store.create_volume("root", 1 << 20, 7).unwrap();
    assert_eq!(store.version(), 4);
    let mut store = open(store.into_device());
    let volume = store.find_volume("root").unwrap().clone();
    assert_eq!((volume.length, volume.created), (1 << 20, 7));
    assert!(whole(&mut store, "root").iter().all(|byte| *byte == 0));
    assert_eq!(read(&mut store, 1), [1; 5000]);
    assert!(store.upgrade().unwrap() == 4 && store.version() == 4);
}

#[test]
fn a_store_without_maps_has_no_volumes() {
    let mut store = open(formatted_as(40, 2));
    let refused = store.create_volume("root", 4096, 0).unwrap_err();
    assert!(
        matches!(refused, Error::Volume(VolumeFault::NotInVersion { version: 2 })),
        "{refused}"
    );
    store.upgrade().unwrap();
    store.create_volume("root", 4096, 0).unwrap();
}

#[test]
fn names_and_sizes_that_cannot_be_are_refused() {
    let mut store = open(formatted(40));
    store.create_volume("root", 4096, 0).unwrap();
    let refused = |result: Result<(), _>| result.unwrap_err();
    for name in ["", "12", "a b", "-x", "x/", &"x".repeat(33)] {
        let error = refused(store.create_volume(name, 4096, 0));
        assert!(matches!(error, Error::Volume(VolumeFault::NameInvalid { .. })), "{name}: {error}");
    }
    for length in [0, 512, 4097, (1 << 40) + 4096, u64::MAX] {
        let error = refused(store.create_volume("new", length, 0));
        assert!(matches!(error, Error::Volume(VolumeFault::Size { .. })), "{length}: {error}");
    }
    let error = refused(store.create_volume("root", 4096, 0));
    assert!(matches!(error, Error::Volume(VolumeFault::Exists { .. })), "{error}");
    let error = refused(store.copy_volume(Source::Volume("none"), "new", 0));
    assert!(matches!(error, Error::Volume(VolumeFault::NotThere { .. })), "{error}");
    assert!(store.delete_volume("none").is_err());
    assert_eq!(store.volumes().len(), 1);
}
