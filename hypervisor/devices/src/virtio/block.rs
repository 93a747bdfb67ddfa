//! The block device: a guest's disk. VIRTIO 1.2, 5.2.
//!
//! A request is taken ([`Slots::disk_request`]) and done ([`Request::perform`]) while the guest
//! goes on: data are copied in pieces, each of them while the guest is locked ([`Transfer`]). A
//! large one takes several turns, and others are served between two of them
//! ([`Slots::disk_goes_on`]). It is completed at last ([`Slots::disk_done`]). Until then it stays
//! the first of its queue, and so a checkpoint has it as one that is not done yet: it is done
//! whole, from its beginning, after the resume. Twice is no harm, as its volume is as of that
//! instant, too. How far it is, only [`Slots`] know: those of a resumed guest are new, and know of
//! nothing that was begun.

use core::ops::Range;

use arrayvec::ArrayString;
use stasis_state::name::NAME_LEN;
use stasis_state::virtio::Virtio;
use zerocopy::IntoBytes;

use super::chain::{Bytes, Chain, Lengths, Measured, Window};
use super::config::Config;
use super::view::Broken;
use super::volume::Volume;
use super::{QueueId, Slots};
use crate::context::Memory;

/// Bytes of a sector.
pub const SECTOR: u64 = 512;
/// The most bytes of a volume.
pub const MAX_VOLUME: u64 = 8 << 40;
/// Bytes of the header of a request.
const HEADER: u64 = 16;
/// The most buffers of a request's data.
const SEG_MAX: u32 = 254;
/// The most sectors of a request that discards, or writes zeros.
const MAX_RANGE: u32 = 1 << 22;
/// The most bytes that a turn copies. Linux's requests have 254 pages, so they are done in one.
const COPIED_IN_TURN: u64 = 1 << 20;
/// The most bytes that a turn discards or makes zeros, for which a volume does no more than to
/// change its map.
const ZEROED_IN_TURN: u64 = 64 << 20;

/// The features: SEG_MAX, BLK_SIZE, FLUSH, DISCARD, WRITE_ZEROES.
pub(super) const FEATURES: u64 = 1 << 2 | 1 << 6 | FLUSH | 1 << 13 | 1 << 14;
/// Feature: the driver says when what was written must survive. Without it, each write must when it
/// is completed.
const FLUSH: u64 = 1 << 9;

/// Returns the configuration of the disk in slot `n`.
pub(super) fn config(record: &Virtio, n: usize) -> Config {
    let mut config = Config::zeros(60);
    config.set(0, &record.capacity[n].to_le_bytes());
    config.set(12, &SEG_MAX.to_le_bytes());
    config.set(20, &(SECTOR as u32).to_le_bytes());
    // max_discard_sectors, max_discard_seg, discard_sector_alignment: blocks of 4 KiB are given
    // back.
    config.set(36, &MAX_RANGE.to_le_bytes());
    config.set(40, &1u32.to_le_bytes());
    config.set(44, &8u32.to_le_bytes());
    // max_write_zeroes_sectors, max_write_zeroes_seg, write_zeroes_may_unmap.
    config.set(48, &MAX_RANGE.to_le_bytes());
    config.set(52, &1u32.to_le_bytes());
    config.set(56, &[1]);
    config
}

/// What became of a request, as the driver is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Outcome {
    /// The request was done.
    Done = 0,
    /// The request could not be done.
    Error = 1,
    /// The device does not know the request.
    Unsupported = 2,
}

/// What a turn has made of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// All of it was done, or it failed: the driver is told this.
    Ended(Outcome),
    /// Some of it was done: as many bytes, from its beginning on. It [goes
    /// on](Slots::disk_goes_on).
    Part(u64),
    /// No frame was free for what it reads, or the guest's memory is still to be loaded. The turn
    /// is done again.
    Starved,
}

/// What a request is about. Offsets and lengths are in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// Reads `len` bytes from `offset` on.
    Read {
        /// Offset in the volume.
        offset: u64,
        /// Bytes.
        len: u64,
    },
    /// Writes `len` bytes from `offset` on.
    Write {
        /// Offset in the volume.
        offset: u64,
        /// Bytes.
        len: u64,
    },
    /// Makes what was written survive a loss of power.
    Flush,
    /// Drops `len` bytes from `offset` on.
    Discard {
        /// Offset in the volume.
        offset: u64,
        /// Bytes.
        len: u64,
    },
    /// Makes `len` bytes from `offset` on zeros.
    WriteZeroes {
        /// Offset in the volume.
        offset: u64,
        /// Bytes.
        len: u64,
    },
    /// Reads the serial number, of `len` bytes.
    Identify {
        /// Bytes that the driver has room for, [`SERIAL`] at most.
        len: u64,
    },
    /// Nothing: the request can't be done.
    Refuse(Outcome),
}

impl What {
    /// Returns the bytes that are moved, and how many of them a turn moves at most.
    fn bytes(self) -> (u64, u64) {
        match self {
            Self::Read { len, .. } | Self::Write { len, .. } => (len, COPIED_IN_TURN),
            Self::Discard { len, .. } | Self::WriteZeroes { len, .. } => (len, ZEROED_IN_TURN),
            Self::Flush | Self::Identify { .. } | Self::Refuse(_) => (0, 0),
        }
    }
}

/// Most bytes of a serial number.
pub const SERIAL: u64 = 20;

/// What a driver has asked for, as it stands in the queue.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    pub chain: Chain,
    /// The data that are still to be moved: what the device reads behind the header, or what it
    /// writes.
    pub data: Bytes,
    /// Address of the status, the last byte that the device writes. It may be anywhere.
    status: u64,
    pub what: What,
}

/// A request that was taken, and is not completed.
#[derive(Clone, Debug)]
pub struct Request {
    /// The queue.
    id: QueueId,
    /// Name of the volume behind the disk.
    volume: ArrayString<NAME_LEN>,
    pub(super) asked: Asked,
    /// Bytes that earlier turns have moved.
    done: u64,
    /// Number of resets of the device when it was taken.
    resets: u32,
    /// Whether what it writes must survive when it is completed.
    writes_through: bool,
    /// Whether [late](super::late) writes begin with it.
    begins_late: bool,
    /// What is read ahead when it is completed: offsets in the volume.
    pub(super) ahead: Range<u64>,
}

/// The guest's side of a request's data, which are copied from their beginning on, piece by piece.
/// Each call locks the guest.
///
/// # Errors
///
/// [`NotMoved`].
pub trait Transfer {
    /// Copies what the guest writes to the disk: the bytes behind those of the call before.
    #[expect(clippy::wrong_self_convention, reason = "it says whence the bytes come")]
    fn from_guest(&mut self, into: &mut [u8]) -> Result<(), NotMoved>;

    /// Gives the guest what it reads from the disk: the bytes behind those of the call before.
    fn to_guest(&mut self, from: &[u8]) -> Result<(), NotMoved>;
}

/// Why data of a request were not copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotMoved {
    /// The request is no more: its device was reset, or its buffers are not in RAM.
    Gone,
    /// No frame is free for a page that the guest shares with a clone, or the guest's memory is
    /// still to be loaded.
    NotYet,
}

impl Request {
    /// Returns the slot of the disk.
    pub fn slot(&self) -> u8 {
        self.id.slot
    }

    /// Returns the name of the volume behind the disk, which is the disk's serial number, too.
    pub fn volume(&self) -> &str {
        &self.volume
    }

    /// Returns the request's data that are still to be moved: for [`Slots::disk_from_guest`] and
    /// [`Slots::disk_to_guest`].
    pub fn data(&self) -> Bytes {
        self.asked.data
    }

    /// Returns what the request is about.
    pub fn what(&self) -> What {
        self.asked.what
    }

    /// Returns what is read ahead when the request is completed, by its offsets in the volume; an
    /// empty range if nothing is: for [`Slots::begin_ahead`].
    pub fn ahead(&self) -> Range<u64> {
        self.ahead.clone()
    }

    /// Returns whether late writes begin with the request, if there is a place for them: for
    /// [`Slots::begin_late`].
    pub fn begins_late(&self) -> bool {
        self.begins_late
    }

    /// Does the request's next turn on `volume`: all of it, or 1 MiB of data, or 64 MiB that become
    /// zeros.
    pub fn perform(&self, volume: &mut dyn Volume, transfer: &mut dyn Transfer) -> Turn {
        let (all, most) = self.asked.what.bytes();
        let now = (all - self.done).min(most);
        let is_last = self.done + now == all;
        let mut moved = Ok(());
        let done = match self.asked.what {
            What::Refuse(outcome) => return Turn::Ended(outcome),
            What::Read { offset, .. } => volume.read(offset + self.done, now, &mut |piece| {
                moved = transfer.to_guest(piece);
                moved.is_ok()
            }),
            What::Write { offset, .. } => volume.write(offset + self.done, now, &mut |piece| {
                moved = transfer.from_guest(piece);
                moved.is_ok()
            }),
            What::Flush => volume.flush(),
            What::Discard { offset, .. } => volume.discard(offset + self.done, now),
            What::WriteZeroes { offset, .. } => volume.write_zeroes(offset + self.done, now),
            What::Identify { len } => {
                moved = self.identify(len, transfer);
                Ok(())
            }
        };
        let writes = matches!(self.asked.what, What::Write { .. } | What::WriteZeroes { .. });
        let done = match done {
            Ok(()) if writes && is_last && self.writes_through && moved.is_ok() => volume.flush(),
            done => done,
        };
        match (done, moved) {
            (_, Err(NotMoved::NotYet)) => Turn::Starved,
            (Ok(()), Ok(())) if is_last => Turn::Ended(Outcome::Done),
            (Ok(()), Ok(())) => Turn::Part(self.done + now),
            _ => Turn::Ended(Outcome::Error),
        }
    }

    /// Gives the guest the first `len` bytes of the serial number.
    fn identify(&self, len: u64, transfer: &mut dyn Transfer) -> Result<(), NotMoved> {
        let mut text = [0; SERIAL as usize];
        let count = self.volume.len().min(text.len());
        text[..count].copy_from_slice(&self.volume.as_bytes()[..count]);
        transfer.to_guest(&text[..len as usize])
    }
}

impl Asked {
    /// Returns the bytes that the device has written when the request is completed with `outcome`:
    /// data and status.
    fn written(&self, outcome: Outcome) -> u32 {
        let data = match (self.what, outcome) {
            (What::Read { len, .. } | What::Identify { len }, Outcome::Done) => len,
            _ => 0,
        };
        u32::try_from(data + 1).unwrap_or(u32::MAX)
    }
}

impl Slots {
    /// Returns the names of the volumes behind the disks.
    pub fn volumes(&self) -> impl Iterator<Item = &str> {
        self.record.volumes()
    }

    /// Returns the first request of a disk that is not completed, and the number of the disk's
    /// slot, whose line may have changed; None if no disk has anything to do. A request of which
    /// turns have done a part comes first, with what is left of it.
    pub fn disk_request(&mut self, memory: &Memory<'_>) -> Option<(u8, Option<Request>)> {
        let id = self.next_notified(self.disks)?;
        if let Some(begun) = self.begun.as_ref().filter(|begun| self.is_current(begun)) {
            return Some((begun.slot(), Some(begun.clone())));
        }
        let taken = self.take(id, memory);
        let served = taken.as_ref().map(|asked| asked.is_some()).map_err(|broken| *broken);
        self.settle(id, served);
        let Ok(Some(asked)) = taken else { return Some((id.slot, None)) };
        self.under_way |= id.bit();
        Some((id.slot, Some(self.begin(id, asked))))
    }

    /// Returns the request that a driver has asked for, as whoever serves the disk does it.
    fn begin(&mut self, id: QueueId, asked: Asked) -> Request {
        let n = usize::from(id.slot);
        let (volume, done, resets) = (self.names[n], 0, self.resets[n]);
        let writes_through = self.writes_through(n);
        let ahead = self.note_read(n, &asked.what);
        let begins_late = self.note_write(n, &asked.what);
        Request { id, volume, asked, done, resets, writes_through, begins_late, ahead }
    }

    /// Returns whether what is written to the disk in slot `n` must survive when a request is
    /// completed.
    pub(super) fn writes_through(&self, n: usize) -> bool {
        self.record.driver_features[n] & FLUSH == 0
    }

    /// Notes what a request of slot `n` reads, or that it changes the volume. Returns what is read
    /// ahead when it is completed.
    fn note_read(&mut self, n: usize, what: &What) -> Range<u64> {
        let ahead = &mut self.ahead[n];
        match *what {
            What::Read { offset, len } => {
                return ahead.note_read(offset, len, self.record.capacity[n] * SECTOR);
            }
            What::Write { .. } | What::Discard { .. } | What::WriteZeroes { .. } => ahead.forget(),
            What::Flush | What::Identify { .. } | What::Refuse(_) => {}
        }
        0..0
    }

    /// Notes what a request of slot `n` writes. Returns whether late writes begin with it.
    fn note_write(&mut self, n: usize, what: &What) -> bool {
        let writes_through = self.writes_through(n);
        let writes = &mut self.writes[n];
        match *what {
            What::Write { offset, len } if !writes_through => writes.note(offset, len),
            _ => {
                writes.forget();
                false
            }
        }
    }

    /// Returns the first request of a queue; None if there is none.
    #[inline]
    pub(super) fn take(&self, id: QueueId, memory: &Memory<'_>) -> Result<Option<Asked>, Broken> {
        let Some(chain) = self.first(id, memory)? else { return Ok(None) };
        let mut window = Window::EMPTY;
        let Measured { lengths, mut read, written } = chain.measure_in(&mut window, memory)?;
        let mut header = [0_u64; 2];
        let is_whole = lengths.written != 0 && lengths.read >= HEADER;
        if !is_whole || read.read(memory, header.as_mut_bytes())? < HEADER as usize {
            return Err(Broken::Short);
        }
        let n = usize::from(id.slot);
        let what = self.what(n, header.map(u64::from_le), read, lengths, memory)?;
        let data = match what {
            What::Write { .. } => {
                read.reach(&mut window, memory)?;
                read
            }
            _ => written,
        };
        Ok(Some(Asked { chain, data, status: lengths.last, what }))
    }

    /// Returns what the request is about whose header has these words, behind which it has these
    /// `bytes`. The upper half of the first word is reserved.
    /// VIRTIO 1.2, 5.2.6.
    fn what(
        &self,
        n: usize,
        [kind, sector]: [u64; 2],
        mut bytes: Bytes,
        lengths: Lengths,
        memory: &Memory<'_>,
    ) -> Result<What, Broken> {
        let capacity = self.record.capacity[n] * SECTOR;
        let from_guest = lengths.read - HEADER;
        let to_guest = lengths.written - 1;
        // With more data than RAM, buffers are in one place: one request would take as long as the
        // disk is large.
        let most = memory.ram.len() as u64;
        Ok(match kind as u32 {
            0 | 1 if to_guest.max(from_guest) > most => What::Refuse(Outcome::Error),
            0 => within(capacity, sector, to_guest, |offset, len| What::Read { offset, len }),
            1 => within(capacity, sector, from_guest, |offset, len| What::Write { offset, len }),
            4 => What::Flush,
            8 => What::Identify { len: to_guest.min(SERIAL) },
            kind @ (11 | 13) if from_guest == 16 => {
                let mut range = [0; 16];
                bytes.read(memory, &mut range)?;
                range_of(kind == 11, range, capacity)
            }
            11 | 13 => What::Refuse(Outcome::Error),
            _ => What::Refuse(Outcome::Unsupported),
        })
    }

    /// Returns whether a request is still the first of its queue: its device was not reset
    /// meanwhile.
    pub(super) fn is_current(&self, request: &Request) -> bool {
        self.resets[usize::from(request.id.slot)] == request.resets
    }

    /// Copies the next bytes of `data` that a request writes to the disk.
    ///
    /// # Errors
    ///
    /// [`NotMoved`].
    pub fn disk_from_guest(
        &self,
        memory: &Memory<'_>,
        request: &Request,
        data: &mut Bytes,
        into: &mut [u8],
    ) -> Result<(), NotMoved> {
        self.check_current(request)?;
        is_whole(data.read(memory, into), into.len())
    }

    /// Gives the guest the next bytes of `data` that a request reads from the disk.
    ///
    /// # Errors
    ///
    /// [`NotMoved`].
    pub fn disk_to_guest(
        &self,
        memory: &mut Memory<'_>,
        request: &Request,
        data: &mut Bytes,
        from: &[u8],
    ) -> Result<(), NotMoved> {
        self.check_current(request)?;
        is_whole(data.write(memory, from), from.len())
    }

    fn check_current(&self, request: &Request) -> Result<(), NotMoved> {
        if self.is_current(request) { Ok(()) } else { Err(NotMoved::Gone) }
    }

    /// Keeps a request of which turns have done the first `done` bytes, and whose other `data` are
    /// still to be moved, unless its device was reset meanwhile. It is the next one that is taken.
    pub fn disk_goes_on(&mut self, request: &Request, done: u64, data: Bytes) {
        if self.is_current(request) {
            let asked = Asked { data, ..request.asked };
            self.begun = Some(Request { done, asked, ..request.clone() });
        }
    }

    /// Completes a request, unless its device was reset meanwhile. The line of its slot may have
    /// changed.
    pub fn disk_done(&mut self, memory: &mut Memory<'_>, request: &Request, outcome: Outcome) {
        if !self.is_current(request) {
            return;
        }
        // What was read ahead may complete another disk's meanwhile.
        self.begun = self.begun.take().filter(|begun| begun.id != request.id);
        self.under_way &= !request.id.bit();
        if outcome != Outcome::Done {
            self.ahead[usize::from(request.slot())].forget();
        }
        self.complete_asked(request.id, memory, &request.asked, outcome);
    }

    /// Completes what a driver has asked for. Returns whether it is completed: if not, it is tried
    /// again, or the device waits for its reset.
    pub(super) fn complete_asked(
        &mut self,
        id: QueueId,
        memory: &mut Memory<'_>,
        asked: &Asked,
        outcome: Outcome,
    ) -> bool {
        // The status is the last byte, and a driver that has moved it meanwhile looks where it was.
        let told = memory.write(asked.status, &[outcome as u8]);
        let completed =
            told.and_then(|()| self.complete(id, memory, &asked.chain, asked.written(outcome)));
        self.settle(id, completed.map(|()| true));
        completed.is_ok()
    }
}

/// Checks that all of `len` bytes were copied.
fn is_whole(copied: Result<usize, Broken>, len: usize) -> Result<(), NotMoved> {
    match copied {
        Ok(copied) if copied == len => Ok(()),
        Err(Broken::NoFrame | Broken::NotThere) => Err(NotMoved::NotYet),
        _ => Err(NotMoved::Gone),
    }
}

/// Returns the request about `len` bytes from `sector` on, or a refusal if they are not whole
/// sectors of the disk.
fn within(capacity: u64, sector: u64, len: u64, what: impl Fn(u64, u64) -> What) -> What {
    let offset = sector.checked_mul(SECTOR);
    let end = offset.and_then(|offset| offset.checked_add(len));
    match (offset, end) {
        (Some(offset), Some(end)) if end <= capacity && len.is_multiple_of(SECTOR) => {
            what(offset, len)
        }
        _ => What::Refuse(Outcome::Error),
    }
}

/// Returns the request that discards a `range`, or writes zeros to it. Of the flags, there is
/// `unmap`, which a discard must not have.
fn range_of(discards: bool, range: [u8; 16], capacity: u64) -> What {
    let [s0, s1, s2, s3, s4, s5, s6, s7, n0, n1, n2, n3, f0, f1, f2, f3] = range;
    let sector = u64::from_le_bytes([s0, s1, s2, s3, s4, s5, s6, s7]);
    let count = u32::from_le_bytes([n0, n1, n2, n3]);
    let flags = u32::from_le_bytes([f0, f1, f2, f3]);
    if flags > u32::from(!discards) {
        return What::Refuse(Outcome::Unsupported);
    }
    if count > MAX_RANGE {
        return What::Refuse(Outcome::Error);
    }
    let len = u64::from(count) * SECTOR;
    within(capacity, sector, len, |offset, len| match discards {
        true => What::Discard { offset, len },
        false => What::WriteZeroes { offset, len },
    })
}
