use std::string::{String, ToString};
use std::vec;
use std::vec::Vec;

use dtoolkit::fdt::Fdt;
use dtoolkit::{Node, Property};
use proptest::prelude::*;

use super::*;
use stasis_devices::equipment::Equipment;
use stasis_devices::machine::RAM_BASE;

const MIB: usize = 1 << 20;

fn parts(image: &[u8]) -> Parts<'_> {
    Parts {
        ram_base: RAM_BASE,
        image,
        kind: None,
        initrd: None,
        cmdline: "quiet",
        vcpus: 1,
        counter_frequency: None,
        equipment: Equipment::default(),
        given: &[],
    }
}

fn error(ram: usize, parts: &Parts<'_>) -> String {
    load(&mut vec![0; ram], parts).expect_err("a guest that cannot be loaded").to_string()
}

/// Returns an arm64 Image of `file` bytes.
fn linux_image(text_offset: u64, image_size: u64, flags: u64, file: usize) -> Vec<u8> {
    let mut image = vec![0x5a; file.max(64)];
    image[8..16].copy_from_slice(&text_offset.to_le_bytes());
    image[16..24].copy_from_slice(&image_size.to_le_bytes());
    image[24..32].copy_from_slice(&flags.to_le_bytes());
    image[56..60].copy_from_slice(b"ARM\x64");
    image
}

/// A segment: physical address, virtual address, contents, size in memory.
type Segment<'a> = (u64, u64, &'a [u8], u64);

fn elf_file(entry: u64, segments: &[Segment<'_>]) -> Vec<u8> {
    let mut file = vec![0; 64];
    file[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
    file[16..18].copy_from_slice(&2u16.to_le_bytes()); // ET_EXEC
    file[18..20].copy_from_slice(&183u16.to_le_bytes()); // EM_AARCH64
    file[20] = 1;
    file[24..32].copy_from_slice(&entry.to_le_bytes());
    file[32..40].copy_from_slice(&64u64.to_le_bytes()); // e_phoff
    file[52..54].copy_from_slice(&64u16.to_le_bytes());
    file[54..56].copy_from_slice(&56u16.to_le_bytes());
    file[56..58].copy_from_slice(&(segments.len() as u16).to_le_bytes());
    let mut offset = 64 + 56 * segments.len();
    for (physical, virtual_address, data, size) in segments {
        file.extend(1u32.to_le_bytes()); // PT_LOAD
        file.extend(5u32.to_le_bytes());
        let numbers = [offset as u64, *virtual_address, *physical, data.len() as u64, *size, 4];
        file.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
        offset += data.len();
    }
    segments.iter().for_each(|(_, _, data, _)| file.extend(*data));
    file
}

fn chosen(ram: &[u8], boot: &Boot, property: &str) -> Option<Vec<u8>> {
    let at = |address: u64| (address - RAM_BASE) as usize;
    let fdt = Fdt::new(&ram[at(boot.dtb.start)..at(boot.dtb.end)]).unwrap();
    let chosen = fdt.find_node("/chosen").unwrap();
    chosen.property(property).map(|property| property.value().to_vec())
}

#[test]
fn a_linux_image_goes_where_qemu_puts_it() {
    let image = linux_image(0, 3 << 20, 0xa, MIB);
    let mut ram = vec![0; 64 * MIB];
    let initrd = [7; 5000];
    let boot = load(&mut ram, &Parts { initrd: Some(&initrd), ..parts(&image) }).unwrap();
    assert_eq!(boot.kind, Kind::Linux);
    assert_eq!(boot.entry, 0x4020_0000);
    assert_eq!(boot.image, 0x4020_0000..0x4050_0000);
    assert_eq!(boot.initrd, Some(0x4200_0000..0x4200_1388));
    assert_eq!((boot.x0, boot.dtb.start), (0x4220_0000, 0x4220_0000));
    assert_eq!(ram[2 * MIB..3 * MIB], image);
    assert_eq!(ram[32 * MIB..][..5000], initrd);
    assert_eq!(chosen(&ram, &boot, "bootargs").unwrap(), b"quiet\0");
    assert_eq!(chosen(&ram, &boot, "linux,initrd-end").unwrap(), 0x4200_1388u64.to_be_bytes());
}

#[test]
fn a_text_offset_is_kept() {
    let boot = load(&mut vec![0; 8 * MIB], &parts(&linux_image(0x8_0000, 4096, 0, 64))).unwrap();
    assert_eq!(boot.entry, 0x4008_0000);
    let old = load(&mut vec![0; 8 * MIB], &parts(&linux_image(0, 0, 0, 4096))).unwrap();
    assert_eq!(old.image, 0x4008_0000..0x4008_1000);
    assert_eq!(old.x0, 0x4040_0000, "half of RAM, as without an initrd in QEMU");
}

#[test]
fn a_tight_ram_still_takes_all() {
    // The kernel leaves 1 MiB of 8 at the end, and its offset 2 at the start.
    let image = linux_image(0, 5 << 20, 0, 4096);
    let initrd = vec![1; MIB];
    let boot =
        load(&mut vec![0; 8 * MIB], &Parts { initrd: Some(&initrd), ..parts(&image) }).unwrap();
    assert_eq!(boot.initrd, Some(0x4070_0000..0x4080_0000));
    assert_eq!(boot.dtb.start, 0x4000_0000);
}

#[test]
fn raw_code_finds_its_device_tree_in_x0_as_with_qemu_and_at_the_start_of_ram() {
    let mut ram = vec![0; 256 * MIB];
    let code = [0x1f, 0x20, 0x03, 0xd5, 1, 2, 3];
    let boot = load(&mut ram, &Parts { kind: Some(Kind::Raw), ..parts(&code) }).unwrap();
    assert_eq!(boot.entry, 0x4008_0000);
    assert_eq!((boot.x0, boot.dtb.start), (0x4800_0000, 0x4800_0000));
    assert_eq!(ram[0x8_0000..0x8_0007], code);
    let len = (boot.dtb.end - boot.dtb.start) as usize;
    assert!(Fdt::new(&ram[128 * MIB..][..len]).is_ok());
    assert_eq!(boot.dtb_copy, Some(RAM_BASE..RAM_BASE + len as u64));
    assert_eq!(ram[..len], ram[128 * MIB..][..len]);
}

#[test]
fn raw_code_with_an_initrd_has_the_device_tree_behind_it() {
    let parts = Parts { kind: Some(Kind::Raw), initrd: Some(&[1; 5000]), ..parts(b"code") };
    let boot = load(&mut vec![0; 64 * MIB], &parts).unwrap();
    assert_eq!(boot.initrd, Some(0x4200_0000..0x4200_1388));
    assert_eq!(boot.x0, 0x4220_0000);
    check_layout(64 * MIB, &boot);
}

#[test]
fn where_there_is_room_for_one_device_tree_raw_code_has_one() {
    let code = vec![1; MIB];
    let parts = Parts { kind: Some(Kind::Raw), ..parts(&code) };
    let boot = load(&mut vec![0; 2 * MIB], &parts).unwrap();
    assert_eq!((boot.x0, boot.dtb_copy), (RAM_BASE, None));
}

#[test]
fn an_elf_file_goes_by_physical_addresses_and_its_bss_is_zero() {
    let mut ram = vec![0; 4 * MIB];
    let file = elf_file(
        0xffff_0000_0000_1004,
        &[
            (0x4010_0000, 0xffff_0000_0000_1000, b"codecode", 0x2000),
            (0x4020_0000, 0xffff_0000_0010_1000, b"data", 4),
        ],
    );
    let boot = load(&mut ram, &parts(&file)).unwrap();
    assert_eq!(boot.kind, Kind::Elf);
    assert_eq!(boot.entry, 0x4010_0004, "the virtual entry, with the MMU off");
    assert_eq!(boot.image, 0x4010_0000..0x4020_0004);
    assert_eq!(boot.dtb.start, 0x4000_0000);
    assert_eq!(&ram[MIB..MIB + 10], b"codecode\0\0");
    assert_eq!(&ram[2 * MIB..2 * MIB + 4], b"data");
}

#[test]
fn a_device_tree_is_never_put_over_an_elf_file_or_its_bss() {
    let file = elf_file(0x4000_0000, &[(0x4000_0000, 0x4000_0000, b"code", 3 << 20)]);
    let boot = load(&mut vec![0; 8 * MIB], &parts(&file)).unwrap();
    assert!(boot.dtb.start >= boot.image.end);
    assert_eq!(boot.dtb.start % (2 << 20), 0);
    let high = elf_file(0x4070_0000, &[(0x4070_0000, 0x4070_0000, b"code", 1 << 20)]);
    let initrd = [1; 9];
    let boot =
        load(&mut vec![0; 8 * MIB], &Parts { initrd: Some(&initrd), ..parts(&high) }).unwrap();
    assert_eq!(boot.initrd.unwrap().start, 0x4020_0000);
    assert_eq!(boot.dtb.start, 0x4000_0000);
}

#[test]
fn what_is_no_image_is_named() {
    let of = |image: &[u8]| error(8 * MIB, &parts(image));
    assert_eq!(of(b""), "the image is empty");
    assert_eq!(
        of(b"\x1f\x8b\x08\0"),
        "it is gzip data; an arm64 Image, an ELF file or raw code is needed, not compressed"
    );
    assert!(of(b"MZ\0\0zimg").contains("a compressed EFI image (zboot)"));
    assert!(of(b"hello").contains("it begins with bytes 68 65 6c 6c"));
    let raw = |image: &[u8]| error(8 * MIB, &Parts { kind: Some(Kind::Raw), ..parts(image) });
    assert_eq!(raw(b"\x1f\x8b\x08\0"), "it is not of kind \"raw\": found gzip data");
    assert_eq!(raw(&elf_file(0, &[])), "it is not of kind \"raw\": found an ELF file");
    let elf = Parts { kind: Some(Kind::Elf), ..parts(b"hello") };
    assert_eq!(error(8 * MIB, &elf), "it is not of kind \"elf\": found bytes 68 65 6c 6c");
    let image = linux_image(0, 0, 0, 64);
    let elf = Parts { kind: Some(Kind::Elf), ..parts(&image) };
    assert_eq!(error(8 * MIB, &elf), "it is not of kind \"elf\": found an arm64 Image");
}

#[test]
fn an_image_with_a_header_may_be_loaded_as_raw_code() {
    let image = linux_image(0, 0, 0, 64);
    let parts = Parts { kind: Some(Kind::Raw), ..parts(&image) };
    assert_eq!(load(&mut vec![0; 2 * MIB], &parts).unwrap().kind, Kind::Raw);
}

#[test]
fn what_does_not_fit_says_how_much_it_needs() {
    let image = linux_image(0, 40 << 20, 0, 64);
    assert_eq!(
        error(32 * MIB, &parts(&image)),
        "the image does not fit: it needs 44040192 bytes of RAM, and 33554432 are there"
    );
    let image = linux_image(u64::MAX, u64::MAX, 0, 64);
    assert!(error(32 * MIB, &parts(&image)).starts_with("the image does not fit"));
    let image = linux_image(0, 1 << 20, 0, 64);
    let initrd = vec![0; 30 * MIB];
    assert_eq!(
        error(32 * MIB, &Parts { initrd: Some(&initrd), ..parts(&image) }),
        "the initrd does not fit: it needs 31457280 bytes of RAM, and 30408704 are there"
    );
    let full = elf_file(0x4000_0000, &[(0x4000_0000, 0x4000_0000, b"code", 2 << 20)]);
    assert!(error(2 * MIB, &parts(&full)).starts_with("the device tree does not fit"));
    assert!(error(0, &parts(&full)).contains("outside the guest's RAM"));
    let empty = Parts { initrd: Some(b""), ..parts(&image) };
    assert_eq!(error(8 * MIB, &empty), "the initrd is empty");
}

#[test]
fn a_guest_with_its_ram_elsewhere_finds_all_of_it_there() {
    let ram_base = 0x5020_0000;
    let (image, initrd) = (linux_image(0, 0x10_0000, 0, 0x1000), [7; 100]);
    let mut ram = vec![0; 16 * MIB];
    let elsewhere = Parts { ram_base, initrd: Some(&initrd), ..parts(&image) };
    let boot = load(&mut ram, &elsewhere).unwrap();
    let here = load(&mut vec![0; 16 * MIB], &Parts { ram_base: RAM_BASE, ..elsewhere }).unwrap();
    let moved = |address: u64| address - RAM_BASE + ram_base;
    assert_eq!((boot.entry, boot.x0), (moved(here.entry), moved(here.x0)));
    let initrd = here.initrd.unwrap();
    assert_eq!(boot.initrd, Some(moved(initrd.start)..moved(initrd.end)));
    let dtb = (boot.dtb.start - ram_base) as usize..(boot.dtb.end - ram_base) as usize;
    let fdt = Fdt::new(&ram[dtb]).unwrap();
    let memory = fdt.find_node("/memory@50200000").unwrap();
    let reg = [0, 0x5020_0000u32, 0, 0x100_0000].map(u32::to_be_bytes);
    assert_eq!(memory.property("reg").unwrap().value(), reg.as_flattened());
    // An ELF file says where it belongs.
    let elf = elf_file(0x4008_0000, &[(0x4008_0000, 0x4008_0000, b"code", 4)]);
    assert_eq!(
        error(8 * MIB, &Parts { ram_base, ..parts(&elf) }),
        "its segment at 0x40080000 of 0x4 bytes is outside the guest's RAM, 0x50200000 to 0x50a00000"
    );
}

#[test]
fn an_elf_file_that_does_not_belong_here_says_why() {
    let of = |file: &[u8]| error(8 * MIB, &parts(file));
    let good = elf_file(0x4000_0000, &[(0x4000_0000, 0x4000_0000, b"code", 4)]);
    let with = |at: usize, value: u8| {
        let mut file = good.clone();
        file[at] = value;
        of(&file)
    };
    assert_eq!(with(5, 2), "it is big-endian; only little-endian guests are loaded");
    let x86 = "it is an ELF file for machine 62 of 64 bits, not for AArch64 (183, 64 bits)";
    assert_eq!(with(18, 62), x86);
    assert!(with(4, 1).contains("of 32 bits"));
    assert_eq!(with(16, 1), "it is an ELF file of type 1, not an executable (2 or 3)");
    assert_eq!(
        of(&good[..good.len() - 1]),
        "the ELF file is damaged or cut short: a segment lies behind the end of the file"
    );
    for len in 4..good.len() {
        assert!(of(&good[..len]).contains("cut short"), "cut to {len} bytes");
    }
    assert!(of(&elf_file(0, &[])).contains("it has no segment to load"));
    let larger = elf_file(0, &[(0x4000_0000, 0, b"code", 3)]);
    assert!(of(&larger).contains("a segment is larger in the file than in memory"));
    assert_eq!(
        of(&elf_file(0, &[(0x8_0000, 0, b"code", 4)])),
        "its segment at 0x80000 of 0x4 bytes is outside the guest's RAM, 0x40000000 to 0x40800000"
    );
    let wraps = elf_file(0, &[(u64::MAX - 2, 0, b"code", 4)]);
    assert!(of(&wraps).contains("outside the guest's RAM"));
    assert_eq!(
        of(&elf_file(0x1234, &[(0x4000_0000, 0x4000_0000, b"code", 4)])),
        "its entry point 0x1234 is outside the guest's RAM, 0x40000000 to 0x40800000"
    );
    let many = [(0x4000_0000, 0x4000_0000, &b"code"[..], 4); 65];
    assert_eq!(
        of(&elf_file(0x4000_0000, &many)),
        "the ELF file has 65 segments, 64 at most are loaded"
    );
}

#[test]
fn a_big_endian_kernel_is_refused() {
    assert_eq!(
        error(8 * MIB, &parts(&linux_image(0, 0, 1, 64))),
        "it is big-endian; only little-endian guests are loaded"
    );
}

fn kinds() -> impl Strategy<Value = Option<Kind>> {
    prop::option::of(prop::sample::select(&Kind::ALL[..]))
}

/// Checks that all that is loaded lies in RAM, and nothing over anything else.
fn check_layout(ram: usize, boot: &Boot) {
    let end = RAM_BASE + ram as u64;
    let (initrd, copy) = (boot.initrd.clone(), boot.dtb_copy.clone());
    let all = [Some(boot.image.clone()), initrd, Some(boot.dtb.clone()), copy];
    let all: Vec<Range<u64>> = all.into_iter().flatten().collect();
    for (index, one) in all.iter().enumerate() {
        assert!(RAM_BASE <= one.start && one.start <= one.end && one.end <= end, "{boot:x?}");
        for other in &all[index + 1..] {
            assert!(one.end <= other.start || other.end <= one.start, "{boot:x?}");
        }
    }
    assert!((RAM_BASE..end).contains(&boot.entry), "{boot:x?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn no_bytes_panic(
        magic in prop::sample::select(vec![&b""[..], b"\x7fELF\x02\x01", b"MZ"]),
        bytes: Vec<u8>,
        kind in kinds(),
    ) {
        let image = [magic, &bytes].concat();
        let _ = load(&mut vec![0; 2 * MIB], &Parts { kind, ..parts(&image) });
    }

    #[test]
    fn any_linux_header_is_refused_or_loaded_within_ram(
        text_offset in prop_oneof![any::<u64>(), 0u64..(8 << 20)],
        image_size in prop_oneof![any::<u64>(), 0u64..(8 << 20)],
        flags: u64,
        initrd in prop::option::of(1usize..(6 << 20)),
    ) {
        let image = linux_image(text_offset, image_size, flags, 100);
        let initrd = initrd.map(|len| vec![1; len]);
        let parts = Parts { initrd: initrd.as_deref(), ..parts(&image) };
        if let Ok(boot) = load(&mut vec![0; 8 * MIB], &parts) {
            check_layout(8 * MIB, &boot);
        }
    }

    #[test]
    fn any_segments_are_refused_or_loaded_within_ram(
        segments in prop::collection::vec(
            (prop_oneof![any::<u64>(), 0x3ff0_0000u64..0x4090_0000], any::<u64>(),
             prop_oneof![any::<u64>(), 0u64..(5 << 20)]), 0..4),
        entry in prop_oneof![any::<u64>(), 0x3ff0_0000u64..0x4090_0000],
        initrd in prop::option::of(1usize..(6 << 20)),
        damage in prop::option::of((0usize..300, any::<u8>())),
    ) {
        let segments: Vec<Segment<'_>> = segments
            .iter()
            .map(|&(physical, virtual_address, size)| (physical, virtual_address, &b"code"[..], size))
            .collect();
        let mut file = elf_file(entry, &segments);
        if let Some((at, value)) = damage {
            let len = file.len();
            file[at % len] = value;
        }
        let initrd = initrd.map(|len| vec![1; len]);
        let parts = Parts { initrd: initrd.as_deref(), ..parts(&file) };
        if let Ok(boot) = load(&mut vec![0; 8 * MIB], &parts) {
            check_layout(8 * MIB, &boot);
        }
    }
}

#[test]
fn what_can_be_loaded_is_known_without_the_ram() {
    let good = linux_image(0, 3 << 20, 0xa, MIB);
    let elf = elf_file(0x4010_0000, &[(0x4010_0000, 0x4010_0000, b"code", 4096)]);
    for image in [&good[..], &elf, b"gzip \x1f\x8b", &linux_image(0, 65 << 20, 0, 64)] {
        for kind in [None, Some(Kind::Raw), Some(Kind::Elf)] {
            for initrd in [None, Some(&[1; 9000][..]), Some(&[])] {
                let parts = Parts { kind, initrd, ..parts(image) };
                let loaded = load(&mut vec![0; 64 * MIB], &parts);
                assert_eq!(check(64 * MIB, &parts), loaded.map(|boot| boot.warning));
            }
        }
    }
    // As much as no host has.
    assert_eq!(check(255 << 30, &parts(&good)), Ok(None));
}

#[test]
fn an_initial_ram_disk_of_bare_code_is_warned_of() {
    let code = [0xaa; 64];
    let parts = Parts { kind: Some(Kind::Raw), initrd: Some(&[1]), ..parts(&code) };
    let warning = check(64 * MIB, &parts).unwrap().unwrap();
    assert_eq!(
        warning.to_string(),
        "initrd is for Linux, and the image is of kind \"raw\": its code finds the RAM disk only if it reads /chosen of its device tree"
    );
    assert_eq!(check(64 * MIB, &Parts { initrd: None, ..parts }), Ok(None));
}

#[test]
fn an_image_says_which_pages_its_kernel_has() {
    let granule = |flags| {
        load(&mut vec![0; 8 * MIB], &parts(&linux_image(0, 4096, flags, 64))).unwrap().granule
    };
    assert_eq!(granule(0x8), None);
    assert_eq!(granule(0xa), Some(Granule::Kib4));
    assert_eq!(granule(0xc), Some(Granule::Kib16));
    assert_eq!(granule(0xe), Some(Granule::Kib64));
}

#[test]
fn a_linux_for_another_processor_is_named() {
    let mut x86 = vec![0; 4096];
    x86[..2].copy_from_slice(b"MZ");
    x86[0x202..0x206].copy_from_slice(b"HdrS");
    assert!(error(8 * MIB, &parts(&x86)).starts_with("it is a Linux kernel for x86;"));
    x86[..2].copy_from_slice(&[0xeb, 0x63]);
    assert!(error(8 * MIB, &parts(&x86)).starts_with("it is a Linux kernel for x86;"));
    let mut arm32 = vec![0; 4096];
    arm32[0x24..0x28].copy_from_slice(&0x016f_2818u32.to_le_bytes());
    assert!(error(8 * MIB, &parts(&arm32)).starts_with("it is a Linux kernel for 32-bit Arm;"));
    let mut riscv = vec![0; 4096];
    riscv[..2].copy_from_slice(b"MZ");
    riscv[56..60].copy_from_slice(b"RSC\x05");
    assert!(error(8 * MIB, &parts(&riscv)).starts_with("it is a Linux kernel for RISC-V;"));
}
