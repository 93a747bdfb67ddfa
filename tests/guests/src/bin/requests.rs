//! Drives a virtio disk, a network card and a source of random bytes as plainly as it can be done,
//! for the bench and the tests: each byte that is typed is one phase.
//!
//! `n`: nothing; `W` and `R`: [`LARGE_COUNT`] requests of 1 MiB; `B` and `b`: one request of as
//! many bytes; `d`: they are discarded; `f`: what was written is flushed; `w` and `r`: [`COUNT`]
//! requests of 4 KiB, one behind the other; `a`: [`COUNT`] reads of 4 KiB of which none is behind
//! the one before; `p`: one read of 1 MiB is asked for, and `q`: it is waited for, and has in each
//! word that word's number; `l`: it listens, for ever; `s`: it sends [`COUNT`] frames of 1500 bytes to the
//! one that it has heard of; `e`: it looks at random bytes without leaving EL1 since it has asked
//! for them; `z`: it resets its machine; `o`: it switches it off. But for `e`, the guest sleeps
//! while it waits. It takes each interrupt, and prints `requests <phase> done`, or `failed` if its
//! disk has failed.

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
const MIB: usize = 1 << 20;
/// Bytes of one request that has as many as a phase.
const LARGE: usize = LARGE_COUNT as usize * MIB;
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
/// The status of a disk's request.
const STATUS: usize = SMALL + 0x100;
/// Pages for random bytes, each for one request. Every other page has [`UNTOUCHED`] from the
/// beginning, and nothing is ever written to the rest.
const RANDOM: usize = 0x41c0_0000;
const RANDOM_PAGES: usize = 256;
const PAGE: usize = 4096;
/// What a page for random bytes has before.
const UNTOUCHED: u64 = 0x5a5a_5a5a_5a5a_5a5a;
/// How often the guest looks whether random bytes are there.
const LOOKS: usize = 10_000;
/// Entries of a queue: more than there are frames in a phase, so that none is lost for want of a
/// buffer, in however long turns QEMU executes the cores.
const NUM: u16 = 128;

/// Kinds of requests of a disk.
const IN: u32 = 0;
const OUT: u32 = 1;
const FLUSH: u32 = 4;
const DISCARD: u32 = 11;

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
        /// FLUSH and DISCARD.
        const FEATURES: u32 = 1 << 9 | 1 << 13;
        let registers = begin(2, FEATURES)?;
        let queue = Queue::new(registers, 0);
        write32(registers + 0x70, 0xf);
        Some(Self(queue))
    }

    /// Reads or writes `count` times `len` bytes, each of them `stride` times as much behind the
    /// one before. Returns whether all was done.
    fn phase(&mut self, writes: bool, count: u64, len: usize, stride: u64) -> bool {
        let mut numbers = (0..count).map(|n| n * stride % count);
        numbers.all(|n| {
            let sector = n * len as u64 / 512;
            match writes {
                true => self.request(OUT, sector, (DATA, len, 0)),
                false => self.request(IN, sector, (DATA, len, WRITE)),
            }
        })
    }

    /// Discards the first `len` bytes. Returns whether that was done.
    fn discard(&mut self, len: u64) -> bool {
        let range = SMALL + 0x200;
        store(range, 0_u64);
        store(range + 8, len / 512);
        self.request(DISCARD, 0, (range, 16, 0))
    }

    /// Makes what was written survive a loss of power. Returns whether that was done.
    fn flush(&mut self) -> bool {
        self.request(FLUSH, 0, (0, 0, 0))
    }

    /// Makes a request of this kind (VIRTIO 1.2, 5.2.6), with data at an address, of a length if
    /// there are some, and with the flags of their descriptor. Returns whether it was done.
    fn request(&mut self, kind: u32, sector: u64, data: (usize, usize, u16)) -> bool {
        self.ask(kind, sector, data);
        self.end()
    }

    /// Makes a request, and does not wait for it.
    fn ask(&mut self, kind: u32, sector: u64, (data, len, flags): (usize, usize, u16)) {
        let (header, status) = (SMALL, STATUS);
        store(header, kind);
        store(header + 8, sector);
        let head = if len == 0 { 1 } else { 0 };
        self.0.describe(1, data, len, NEXT | flags);
        self.0.describe(head, header, 16, NEXT);
        self.0.describe(2, status, 1, WRITE);
        self.0.publish(head);
        self.0.notify();
    }

    /// Waits for the request that was made last. Returns whether it was done.
    fn end(&mut self) -> bool {
        self.0.wait();
        load::<u8>(STATUS) == 0
    }

    /// Waits for a read that was asked for. Returns whether it was done, and has given each word
    /// its own number.
    fn end_of_read(&mut self) -> bool {
        self.end() && (0..MIB / 8).all(|n| load::<u64>(DATA + n * 8) == n as u64)
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

/// The source of random bytes.
struct Source {
    queue: Queue,
    asked: usize,
}

impl Source {
    fn find() -> Option<Self> {
        let registers = begin(4, 0)?;
        let queue = Queue::new(registers, 0);
        write32(registers + 0x70, 0xf);
        (0..RANDOM_PAGES).step_by(2).for_each(|n| store(RANDOM + n * PAGE, UNTOUCHED));
        Some(Self { queue, asked: 0 })
    }

    /// Asks for random bytes twice, each time in another page, and prints what is there as soon as
    /// the device says that it is done. From the notification until then, nothing but loads of RAM
    /// is executed.
    fn phase(&mut self) {
        for _ in 0..2 {
            let page = RANDOM + self.asked % RANDOM_PAGES * PAGE;
            self.asked += 1;
            self.queue.describe(0, page, 8, WRITE);
            self.queue.publish(0);
            self.queue.notify();
            let is_there = (0..LOOKS).any(|_| self.queue.done().is_some());
            let found = load::<u64>(page);
            match is_there {
                true => println!("random {found:016x}"),
                false => {
                    self.queue.wait();
                    println!("random bytes are late");
                }
            }
            acknowledge();
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
    let (mut disk, mut card, mut source) = (Disk::find(), Card::find(), Source::find());
    println!("requests begin");
    loop {
        let phase = byte();
        let is_done = match (phase, &mut disk, &mut card, &mut source) {
            (b'n', ..) => true,
            (b'W' | b'R', Some(disk), ..) => disk.phase(phase == b'W', LARGE_COUNT, MIB, 1),
            (b'B' | b'b', Some(disk), ..) => disk.phase(phase == b'B', 1, LARGE, 1),
            (b'd', Some(disk), ..) => disk.discard(LARGE as u64),
            (b'f', Some(disk), ..) => disk.flush(),
            (b'w' | b'r', Some(disk), ..) => disk.phase(phase == b'w', COUNT, 4096, 1),
            (b'a', Some(disk), ..) => disk.phase(false, COUNT, 4096, APART),
            (b'p', Some(disk), ..) => {
                disk.ask(IN, 0, (DATA, MIB, WRITE));
                true
            }
            (b'q', Some(disk), ..) => disk.end_of_read(),
            (b'l', _, Some(card), _) => card.listen(),
            (b'o', ..) => psci::system_off(),
            (b'z', ..) => {
                psci::hvc(psci::SYSTEM_RESET.into(), [0; 3]);
                continue;
            }
            (b's', _, Some(card), _) => {
                card.phase();
                true
            }
            (b'e', .., Some(source)) => {
                source.phase();
                true
            }
            _ => continue,
        };
        println!("requests {} {}", char::from(phase), if is_done { "done" } else { "failed" });
    }
}
