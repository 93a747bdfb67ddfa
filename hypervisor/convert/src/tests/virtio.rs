//! Virtio devices to QEMU's sections and back, in a base to which a test has added the sections, as
//! QEMU 10.0 writes them.

use stasis_state::machine::{DeviceKind, Entry};
use stasis_state::virtio::{Virtio, device_id};

use super::*;
use crate::Error;
use crate::qemu::Sections;
use crate::qemu::layout::header;
use crate::qemu::request::{self, Request};
use crate::qemu::virtio::{is_slot, read, write};

const BASE: &[u8] = include_bytes!("virt-10.0-a57.base");
/// The names of the sections of a disk in slot 0, and of a card in slot 1; the queues' sizes at
/// reset, and what the device has of its own.
const DISK: (&str, &[u32], &[u8]) = ("virtio-mmio@000000000a000000/virtio-blk", &[256], &[0]);
const CARD: (&str, &[u32], &[u8]) =
    ("virtio-mmio@000000000a000200/virtio-net", &[256, 256, 64], &[0; 40]);

/// Returns the contents of the section of a device that never ran.
fn contents(queues: &[u32], own: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; 12 + 8];
    bytes.extend(8_u32.to_be_bytes());
    bytes.extend([0; 8]);
    bytes.extend((queues.len() as u32).to_be_bytes());
    for num in queues {
        bytes.extend(num.to_be_bytes());
        bytes.extend(4096_u32.to_be_bytes());
        bytes.extend([0; 10]);
    }
    bytes.extend(own);
    for (name, len) in [
        ("virtio/64bit_features", 8),
        ("virtio/virtqueues", 1024 * 16),
        ("virtio/extra_state", 0),
        ("virtio_mmio/state", 8 + 1024 * 27),
    ] {
        bytes.extend(header(name));
        bytes.resize(bytes.len() + len, 0);
    }
    bytes
}

/// Returns the base with one more section, behind all others.
fn with_section(stream: &[u8], name: &str, contents: &[u8]) -> Vec<u8> {
    let mark = stream.windows(2).rposition(|bytes| bytes == [0, 6]).unwrap();
    let json = String::from_utf8(stream[mark + 6..].to_vec()).unwrap();
    let device = format!(
        "{{\"name\": \"{name}\", \"instance_id\": 0, \"version\": 2, \"fields\": [{{\"name\": \"virtio\", \"size\": {}}}]}}",
        contents.len()
    );
    let end = json.rfind(']').unwrap();
    let json = format!("{}, {device}{}", &json[..end], &json[end..]);
    let mut bytes = stream[..mark].to_vec();
    bytes.push(4);
    bytes.extend(99_u32.to_be_bytes());
    bytes.push(name.len() as u8);
    bytes.extend(name.bytes());
    bytes.extend([0, 0, 0, 0, 0, 0, 0, 2]);
    bytes.extend(contents);
    bytes.extend([0x7e, 0, 0, 0, 99, 0, 6]);
    bytes.extend((json.len() as u32).to_be_bytes());
    bytes.extend(json.bytes());
    bytes
}

/// Returns the base with a disk and a card.
fn base() -> Vec<u8> {
    let add =
        |stream: Vec<u8>, (name, queues, own)| with_section(&stream, name, &contents(queues, own));
    add(add(BASE.to_vec(), DISK), CARD)
}

/// Returns the record of a disk and a card, made of these words.
fn record(words: &[u64]) -> Virtio {
    let mut virtio = Virtio::default();
    let mut words = words.iter().copied().cycle();
    let mut word = || words.next().unwrap();
    (virtio.device_id[0], virtio.device_id[1]) = (device_id::BLOCK, device_id::NETWORK);
    for slot in 0..2 {
        virtio.driver_features[slot] = word() | 1 << 32;
        (virtio.features_sel[slot], virtio.driver_features_sel[slot]) =
            (word() as u32, word() as u32);
        (virtio.queue_sel[slot], virtio.status[slot]) =
            (word() as u32 & 0xffff, word() as u32 & 0xff);
        virtio.interrupt_status[slot] = word() as u32 & 3;
    }
    for at in [0, 3, 4, 5] {
        virtio.queue_ready[at] = word() as u8 & 1;
        virtio.queue_num[at] = 1 << (word() % 11);
        for address in
            [&mut virtio.queue_desc[at], &mut virtio.queue_driver[at], &mut virtio.queue_device[at]]
        {
            *address = word();
        }
        if virtio.queue_ready[at] != 0 {
            (virtio.queue_next_avail[at], virtio.queue_used[at]) = (7, 7);
        }
    }
    (virtio.mac[1], virtio.net_status[1]) = (word() & 0xffff_ffff_ffff, word() as u16 & 3);
    virtio
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(30))]

    #[test]
    fn devices_come_back_from_qemu_as_they_went(words in vec(any::<u64>(), 1..60)) {
        let virtio = record(&words);
        let mut stream = base();
        let sections = Sections::find(&stream).unwrap();
        write(&virtio, &[], &mut stream, &sections).unwrap();
        // The sections may have grown, and the description says it.
        let sections = Sections::find(&stream).unwrap();
        let back = read(&mut stream, &sections, &|_| Some(7)).unwrap();
        prop_assert_eq!(back, virtio);
    }

    #[test]
    fn any_damage_to_a_device_is_survived(
        damage in vec((0..400_usize, any::<u8>()), 1..8),
        end in 0..50_000_usize,
    ) {
        let mut contents = contents(DISK.1, DISK.2);
        for (at, byte) in damage {
            contents[at] = byte;
        }
        contents.truncate(end.max(1));
        let mut stream = with_section(BASE, DISK.0, &contents);
        let sections = Sections::find(&stream).unwrap();
        if let Err(error) = read(&mut stream, &sections, &|_| None) {
            prop_assert_eq!(error.to_string().lines().count(), 1);
        }
        let mut virtio = Virtio::default();
        virtio.device_id[0] = device_id::BLOCK;
        let _ = write(&virtio, &[], &mut stream, &sections);
    }
}

#[test]
fn a_device_in_use_says_so() {
    let mut virtio = record(&[0]);
    let len = |virtio: &Virtio| {
        let mut stream = base();
        let sections = Sections::find(&stream).unwrap();
        write(virtio, &[], &mut stream, &sections).unwrap();
        Sections::find(&stream).unwrap().all.iter().rev().map(|one| one.contents.len()).next()
    };
    let idle = len(&virtio).unwrap();
    virtio.status[1] = 0x4f;
    let more = header("virtio/started").len() + header("virtio/broken").len() + 2;
    assert_eq!(len(&virtio), Some(idle + more));
}

/// Returns the number of 8 bytes at `at` of a request, which is as a host has it.
fn number(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(*bytes[at..].first_chunk().unwrap())
}

#[test]
fn a_disk_takes_the_requests_along_that_it_has_not_completed() {
    let (mut virtio, mut stream) = (record(&[0]), base());
    (virtio.status[0], virtio.queue_ready[0], virtio.queue_num[0]) = (0xf, 1, 8);
    (virtio.queue_next_avail[0], virtio.queue_used[0]) = (0xffff, 0xffff);
    let request = |head| Request {
        slot: 0,
        head,
        read: vec![(0x4000_1000, 16), (0x4000_2000, 512)],
        written: vec![(0x4000_3000, 1)],
    };
    let sections = Sections::find(&stream).unwrap();
    write(&virtio, &[request(5), request(2)], &mut stream, &sections).unwrap();
    let sections = Sections::find(&stream).unwrap();
    let section = sections.all.iter().find(|one| one.device.name == DISK.0).unwrap();
    let bytes = &stream[section.contents.clone()];
    // Behind a queue, and before the first subsection.
    let first = header("virtio/64bit_features");
    let end = bytes.windows(first.len()).position(|bytes| bytes == first).unwrap();
    let own = &bytes[12 + 8 + 4 + 8 + 4 + 18..end];
    assert_eq!(own.len(), 2 * (1 + request::LEN) + 1);
    let (first, second) = (&own[1..], &own[1 + request::LEN + 1..]);
    assert_eq!((own[0], own[1 + request::LEN], own[own.len() - 1]), (1, 1, 0));
    // The head, and two buffers to read; one to write.
    assert_eq!((number(first, 0), number(first, 8)), (2 << 32 | 5, 1));
    assert_eq!((number(second, 0), number(second, 8)), (2 << 32 | 2, 1));
    let (addresses, iovecs) = (16, 16 + 2 * 1024 * 8);
    assert_eq!(number(first, addresses), 0x4000_3000);
    assert_eq!(number(first, addresses + 1024 * 8 + 8), 0x4000_2000);
    assert_eq!((number(first, iovecs), number(first, iovecs + 8)), (0, 1));
    assert_eq!(number(first, iovecs + 1024 * 16 + 16 + 8), 512);
    // QEMU has taken both.
    let next = &bytes[12 + 8 + 4 + 8 + 4 + 16..][..2];
    assert_eq!(next, 1_u16.to_be_bytes());

    let error = read(&mut stream, &sections, &|_| Some(0)).unwrap_err().to_string();
    assert!(error.contains("requests that were begun"), "{error}");
    let long = Request { read: vec![(0x4000_1000, 1); 1025], ..request(0) };
    let mut stream = base();
    let sections = Sections::find(&stream).unwrap();
    let refused = write(&virtio, &[long], &mut stream, &sections);
    assert_eq!(refused, Err(Error::LongRequest { slot: 0 }));
}

#[test]
fn a_whole_queue_of_requests_is_taken_along_and_no_more() {
    let request = |head| Request { slot: 0, head, ..Request::default() };
    let written = |count| {
        let mut stream = base();
        let (before, sections) = (stream.len(), Sections::find(&stream).unwrap());
        let all: Vec<Request> = (0..count).map(request).collect();
        write(&record(&[0]), &all, &mut stream, &sections)?;
        Sections::find(&stream)?;
        Ok(stream.len() - before)
    };
    // The requests, and some digits of the section's length.
    let grown = written(256).unwrap();
    assert_eq!(grown - grown % (256 * (1 + request::LEN)), 256 * (1 + request::LEN));
    assert!(grown < 13 << 20, "{grown}");
    let refused: Result<usize, Error> = written(257);
    assert_eq!(refused, Err(Error::ManyRequests { found: 257, limit: 256 }));
}

#[test]
fn what_stasis_can_not_take_is_refused_by_its_name() {
    let refused = |name: &str, contents: &[u8]| {
        let mut stream = with_section(BASE, name, contents);
        let sections = Sections::find(&stream).unwrap();
        read(&mut stream, &sections, &|_| Some(0)).unwrap_err().to_string()
    };
    let legacy = &contents(&[256], &[0])[..12 + 12 + 8 + 4 + 18 + 1];
    assert!(refused(DISK.0, legacy).contains("force-legacy=false"));
    let error = refused(DISK.0, &contents(&[256], &[1, 0]));
    assert!(error.contains("requests that were begun"), "{error}");
    let error = refused(DISK.0, &contents(&[256, 256], &[0]));
    assert!(error.contains("number of queues"), "{error}");

    let mut stream = base();
    let sections = Sections::find(&stream).unwrap();
    let none = Virtio::default();
    let error = Error::VirtioDevices { stream: 2, guest: 0 };
    assert_eq!(write(&none, &[], &mut stream, &sections), Err(error));
}

#[test]
fn only_what_is_where_qemus_is_can_go() {
    let slot = |kind, n: u64, count, intid| {
        is_slot(&Entry { kind, base: 0x0a00_0000 + n * 0x200, size: 0x200, count, intid })
    };
    assert!(slot(DeviceKind::virtio(2), 0, 1, 48) && slot(DeviceKind::EMPTY_SLOT, 2, 30, 50));
    assert!(!slot(DeviceKind::virtio(2), 0, 1, 49) && !slot(DeviceKind::virtio(3), 0, 1, 48));
    assert!(!slot(DeviceKind::EMPTY_SLOT, 2, 31, 50) && !slot(DeviceKind::PL011, 0, 1, 48));
}
