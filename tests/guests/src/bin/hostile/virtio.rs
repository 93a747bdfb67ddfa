//! Virtio devices, if the guest has some: queues full of what no driver would put there, which
//! change while the device reads them.

use stasis_guests::mmio::{read32, write32};
use stasis_guests::println;
use stasis_guests::random::Random;

/// The virtio-mmio slots (VIRTIO 1.2, 4.2.2); the guest has no more devices than these.
const SLOTS: usize = 0x0a00_0000;
const COUNT: usize = 4;
/// The end of the guest's RAM, and the part of it that devices may write: queues and data. Nothing
/// of Rust's is there.
const RAM_END: usize = 0x4200_0000;
const QUEUES: usize = RAM_END - (4 << 20);
const DATA: usize = QUEUES + (1 << 20);
/// Entries of a queue: as many as the devices offer.
const NUM: u32 = 256;
/// How often each device is reset and driven.
const ROUNDS: usize = 20;
/// How often queues change in a round.
const CHANGES: usize = 200;

const NEXT: u16 = 1;

/// Makes the attack.
pub fn attack() {
    let mut random = Random(0x5eed);
    for registers in (0..COUNT).map(|slot| SLOTS + slot * 0x200) {
        let id = read32(registers + 8);
        if read32(registers + 4) != 2 || id == 0 {
            continue;
        }
        println!("drive a device of kind {id}");
        let mut gave_up = 0;
        for _ in 0..ROUNDS {
            begin(registers);
            drive(registers, &mut random);
            gave_up += usize::from(read32(registers + 0x70) & 0x40 != 0);
            // A reset, also amid requests: behind it, no device writes any more.
            write32(registers + 0x70, 0);
        }
        println!("it gave up {gave_up} times of {ROUNDS}");
    }
}

/// Sets a device up, with all of its queues.
fn begin(registers: usize) {
    for status in [0, 1, 3] {
        write32(registers + 0x70, status);
    }
    for sel in [0, 1] {
        write32(registers + 0x14, sel);
        let features = read32(registers + 0x10);
        write32(registers + 0x24, sel);
        write32(registers + 0x20, features);
    }
    write32(registers + 0x70, 0xb);
    for queue in 0..3 {
        write32(registers + 0x30, queue);
        write32(registers + 0x38, NUM);
        let base = base(queue);
        for (offset, part) in [(0x80, 0), (0x90, 1), (0xa0, 2)] {
            write32(registers + offset, (base + part * 0x1000) as u32);
            write32(registers + offset + 4, 0);
        }
        write32(registers + 0x44, 1);
        // The ring is empty.
        store::<u32>(base + 0x1000, 0);
    }
    write32(registers + 0x70, 0xf);
}

/// Returns where the table of a queue is; its rings are 4 KiB and 8 KiB behind it.
fn base(queue: u32) -> usize {
    QUEUES + queue as usize * 0x4000
}

/// Fills the queues with garbage, and changes it while the device is at it.
fn drive(registers: usize, random: &mut Random) {
    for n in 0..NUM as usize {
        for queue in 0..3 {
            describe(base(queue) + n * 16, random);
        }
        header(DATA + n * 16, random);
    }
    let mut published = [0_u16; 3];
    for _ in 0..CHANGES {
        let number = random.next();
        let queue = (number >> 8) as u32 % 3;
        let base = base(queue);
        match number % 8 {
            // Mostly what is possible, so that it is done.
            0..4 => {
                let published = &mut published[queue as usize];
                let entry = usize::from(*published) % NUM as usize;
                store(base + 0x1004 + entry * 2, (number >> 16) as u16 % (NUM as u16 + 1));
                *published = published.wrapping_add(1);
                store(base + 0x1002, *published);
                write32(registers + 0x50, queue);
            }
            4 | 5 => describe(base + (number >> 16) as usize % NUM as usize * 16, random),
            6 => header(DATA + (number >> 16) as usize % NUM as usize * 16, random),
            _ => write32(registers + 0x64, read32(registers + 0x60)),
        }
        // Now and then an index runs away.
        if number >> 32 & 0x3ff == 0 {
            store(base + 0x1002, (number >> 48) as u16);
        }
    }
}

/// Writes a descriptor: of any length and anywhere but in the guest's program.
fn describe(at: usize, random: &mut Random) {
    const LENGTHS: [u32; 8] = [0, 1, 16, 512, 4096, 1 << 20, 3 << 20, u32::MAX];
    let number = random.next();
    let address = match number % 16 {
        0 => QUEUES + (number >> 8) as usize % 0x1_0000,
        1 => SLOTS + (number >> 8) as usize % 0x4000,
        2 => RAM_END - (number >> 8) as usize % 64,
        3 => (random.next() as usize) | RAM_END,
        4..8 => DATA + (number >> 8) as usize % NUM as usize * 16,
        _ => DATA + (number >> 8) as usize % (2 << 20),
    };
    let length = LENGTHS[(number >> 32) as usize % LENGTHS.len()];
    let flags = match number >> 36 & 7 {
        0 => 0,
        1 => 2,
        2 => 4,
        3 => (number >> 40) as u16,
        4 | 5 => NEXT,
        _ => NEXT | 2,
    };
    store(at, address as u64);
    store(at + 8, length);
    store(at + 12, flags);
    store(at + 14, (number >> 56) as u16 % (NUM as u16 + 1));
}

/// Writes what may be taken for the header of a disk's request, or of a frame.
fn header(at: usize, random: &mut Random) {
    const KINDS: [u32; 8] = [0, 0, 1, 1, 4, 8, 11, 13];
    let number = random.next();
    store(at, KINDS[number as usize % KINDS.len()]);
    store(at + 4, 0_u32);
    let sector = if number >> 8 & 7 == 0 { random.next() } else { number >> 16 & 0xfff };
    store(at + 8, sector);
}

fn store<T>(address: usize, value: T) {
    debug_assert!((QUEUES..RAM_END).contains(&address));
    // SAFETY: 1. The address is in RAM, between QUEUES and RAM_END, where nothing of Rust's is.
    // 2. It is aligned for T: all places are at multiples of 16, and fields at their alignment.
    unsafe { (address as *mut T).write_volatile(value) };
}
