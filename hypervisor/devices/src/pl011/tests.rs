use proptest::prelude::*;

use super::*;
use crate::access::Width;
use crate::device::tests::{access, at};

const RX: u64 = 1 << 4;
const TX: u64 = 1 << 5;
const FR_RXFE: u64 = 1 << 4;
const FR_RXFF: u64 = 1 << 6;
const FIFO_ENABLED: u64 = 0x70;
const LOOPBACK: u64 = 0x380;

fn read(uart: &mut Pl011, offset: u64, width: Width) -> u64 {
    uart.read(access(offset, width), &mut at(0))
}

/// Writes, and returns the byte that is sent so.
fn write(uart: &mut Pl011, offset: u64, width: Width, value: u64) -> Option<u8> {
    match uart.write(access(offset, width), value, &mut at(0)).outside {
        Some(Outside::Transmit(byte)) => Some(byte),
        _ => None,
    }
}

fn get(uart: &mut Pl011, offset: u64) -> u64 {
    read(uart, offset, Width::Word)
}

fn set(uart: &mut Pl011, offset: u64, value: u64) -> Option<u8> {
    write(uart, offset, Width::Word, value)
}

fn line(uart: &Pl011) -> bool {
    uart.line(0)
}

fn with_fifo() -> Pl011 {
    let mut uart = Pl011::default();
    set(&mut uart, offset::LCR_H, FIFO_ENABLED);
    uart
}

#[test]
fn it_begins_as_qemu_shows_it() {
    let mut uart = Pl011::default();
    assert_eq!(get(&mut uart, offset::FR), 0x90);
    assert_eq!(get(&mut uart, offset::CR), 0x300);
    assert_eq!(get(&mut uart, offset::IFLS), 0x12);
    assert_eq!(get(&mut uart, offset::RIS), 0);
    assert!(!line(&uart));
}

#[test]
fn it_is_identified_as_a_pl011() {
    let mut uart = Pl011::default();
    let ids: Vec<u64> = (0..8).map(|n| get(&mut uart, 0xfe0 + 4 * n)).collect();
    assert_eq!(ids, [0x11, 0x10, 0x14, 0x00, 0x0d, 0xf0, 0x05, 0xb1]);
}

#[test]
fn a_written_byte_is_sent_and_raises_the_transmit_interrupt() {
    let mut uart = Pl011::default();
    assert_eq!(set(&mut uart, offset::DR, 0x141), Some(b'A'));
    assert_eq!(get(&mut uart, offset::RIS), TX);
    assert!(!line(&uart));
    set(&mut uart, offset::IMSC, TX);
    assert!(line(&uart));
    set(&mut uart, offset::ICR, TX);
    assert!(!line(&uart));
    assert_eq!(get(&mut uart, offset::FR) & 0x20, 0, "never full");
}

#[test]
fn received_bytes_come_out_in_order() {
    let mut uart = with_fifo();
    for byte in b"stasis" {
        receive(&mut uart, *byte).unwrap();
    }
    let read: Vec<u8> = (0..6).map(|_| get(&mut uart, offset::DR) as u8).collect();
    assert_eq!(read, b"stasis");
    assert_eq!(get(&mut uart, offset::FR) & FR_RXFE, FR_RXFE);
}

#[test]
fn the_fifo_takes_sixteen_bytes_and_one_when_it_is_disabled() {
    let mut uart = with_fifo();
    for byte in 0..16 {
        assert_eq!(get(&mut uart, offset::FR) & FR_RXFF, 0);
        receive(&mut uart, byte).unwrap();
    }
    assert_eq!(get(&mut uart, offset::FR) & FR_RXFF, FR_RXFF);
    assert!(!can_receive(&uart));
    assert_eq!(receive(&mut uart, 16), Err(Full));

    set(&mut uart, offset::LCR_H, 0);
    assert_eq!(receive(&mut uart, 1), Ok(()));
    assert_eq!(get(&mut uart, offset::FR) & (FR_RXFF | FR_RXFE), FR_RXFF);
    assert_eq!(receive(&mut uart, 2), Err(Full));
    assert_eq!(get(&mut uart, offset::DR), 1);
}

#[test]
fn the_receive_interrupt_lasts_from_the_first_byte_to_the_last() {
    let mut uart = with_fifo();
    set(&mut uart, offset::IMSC, RX);
    receive(&mut uart, b'a').unwrap();
    receive(&mut uart, b'b').unwrap();
    assert!(line(&uart));
    get(&mut uart, offset::DR);
    assert!(line(&uart));
    get(&mut uart, offset::DR);
    assert!(!line(&uart));
}

#[test]
fn a_byte_that_comes_before_the_interrupt_is_cleared_is_told_of() {
    let mut uart = with_fifo();
    set(&mut uart, offset::IMSC, RX);
    receive(&mut uart, b'a').unwrap();
    // A driver drains the FIFO, and then clears the interrupt. Between the two comes another byte.
    get(&mut uart, offset::DR);
    assert!(!line(&uart));
    receive(&mut uart, b'b').unwrap();
    set(&mut uart, offset::ICR, 0x7ff);
    assert!(line(&uart), "nobody tells of the byte that waits");
    assert_eq!(get(&mut uart, offset::DR), b'b'.into());
    assert!(!line(&uart));
    set(&mut uart, offset::ICR, RX);
    assert!(!line(&uart), "there is nothing to tell of");
}

#[test]
fn a_uart_that_was_stored_deaf_hears_again() {
    let mut uart = with_fifo();
    set(&mut uart, offset::IMSC, RX);
    receive(&mut uart, b'a').unwrap();
    // As a Stasis stored it whose receive interrupt was no level.
    *uart.ris &= !(RX as u32);
    settle(&mut uart);
    assert!(line(&uart));
}

#[test]
fn the_masked_status_is_the_raw_one_under_the_mask() {
    let mut uart = with_fifo();
    set(&mut uart, offset::DR, 0);
    receive(&mut uart, 0).unwrap();
    set(&mut uart, offset::IMSC, RX);
    assert_eq!(get(&mut uart, offset::RIS), RX | TX);
    assert_eq!(get(&mut uart, offset::MIS), RX);
}

#[test]
fn switching_the_fifo_empties_it() {
    let mut uart = with_fifo();
    receive(&mut uart, b'a').unwrap();
    set(&mut uart, offset::LCR_H, FIFO_ENABLED | 8);
    assert_eq!(get(&mut uart, offset::FR) & FR_RXFE, 0);
    set(&mut uart, offset::LCR_H, 0);
    assert_eq!(get(&mut uart, offset::FR) & FR_RXFE, FR_RXFE);
    assert_eq!(get(&mut uart, offset::RIS), 0);
}

#[test]
fn loopback_returns_what_is_sent_and_shuts_out_the_rest() {
    let mut uart = with_fifo();
    set(&mut uart, offset::CR, LOOPBACK);
    assert_eq!(set(&mut uart, offset::DR, b'x'.into()), Some(b'x'));
    assert_eq!(receive(&mut uart, b'y'), Ok(()));
    assert_eq!(get(&mut uart, offset::DR), b'x'.into());
    assert_eq!(get(&mut uart, offset::FR) & FR_RXFE, FR_RXFE);
}

#[test]
fn loopback_joins_the_modem_lines() {
    let mut uart = with_fifo();
    for (out, flag, interrupt) in
        [(1 << 13, 1 << 8, 1), (1 << 12, 1 << 2, 4), (1 << 11, 1, 2), (1 << 10, 2, 8)]
    {
        set(&mut uart, offset::CR, LOOPBACK | out);
        assert_eq!(get(&mut uart, offset::FR) & 0x107, flag);
        assert_eq!(get(&mut uart, offset::RIS) & 0xf, interrupt);
    }
    set(&mut uart, offset::CR, 0xf300);
    assert_eq!(get(&mut uart, offset::FR) & 0x107, 0);
}

#[test]
fn a_break_in_loopback_is_received_as_an_error() {
    let mut uart = with_fifo();
    set(&mut uart, offset::CR, LOOPBACK);
    set(&mut uart, offset::LCR_H, FIFO_ENABLED | 1);
    assert_eq!(get(&mut uart, offset::DR), 1 << 10);
    assert_eq!(get(&mut uart, offset::RSR_ECR), 4);
    set(&mut uart, offset::RSR_ECR, 0xff);
    assert_eq!(get(&mut uart, offset::RSR_ECR), 0);
}

#[test]
fn a_break_arrives_with_its_flag_and_its_interrupt() {
    const BEIM: u64 = 1 << 9;
    let mut uart = with_fifo();
    set(&mut uart, offset::IMSC, BEIM);
    receive(&mut uart, b'a').unwrap();
    assert!(!line(&uart));
    receive(&mut uart, Character::BREAK).unwrap();
    receive(&mut uart, b'h').unwrap();
    assert!(line(&uart));
    assert_eq!(get(&mut uart, offset::RIS), RX | BEIM);
    set(&mut uart, offset::ICR, BEIM);
    assert!(!line(&uart));
    let read: Vec<u64> = (0..3).map(|_| get(&mut uart, offset::DR)).collect();
    assert_eq!(read, [b'a'.into(), 1 << 10, b'h'.into()]);
    assert_eq!(get(&mut uart, offset::RSR_ECR), 0, "of what was read last");
}

#[test]
fn what_was_wrong_with_a_byte_on_the_wire_comes_with_it() {
    for (flag, interrupt, status) in [
        (1 << 8, 1 << 7, 1),   // Framing.
        (1 << 9, 1 << 8, 2),   // Parity.
        (1 << 11, 1 << 10, 8), // Overrun.
    ] {
        let mut uart = with_fifo();
        receive(&mut uart, Character::from_data_register(0xf_0000 | flag | 0x41)).unwrap();
        assert_eq!(get(&mut uart, offset::RIS), RX | interrupt);
        assert_eq!(get(&mut uart, offset::DR), u64::from(flag) | 0x41);
        assert_eq!(get(&mut uart, offset::RSR_ECR), status);
    }
    let letter = Character::from(b'x');
    assert!(letter.byte() == b'x' && !letter.is_break() && Character::BREAK.is_break());
}

#[test]
fn loopback_into_a_full_fifo_is_an_overrun() {
    let mut uart = with_fifo();
    set(&mut uart, offset::CR, LOOPBACK);
    for byte in 0..17 {
        set(&mut uart, offset::DR, byte);
    }
    assert_eq!(get(&mut uart, offset::RIS) & 1 << 10, 1 << 10);
    assert_eq!(get(&mut uart, offset::RSR_ECR), 8);
    let read: Vec<u64> = (0..16).map(|_| get(&mut uart, offset::DR)).collect();
    assert_eq!(read, (0..16).collect::<Vec<_>>());
}

#[test]
fn narrow_accesses_reach_the_register_they_begin_in() {
    let mut uart = Pl011::default();
    assert_eq!(write(&mut uart, offset::DR, Width::Byte, b'z'.into()), Some(b'z'));
    assert_eq!(read(&mut uart, offset::FR, Width::Byte), 0x90);
    assert_eq!(read(&mut uart, offset::CR, Width::Halfword), 0x300);
    assert_eq!(read(&mut uart, offset::CR, Width::Doubleword), 0x12_0000_0300);
}

#[test]
fn registers_keep_the_bits_they_have() {
    let mut uart = Pl011::default();
    for (offset, bits) in [
        (offset::ILPR, 0xff),
        (offset::IBRD, 0xffff),
        (offset::FBRD, 0x3f),
        (offset::LCR_H, 0xff),
        (offset::CR, 0xffff),
        (offset::IFLS, 0x3f),
        (offset::IMSC, 0x7ff),
        (offset::DMACR, 7),
    ] {
        set(&mut uart, offset, u32::MAX.into());
        assert_eq!(get(&mut uart, offset), bits, "{offset:#x}");
    }
}

#[test]
fn unknown_offsets_read_as_zero() {
    let mut uart = Pl011::default();
    for offset in [0x008, 0x01c, 0x04c, 0x800, 0xfdc, offset::ICR] {
        set(&mut uart, offset, u64::MAX);
        assert_eq!(get(&mut uart, offset), 0, "{offset:#x}");
    }
}

fn width() -> impl Strategy<Value = Width> {
    prop::sample::select(vec![Width::Byte, Width::Halfword, Width::Word, Width::Doubleword])
}

/// Returns offsets mostly of registers.
fn offsets() -> impl Strategy<Value = u64> {
    prop_oneof![(0_u64..0x13).prop_map(|n| n * 4), 0_u64..0x1000]
}

proptest! {
    #[test]
    fn no_access_panics_whatever_the_state(
        accesses in prop::collection::vec((any::<bool>(), offsets(), width(), any::<u64>()), 0..200),
        rx_count: u8, cr: u32, lcr_h: u32, rx_fifo: [u16; 16],
    ) {
        // A record as a file may have it.
        let mut uart = Pl011::default();
        *uart.rx_count = rx_count;
        *uart.cr = cr;
        *uart.lcr_h = lcr_h;
        *uart.rx_fifo = rx_fifo;
        for (is_write, offset, width, value) in accesses {
            if is_write {
                write(&mut uart, offset, width, value);
            } else {
                let value = read(&mut uart, offset, width);
                prop_assert_eq!(width.truncate(value), value);
            }
            let _ = receive(&mut uart, value as u8);
            line(&uart);
        }
    }

    #[test]
    fn bytes_are_neither_lost_nor_swapped(bytes in prop::collection::vec(any::<u8>(), 0..100), every in 1_usize..20) {
        let mut uart = with_fifo();
        set(&mut uart, offset::IMSC, RX);
        let mut got = Vec::new();
        let drain = |uart: &mut Pl011, got: &mut Vec<u8>| {
            while get(uart, offset::FR) & FR_RXFE == 0 {
                assert!(line(uart), "bytes wait and the line is down");
                got.push(get(uart, offset::DR) as u8);
            }
            assert!(!line(uart));
        };
        for (n, byte) in bytes.iter().enumerate() {
            if !can_receive(&uart) || n % every == 0 {
                drain(&mut uart, &mut got);
            }
            receive(&mut uart, *byte).unwrap();
        }
        drain(&mut uart, &mut got);
        prop_assert_eq!(got, bytes);
    }
}
