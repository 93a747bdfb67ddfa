//! The registers, as the drivers of Linux, U-Boot, EDK2 and `virtio-drivers` use them.

use super::*;

#[test]
fn a_guest_without_devices_finds_empty_slots_of_the_legacy_interface() {
    let record = Slots::fitted(&Equipment::default()).unwrap();
    let mut slots = Slots::restored(record, 0);
    let mut read =
        |n, offset| slots.read(Access { n, offset, width: Width::Word }, &mut at(0)) as u32;
    for n in [0, 7, 31] {
        assert_eq!(&read(n, 0).to_le_bytes(), b"virt");
        assert_eq!((read(n, 4), read(n, 8), read(n, 0x100)), (1, 0, 0));
    }
}

#[test]
fn a_guest_with_a_device_finds_slots_of_version_2() {
    let mut driver = Driver::of(&[Fitting::Entropy]);
    assert_eq!((driver.read(4), driver.read(8)), (2, 4));
    let access = Access { n: 31, offset: 4, width: Width::Word };
    assert_eq!(driver.slots.read(access, &mut at(0)), 2);
    let access = Access { n: 1, offset: 8, width: Width::Word };
    assert_eq!(driver.slots.read(access, &mut at(0)), 0);
}

#[test]
fn u_boot_leaves_out_what_the_standard_wants() {
    let mut driver = Driver::of(&[Fitting::Entropy]);
    for status in [0, 2, 0xa] {
        driver.write(0x70, status);
    }
    // FEATURES_OK needs VERSION_1, which this driver has not accepted yet.
    assert_eq!(driver.read(0x70), 2);
    driver.write(0x24, 1);
    driver.write(0x20, 1);
    driver.write(0x70, 0xa);
    assert_eq!(driver.read(0x70), 0xa);
    driver.write(0x70, 0xe);
    assert_eq!(driver.read(0x70), 0xe);
}

#[test]
fn narrow_reads_are_0_and_wide_ones_two_registers() {
    let mut driver = Driver::of(&[Fitting::Disk { volume: "root", sectors: 0x1_2345_6789 }]);
    assert_eq!(driver.read_as(0, Width::Byte), 0);
    assert_eq!(driver.read_as(0, Width::Doubleword), 2 << 32 | 0x7472_6976);
    assert_eq!(driver.read_as(0x100, Width::Doubleword), 0x1_2345_6789);
    assert_eq!(driver.read_as(0x101, Width::Byte), 0x67);
    assert_eq!(driver.read_as(0x102, Width::Halfword), 0x2345);
    assert_eq!(driver.read_as(0x13c, Width::Word), 0xffff_ffff);
    assert_eq!((driver.read(0xb0), driver.read(0xbc)), (u32::MAX, u32::MAX));
}

#[test]
fn a_feature_that_is_not_offered_is_not_accepted() {
    let mut driver = Driver::of(&[Fitting::Entropy]);
    driver.write(0x70, 0);
    driver.write(0x24, 0);
    driver.write(0x20, u32::MAX);
    let record = driver.slots.record();
    assert_eq!(record.driver_features[0] & !record.features[0], 0);
}

#[test]
fn a_queue_that_is_impossible_does_not_become_ready() {
    let mut driver = Driver::of(&[Fitting::Entropy]);
    driver.write(0x44, 0);
    for num in [0, 3, 100, 512, 0x1_0010] {
        driver.write(0x38, num);
        driver.write(0x44, 1);
        assert_eq!(driver.read(0x44), 0, "{num}");
    }
    driver.write(0x38, 16);
    driver.write(0x80, DESC as u32 + 8);
    driver.write(0x44, 1);
    assert_eq!(driver.read(0x44), 0, "the table is not aligned");
}

#[test]
fn there_is_no_second_queue_of_a_device_that_has_one() {
    let mut driver = Driver::of(&[Fitting::Entropy]);
    for queue in [1, 2, 0xffff_ffff] {
        driver.write(0x30, queue);
        assert_eq!(driver.read(0x34), 0, "{queue}");
        driver.write(0x44, 1);
        driver.write(0x50, queue);
    }
    driver.write(0x30, 0);
    assert_eq!(driver.read(0x34), 256);
}

#[test]
fn the_line_is_high_until_all_of_the_status_is_acknowledged() {
    let mut driver = Driver::of(&[Fitting::Entropy]);
    driver.describe(DESC, 0, (BUFFERS, 8), WRITE);
    driver.publish(0);
    assert!(!driver.slots.line(0));
    driver.serve(Some(1));
    assert!(driver.slots.line(0));
    assert_eq!(driver.read(0x60), 1);
    driver.write(0x64, 2);
    assert!(driver.slots.line(0));
    driver.write(0x64, 1);
    assert!(!driver.slots.line(0));
}

#[test]
fn a_reset_leaves_what_the_device_offers_and_nothing_else() {
    let mut driver = Driver::of(&[Fitting::Disk { volume: "root", sectors: 64 }]);
    let fresh = Slots::fitted(&Equipment {
        virtio: &[Fitting::Disk { volume: "root", sectors: 64 }],
        ..Equipment::default()
    });
    assert_ne!(Some(driver.slots.record()), fresh.as_ref());
    driver.write(0x70, 0);
    assert_eq!(Some(driver.slots.record()), fresh.as_ref());
}

#[test]
fn the_devices_are_in_the_first_slots_and_no_more_than_there_is_room_for() {
    let record =
        Slots::fitted(&Equipment { virtio: &[Fitting::Entropy; 9], ..Equipment::default() });
    let record = record.unwrap();
    assert_eq!(record.slots().count(), MAX_VIRTIO);
}
