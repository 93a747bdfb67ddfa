//! How much memory the commands take: the same, however large the files are.

use std::fs::File;
use std::io::{BufWriter, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;

use crc32c::{crc32c, crc32c_append};
use nix::sys::resource::{UsageWho, getrusage};
use stasis_convert::qemu::{ArmGic, section};
use stasis_state::header::Header;
use stasis_state::memory::{Extent, Kind};
use stasis_state::{PAGE_SIZE, RecordHeader, RecordType};
use zerocopy::{FromBytes, IntoBytes};

/// The most that a command may have in memory at once.
const MOST: u64 = 64 << 20;
/// The RAM of the guest whose checkpoints are worked on. Half of it is stored.
const RAM: u64 = 256 << 20;
/// Pages that are alike: all of them are stored, or all are zero.
const STRETCH: u32 = Extent::MAX_RAW_PAGES;

/// A checkpoint in the place of another guest's, with `ram` bytes of RAM: a MiB with content, a MiB
/// of zeros, and so on. Each third page depends on `seed`.
fn checkpoint(path: &Path, ram: u64, seed: u64) {
    let golden =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/1.0/one-vcpu.stasis");
    let golden = std::fs::read(golden).unwrap();
    let (header, mut rest) = Header::read_from_prefix(&golden).unwrap();
    let mut out = BufWriter::new(File::create(path).unwrap());
    // The place of the header. What it says is known in the end.
    out.write_all(header.as_bytes()).unwrap();
    while !rest.is_empty() {
        let (record, body) = RecordHeader::read_from_prefix(rest).unwrap();
        let (body, later) = body.split_at(record.padded_len() as usize);
        rest = later;
        match RecordType::from_number(record.kind) {
            Some(RecordType::Memory) => {}
            Some(RecordType::End) => memory(&mut out, ram, seed),
            Some(RecordType::Guest) => put(&mut out, record, &with_ram(body, ram)),
            _ => put(&mut out, record, body),
        }
    }
    put(&mut out, RecordHeader::new(RecordType::End, 0, 0), &[]);
    let len = out.stream_position().unwrap();
    out.seek(SeekFrom::Start(0)).unwrap();
    let mut header = Header { total_len: len, crc: 0, ..header };
    header.crc = crc32c_append(0, header.as_bytes());
    out.write_all(header.as_bytes()).unwrap();
    out.flush().unwrap();
}

/// Writes a record with its checksum.
fn put(out: &mut impl Write, mut record: RecordHeader, body: &[u8]) {
    let covered = crc32c(&record.as_bytes()[..RecordHeader::COVERED]);
    record.crc = crc32c_append(covered, body);
    out.write_all(record.as_bytes()).unwrap();
    out.write_all(body).unwrap();
}

/// Returns the body of GUEST with another RAM_SIZE.
fn with_ram(body: &[u8], ram: u64) -> Vec<u8> {
    const GOLDEN_RAM: u64 = 16 << 10;
    let mut body = body.to_vec();
    let is_size = |at: &usize| body[*at..].starts_with(&GOLDEN_RAM.to_le_bytes());
    let places: Vec<usize> = (0..body.len()).filter(is_size).collect();
    let [place] = places[..] else { panic!("RAM_SIZE is at {places:?}") };
    body[place..][..8].copy_from_slice(&ram.to_le_bytes());
    body
}

fn memory(out: &mut impl Write, ram: u64, seed: u64) {
    let mut random = 0x9e37_79b9_7f4a_7c15u64;
    let mut bytes = || {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random.to_le_bytes()
    };
    let mut pages: Vec<u8> = (0..STRETCH as usize * PAGE_SIZE / 8).flat_map(|_| bytes()).collect();
    let stretches = ram / u64::from(STRETCH) / PAGE_SIZE as u64;
    for stretch in 0..stretches {
        let kind = if stretch % 2 == 0 { Kind::Raw } else { Kind::Zero };
        let first = stretch * u64::from(STRETCH);
        let address = 0x4000_0000 + first * PAGE_SIZE as u64;
        let extent = Extent { address, pages: STRETCH, kind: kind as u32 };
        let mut body = extent.as_bytes().to_vec();
        if kind == Kind::Raw {
            for (number, page) in (first..).zip(pages.chunks_mut(PAGE_SIZE)) {
                let seed = if number % 3 == 0 { seed } else { 0 };
                page[..8].copy_from_slice(&(number << 8 | seed).to_le_bytes());
            }
            body.extend_from_slice(&pages);
        }
        put(out, RecordHeader::new(RecordType::Memory, 0, body.len() as u32), &body);
    }
}

/// A migration stream of QEMU's, of a machine with one CPU: what stands for the RAM is a hole.
fn stream(path: &Path, len: u64) {
    let fields: Vec<_> = ArmGic::FIELDS
        .iter()
        .map(|(name, size)| format!(r#"{{"name": "{name}", "size": {size}}}"#))
        .collect();
    let (name, version) = (section::NAME, section::VERSION);
    let json = format!(
        r#"{{"devices": [{{"name": "cpu", "instance_id": 0, "version": 1}},
            {{"name": "{name}", "instance_id": 0, "version": {version}, "fields": [{}]}}]}}"#,
        fields.join(", ")
    );
    let mut file = File::create(path).unwrap();
    file.write_all(b"QEVM\0\0\0\x03").unwrap();
    file.seek(SeekFrom::Start(len)).unwrap();
    let mut tail = Vec::new();
    let sections = [("cpu", 1, vec![]), (name, version, vec![0; size_of::<ArmGic>()])];
    for (number, (name, version, contents)) in (39u32..).zip(sections) {
        tail.push(0x04);
        tail.extend(number.to_be_bytes());
        tail.push(name.len() as u8);
        tail.extend(name.bytes());
        tail.extend([0; 4]);
        tail.extend(version.to_be_bytes());
        tail.extend(contents);
        tail.push(0x7e);
        tail.extend(number.to_be_bytes());
    }
    tail.extend([0x00, 0x06]);
    tail.extend((json.len() as u32).to_be_bytes());
    tail.extend(json.bytes());
    file.write_all(&tail).unwrap();
}

/// An arm64 `Image` with an initramfs, and an ELF file whose table of segments is behind its
/// segment, each of `len` bytes; and the configuration of guests with them.
fn guests(folder: &Path, len: u64) {
    let put = |name: &str, at: u64, bytes: &[u8]| {
        let mut file = File::options();
        let file = file.create(true).truncate(false).write(true).open(folder.join(name));
        file.unwrap().write_all_at(bytes, at).unwrap();
    };
    put("Image", 56, b"ARM\x64");
    put("Image", 16, &len.to_le_bytes());
    put("Image", len - 1, &[1]);
    put("initramfs", len - 1, &[1]);
    let (header, address) = (64u64, 0x4008_0000u64);
    put("elf", 0, b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x02\0\xb7\0\x01\0\0\0");
    put("elf", 24, [address, len].map(u64::to_le_bytes).as_flattened());
    put("elf", 52, [header as u16, 56, 1, 0, 0, 0].map(u16::to_le_bytes).as_flattened());
    let size = len - header;
    let segment = [1 | 7 << 32, header, address, address, size, size, 1 << 12];
    put("elf", len, segment.map(u64::to_le_bytes).as_flattened());
    let guest =
        |name: &str, files: &str| format!("[[guest]]\nname = {name:?}\nmemory = \"1G\"\n{files}\n");
    let config = guest("linux", "image = \"Image\"\ninitrd = \"initramfs\"");
    std::fs::write(folder.join("guests.toml"), config + &guest("elf", "image = \"elf\"")).unwrap();
}

/// Returns the most bytes that a child of this process has had in memory at once, of those that
/// have ended: VmHWM. Linux counts what the parent had when it made the child, too, so this process
/// must stay small.
fn peak() -> u64 {
    getrusage(UsageWho::RUSAGE_CHILDREN).unwrap().max_rss() as u64 * 1024
}

#[test]
fn no_command_takes_more_memory_for_a_larger_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    checkpoint(&path("old.stasis"), RAM, 1);
    checkpoint(&path("new.stasis"), RAM, 2);
    stream(&path("stream"), RAM / 2);
    guests(folder.path(), RAM / 2);
    std::fs::write(path("kernel8"), [&[0; 16][..], &[0, 0, 4, 0, 0, 0, 0, 0]].concat()).unwrap();
    let stasis = |line: &str| {
        let output = Command::new(env!("CARGO_BIN_EXE_stasis"))
            .args(line.split_whitespace())
            .current_dir(folder.path())
            .output()
            .unwrap();
        let complaints = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{line}: {complaints}");
        let peak = peak();
        assert!(peak <= MOST, "{line}: {} KiB", peak >> 10);
        String::from_utf8(output.stdout).unwrap()
    };
    stasis("disk disk.img --size 512M");
    let stored = RAM / 2 / PAGE_SIZE as u64;
    for line in [
        "checkpoint put disk.img old.stasis it",
        "checkpoint get disk.img it it.stasis",
        "checkpoint verify disk.img",
        "checkpoint verify it.stasis",
        "checkpoint show disk.img it",
        "checkpoint show new.stasis --json",
        "checkpoint core disk.img it core",
        "report disk.img it -o it.html",
        "report old.stasis new.stasis -o it.html",
        "convert from-qemu stream",
        "check guests.toml",
        "pack guests.toml guests.cpio",
        "card card.img --guest guests.toml --image kernel8 --device-tree kernel8",
    ] {
        stasis(line);
    }
    let diff = stasis("checkpoint diff disk.img it new.stasis");
    let pages = (0..RAM / PAGE_SIZE as u64).filter(|page| page / 256 % 2 == 0 && page % 3 == 0);
    assert!(diff.contains(&format!("memory: {} pages differ", pages.count())), "{diff:.1000}");
    let diff = stasis("checkpoint diff old.stasis new.stasis --json");
    assert!(diff.len() > stored as usize, "{diff:.1000}");
    let archive = path("guests.cpio").metadata().unwrap().len();
    assert!((3 * RAM / 2..3 * RAM / 2 + 4096).contains(&archive), "{archive}");
    let core = File::open(path("core")).unwrap().metadata().unwrap().len();
    assert!(core > RAM, "{core}");
}

/// Makes what the times in docs/stasis.md were measured on.
#[test]
#[ignore = "leaves files of 256 MiB in the folder that STASIS_FILES names"]
fn make_files_to_measure_times_on() {
    let folder = std::env::var("STASIS_FILES").unwrap();
    checkpoint(&Path::new(&folder).join("old.stasis"), 2 * RAM, 1);
    checkpoint(&Path::new(&folder).join("new.stasis"), 2 * RAM, 2);
    stream(&Path::new(&folder).join("stream"), RAM);
}
