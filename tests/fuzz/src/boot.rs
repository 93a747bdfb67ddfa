//! Bytes as what a boot loader hands over: the archive, the configuration in it, a guest's image.

use stasis_devices::equipment::Equipment;
use stasis_devices::machine::RAM_BASE;
use stasis_guest::image::Kind;
use stasis_guest::image::{self, Parts};
use stasis_host::archive::Archive;
use stasis_host::config;

/// A guest's RAM, as small as one may be.
const RAM: usize = 2 << 20;

/// Takes the bytes as an archive: every file that it lists can be had by its name.
pub fn archive(data: &[u8]) {
    let Ok(archive) = Archive::open(data) else { return };
    for file in archive.files() {
        assert!(archive.file(file.name).is_ok(), "{:?}", file.name);
    }
}

/// Takes the bytes as a compiled configuration: what is accepted can be compiled, and then says the
/// same.
pub fn configuration(data: &[u8]) {
    let Ok(configuration) = config::parse(data) else { return };
    let compiled = config::compile(&configuration).expect("it was accepted");
    assert_eq!(config::parse(&compiled).as_ref(), Ok(&configuration));
}

/// Takes the bytes as an image of each kind, which is loaded into the guest's RAM, or refused.
pub fn image(data: &[u8]) {
    let mut ram = vec![0; RAM];
    for kind in [None, Some(Kind::Linux), Some(Kind::Elf), Some(Kind::Raw)] {
        let parts = Parts {
            ram_base: RAM_BASE,
            image: data,
            kind,
            initrd: None,
            cmdline: "",
            vcpus: 1,
            counter_frequency: None,
            equipment: Equipment::default(),
            given: &[],
        };
        if let Ok(boot) = image::load(&mut ram, &parts) {
            assert!(boot.dtb.start < boot.dtb.end);
        }
    }
}
