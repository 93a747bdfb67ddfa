//! Compares what EL2 does to many bytes at once, by assembly of its own, with the same done byte by
//! byte: [`copy`], [`crc`] and [`zero`] of the crate `arch`, which are built into this guest.
//!
//! The guest panics at the first difference.

#![no_std]
#![no_main]

#[macro_use]
extern crate stasis_guests;

#[path = "../../../../hypervisor/arch/src/copy.rs"]
mod copy;
#[path = "../../../../hypervisor/arch/src/crc.rs"]
mod crc;
#[path = "../../../../hypervisor/arch/src/zero.rs"]
mod zero;

use core::arch::asm;
use stasis_guests::runtime;
use zero::{Held, Look};

stasis_guests::entry!(main, runtime::no_irq);

unsafe extern "C" {
    fn memcpy(to: *mut u8, from: *const u8, len: usize) -> *mut u8;
    fn memset(to: *mut u8, byte: i32, len: usize) -> *mut u8;
}

const PAGE: usize = 4096;
const LEN: usize = 64 * PAGE;

/// Memory that nothing else is in, well behind the image: where things are copied from, and to.
const FROM: *mut u8 = 0x4100_0000 as *mut u8;
const TO: *mut u8 = 0x4120_0000 as *mut u8;
/// Bytes on either side of what is written, which must stay.
const MARGIN: usize = 64;
/// What they hold.
const UNTOUCHED: u8 = 0x5a;

/// Returns bytes of which each differs from its neighbours, and from those that are a power of two
/// away.
fn pattern(n: usize) -> u8 {
    (n * 167 + n / 256 * 13 + 1) as u8
}

fn write(place: *mut u8, byte: u8) {
    // SAFETY: It is within the memory that nothing else is in, by the callers.
    unsafe { place.write_volatile(byte) };
}

fn fill(place: *mut u8, len: usize, byte: impl Fn(usize) -> u8) {
    (0..len).for_each(|n| write(place.wrapping_add(n), byte(n)));
}

fn expect(place: *const u8, len: usize, what: &str, byte: impl Fn(usize) -> u8) {
    for n in 0..len {
        // SAFETY: As of `write`.
        let found = unsafe { place.wrapping_add(n).read_volatile() };
        assert_eq!(found, byte(n), "{what}: byte {n} of {len} at {place:?}");
    }
}

/// Returns whether `change` makes `len` bytes what `byte` says, this far from an aligned address,
/// and changes no others.
fn check(
    len: usize,
    shift: usize,
    what: &str,
    change: impl Fn(*mut u8),
    byte: impl Fn(usize) -> u8,
) {
    let to = TO.wrapping_add(MARGIN + shift);
    fill(to.wrapping_sub(MARGIN), len + 2 * MARGIN, |_| UNTOUCHED);
    change(to);
    expect(to.wrapping_sub(MARGIN), MARGIN, what, |_| UNTOUCHED);
    expect(to, len, what, byte);
    expect(to.wrapping_add(len), MARGIN, what, |_| UNTOUCHED);
}

/// Returns all small lengths, those around a step of the large ones, and some pages.
fn lengths() -> impl Iterator<Item = usize> {
    let around = [64, 256, 320, 512, 576, 640, 1024, PAGE];
    (0..70).chain(around.into_iter().flat_map(|n| n - 2..n + 3)).chain([3 * PAGE + 77])
}

fn check_copies() {
    fill(FROM, 4 * PAGE, pattern);
    for len in lengths() {
        for (from, to) in
            (0..64).map(|n| (n % 8, n / 8)).filter(|(from, _)| len < PAGE || *from < 3)
        {
            let copy = |place| {
                // SAFETY: Both are memory that nothing else is in, apart from each other.
                let returned = unsafe { memcpy(place, FROM.wrapping_add(from), len) };
                assert_eq!(returned, place);
            };
            check(len, to, "memcpy", copy, |n| pattern(from + n));
            if from == to {
                // SAFETY: As of `memcpy`, which it is.
                let copy = |place| unsafe { copy::copy(FROM.wrapping_add(from), place, len) };
                check(len, to, "copy", copy, |n| pattern(from + n));
            }
        }
    }
}

fn check_pages() {
    for from in [0, PAGE, 3 * PAGE] {
        fill(FROM, 4 * PAGE, |n| pattern(n + n / PAGE));
        let (page, to) = (FROM.wrapping_add(from), TO.wrapping_add(PAGE));
        fill(TO, 3 * PAGE, |_| UNTOUCHED);
        // SAFETY: 1. Both are pages of memory that nothing else is in, apart from each other. 2.
        // No line of a CPU that this runs on is smaller.
        unsafe { copy::take_page(page, to) };
        expect(TO, PAGE, "the page before", |_| UNTOUCHED);
        expect(to, PAGE, "a page", |n| pattern(from + n + from / PAGE));
        expect(to.wrapping_add(PAGE), PAGE, "the page behind", |_| UNTOUCHED);
        expect(page, PAGE, "what was copied", |n| pattern(from + n + from / PAGE));
    }
}

fn check_sets() {
    for len in lengths() {
        for (to, byte) in (0..8).zip([0, 0xff, 0, 1, 0x80, 0xa5, 0, 0x7f]) {
            let set = |place| {
                // SAFETY: It is memory that nothing else is in.
                let returned = unsafe { memset(place, 0x1200 | i32::from(byte), len) };
                assert_eq!(returned, place);
            };
            check(len, to, "memset", set, |_| byte);
            // SAFETY: It is memory that nothing else is in.
            check(len, to, "zero", |place| unsafe { copy::zero(place, len) }, |_| 0);
        }
    }
    const WORD: u64 = 0x0123_4567_89ab_cdef;
    for len in lengths().filter(|len| len.is_multiple_of(8)) {
        // SAFETY: It is memory that nothing else is in.
        let filled = |place| unsafe { copy::fill(place, WORD, len) };
        check(len, 0, "fill", filled, |n| WORD.to_le_bytes()[n % 8]);
    }
}

/// Returns the CRC-32C by its definition, a bit at a time.
fn plain_crc(crc: u32, bytes: &[u8]) -> u32 {
    let register = bytes.iter().fold(!crc, |register, byte| {
        (0..8).fold(register ^ u32::from(*byte), |register, _| {
            register >> 1 ^ if register & 1 == 0 { 0 } else { 0x82f6_3b78 }
        })
    });
    !register
}

fn check_crcs() {
    fill(FROM, 4 * PAGE, pattern);
    // SAFETY: It is memory that nothing else is in, and nothing writes it now.
    let bytes = unsafe { core::slice::from_raw_parts(FROM, 4 * PAGE) };
    assert_eq!(crc::crc32c(0, b"123456789"), 0xe306_9283);
    for len in lengths() {
        for start in 0..9 {
            let bytes = &bytes[start..start + len];
            assert_eq!(crc::crc32c(0, bytes), plain_crc(0, bytes), "CRC of {len} from {start} on");
            let (head, tail) = bytes.split_at(len / 3);
            let crc = crc::crc32c(crc::crc32c(0, head), tail);
            assert_eq!(crc, plain_crc(0, bytes), "CRC of {len} from {start} on, in two pieces");
        }
    }
}

fn check_zeros() {
    fill(FROM, LEN, |_| 0);
    // SAFETY: It is memory that nothing else is in.
    let with_content = |count| unsafe { zero::with_content(FROM, count) };
    assert_eq!(with_content(0), 0);
    assert_eq!(with_content(LEN / PAGE), 0);
    for n in 0..PAGE {
        let place = FROM.wrapping_add(PAGE + n);
        write(place, 1 << (n % 8));
        assert_eq!(with_content(3), 0b010, "byte {n} of a page");
        assert_eq!(with_content(1), 0, "byte {n} of the next page");
        write(place, 0);
    }
    // The look at a page ends where it shows; that at the next one begins at its start.
    for (page, byte) in [(0, 0), (1, PAGE - 1), (31, 300), (32, 255), (63, PAGE - 1)] {
        write(FROM.wrapping_add(page * PAGE + byte), 1);
    }
    assert_eq!(with_content(LEN / PAGE), 1 << 63 | 1 << 32 | 1 << 31 | 0b11);
}

fn check_words() {
    // SAFETY: It is memory that nothing else is in.
    let is_repeated = || unsafe { zero::is_repeated(FROM) };
    // What the page is followed by must not matter.
    fill(FROM, 2 * PAGE, |n| if n < PAGE { pattern(n % 8) } else { 0 });
    assert!(is_repeated());
    for n in 0..PAGE {
        let place = FROM.wrapping_add(n);
        write(place, pattern(n % 8) ^ 1 << (n / 8 % 8));
        assert!(!is_repeated(), "another byte {n} of a page");
        write(place, pattern(n % 8));
    }
    assert!(is_repeated());
}

/// Compares the look at a page with what it holds by definition: zeros, a word over and over, each
/// with any one byte changed, and anything else.
fn check_looks() {
    // SAFETY: It is memory that nothing else is in.
    let look = || unsafe { zero::look(FROM) };
    // SAFETY: It is memory that nothing else is in, and nothing writes it while the slice is there.
    let plain = || plain_crc(0, unsafe { core::slice::from_raw_parts(FROM, PAGE) });
    // Steps of an odd number of bytes come to each place within a line.
    let some = || (0..PAGE).step_by(61).chain([PAGE - 1]);
    fill(FROM, 2 * PAGE, |n| u8::from(n >= PAGE));
    assert_eq!(look(), Held::Zero);
    for n in some() {
        let place = FROM.wrapping_add(n);
        write(place, 1 << (n % 8));
        assert_eq!(look(), Held::Content(plain()), "byte {n} of a page of zeros");
        write(place, 0);
    }
    fill(FROM, PAGE, |n| pattern(n % 8));
    let word = u64::from_le_bytes(core::array::from_fn(pattern));
    assert_eq!(look(), Held::Word(word));
    for n in some() {
        let place = FROM.wrapping_add(n);
        write(place, pattern(n % 8) ^ 1 << (n / 8 % 8));
        assert_eq!(look(), Held::Content(plain()), "another byte {n} of a page of one word");
        write(place, pattern(n % 8));
    }
    for shift in 0..4 {
        fill(FROM, PAGE, |n| pattern(n + shift * PAGE / 7));
        assert_eq!(look(), Held::Content(plain()));
    }
}

/// Calls a function of three arguments, and returns V0 to V7 as it leaves them; before, they hold a
/// pattern.
fn vectors_after(function: usize, arguments: [usize; 3]) -> [[u8; 16]; 8] {
    let mut vectors = [[0; 16]; 8];
    vectors.as_flattened_mut().iter_mut().enumerate().for_each(|(n, byte)| *byte = pattern(n));
    // SAFETY: 1. The function keeps to the ABI. 2. All eight are loaded from and stored to the
    // array.
    unsafe {
        asm!("ld1 {{v0.2d, v1.2d, v2.2d, v3.2d}}, [x20], #64",
            "ld1 {{v4.2d, v5.2d, v6.2d, v7.2d}}, [x20]",
            "blr x21",
            "st1 {{v4.2d, v5.2d, v6.2d, v7.2d}}, [x20]",
            "sub x20, x20, #64",
            "st1 {{v0.2d, v1.2d, v2.2d, v3.2d}}, [x20]",
            inout("x20") vectors.as_mut_ptr() => _, in("x21") function,
            inout("x0") arguments[0] => _, inout("x1") arguments[1] => _, inout("x2") arguments[2] => _,
            clobber_abi("C"));
    }
    vectors
}

/// Checks that the routines leave the vector registers as they were: these may be a guest's.
fn check_vectors() {
    unsafe extern "C" {
        fn stasis_with_content(pages: *const u8, count: usize) -> u64;
        fn stasis_is_repeated(page: *const u8) -> bool;
        fn stasis_look(page: *const u8) -> Look;
        fn stasis_fill(to: *mut u8, word: u64, len: usize) -> *mut u8;
        fn stasis_take_page(to: *mut u8, from: *const u8);
    }
    fill(FROM, 4 * PAGE, |n| match n / PAGE {
        2 => pattern(n % 8),
        _ => u8::from(n == PAGE || n == 4 * PAGE - 1),
    });
    let (from, to) = (FROM as usize, TO as usize);
    for (function, arguments) in [
        (memcpy as *const () as usize, [to, from, PAGE + 1]),
        (memset as *const () as usize, [to, 0xa5, PAGE + 1]),
        (stasis_with_content as *const () as usize, [from, 2, 0]),
        (stasis_is_repeated as *const () as usize, [from, 0, 0]),
        (stasis_is_repeated as *const () as usize, [from + PAGE, 0, 0]),
        (stasis_look as *const () as usize, [from, 0, 0]),
        (stasis_look as *const () as usize, [from + PAGE, 0, 0]),
        (stasis_look as *const () as usize, [from + 2 * PAGE, 0, 0]),
        (stasis_look as *const () as usize, [from + 3 * PAGE, 0, 0]),
        (stasis_fill as *const () as usize, [to, 0xa5, PAGE]),
        (stasis_take_page as *const () as usize, [to, from, 0]),
    ] {
        let vectors = vectors_after(function, arguments);
        let kept = vectors.as_flattened().iter().enumerate().all(|(n, byte)| *byte == pattern(n));
        assert!(kept, "{function:#x} changes the vector registers: {vectors:x?}");
    }
}

fn main() {
    println!("CRC instruction: {}", crc::is_present());
    for (name, check) in [
        ("copies", check_copies as fn()),
        ("pages", check_pages),
        ("sets", check_sets),
        ("CRCs", check_crcs),
        ("zeros", check_zeros),
        ("words", check_words),
        ("looks", check_looks),
        ("vectors", check_vectors),
    ] {
        check();
        println!("{name} are right");
    }
}
