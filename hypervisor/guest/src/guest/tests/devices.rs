//! What a guest's devices send, receive and do by themselves.

use super::*;

#[test]
fn what_a_guest_sends_reaches_the_outside() {
    let (mut guest, mut vcpus, mut core) = guest(1);
    let pc = *vcpus[0].core.pc;
    vcpus[0].core.x[1] = u64::from(b'!');
    let next = exit(&mut guest, 0, &mut vcpus[0], abort(0x0900_0000, Width::Word, true), &mut core);
    assert_eq!((next, core.outbox.take().errand), (Next::Enter, Some(Errand::Send(b'!'))));
    assert_eq!(*vcpus[0].core.pc, pc + 4, "the store is behind it");
}

#[test]
fn a_device_reaches_the_ram_of_its_guest_and_marks_what_it_writes() {
    let (guest, _, core) = guest(1);
    let mut ram = FakeRam::new(RAM.len() as usize);
    assert_eq!(ram.written_blocks().next(), None);
    let mut around =
        outside::Around { record: &guest.record, clock: &guest.clock, host: &core, ram: &mut *ram };
    let Memory { base, ram: reached } = around.memory();
    assert_eq!(base, RAM.start);
    reached.store_u32(0x10, 0xcafe_f00d).unwrap();
    assert_eq!(ram.load_u32(0x10), Ok(0xcafe_f00d));
    assert_eq!(ram.written_blocks().next(), Some(0), "a checkpoint looks at it");
}

#[test]
fn a_guest_that_does_not_feed_its_watchdog_is_told_and_then_ended() {
    let (mut guest, mut vcpus, mut core) = guest(1);
    let control = abort(0x0910_0000, Width::Word, false);
    assert!(guest.devices.watchdog.is_none());
    let nothing = exit(&mut guest, 0, &mut vcpus[0], control, &mut core);
    assert_eq!((nothing, *core.el1.far_el1), (Next::Enter, 0x0910_0000), "it has none");

    guest.equip(&with_watchdog(1000));
    let mut tick = |guest: &mut Guest, counter| {
        core.counter = counter;
        guest.tick(0, &mut vcpus[0], core.counter, &mut core)
    };
    assert_eq!(tick(&mut guest, 0), 500);
    assert_eq!(tick(&mut guest, 500), 1000);
    assert!(*guest.vgic.distributor().spi_level.first().unwrap() & 1 << (WATCHDOG_INTID - 32) != 0);
    assert_eq!(guest.crash(), None);
    assert_eq!(tick(&mut guest, 1000), 1000);
    assert_eq!(guest.crash(), Some(Crash::Device(Verdict::NotFed)));
    let records = guest.records(vcpus.iter_mut(), 1000, WALL_TIME);
    assert_eq!(*records.devices.watchdog.unwrap().wcs, 0b111, "it is stored");
}

#[test]
fn a_watchdog_that_is_fed_stays_quiet() {
    let (mut guest, mut vcpus, mut core) = guest(1);
    guest.equip(&with_watchdog(1000));
    for round in 1..=10 {
        core.counter = round * 400;
        let refresh = abort(0x0910_1000, Width::Word, true);
        assert_eq!(exit(&mut guest, 0, &mut vcpus[0], refresh, &mut core), Next::Enter);
        assert!(vcpus[0].deadline_changed);
        assert_eq!(guest.tick(0, &mut vcpus[0], core.counter, &mut core), core.counter + 500);
    }
    assert_eq!(guest.crash(), None);
}

#[test]
fn every_vcpu_knows_what_another_one_has_found_of_the_devices() {
    let (mut guest, mut vcpus, mut core) = guest(2);
    guest.equip(&with_watchdog(1000));
    for (index, vcpu) in vcpus.iter_mut().enumerate() {
        assert_eq!(guest.tick(index, vcpu, core.counter, &mut core), 500);
    }
    core.counter = 400;
    exit(&mut guest, 0, &mut vcpus[0], abort(0x0910_1000, Width::Word, true), &mut core);
    assert_eq!(guest.tick(0, &mut vcpus[0], core.counter, &mut core), 900);
    assert!(!vcpus[1].deadline_changed);
    assert_eq!(guest.tick(1, &mut vcpus[1], core.counter, &mut core), 900);
    core.counter = 899;
    assert_eq!(guest.tick(1, &mut vcpus[1], core.counter, &mut core), 900);
    core.counter = 900;
    assert_eq!(guest.tick(1, &mut vcpus[1], core.counter, &mut core), 1400);
    assert!(*guest.vgic.distributor().spi_level.first().unwrap() & 1 << (WATCHDOG_INTID - 32) != 0);
}

#[test]
fn a_bell_that_is_rung_stays_until_the_guest_has_answered() {
    const DOORBELL: u64 = 0x0911_0000;
    let (mut guest, mut vcpus, mut core) = guest(1);
    let mut access = |guest: &mut Guest, offset, value, write| {
        vcpus[0].core.x[1] = value;
        let abort = abort(DOORBELL + offset, Width::Word, write);
        exit(guest, 0, &mut vcpus[0], abort, &mut core);
        (vcpus[0].core.x[1], core.outbox.take().errand)
    };
    access(&mut guest, 0x8, 1, true);
    assert_eq!(access(&mut guest, 0x8, 1, true).1, None, "it has none");
    let ring = SharedRegion {
        name: "ring".into(),
        size: 4096,
        guests: ["a", "b"].map(String::from).to_vec(),
    };
    let shared = &shared::connections(std::slice::from_ref(&ring), "b")[..];
    guest.equip(&Equipment { shared, ..Equipment::default() });
    assert_eq!(access(&mut guest, 0x8, 0, true).1, Some(Errand::Ring { region: 0, peer: 0 }));
    assert_eq!(access(&mut guest, 0x8, 2, true).1, None, "there is no guest 2");
    let level = |guest: &Guest| guest.vgic.distributor().spi_level[0] >> (DOORBELL_INTID - 32) & 1;
    assert_eq!(level(&guest), 0);
    let _ = guest.rung(0, 0b01);
    let _ = guest.rung(1, 0b01);
    assert_eq!((level(&guest), guest.vgic.distributor().spi_level[0].count_ones()), (1, 1));
    assert_eq!(access(&mut guest, 0xc, 0, false).0, 0b01);
    access(&mut guest, 0xc, 0b01, true);
    assert_eq!(level(&guest), 0);
}

#[test]
fn a_typed_byte_is_read_by_the_guest() {
    let (mut guest, mut vcpus, mut core) = guest(1);
    let _ = guest.receive(b'a');
    exit(&mut guest, 0, &mut vcpus[0], abort(0x0900_0000, Width::Word, false), &mut core);
    assert_eq!(vcpus[0].core.x[1], u64::from(b'a'));
}

#[test]
fn a_pressed_power_key_interrupts_and_comes_up_by_itself_also_after_a_resume() {
    const GPIO: u64 = 0x0903_0000;
    const GPIO_INTID: u16 = 39;
    let (mut guest, mut vcpus, mut core) = guest(1);
    let mut set = |guest: &mut Guest, offset, value| {
        vcpus[0].core.x[1] = value;
        exit(guest, 0, &mut vcpus[0], abort(GPIO + offset, Width::Byte, true), &mut core);
    };
    let level = |guest: &Guest| guest.vgic.distributor().spi_level[0] >> (GPIO_INTID - 32) & 1;
    assert!(!guest.hears_power_key());
    set(&mut guest, 0x40c, 8);
    set(&mut guest, 0x410, 8);
    assert!(guest.hears_power_key());
    // The release counts as well.
    set(&mut guest, 0x408, 8);
    assert_eq!(guest.tick(0, &mut vcpus[0], core.counter, &mut core), NEVER);
    guest.press_power_key(0);
    assert_eq!(level(&guest), 1, "the edge");
    assert_eq!(guest.tick(0, &mut vcpus[0], core.counter, &mut core), FREQUENCY / 10);

    vcpus[0].core.x[1] = 8;
    exit(&mut guest, 0, &mut vcpus[0], abort(GPIO + 0x41c, Width::Byte, true), &mut core);
    assert_eq!(level(&guest), 0, "it was cleared");

    let stored = owned(&guest.records(vcpus.iter_mut(), 0, WALL_TIME));
    let (mut resumed, mut vcpus) = Guest::restored(stored, PACE).unwrap();
    let mut core = Core::default();
    resumed.clock.start(0);
    assert_eq!(resumed.tick(0, &mut vcpus[0], core.counter, &mut core), FREQUENCY / 10);
    assert_eq!(level(&resumed), 0);
    core.counter = FREQUENCY / 10;
    assert_eq!(resumed.tick(0, &mut vcpus[0], core.counter, &mut core), NEVER);
    assert_eq!(level(&resumed), 1, "the key came up");
    let stored = owned(&resumed.records(vcpus.iter_mut(), core.counter, WALL_TIME));
    let (resumed, _) = Guest::restored(stored, PACE).unwrap();
    assert_eq!(level(&resumed), 1, "an interrupt that is pending stays");
}

#[test]
fn a_guest_that_was_stored_without_a_gpio_controller_has_one_at_reset_and_a_low_line() {
    let (mut guest, mut vcpus, _) = guest(1);
    let mut stored = owned(&guest.records(vcpus.iter_mut(), 0, WALL_TIME));
    // Nothing drove this line there.
    stored.distributor.spi_level[0] = u32::MAX;
    let (resumed, _) = Guest::restored(stored, PACE).unwrap();
    assert_eq!(resumed.vgic.distributor().spi_level[0] >> (39 - 32) & 1, 0);
    assert!(!resumed.hears_power_key());
}

const WATCHDOG_INTID: u16 = 42;

const DOORBELL_INTID: u16 = 43;
