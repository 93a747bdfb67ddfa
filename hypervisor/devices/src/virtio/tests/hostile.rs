//! Drivers that put impossible things into a queue: the device asks for a reset, and is as new
//! after it.

use proptest::prelude::*;

use super::*;

const NEEDS_RESET: u32 = 0x40;

/// Checks that the device has given up on what the driver has published, has said so, and works
/// after a reset.
fn assert_contained(mut driver: Driver) {
    driver.serve(Some(1));
    assert_eq!(driver.read(0x70), 0xf | NEEDS_RESET);
    assert_eq!(driver.read(0x60) & 2, 2, "the driver is told");
    assert_eq!(driver.used().0, 0);
    driver.write(0x50, 0);
    assert!(!driver.slots.has_work(), "the queue is left alone");
    driver.set_up();
    driver.describe(DESC, 0, (BUFFERS, 8), WRITE);
    driver.publish(0);
    driver.serve(Some(1));
    assert_eq!(driver.used(), (1, 0, 8));
}

fn entropy() -> Driver {
    Driver::of(&[Fitting::Entropy])
}

#[test]
fn a_chain_in_a_loop_is_contained() {
    let mut driver = entropy();
    let mut bytes = [0; 16];
    bytes[12] = NEXT as u8 | WRITE as u8;
    driver.store(DESC, &bytes);
    driver.publish(0);
    assert_contained(driver);
}

#[test]
fn a_table_of_indirect_descriptors_has_as_many_as_a_queue_at_most() {
    let table = BUFFERS + 0x8000;
    for count in [256, 257] {
        let mut driver = entropy();
        for n in 0..count {
            driver.describe(table, n, (BUFFERS, 1), WRITE | if n + 1 < count { NEXT } else { 0 });
        }
        driver.describe(DESC, 0, (table, u32::from(count) * 16), INDIRECT);
        driver.publish(0);
        if count > 256 {
            assert_contained(driver);
        } else {
            driver.serve(Some(1));
            assert_eq!(driver.used(), (1, 0, 256));
        }
    }
}

#[test]
fn a_buffer_outside_of_ram_is_contained() {
    for address in [0, RAM_BASE - 4, RAM_BASE + RAM as u64 - 4, 0x0a00_0000, u64::MAX - 3] {
        let mut driver = entropy();
        driver.describe(DESC, 0, (address, 8), WRITE);
        driver.publish(0);
        assert_contained(driver);
    }
}

#[test]
fn a_head_and_a_next_descriptor_beyond_the_table_are_contained() {
    let mut driver = entropy();
    driver.publish(NUM);
    assert_contained(driver);
    let mut driver = entropy();
    driver.describe(DESC, NUM - 1, (BUFFERS, 1), WRITE | NEXT);
    driver.publish(NUM - 1);
    assert_contained(driver);
}

#[test]
fn an_index_that_has_run_away_is_contained() {
    let mut driver = entropy();
    driver.store(AVAIL + 2, &(NUM + 1).to_le_bytes());
    driver.write(0x50, 0);
    assert_contained(driver);
}

#[test]
fn impossible_indirect_tables_are_contained() {
    let table = BUFFERS + 0x8000;
    for (len, flags, inner) in [
        (0, INDIRECT, WRITE),
        (15, INDIRECT, WRITE),
        (16, INDIRECT | NEXT, WRITE),
        (16, INDIRECT, WRITE | NEXT),
        (16, INDIRECT, INDIRECT),
    ] {
        let mut driver = entropy();
        driver.describe(table, 0, (BUFFERS, 16), inner);
        driver.describe(DESC, 0, (table, len), flags);
        driver.publish(0);
        assert_contained(driver);
    }
}

#[test]
fn a_table_whose_end_is_in_no_ram_serves_as_far_as_it_is_used() {
    let mut driver = entropy();
    let table = RAM_BASE + RAM as u64 - 32;
    driver.describe(table, 0, (BUFFERS, 3), WRITE | NEXT);
    driver.describe(table, 1, (BUFFERS + 0x100, 5), WRITE);
    driver.describe(DESC, 0, (table, 48), INDIRECT);
    driver.publish(0);
    driver.serve(Some(1));
    assert_eq!(driver.used(), (1, 0, 8));
    driver.describe(table, 1, (BUFFERS + 0x100, 5), WRITE | NEXT);
    driver.set_up();
    driver.publish(0);
    assert_contained(driver);
}

#[test]
fn rings_outside_of_ram_are_contained() {
    for offset in [0x80, 0x90, 0xa0] {
        for address in [0u32, 0xffff_fff0] {
            let mut driver = entropy();
            driver.write(0x44, 0);
            driver.write(offset, address);
            driver.write(0x44, 1);
            driver.describe(DESC, 0, (BUFFERS, 8), WRITE);
            driver.publish(0);
            driver.serve(Some(1));
            assert_eq!(driver.read(0x70), 0xf | NEEDS_RESET, "{offset:#x} {address:#x}");
        }
    }
}

#[test]
fn buffers_of_4_gib_are_filled_as_far_as_a_request_goes() {
    let mut driver = entropy();
    driver.describe(DESC, 0, (BUFFERS, u32::MAX), WRITE | NEXT);
    driver.describe(DESC, 1, (BUFFERS, u32::MAX), WRITE);
    driver.publish(0);
    driver.serve(Some(1));
    assert_eq!(driver.used(), (1, 0, 256));
}

#[test]
fn buffers_without_bytes_are_passed_over() {
    let mut driver = entropy();
    driver.describe(DESC, 0, (u64::MAX, 0), WRITE | NEXT);
    driver.describe(DESC, 1, (BUFFERS, 4), WRITE);
    driver.publish(0);
    driver.serve(Some(1));
    assert_eq!(driver.used(), (1, 0, 4));
}

#[test]
fn a_disks_request_without_header_or_status_is_contained() {
    for (len, flags) in [(16, 0), (15, NEXT), (1, WRITE)] {
        let mut driver = Driver::of(&[Fitting::Disk { volume: "root", sectors: 8 }]);
        driver.describe(DESC, 0, (BUFFERS, len), flags);
        driver.describe(DESC, 1, (BUFFERS, 1), WRITE);
        driver.publish(0);
        let (slots, memory) = driver.memory();
        assert!(slots.disk_request(&memory).unwrap().1.is_none());
        assert_eq!(driver.read(0x70), 0xf | NEEDS_RESET);
    }
}

#[test]
fn a_buffer_that_is_read_behind_one_that_is_written_is_contained() {
    let mut driver = entropy();
    driver.describe(DESC, 0, (BUFFERS, 4), WRITE | NEXT);
    driver.describe(DESC, 1, (BUFFERS, 4), 0);
    driver.publish(0);
    assert_contained(driver);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 4 } else { 256 }))]

    /// Whatever is in the registers and in the rings, the device ends its step, and its record
    /// keeps the format's rules.
    #[test]
    fn whatever_a_driver_does_the_record_keeps_its_rules(
        writes in prop::collection::vec((0u64..0x180, any::<u32>()), 0..40),
        descriptors in prop::collection::vec(any::<[u64; 2]>(), 16),
        index: u16,
        is_terminal: bool,
    ) {
        use stasis_state::devices::DeviceRecord;

        let disk = Fitting::Disk { volume: "root", sectors: 8 };
        let first = if is_terminal { Fitting::Terminal } else { disk };

        let mut driver = Driver::of(&[
            first,
            Fitting::Entropy,
        ]);
        driver.typed = vec![b'x'; 1000];
        for (n, [address, rest]) in descriptors.into_iter().enumerate() {
            // Mostly in RAM, or nearly.
            let address = RAM_BASE + address % (RAM as u64 + 0x1000);
            driver.store(DESC + n as u64 * 16, &address.to_le_bytes());
            driver.store(DESC + n as u64 * 16 + 8, &(rest & 0x000f_0007_0000_2fff).to_le_bytes());
        }
        driver.store(AVAIL + 2, &(index % 20).to_le_bytes());
        for (offset, value) in writes {
            driver.write(offset & !3, value);
            driver.write(0x50, 0);
            driver.slots.note_typed();
            driver.serve(Some(1));
            let (slots, mut memory) = driver.memory();
            while let Some((_, request)) = slots.disk_request(&memory) {
                if let Some(request) = request {
                    slots.disk_done(&mut memory, &request, block::Outcome::Error);
                }
            }
            let guest = stasis_state::guest::Guest::default();
            prop_assert_eq!(driver.slots.record().check(&guest), Ok(()));
        }
    }
}
