//! How the data of a command move between the card and memory: by the port, by SDMA, by ADMA2; and
//! how that fails.

use super::{FakeController, bit, with_memory};
use crate::sd::{BLOCK, Bus as _, Command, Data, Fault};
use std::vec::Vec;

/// Data on the way.
pub(super) struct Moving {
    pub(super) command: Command,
    pub(super) argument: u32,
    pub(super) reads: bool,
    pub(super) dma: bool,
    /// All bytes of the command: the card's, or those that have come so far.
    pub(super) bytes: Vec<u8>,
    pub(super) len: usize,
    pub(super) done: usize,
    /// SDMA waits for an address.
    pub(super) at_boundary: bool,
}

impl FakeController {
    /// Goes on with DMA by a descriptor, or to the next boundary.
    pub(super) fn step(&mut self) {
        let Some(moving) = self.moving.as_ref().filter(|m| m.dma && !m.at_boundary) else { return };
        let left = moving.len - moving.done;
        if *self.register(0x28) >> 3 & 3 == 0 {
            let address = *self.register(0x00);
            let boundary = 4096 << (*self.register(0x04) >> 12 & 7);
            let room = boundary - address as usize % boundary;
            self.move_piece(address, room.min(left));
            *self.register(0x00) = address + room.min(left) as u32;
            if let Some(moving) = self.moving.as_mut().filter(|_| room < left) {
                moving.at_boundary = true;
                self.boundaries += 1;
                self.raise(bit::DMA_INTERRUPT);
            }
            return;
        }
        let table = *self.register(0x58);
        *self.register(0x58) += 8;
        let descriptor = with_memory(|memory| {
            u64::from_le_bytes(memory.at(table, 8).try_into().expect("it has 8 bytes"))
        });
        let (attributes, length) = (descriptor & 0x3f, descriptor as usize >> 16 & 0xffff);
        let length = if length == 0 { 65536 } else { length };
        let ends = attributes & 2 != 0;
        if attributes & 1 == 0 {
            return self.fail(bit::ADMA, 0b001);
        }
        assert_eq!(attributes & !2, 0b10_0001, "a descriptor that the driver has no use for");
        if length > left || ends != (length == left) {
            return self.fail(bit::ADMA, 0b111);
        }
        self.move_piece((descriptor >> 32) as u32, length);
    }

    /// Moves `len` bytes between the card and memory, or less of them if something goes wrong.
    fn move_piece(&mut self, address: u32, len: usize) {
        assert!(address.is_multiple_of(4), "DMA of half words");
        let moving = self.moving.as_mut().expect("nothing moves");
        let (start, until) = (moving.done, moving.done + len);
        let pulled = self.pulled_after.map(|blocks| blocks * BLOCK).filter(|at| *at < until);
        let fails = self.fails.first().filter(|(blocks, _)| blocks * BLOCK < until);
        let fails = fails.map(|(blocks, bits)| (blocks * BLOCK, *bits));
        let end = pulled.or(fails.map(|(at, _)| at)).unwrap_or(until).max(start);
        with_memory(|memory| {
            // Whatever is dirty is written back some time: now, before the controller writes, or
            // after.
            let there = memory.at(address, end - start);
            if moving.reads {
                there.copy_from_slice(&moving.bytes[start..end]);
                memory.evict();
            } else {
                moving.bytes.extend_from_slice(there);
            }
        });
        moving.done = end;
        if pulled.is_some() {
            self.card.inserted = false;
            self.fail(bit::DATA_TIMEOUT, 0);
        } else if let Some((_, bits)) = fails {
            self.fails.remove(0);
            self.fail(bits, 0);
        } else {
            self.finish();
        }
    }

    /// Ends a transfer with an error. What has come so far, the card has.
    fn fail(&mut self, bits: u32, adma_error: u32) {
        self.adma_error = adma_error;
        self.raise(bits);
        let moving = self.moving.take().expect("nothing moves");
        let whole = moving.bytes.len() / BLOCK * BLOCK;
        if !moving.reads && whole > 0 {
            let data = Data::Write(&moving.bytes[..whole]);
            let _ = self.card.execute(moving.command, moving.argument, data);
        }
    }

    /// Ends a transfer if all of its bytes have moved.
    fn finish(&mut self) {
        let Some(moving) = self.moving.take_if(|moving| moving.done == moving.len) else { return };
        let written = if moving.reads {
            Ok(())
        } else {
            let data = Data::Write(&moving.bytes);
            self.card.execute(moving.command, moving.argument, data).map(drop)
        };
        match written {
            Ok(()) => self.raise(bit::TRANSFER_COMPLETE),
            Err(Fault::DataDamaged) => self.raise(bit::DATA_CRC),
            Err(_) => self.raise(bit::DATA_TIMEOUT),
        }
    }

    /// Moves a word through the port: `word` to the card, or the returned one from it.
    pub(super) fn port(&mut self, word: Option<u32>) -> u32 {
        let moving = self.moving.as_mut().filter(|moving| !moving.dma).expect("the port is closed");
        assert_eq!(word.is_none(), moving.reads, "data go the other way");
        let at = moving.done;
        moving.done += 4;
        let found = match word {
            Some(word) => {
                moving.bytes.extend(word.to_le_bytes());
                word
            }
            None => u32::from_le_bytes(moving.bytes[at..][..4].try_into().expect("it has 4")),
        };
        if moving.done.is_multiple_of(BLOCK) && moving.done < moving.len {
            let ready = if moving.reads { bit::READ_READY } else { bit::WRITE_READY };
            self.raise(ready);
        }
        self.finish();
        found
    }
}
