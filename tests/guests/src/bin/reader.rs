//! Reads all system registers that it can, again and again: whatever its neighbour does, they stay
//! as they are.
//!
//! The guest prints `<n> can be read`, then `round <n>` after each [`ROUNDS`] comparisons of all of
//! them; from the first change on a line with `FAULT` instead, which tells of that.

#![no_std]
#![no_main]

use stasis_guests::code::{execute, mrs_x0};
use stasis_guests::encodings::{Encoding, NOT_COMPARED, all, has};
use stasis_guests::{println, runtime};

stasis_guests::entry!(main, runtime::no_irq);

/// Comparisons from one line to the next.
const ROUNDS: u64 = 32;
/// More than any CPU has.
const MOST: usize = 1024;

fn main() {
    let mut known = [((0, 0, 0, 0, 0), 0); MOST];
    let mut count = 0;
    for encoding in all().filter(|encoding| !has(NOT_COMPARED, *encoding)) {
        if read(encoding).is_some() {
            known[count].0 = encoding;
            count += 1;
        }
    }
    println!("{count} can be read");
    // The search has changed what exceptions leave behind.
    for (encoding, value) in &mut known[..count] {
        *value = read(*encoding).unwrap_or(0);
    }
    let mut fault = None;
    for round in 1_u64.. {
        for (encoding, value) in &known[..count] {
            let found = read(*encoding);
            if found != Some(*value) {
                fault = fault.or(Some((*encoding, *value, found)));
            }
        }
        match fault {
            _ if round % ROUNDS != 0 => {}
            None => println!("round {round}"),
            Some((encoding, value, found)) => {
                println!("FAULT {encoding:?} was {value:#x} and then {found:x?}");
            }
        }
    }
}

fn read((op0, op1, crn, crm, op2): Encoding) -> Option<u64> {
    // SAFETY: it is a read into X0.
    unsafe { execute(mrs_x0(op0, op1, crn, crm, op2), 0) }.ok()
}
