//! The block device: a guest's disk. VIRTIO 1.2, 5.2.
//!
//! A request is taken ([`Slots::disk_request`]) and done ([`Request::perform`]) while the guest goes on: data are copied in pieces, each of them while
//! the guest is locked ([`Transfer`]). It is completed at last ([`Slots::disk_done`]). Until then it stays the first of its queue, and so a
//! checkpoint has it as one that is not done yet: it is done whole after the resume. Twice is no harm, as its volume is as of that instant, too.

use stasis_state::virtio::{Virtio, device_id};

use super::chain::{Chain, Lengths};
use super::config::Config;
use super::queue::Broken;
use super::volume::{Volume, VolumeError};
use super::{QueueId, Slots};
use crate::device::Memory;

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

/// The features: SEG_MAX, BLK_SIZE, FLUSH, DISCARD, WRITE_ZEROES.
pub(super) const FEATURES: u64 = 1 << 2 | 1 << 6 | FLUSH | 1 << 13 | 1 << 14;
/// Feature: the driver says when what was written must survive. Without it, each write must when it is completed.
const FLUSH: u64 = 1 << 9;

/// Returns the configuration of the disk in slot `n`.
pub(super) fn config(record: &Virtio, n: usize) -> Config {
    let mut config = Config::zeros(60);
    config.set(0, &record.capacity[n].to_le_bytes());
    config.set(12, &SEG_MAX.to_le_bytes());
    config.set(20, &(SECTOR as u32).to_le_bytes());
    // max_discard_sectors, max_discard_seg, discard_sector_alignment: blocks of 4 KiB are given back.
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

/// Most bytes of a serial number.
pub const SERIAL: u64 = 20;

/// A request that was taken, and is not completed.
#[derive(Clone, Copy, Debug)]
pub struct Request {
    /// The queue.
    id: QueueId,
    chain: Chain,
    lengths: Lengths,
    /// Number of resets of the device when it was taken.
    resets: u32,
    /// What it is about.
    pub what: What,
    /// Whether what it writes must survive when it is completed.
    writes_through: bool,
}

/// The guest's side of a request's data. Each call locks the guest.
///
/// # Errors
///
/// [`Gone`], if the request is no more: its device was reset, or its buffers are not in RAM.
pub trait Transfer {
    /// Copies what the guest writes to the disk, from the byte `skip` of the data on.
    #[expect(clippy::wrong_self_convention, reason = "it says whence the bytes come")]
    fn from_guest(&mut self, skip: u64, into: &mut [u8]) -> Result<(), Gone>;

    /// Gives the guest what it reads from the disk, from the byte `skip` of the data on.
    fn to_guest(&mut self, skip: u64, from: &[u8]) -> Result<(), Gone>;
}

/// The request is no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gone;

/// Why a request was not done.
enum Failure {
    Volume(VolumeError),
    Gone,
}

impl From<VolumeError> for Failure {
    fn from(error: VolumeError) -> Self {
        Self::Volume(error)
    }
}

impl From<Gone> for Failure {
    fn from(_: Gone) -> Self {
        Self::Gone
    }
}

impl Request {
    /// Returns the slot of the disk.
    pub fn slot(&self) -> u8 {
        self.id.slot
    }

    /// Does the request on `volume`, in pieces as large as `buffer`. Returns what the driver is told, and what has failed.
    ///
    /// # Panics
    ///
    /// If `buffer` is shorter than [`SERIAL`], or no multiple of a sector.
    pub fn perform(
        &self,
        volume: &mut dyn Volume,
        serial: &str,
        transfer: &mut dyn Transfer,
        buffer: &mut [u8],
    ) -> (Outcome, Option<VolumeError>) {
        assert!(buffer.len() as u64 >= SERIAL && (buffer.len() as u64).is_multiple_of(SECTOR));
        let done = match self.what {
            What::Refuse(outcome) => return (outcome, None),
            What::Read { offset, len } => pieces(len, buffer, &mut |at, piece| {
                volume.read(offset + at, piece)?;
                Ok(transfer.to_guest(at, piece)?)
            }),
            What::Write { offset, len } => pieces(len, buffer, &mut |at, piece| {
                transfer.from_guest(at, piece)?;
                Ok(volume.write(offset + at, piece)?)
            }),
            What::Flush => volume.flush().map_err(Failure::from),
            What::Discard { offset, len } => volume.discard(offset, len).map_err(Failure::from),
            What::WriteZeroes { offset, len } => {
                volume.write_zeroes(offset, len).map_err(Failure::from)
            }
            What::Identify { len } => {
                let text = &serial.as_bytes()[..serial.len().min(SERIAL as usize)];
                buffer[..SERIAL as usize].fill(0);
                buffer[..text.len()].copy_from_slice(text);
                transfer.to_guest(0, &buffer[..len as usize]).map_err(Failure::from)
            }
        };
        let writes = matches!(self.what, What::Write { .. } | What::WriteZeroes { .. });
        let done = match done {
            Ok(()) if writes && self.writes_through => volume.flush().map_err(Failure::from),
            done => done,
        };
        match done {
            Ok(()) => (Outcome::Done, None),
            Err(Failure::Volume(error)) => (Outcome::Error, Some(error)),
            Err(Failure::Gone) => (Outcome::Error, None),
        }
    }

    /// Returns the bytes that the device has written when the request is completed with `outcome`: data and status.
    fn written(&self, outcome: Outcome) -> u32 {
        let data = match (self.what, outcome) {
            (What::Read { len, .. } | What::Identify { len }, Outcome::Done) => len,
            _ => 0,
        };
        u32::try_from(data + 1).unwrap_or(u32::MAX)
    }
}

/// What is done with a piece of a request's data, which has this place in it.
type Each<'e> = dyn FnMut(u64, &mut [u8]) -> Result<(), Failure> + 'e;

/// Calls `each` with the place of each piece of `len` bytes, and with as much of `buffer`.
fn pieces(len: u64, buffer: &mut [u8], each: &mut Each<'_>) -> Result<(), Failure> {
    let mut at = 0;
    while at < len {
        let count = (len - at).min(buffer.len() as u64) as usize;
        each(at, &mut buffer[..count])?;
        at += count as u64;
    }
    Ok(())
}

impl Slots {
    /// Returns the name of the volume behind the disk of slot `n`.
    ///
    /// # Panics
    ///
    /// If there is no slot `n` that can have a device.
    pub fn volume_name(&self, n: u8) -> &str {
        self.record.name_text(n.into())
    }

    /// Returns the names of the volumes behind the disks.
    pub fn volumes(&self) -> impl Iterator<Item = &str> {
        self.record.volumes()
    }

    /// Returns the first request of a disk that is not completed, and the number of the disk's slot, whose line may have changed; None if no disk has
    /// anything to do.
    pub fn disk_request(&mut self, memory: &Memory<'_>) -> Option<(u8, Option<Request>)> {
        let id = self.next_notified(|id| id == device_id::BLOCK)?;
        let taken = self.take(id, memory);
        let served = taken.as_ref().map(|request| request.is_some()).map_err(|broken| *broken);
        self.settle(id, served);
        Some((id.slot, taken.unwrap_or(None)))
    }

    fn take(&self, id: QueueId, memory: &Memory<'_>) -> Result<Option<Request>, Broken> {
        let Some(chain) = self.first(id, memory)? else { return Ok(None) };
        let lengths = chain.lengths(memory)?;
        let mut header = [0; HEADER as usize];
        if lengths.written == 0 || chain.read(memory, 0, &mut header)? < header.len() {
            return Err(Broken::Short);
        }
        let n = usize::from(id.slot);
        let what = self.what(n, header, &chain, lengths, memory)?;
        let writes_through = self.record.driver_features[n] & FLUSH == 0;
        Ok(Some(Request { id, chain, lengths, resets: self.resets[n], what, writes_through }))
    }

    /// Returns what the request with this `header` is about. VIRTIO 1.2, 5.2.6.
    fn what(
        &self,
        n: usize,
        header: [u8; HEADER as usize],
        chain: &Chain,
        lengths: Lengths,
        memory: &Memory<'_>,
    ) -> Result<What, Broken> {
        let [t0, t1, t2, t3, _, _, _, _, s0, s1, s2, s3, s4, s5, s6, s7] = header;
        let sector = u64::from_le_bytes([s0, s1, s2, s3, s4, s5, s6, s7]);
        let capacity = self.record.capacity[n] * SECTOR;
        let (to_guest, from_guest) = (lengths.written - 1, lengths.read - HEADER);
        Ok(match u32::from_le_bytes([t0, t1, t2, t3]) {
            0 => within(capacity, sector, to_guest, |offset, len| What::Read { offset, len }),
            1 => within(capacity, sector, from_guest, |offset, len| What::Write { offset, len }),
            4 => What::Flush,
            8 => What::Identify { len: to_guest.min(SERIAL) },
            kind @ (11 | 13) if from_guest == 16 => {
                let mut range = [0; 16];
                chain.read(memory, HEADER, &mut range)?;
                range_of(kind == 11, range, capacity)
            }
            11 | 13 => What::Refuse(Outcome::Error),
            _ => What::Refuse(Outcome::Unsupported),
        })
    }

    /// Returns whether a request is still the first of its queue: its device was not reset meanwhile.
    fn is_current(&self, request: &Request) -> bool {
        self.resets[usize::from(request.id.slot)] == request.resets
    }

    /// Copies bytes that a request writes to the disk, from the byte `skip` of its data on.
    ///
    /// # Errors
    ///
    /// [`Gone`].
    pub fn disk_from_guest(
        &self,
        memory: &Memory<'_>,
        request: &Request,
        skip: u64,
        into: &mut [u8],
    ) -> Result<(), Gone> {
        let copied = match self.is_current(request) {
            true => request.chain.read(memory, HEADER + skip, into),
            false => Ok(0),
        };
        if copied == Ok(into.len()) { Ok(()) } else { Err(Gone) }
    }

    /// Gives the guest bytes that a request reads from the disk, from the byte `skip` of its data on.
    ///
    /// # Errors
    ///
    /// [`Gone`].
    pub fn disk_to_guest(
        &self,
        memory: &mut Memory<'_>,
        request: &Request,
        skip: u64,
        from: &[u8],
    ) -> Result<(), Gone> {
        let copied = match self.is_current(request) {
            true => request.chain.write(memory, skip, from),
            false => Ok(0),
        };
        if copied == Ok(from.len()) { Ok(()) } else { Err(Gone) }
    }

    /// Completes a request, unless its device was reset meanwhile. The line of its slot may have changed.
    pub fn disk_done(&mut self, memory: &mut Memory<'_>, request: &Request, outcome: Outcome) {
        if !self.is_current(request) {
            return;
        }
        // The status is the last byte, and a driver that has moved it meanwhile looks where it was.
        let told = memory.write(request.lengths.last, &[outcome as u8]);
        let completed = told.and_then(|()| {
            let written = request.written(outcome);
            self.complete(request.id, memory, &request.chain, written)
        });
        self.settle(request.id, completed.map(|()| true));
    }
}

/// Returns the request about `len` bytes from `sector` on, or a refusal if they are not whole sectors of the disk.
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

/// Returns the request that discards a `range`, or writes zeros to it. Of the flags, there is `unmap`, which a discard must not have.
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
