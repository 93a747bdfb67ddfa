use std::path::PathBuf;

use stasis_state::device::SharedMemory;
use stasis_state::header::Header;
use stasis_state::virtio::Virtio;
use stasis_state::{Capture, GuestState};
use stasis_tool::output::Output;
use tempfile::TempDir;
use zerocopy::{FromBytes, IntoBytes};

use super::*;
use crate::file::Sink;

const PAGES: usize = 512;

/// Returns the checkpoint of a guest with a page of each kind, after `edit`.
fn checkpoint(folder: &TempDir, edit: impl FnOnce(&mut GuestState)) -> PathBuf {
    let mut state = GuestState::reset(1);
    state.guest.set_name("guest");
    (*state.guest.ram_base, *state.guest.ram_size) = (RAM_BASE, (PAGES * PAGE_SIZE) as u64);
    *state.clock.cntfrq = 62_500_000;
    *state.vcpus[0].core.pstate = 0x3c5;
    *state.distributor.nr_irqs = 288;
    edit(&mut state);
    let path = folder.path().join("guest.stasis");
    let mut output = Output::create(&path).unwrap();
    let memory = memory();
    let capture = Capture::new(state.records(), &memory, &[], routines());
    capture.unwrap().write(&mut Sink(&mut output), &mut |_, _| ()).unwrap();
    output.finish().unwrap();
    path
}

fn memory() -> Vec<u8> {
    let mut memory = vec![0; PAGES * PAGE_SIZE];
    memory[3 * PAGE_SIZE..4 * PAGE_SIZE].fill(0x5a);
    for page in [5, 6, 8, PAGES - 1] {
        memory[page * PAGE_SIZE + 17] = page as u8;
    }
    memory
}

#[test]
fn the_memory_that_is_loaded_is_that_of_the_checkpoint() {
    let folder = TempDir::new().unwrap();
    let mut image = Image::open(&checkpoint(&folder, |_| ())).unwrap();
    let mut loaded = vec![0; PAGES * PAGE_SIZE];
    image.load().unwrap().read(0, &mut loaded).unwrap();
    assert!(loaded == memory());
}

#[test]
fn a_damaged_page_is_refused_by_its_address() {
    let folder = TempDir::new().unwrap();
    let path = checkpoint(&folder, |_| ());
    let mut bytes = std::fs::read(&path).unwrap();
    // The page has nothing else but this byte in its first 32.
    let page = [[0; 17].as_slice(), &[5], &[0; 14]].concat();
    let pages = bytes.chunks(PAGE_SIZE);
    let at = pages.map(|bytes| bytes.starts_with(&page)).position(|found| found).unwrap();
    bytes[at * PAGE_SIZE + 100] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let error = format!("{:#}", Image::open(&path).unwrap().load().unwrap_err());
    assert!(error.contains("0x40005000"), "{error}");
}

#[test]
fn what_is_not_here_is_refused_by_its_name() {
    let folder = TempDir::new().unwrap();
    let refused = |edit: fn(&mut GuestState)| {
        let path = checkpoint(&folder, edit);
        format!("{:#}", Image::open(&path).unwrap_err())
    };
    let error = refused(|state| *state.guest.ram_base = 0x1000_0000);
    assert!(error.contains("the guest's memory is at 0x10000000"), "{error}");
    let error = refused(|state| *state.vcpus[0].power.state = 1);
    assert!(error.contains("the guest is off"), "{error}");
    let mut state = GuestState::reset(1);
    state.devices.shared = Some(SharedMemory::default());
    let error = admit(&state).unwrap_err().to_string();
    assert!(error.contains("shares memory"), "{error}");
}

/// Returns the only line that says why these bytes can't be run, as a whole guest.
fn refused(folder: &TempDir, bytes: &[u8]) -> String {
    let path = folder.path().join("bad.stasis");
    std::fs::write(&path, bytes).unwrap();
    let loaded = Image::open(&path).and_then(|mut image| image.load());
    let error = format!("{:#}", loaded.unwrap_err());
    assert_eq!(error.lines().count(), 1, "{error}");
    error
}

#[test]
fn what_is_no_checkpoint_is_refused_with_what_makes_one() {
    let folder = TempDir::new().unwrap();
    for bytes in
        [&b"#!/bin/sh\necho it is a script, and long enough for a header\n"[..], &[0; 8192]]
    {
        let error = refused(&folder, bytes);
        assert!(error.contains("bad.stasis can't be run: this is not a checkpoint"), "{error}");
        assert!(error.contains("`stasis checkpoint get DISK NAME FILE` writes one"), "{error}");
    }
    let error = format!("{:#}", Image::open(&folder.path().join("none.stasis")).unwrap_err());
    assert!(error.contains("cannot open") && error.contains("No such file"), "{error}");
    let error = format!("{:#}", Image::open(folder.path()).unwrap_err());
    assert!(error.contains("can't be run: Is a directory"), "{error}");
}

#[test]
fn a_file_that_is_cut_anywhere_is_refused() {
    let folder = TempDir::new().unwrap();
    let bytes = std::fs::read(checkpoint(&folder, |_| ())).unwrap();
    for len in (0..bytes.len()).step_by(61) {
        let error = refused(&folder, &bytes[..len]);
        assert!(error.contains("it is cut: copy it anew"), "{len}: {error}");
    }
}

#[test]
fn a_file_of_a_newer_version_is_refused_with_what_can_run_it() {
    let folder = TempDir::new().unwrap();
    let mut bytes = std::fs::read(checkpoint(&folder, |_| ())).unwrap();
    let (mut header, _) = Header::read_from_prefix(&bytes).unwrap();
    (header.major, header.crc) = (header.major + 1, 0);
    bytes[..Header::LEN].copy_from_slice(header.as_bytes());
    let crc = crc32c::crc32c(&bytes[..header.header_len as usize]);
    bytes[Header::CRC_OFFSET..][..4].copy_from_slice(&crc.to_le_bytes());
    let error = refused(&folder, &bytes);
    assert!(error.contains("written by format 2."), "{error}");
    assert!(error.contains("the stasis-kvm of the release that has written it"), "{error}");
}

#[test]
fn a_guest_with_a_device_that_is_not_here_is_refused_by_its_name() {
    let folder = TempDir::new().unwrap();
    let path = checkpoint(&folder, |state| {
        let mut virtio = Virtio::default();
        virtio.device_id[2] = device_id::CONSOLE;
        state.devices.virtio = virtio;
        state.machine = Some(Box::new(Devices::restored(state.devices.clone(), 0).machine()));
    });
    let error = refused(&folder, &std::fs::read(path).unwrap());
    assert!(error.contains("the guest has a device that is not here: "), "{error}");
    assert!(error.contains("console"), "{error}");
}
