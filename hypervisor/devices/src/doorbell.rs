//! The doorbell of memory that guests share: one rings, and the other's interrupt is raised until it has looked who it was.
//!
//! The interrupt is level-sensitive: it is high as long as [`STATUS`](offset::STATUS) is not 0. So what was rung and not yet
//! answered is in the record, and a checkpoint loses nothing of it.

use stasis_state::device::SharedMemory;

use crate::access::{Width, read_words, write_words};

/// The registers' offsets. Each has 32 bits.
mod offset {
    /// The guest's own number; read only.
    pub const INDEX: u64 = 0x00;
    /// How many guests there are; read only.
    pub const PEERS: u64 = 0x04;
    /// A guest's number, written, rings there. Reads as 0.
    pub const RING: u64 = 0x08;
    /// A bit for each guest that has rung; 1, written, clears it.
    pub const STATUS: u64 = 0x0c;
}

/// The guest reads at an offset of its `n`th region's doorbell.
pub fn read(shared: &SharedMemory, n: usize, offset: u64, width: Width) -> u64 {
    read_words(offset, width, |offset| match offset {
        offset::INDEX => shared.index[n].into(),
        offset::PEERS => shared.peers[n].into(),
        offset::STATUS => shared.status[n],
        _ => 0,
    })
}

/// The guest writes at an offset of its `n`th region's doorbell; `ring` is told the number of the guest that it rings. One that there
/// is not is not rung.
pub fn write(
    shared: &mut SharedMemory,
    n: usize,
    offset: u64,
    width: Width,
    value: u64,
    mut ring: impl FnMut(u8),
) {
    let peers = shared.peers[n];
    write_words(offset, width, value, |offset, word| match offset {
        offset::RING => {
            if let Some(peer) = u8::try_from(word).ok().filter(|peer| *peer < peers) {
                ring(peer);
            }
        }
        offset::STATUS => shared.status[n] &= !word,
        _ => {}
    });
}

/// Guests have rung: a bit for each.
pub fn rung(shared: &mut SharedMemory, n: usize, by: u32) {
    shared.status[n] |= by & ((1 << shared.peers[n]) - 1);
}

/// The level of the interrupt.
pub fn line(shared: &SharedMemory, n: usize) -> bool {
    shared.status[n] != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shared() -> SharedMemory {
        let mut shared = SharedMemory::default();
        (shared.size[1], shared.index[1], shared.peers[1]) = (4096, 2, 3);
        shared
    }

    fn write_word(shared: &mut SharedMemory, offset: u64, value: u64) -> Vec<u8> {
        let mut rung = Vec::new();
        write(shared, 1, offset, Width::Word, value, |peer| rung.push(peer));
        rung
    }

    #[test]
    fn a_guest_finds_out_its_number_and_who_has_rung() {
        let mut shared = shared();
        assert_eq!(read(&shared, 1, 0x00, Width::Doubleword), 3 << 32 | 2);
        rung(&mut shared, 1, 0b011);
        assert!(line(&shared, 1) && !line(&shared, 0));
        assert_eq!(read(&shared, 1, 0x0c, Width::Word), 0b011);
        assert!(write_word(&mut shared, 0x0c, 0b001).is_empty());
        assert!(line(&shared, 1), "somebody else has rung, too");
        write_word(&mut shared, 0x0c, 0xffff_ffff);
        assert!(!line(&shared, 1));
    }

    #[test]
    fn only_guests_that_there_are_can_be_rung() {
        let mut shared = shared();
        assert_eq!(write_word(&mut shared, 0x08, 0), [0]);
        assert_eq!(write_word(&mut shared, 0x08, 2), [2], "itself");
        for nobody in [3, 8, 255, 256, 0x1_0000, 0xffff_ffff] {
            assert!(write_word(&mut shared, 0x08, nobody).is_empty(), "{nobody:#x}");
        }
        rung(&mut shared, 1, !0);
        assert_eq!(shared.status[1], 0b111, "a guest that there is not has no bit");
    }

    #[test]
    fn what_is_no_register_reads_as_zero_and_ignores_writes() {
        let (mut shared, before) = (shared(), shared());
        for offset in [0x00, 0x04, 0x10, 0xffc] {
            assert!(write_word(&mut shared, offset, 0xffff_ffff).is_empty());
        }
        assert_eq!(shared, before);
        assert_eq!(read(&shared, 1, 0x08, Width::Word), 0);
        assert_eq!(read(&shared, 1, 0xff8, Width::Doubleword), 0);
    }
}
