//! Everything that can be wrong with a file, each with its one line.

#[path = "../common/mod.rs"]
mod common;
mod damage;
mod header;
mod hostile;
mod invariants;
mod memory;
mod records;
mod registers;

use common::{edit::Edited, load, ram, save, state};

fn small() -> Vec<u8> {
    let memory = ram("a.b.");
    save(&state(1, memory.len()), &memory).0.0
}

fn edited(change: impl FnOnce(&mut Edited)) -> Vec<u8> {
    let mut file = Edited::from_file(&small());
    change(&mut file);
    file.to_file()
}

#[track_caller]
fn refused(file: &[u8], line: &str) {
    let error = load(file).unwrap_err();
    assert_eq!(error.to_string(), line);
}
