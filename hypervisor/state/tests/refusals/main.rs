//! Everything that can be wrong with a file, each with its one line.

mod blocks;
#[path = "../common/mod.rs"]
mod common;
mod damage;
mod early;
mod header;
mod hostile;
mod invariants;
mod memory;
mod names;
mod records;
mod registers;

use common::{edit::Edited, load, ram, save, state};
use stasis_state::HostFacts;

/// Returns a host that can have the guest of [`small`].
fn host() -> HostFacts {
    HostFacts {
        vcpus: 1,
        memory: 1 << 30,
        prio_bits: 5,
        ram: 0x4000_0000..0x80_0000_0000,
        ram_unit: 4096,
        dist_base: 0x0800_0000,
        cpu_base: 0x0801_0000,
    }
}

fn small() -> Vec<u8> {
    let memory = ram("A.bC");
    save(&state(1, memory.len()), &memory).0
}

/// Returns a file of 1.0, whose memory is in MEMORY records.
fn small_of_1_0() -> Vec<u8> {
    let memory = ram("a.b.");
    let (file, _) = save(&state(1, memory.len()), &memory);
    Edited::from_file(&file).into_older_file(0, &[(0x4000_0000, &memory)])
}

fn edited(change: impl FnOnce(&mut Edited)) -> Vec<u8> {
    let mut file = Edited::from_file(&small());
    change(&mut file);
    file.to_file()
}

/// Returns the file of 1.0, changed.
fn edited_1_0(change: impl FnOnce(&mut Edited)) -> Vec<u8> {
    let mut file = Edited::from_file(&small_of_1_0());
    change(&mut file);
    file.to_file()
}

#[track_caller]
fn refused(file: &[u8], line: &str) {
    let error = load(file).unwrap_err();
    assert_eq!(error.to_string(), line);
}
