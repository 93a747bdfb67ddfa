//! Memory that is not the guest's: all that guest-physical addresses reach, and more.

use crate::devices::unusual;
use stasis_guests::exception::{catch, catch_call};
use stasis_guests::println;

/// The end of what `runtime` maps, one to one, in bytes.
const MAPPED: usize = 512 << 30;
/// Bytes from one address that is tried to the next: odd enough to hit other pages in each GiB.
const STEP: usize = (64 << 20) + 0x1_3008;

/// Makes the attack.
pub fn attack() {
    sweep();
    far_away();
}

/// Reads, writes and runs what is behind the guest's RAM: other guests' and Stasis's memory, if
/// anything translated it.
fn sweep() {
    println!("sweep");
    // Behind any RAM that this guest is given.
    let mut address = 2 << 30;
    while address < MAPPED {
        // SAFETY: None of it is RAM of this guest.
        let _ = catch(|| unsafe {
            let place = address as *mut u64;
            place.write_volatile(!place.read_volatile());
        });
        address += STEP;
    }
}

/// Guest-physical addresses that are wider than the machine's.
fn far_away() {
    println!("far away");
    for address in [0x7fff_fff8_usize, 0xffff_fff8, 0x3f_ffff_f000, 0x7f_ffff_f000, 0x20_0000_0000]
    {
        unusual(address);
        let _ = catch_call(address);
    }
}
