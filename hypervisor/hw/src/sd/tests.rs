//! The protocol, on a card that goes wrong as it is told.

use super::error::{Error, Fault};
use super::fake::{FakeCard, HighSpeed, Kind, pattern};
use super::{BLOCK, Bus, Card, Command, Data, MAX_BLOCKS, Speed};
use std::string::ToString;
use std::vec;
use std::vec::Vec;

const KINDS: [Kind; 3] = [Kind::Version1, Kind::Standard, Kind::High];
const BLOCKS: usize = 4096;
/// Number of random histories. Miri takes too long for many.
const HISTORIES: usize = if cfg!(miri) { 10 } else { 2000 };

/// A bus that the test keeps a hand on.
impl Bus for &mut FakeCard {
    fn restart(&mut self) -> Result<(), Fault> {
        (**self).restart()
    }

    fn has_high_speed(&self) -> bool {
        (**self).has_high_speed()
    }

    fn set_speed(&mut self, speed: Speed) -> Result<(), Fault> {
        (**self).set_speed(speed)
    }

    fn four_lines(&mut self) {
        (**self).four_lines();
    }

    fn execute(
        &mut self,
        command: Command,
        argument: u32,
        data: Data<'_>,
    ) -> Result<super::Response, Fault> {
        (**self).execute(command, argument, data)
    }

    fn millis(&self) -> u64 {
        (**self).millis()
    }
}

/// Sets up a card, and then has it go wrong.
fn started(fake: &mut FakeCard, spoil: impl FnOnce(&mut FakeCard)) -> Card<&mut FakeCard> {
    let mut card = Card::start(fake).expect("it could not be set up");
    spoil(card.bus_mut());
    card
}

fn high() -> FakeCard {
    FakeCard::new(Kind::High, BLOCKS)
}

#[test]
fn every_kind_of_card_is_read_and_written_where_it_was_asked() {
    for kind in KINDS {
        let mut fake = FakeCard::new(kind, BLOCKS);
        let before = fake.memory.clone();
        let mut card = started(&mut fake, |_| ());
        assert_eq!(card.capacity(), BLOCKS as u64);
        for (first, count) in [(0, 1), (1, 1), (17, 5), (BLOCKS - 1, 1), (3, MAX_BLOCKS + 3)] {
            let mut found = vec![0; count * BLOCK];
            card.read(first as u64, &mut found).unwrap();
            assert_eq!(found, before[first * BLOCK..][..count * BLOCK], "{kind:?} {first} {count}");
        }
        let data = pattern(MAX_BLOCKS + 2);
        card.write(100, &data).unwrap();
        card.write(9, &data[..BLOCK]).unwrap();
        let mut expected = before;
        expected[100 * BLOCK..][..data.len()].copy_from_slice(&data);
        expected[9 * BLOCK..][..BLOCK].copy_from_slice(&data[..BLOCK]);
        assert!(fake.memory == expected, "{kind:?}");
    }
}

#[test]
fn an_empty_slot_is_told_from_a_card_that_fails() {
    let mut fake = high();
    fake.inserted = false;
    assert_eq!(Card::start(&mut fake).unwrap_err(), Error::NoCard);
    let mut fake = high();
    fake.faults = vec![(2, Fault::NoAnswer); 3];
    let error = Card::start(&mut fake).unwrap_err();
    let words = "the SD card can't be set up: CMD2 (ALL_SEND_CID): no answer, 3 tries";
    assert_eq!(error.to_string(), words);
}

#[test]
fn every_command_of_the_setting_up_may_be_lost_once() {
    for command in [8, 55, 41, 2, 3, 9, 7, 6, 16] {
        for fault in [Fault::NoAnswer, Fault::AnswerDamaged] {
            let mut fake = high();
            fake.faults = vec![(command, fault)];
            assert!(Card::start(&mut fake).is_ok(), "CMD{command}: {fault}");
            assert_eq!(fake.restarts, 2, "CMD{command}: {fault}");
        }
    }
}

#[test]
fn a_card_is_fast_if_it_can() {
    let cases = [
        (Some(HighSpeed::Works), Speed::High, 1),
        (Some(HighSpeed::Lacks), Speed::Default, 1),
        (Some(HighSpeed::Refuses), Speed::Default, 1),
        // What it sends arrives damaged, twice. The last try does without.
        (Some(HighSpeed::Fails), Speed::Default, 3),
        (None, Speed::Default, 1),
    ];
    for (high_speed, speed, restarts) in cases {
        let mut fake = high();
        fake.high_speed = high_speed;
        let mut card = started(&mut fake, |_| ());
        assert_eq!(card.speed(), speed, "{high_speed:?}");
        card.write(5, &pattern(8)).unwrap();
        assert!(fake.memory[5 * BLOCK..13 * BLOCK] == pattern(8));
        assert_eq!((fake.switched, fake.restarts), (speed, restarts), "{high_speed:?}");
    }
}

#[test]
fn a_card_that_never_powers_up_is_not_waited_for() {
    let mut fake = high();
    (fake.powers_up_after, fake.look_ms) = (usize::MAX, 10);
    let error = Card::start(&mut fake).unwrap_err().to_string();
    assert!(
        error.contains("ACMD41 (SD_SEND_OP_COND): the card was still busy after 1000 ms"),
        "{error}"
    );
}

#[test]
fn a_card_for_other_voltages_or_of_another_kind_is_refused() {
    let mut fake = high();
    fake.voltages = 0x80 << 8;
    let error = Card::start(&mut fake).unwrap_err().to_string();
    assert!(error.contains("ACMD41") && error.contains("3.3 V"), "{error}");
    let mut fake = high();
    fake.csd = 2 << 126;
    let error = Card::start(&mut fake).unwrap_err().to_string();
    assert!(error.contains("CMD9 (SEND_CSD)") && error.contains("newer"), "{error}");
}

#[test]
fn a_card_that_claims_more_than_can_be_addressed_is_refused() {
    // By its CSD it has 32 GiB, by its operating conditions it is addressed in bytes.
    let mut fake = FakeCard::new(Kind::Standard, BLOCKS);
    fake.csd = 1 << 126 | 0xffff << 48;
    let error = Card::start(&mut fake).unwrap_err().to_string();
    assert!(error.contains("CMD9 (SEND_CSD)") && error.contains("addressed"), "{error}");
}

#[test]
fn a_transfer_that_fails_is_tried_again() {
    let faults = [
        Fault::NoAnswer,
        Fault::AnswerDamaged,
        Fault::DataTimeout { ms: 1000 },
        Fault::DataDamaged,
        Fault::Busy { ms: 3000 },
    ];
    for fault in faults {
        for (read, write, count) in [(17, 24, 1), (18, 25, 8)] {
            let mut fake = high();
            let data = pattern(count);
            let mut found = vec![0; count * BLOCK];
            let mut card = started(&mut fake, |_| ());
            card.bus_mut().faults = vec![(write, fault), (read, fault)];
            card.write(5, &data).unwrap();
            card.bus_mut().faults = vec![(read, fault), (13, fault), (read, fault)];
            card.read(5, &mut found).unwrap();
            assert!(found == data, "{fault}");
            assert!(fake.faults.is_empty(), "{fault}: {:?}", fake.faults);
        }
    }
}

#[test]
fn a_transfer_that_goes_on_failing_names_its_command_and_the_fault() {
    let mut fake = high();
    let mut card = started(&mut fake, |fake| {
        fake.faults = vec![(25, Fault::DataTimeout { ms: 1000 }); 3];
    });
    let error = card.write(5, &pattern(8)).unwrap_err();
    let words = "CMD25 (WRITE_MULTIPLE_BLOCK): no data moved for 1000 ms, 3 tries";
    assert_eq!(error.to_string(), words);
    // The card is none the worse for it.
    card.write(5, &pattern(8)).unwrap();
}

#[test]
fn errors_that_the_card_reports_are_named() {
    let mut fake = high();
    let mut card = started(&mut fake, |fake| fake.errors = vec![(24, 1 << 26); 3]);
    let error = card.write(5, &pattern(1)).unwrap_err();
    assert_eq!(error.to_string(), "CMD24 (WRITE_BLOCK): the card reports WP_VIOLATION, 3 tries");
    // An error that shows only after the data.
    let mut card = started(&mut fake, |fake| fake.errors = vec![(13, 1 << 21); 1]);
    let mut found = vec![0; BLOCK];
    card.read(5, &mut found).unwrap();
    assert!(fake.errors.is_empty());
}

#[test]
fn a_card_that_is_pulled_in_the_midst_of_a_write_is_lost_until_it_is_set_up_again() {
    let mut fake = high();
    let before = fake.memory.clone();
    let mut card = started(&mut fake, |fake| fake.pulled_after = Some(11));
    card.write(0, &pattern(8)).unwrap();
    let error = card.write(8, &pattern(8)).unwrap_err();
    let words = "CMD25 (WRITE_MULTIPLE_BLOCK): no data moved for 1000 ms; since then the SD card does not answer";
    assert_eq!(error.to_string(), words);
    // The card is put back; but it might be another one.
    card.bus_mut().inserted = true;
    card.bus_mut().pulled_after = None;
    let asked = card.bus_mut().log.len();
    assert_eq!(card.read(0, &mut [0; BLOCK]), Err(error));
    assert_eq!(card.write(0, &[0; BLOCK]), Err(error));
    assert_eq!(card.check(), Err(error));
    assert_eq!(card.bus_mut().log.len(), asked, "a lost card was talked to");
    let mut card = Card::start(&mut fake).unwrap();
    card.write(8, &pattern(8)).unwrap();
    assert!(fake.memory[16 * BLOCK..] == before[16 * BLOCK..]);
    assert!(fake.memory[8 * BLOCK..16 * BLOCK] == pattern(8));
}

#[test]
fn a_card_that_was_exchanged_while_nobody_looked_is_noticed() {
    let mut fake = high();
    let mut card = started(&mut fake, |_| ());
    card.check().unwrap();
    // A new card does not know the address.
    **card.bus_mut() = high();
    let error = card.check().unwrap_err();
    assert_eq!(
        error.to_string(),
        "CMD13 (SEND_STATUS): no answer; since then the SD card does not answer"
    );
    let mut card = started(&mut fake, |_| ());
    card.bus_mut().faults = vec![(13, Fault::AnswerDamaged)];
    assert_eq!(card.check(), Ok(()), "a damaged answer does not make it another card");
}

#[test]
fn a_card_that_is_busy_for_ever_is_given_up() {
    let mut fake = high();
    // A hundred questions, which Miri asks in seconds.
    let mut card = started(&mut fake, |fake| {
        (fake.busy_for, fake.look_ms) = (usize::MAX, 30);
    });
    let error = card.write(5, &pattern(2)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "CMD25 (WRITE_MULTIPLE_BLOCK): the card was still busy after 3000 ms; \
         since then the SD card does not answer"
    );
}

#[test]
fn a_write_that_the_card_drops_is_noticed() {
    let mut fake = high();
    let mut card = started(&mut fake, |fake| fake.drops = 1);
    card.write(5, &pattern(2)).unwrap();
    assert!(card.bus_mut().memory[5 * BLOCK..7 * BLOCK] == pattern(2));
    card.bus_mut().drops = usize::MAX;
    let error = card.write(500, &pattern(2)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "CMD25 (WRITE_MULTIPLE_BLOCK): the card took the data, but has something else there, 3 tries"
    );
}

#[test]
fn a_write_that_need_not_be_verified_is_not_read_again() {
    let mut fake = high();
    let mut card = started(&mut fake, |fake| fake.log.clear());
    card.verify(false);
    card.write(5, &pattern(2)).unwrap();
    let data: Vec<u8> = card.bus_mut().log.iter().copied().filter(|index| *index != 13).collect();
    assert_eq!(data, [25]);
    // What the card says itself still counts.
    card.bus_mut().errors = vec![(25, 1 << 19); 3];
    let error = card.write(5, &pattern(2)).unwrap_err().to_string();
    assert!(error.contains("the card reports ERROR"), "{error}");
    card.bus_mut().drops = 1;
    card.write(500, &pattern(2)).unwrap();
    assert!(fake.memory[500 * BLOCK..502 * BLOCK] != pattern(2));
}

#[test]
fn what_can_not_be_is_refused_without_a_command() {
    let mut fake = high();
    fake.csd = 1 << 13;
    let mut card = started(&mut fake, |_| ());
    let asked = card.bus_mut().log.len();
    assert!(card.is_write_protected());
    assert_eq!(card.write(0, &[0; BLOCK]), Err(Error::WriteProtected));
    assert_eq!(card.read(0, &mut [0; BLOCK - 1]), Err(Error::Length { len: BLOCK - 1 }));
    for (block, count) in [(BLOCKS as u64, 1), (BLOCKS as u64 - 1, 2), (u64::MAX, 1)] {
        let error = Error::BeyondEnd { block, count, capacity: BLOCKS as u64 };
        assert_eq!(card.read(block, &mut vec![0; count * BLOCK]), Err(error));
    }
    assert_eq!(card.bus_mut().log.len(), asked);
}

#[test]
fn whatever_goes_wrong_it_ends_and_nothing_but_what_was_asked_for_is_written() {
    let faults = [
        Fault::NoAnswer,
        Fault::AnswerDamaged,
        Fault::DataTimeout { ms: 1000 },
        Fault::DataDamaged,
        Fault::Differs,
    ];
    // A small generator, so that each history can be repeated.
    let mut seed = 1u64;
    let mut next = |below: usize| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) as usize % below
    };
    for _ in 0..HISTORIES {
        let mut fake = FakeCard::new(KINDS[next(3)], 1024);
        let before = fake.memory.clone();
        let commands = [0, 8, 55, 41, 2, 3, 9, 7, 6, 16, 12, 13, 13, 17, 18, 24, 25];
        fake.faults =
            (0..next(6)).map(|_| (commands[next(commands.len())], faults[next(5)])).collect();
        fake.drops = next(3);
        fake.busy_for = next(4);
        let data = pattern(1 + next(9));
        let Ok(mut card) = Card::start(&mut fake) else { continue };
        let written = card.write(7, &data);
        assert!(fake.memory[..7 * BLOCK] == before[..7 * BLOCK]);
        let end = 7 * BLOCK + data.len();
        assert!(fake.memory[end..] == before[end..]);
        if written.is_ok() {
            assert!(fake.memory[7 * BLOCK..end] == data);
        }
    }
}
