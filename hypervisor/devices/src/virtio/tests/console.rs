//! The terminal: what a guest writes and gets.

use super::*;
use crate::virtio::console::MOST_TEXT;

/// Returns a driver of one of the terminal's queues: 0 gets what is typed, 1 prints.
fn terminal(queue: u32) -> Driver {
    Driver::of_queue(&[Fitting::Terminal], queue)
}

#[test]
fn a_text_in_several_buffers_is_printed_once() {
    let mut driver = terminal(1);
    driver.store(BUFFERS, b"a second ");
    driver.store(BUFFERS + 0x100, b"terminal");
    driver.describe(DESC, 0, (BUFFERS, 9), NEXT);
    driver.describe(DESC, 1, (BUFFERS + 0x100, 8), 0);
    driver.publish(0);
    driver.serve(None);
    assert_eq!((driver.said.as_slice(), driver.used()), (&b"a second terminal"[..], (1, 0, 0)));
    assert_eq!(driver.read(0x60), 1, "the driver is told");
    driver.slots = Slots::restored(driver.slots.record().clone(), 0);
    driver.serve(None);
    assert_eq!(driver.said.len(), 17, "a request that was done is not done after a resume");
}

#[test]
fn of_a_long_text_the_end_is_kept() {
    let mut driver = terminal(1);
    driver.store(BUFFERS, &[b'-'; MOST_TEXT]);
    driver.store(BUFFERS + MOST_TEXT as u64, b"end");
    driver.describe(DESC, 0, (BUFFERS, MOST_TEXT as u32 + 3), 0);
    driver.publish(0);
    driver.serve(None);
    assert_eq!((driver.said.len(), driver.used()), (MOST_TEXT, (1, 0, 0)));
    assert!(driver.said.ends_with(b"-end"));
}

#[test]
fn what_is_typed_waits_for_a_buffer_and_fills_one_after_the_other() {
    let mut driver = terminal(0);
    driver.typed = b"typed".to_vec();
    driver.slots.note_typed();
    driver.serve(None);
    assert!(!driver.slots.has_work(), "without a buffer nothing can be done");
    assert_eq!(driver.typed, b"typed");
    driver.describe(DESC, 0, (BUFFERS, 3), WRITE);
    driver.publish(0);
    driver.serve(None);
    assert_eq!((driver.load(BUFFERS), driver.used()), (*b"typ", (1, 0, 3)));
    driver.describe(DESC, 1, (BUFFERS + 8, 64), WRITE);
    driver.publish(1);
    driver.serve(None);
    assert_eq!((driver.load(BUFFERS + 8), driver.used()), (*b"ed", (2, 1, 2)));
    assert!(driver.typed.is_empty());
}

#[test]
fn a_buffer_that_waits_is_filled_when_something_is_typed() {
    let mut driver = terminal(0);
    driver.describe(DESC, 0, (BUFFERS, 4096), WRITE);
    driver.publish(0);
    driver.serve(None);
    assert_eq!((driver.used().0, driver.slots.has_work()), (0, false));
    // The chain waits in the ring alone.
    driver.slots = Slots::restored(driver.slots.record().clone(), 0);
    driver.serve(None);
    driver.typed = vec![b'k'; 1000];
    driver.slots.note_typed();
    driver.serve(None);
    assert_eq!((driver.used(), driver.typed.len()), ((1, 0, 256), 744));
}

#[test]
fn impossible_buffers_print_nothing_and_take_nothing() {
    let mut driver = terminal(1);
    driver.store(BUFFERS, b"text");
    driver.describe(DESC, 0, (BUFFERS, 4), NEXT);
    driver.describe(DESC, 1, (RAM_BASE + RAM as u64 - 2, 4), 0);
    driver.publish(0);
    driver.serve(None);
    assert_eq!((driver.read(0x70), driver.said.as_slice()), (0x4f, &b""[..]));
    for (address, len, flags) in [(0, 8, WRITE), (BUFFERS, 8, 0), (BUFFERS, 0, WRITE)] {
        let mut driver = terminal(0);
        driver.describe(DESC, 0, (address, len), flags);
        driver.publish(0);
        driver.typed = b"typed".to_vec();
        driver.serve(None);
        assert_eq!((driver.read(0x70), driver.typed.as_slice()), (0x4f, &b"typed"[..]));
    }
}

#[test]
fn a_guest_without_a_terminal_takes_nothing_that_is_typed() {
    let mut driver = Driver::of(&[Fitting::Entropy]);
    driver.serve(None);
    driver.slots.note_typed();
    assert!(!driver.slots.has_terminal() && !driver.slots.has_work());
    assert!(terminal(0).slots.has_terminal());
}
