//! Drives a virtio disk and a network card as plainly as it can be done, for the bench: each byte
//! that is typed is one phase.
//!
//! `n`: nothing; `W` and `R`: [`LARGE_COUNT`] requests of 1 MiB; `w` and `r`: [`COUNT`] requests of
//! 4 KiB, one behind the other; `a`: [`COUNT`] reads of 4 KiB of which none is behind the one
//! before; `l`: it listens, for ever; `s`: it sends [`COUNT`] frames of 1500 bytes to the one that
//! it has heard of; `z`: it resets its machine; `o`: it switches it off. The guest sleeps while it
//! waits, takes each interrupt, and prints `requests <phase> done`.

#![no_std]
#![no_main]

use core::arch::asm;
use stasis_guests::mmio::{read32, write32};
use stasis_guests::sysreg::wfi;
use stasis_guests::{gic, println, psci, runtime, uart};

stasis_guests::entry!(main, runtime::no_irq);

/// Requests of 4 KiB, and frames, of a phase; the bench has the same constant.
const COUNT: u64 = 64;
/// Requests of 1 MiB of a phase; the bench has the same constant.
const LARGE_COUNT: u64 = 4;
/// How far a read of 4 KiB is from the one before, if it is not behind that, in 4 KiB.
const APART: u64 = 37;

/// The virtio-mmio slots (VIRTIO 1.2, 4.2.2), and the INTID of the first.
const SLOTS: usize = 0x0a00_0000;
const FIRST_INTID: u32 = 48;
/// The UART's SPI.
const UART_INTID: u32 = 33;

/// RAM behind the image and the device tree: the queues, what is small, and the data.
const QUEUES: usize = 0x4100_0000;
const SMALL: usize = 0x4110_0000;
const DATA: usize = 0x4120_0000;
/// Entries of a queue: more than there are frames in a phase, so that none is lost for want of a
/// buffer, in however long turns QEMU executes the cores.
const NUM: u16 = 128;

const NEXT: u16 = 1;
const WRITE: u16 = 2;
/// Bytes of the header before a frame.
const NET_HEADER: usize = 12;
/// Bytes of a frame.
const FRAME: usize = 1500;
/// Bytes of a buffer for a frame.
const BUFFER: usize = 2048;

fn store<T>(address: usize, value: T) {
    // SAFETY: The addresses are RAM that nothing of Rust's is in.
    unsafe { (address as *mut T).write_volatile(value) };
}

fn load<T: Copy>(address: usize) -> T {
    // SAFETY: The addresses are RAM that nothing of Rust's is in.
    unsafe { (address as *const T).read_volatile() }
}

/// A queue of a device: the table, and the available and the used ring each 4 KiB behind it.
struct Queue {
    registers: usize,
    number: u32,
    base: usize,
    published: u16,
    used: u16,
}

impl Queue {
    /// Returns the queue, which is ready then.
    fn new(registers: usize, number: u32) -> Self {
        let base = QUEUES + (registers - SLOTS) / 0x200 * 0x1_0000 + number as usize * 0x4000;
        write32(registers + 0x30, number);
        write32(registers + 0x38, NUM.into());
        for (offset, part) in [(0x80, 0), (0x90, 1), (0xa0, 2)] {
            write32(registers + offset, (base + part * 0x1000) as u32);
        }
        write32(registers + 0x44, 1);
        Self { registers, number, base, published: 0, used: 0 }
    }

    fn describe(&self, n: u16, address: usize, len: usize, flags: u16) {
        let at = self.base + usize::from(n) * 16;
        store(at, address as u64);
        store(at + 8, len as u32);
        store(at + 12, flags);
        store(at + 14, n + 1);
    }

    /// Makes a chain available, without a word to the device.
    fn publish(&mut self, head: u16) {
        store(self.base + 0x1004 + usize::from(self.published % NUM) * 2, head);
        dsb();
        self.published = self.published.wrapping_add(1);
        store(self.base + 0x1002, self.published);
        dsb();
    }

    fn notify(&self) {
        write32(self.registers + 0x50, self.number);
    }

    /// Returns the head of the next chain that is done, if one is.
    fn done(&mut self) -> Option<u16> {
        if load::<u16>(self.base + 0x2002) == self.used {
            return None;
        }
        let entry = self.base + 0x2004 + usize::from(self.used % NUM) * 8;
        self.used = self.used.wrapping_add(1);
        Some(load::<u32>(entry) as u16)
    }

    /// Sleeps until a chain is done. Returns its head.
    fn wait(&mut self) -> u16 {
        loop {
            acknowledge();
            if let Some(head) = self.done() {
                return head;
            }
            wfi();
        }
    }
}

/// Takes an interrupt, if one has come.
fn acknowledge() {
    let iar = read32(gic::GICC_IAR);
    if iar & 0x3ff == gic::SPURIOUS {
        return;
    }
    if let Some(slot @ 0..8) = (iar & 0x3ff).checked_sub(FIRST_INTID) {
        let registers = SLOTS + slot as usize * 0x200;
        let status = read32(registers + 0x60);
        write32(registers + 0x64, status);
    }
    write32(gic::GICC_EOIR, iar);
}

/// Makes all writes to memory visible to devices before what follows.
fn dsb() {
    // SAFETY: The instruction changes no register and no memory.
    unsafe { asm!("dsb sy", options(nostack, preserves_flags)) }
}

/// Returns the registers of the device with this ID, which accepts `features` of its first 32 then,
/// if there is one.
fn begin(id: u32, features: u32) -> Option<usize> {
    let slot = (0..8).find(|slot| read32(SLOTS + slot * 0x200 + 8) == id)?;
    let registers = SLOTS + slot * 0x200;
    for status in [0, 1, 3] {
        write32(registers + 0x70, status);
    }
    for (sel, features) in [(0, features), (1, 1)] {
        write32(registers + 0x24, sel);
        write32(registers + 0x20, features);
    }
    write32(registers + 0x70, 0xb);
    gic::enable(FIRST_INTID + slot as u32, 0xa0);
    Some(registers)
}

/// The disk.
struct Disk(Queue);

impl Disk {
    fn find() -> Option<Self> {
        const FLUSH: u32 = 1 << 9;
        let registers = begin(2, FLUSH)?;
        let queue = Queue::new(registers, 0);
        write32(registers + 0x70, 0xf);
        Some(Self(queue))
    }

    /// Reads or writes `count` times `len` bytes, each of them `stride` times as much behind the
    /// one before.
    fn phase(&mut self, writes: bool, count: u64, len: usize, stride: u64) {
        let (header, status) = (SMALL, SMALL + 0x100);
        for n in (0..count).map(|n| n * stride % count) {
            store(header, u32::from(writes));
            store(header + 8, n * len as u64 / 512);
            self.0.describe(0, header, 16, NEXT);
            self.0.describe(1, DATA, len, NEXT | if writes { 0 } else { WRITE });
            self.0.describe(2, status, 1, WRITE);
            self.0.publish(0);
            self.0.notify();
            self.0.wait();
            assert!(load::<u8>(status) == 0, "the disk fails");
        }
    }
}

/// The network card.
struct Card {
    receive: Queue,
    transmit: Queue,
}

impl Card {
    fn find() -> Option<Self> {
        const MAC: u32 = 1 << 5;
        let registers = begin(1, MAC)?;
        let (mut receive, transmit) = (Queue::new(registers, 0), Queue::new(registers, 1));
        for n in 0..NUM {
            receive.describe(n, Self::buffer(n), BUFFER, WRITE);
            receive.publish(n);
        }
        write32(registers + 0x70, 0xf);
        Some(Self { receive, transmit })
    }

    fn buffer(n: u16) -> usize {
        DATA + usize::from(n) * BUFFER
    }

    /// Sends a frame to this address, with that of the card.
    fn send(&mut self, to: [u8; 6], len: usize) {
        let frame = SMALL + 0x1000;
        store(frame + NET_HEADER, to);
        for n in 0..6 {
            let byte = read32(self.transmit.registers + 0x100 + n / 4 * 4) >> (8 * (n % 4));
            store(frame + NET_HEADER + 6 + n, byte as u8);
        }
        store(frame + NET_HEADER + 12, 0x88b5_u16.swap_bytes());
        self.transmit.describe(0, frame, NET_HEADER + len, 0);
        self.repeat();
    }

    /// Sends the last frame once more.
    fn repeat(&mut self) {
        self.transmit.publish(0);
        self.transmit.notify();
        self.transmit.wait();
    }

    /// Takes frames for ever, and has said before that it is there.
    fn listen(&mut self) -> ! {
        self.send([0xff; 6], 60);
        println!("requests l done");
        loop {
            let head = self.receive.wait();
            self.receive.publish(head);
        }
    }

    fn phase(&mut self) {
        let head = self.receive.wait();
        let from = load(Self::buffer(head) + NET_HEADER + 6);
        self.receive.publish(head);
        self.send(from, FRAME);
        for _ in 1..COUNT {
            self.repeat();
        }
    }
}

/// Sleeps until a byte is typed.
fn byte() -> u8 {
    while read32(uart::FR) & uart::FR_RXFE != 0 {
        acknowledge();
        wfi();
    }
    uart::get()
}

fn main() {
    gic::init();
    gic::enable(UART_INTID, 0xa0);
    write32(uart::IMSC, uart::INT_RX | uart::INT_RT);
    let (mut disk, mut card) = (Disk::find(), Card::find());
    println!("requests begin");
    loop {
        let phase = byte();
        match (phase, &mut disk, &mut card) {
            (b'n', ..) => {}
            (b'W' | b'R', Some(disk), _) => disk.phase(phase == b'W', LARGE_COUNT, 1 << 20, 1),
            (b'w' | b'r', Some(disk), _) => disk.phase(phase == b'w', COUNT, 4096, 1),
            (b'a', Some(disk), _) => disk.phase(false, COUNT, 4096, APART),
            (b'l', _, Some(card)) => card.listen(),
            (b'o', ..) => psci::system_off(),
            (b'z', ..) => {
                psci::hvc(psci::SYSTEM_RESET.into(), [0; 3]);
            }
            (b's', _, Some(card)) => card.phase(),
            _ => continue,
        }
        println!("requests {} done", char::from(phase));
    }
}
