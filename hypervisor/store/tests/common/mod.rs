//! A disk whose power fails, and the contents that tests write.
#![allow(dead_code)]

use std::cell::Cell;
use std::sync::{Arc, Mutex};

use stasis_store::block::{BeyondEnd, pieces};
use stasis_store::volume::{Late, LateWrites, MOST_LATE};
use stasis_store::{BlockDevice, Partition, RamDisk, Request, SECTOR, Store};

/// Random numbers that a seed repeats (xorshift64*).
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32) % bound
    }
}

/// What becomes of a sector that was written and not flushed.
#[derive(Clone, Copy, Debug)]
pub enum Fate {
    Kept,
    Lost,
    /// The first half of the sector alone is written.
    Torn,
    /// This many bytes at the beginning of the sector are written.
    Cut(usize),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The first sector of the write that has failed, if it was one.
    pub write: Option<u64>,
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("simulated fault")
    }
}

/// A disk with a volatile cache, whose power fails at a chosen operation, and which fails others.
/// What was only begun to be written is carried out late and in any order.
#[derive(Clone, Debug)]
pub struct FaultyDisk {
    durable: Vec<u8>,
    cache: Vec<u8>,
    /// Sectors written since the last flush, in order.
    unflushed: Vec<(usize, Vec<u8>)>,
    /// Writes and flushes so far.
    pub operations: usize,
    /// The operation in the midst of which power fails.
    pub power_fails_at: Option<usize>,
    /// Operations that are done in part, or not at all, and reported as failed.
    pub fails_at: Vec<usize>,
    /// Sectors that are worn: each write that has one of them fails, and does nothing.
    pub worn: std::ops::Range<u64>,
    /// Lengths of the writes.
    pub writes: Vec<usize>,
    /// Number of writes that are begun at once; with 0, they are carried out when they are begun.
    pub depth: usize,
    /// Writes that were begun, and not carried out yet.
    begun: Vec<(u64, Vec<u8>)>,
    /// What the first write has failed with that was begun.
    failed: Option<Fault>,
}

/// Bytes of each write that a [`FaultyDisk`] begins beside others.
const PIECE: usize = 16 << 10;

impl FaultyDisk {
    pub fn new(disk: RamDisk) -> Self {
        Self {
            cache: disk.bytes.clone(),
            durable: disk.bytes,
            unflushed: Vec::new(),
            operations: 0,
            power_fails_at: None,
            fails_at: Vec::new(),
            worn: 0..0,
            writes: Vec::new(),
            depth: 0,
            begun: Vec::new(),
            failed: None,
        }
    }

    /// Returns the disk as one that has `depth` writes under way.
    pub fn with_depth(self, depth: usize) -> Self {
        Self { depth, ..self }
    }

    /// Carries out begun writes, in any order, until only `most` are left.
    fn carry_out(&mut self, most: usize) {
        while self.begun.len() > most {
            let nth = Random::new(self.operations as u64).below(self.begun.len() as u64);
            let (lba, data) = self.begun.swap_remove(nth as usize);
            self.failed = self.failed.or(self.write(lba, &data).err());
        }
    }

    pub fn power_failed(&self) -> bool {
        self.power_fails_at.is_some_and(|at| self.operations > at)
    }

    /// Returns what is on the medium when power comes back. Keeping any subset of the writes in
    /// their order amounts to any reordering of them, as far as each sector is concerned.
    pub fn after_power_loss(&self, mut fate: impl FnMut() -> Fate) -> RamDisk {
        self.after_power_loss_at(|_| fate())
    }

    /// Returns what is on the medium when power comes back, where a sector's fate depends on the
    /// byte at which it stands.
    pub fn after_power_loss_at(&self, mut fate: impl FnMut(usize) -> Fate) -> RamDisk {
        let mut bytes = self.durable.clone();
        for (at, sector) in &self.unflushed {
            let len = match fate(*at) {
                Fate::Kept => SECTOR,
                Fate::Torn => SECTOR / 2,
                Fate::Cut(len) => len,
                Fate::Lost => 0,
            };
            bytes[*at..at + len].copy_from_slice(&sector[..len]);
        }
        RamDisk { bytes }
    }

    /// Returns sectors before a block that were written since the last flush.
    pub fn unflushed_below(&self, block: u32) -> usize {
        self.unflushed.iter().filter(|(at, _)| *at < block as usize * 4096).count()
    }

    /// Returns every outcome of a loss of power, where each sector of superblock and catalogs, and
    /// each block of contents and maps, that was written since the last flush is kept, lost or
    /// torn, up to `most` of them; what is beyond that is kept. Of a block that is torn, every
    /// second sector is whole.
    pub fn every_outcome(&self, most: usize) -> impl Iterator<Item = RamDisk> {
        let unit = |at: usize| if at < 0x3_0000 { at } else { at - at % 4096 };
        let mut units: Vec<usize> = self.unflushed.iter().map(|(at, _)| unit(*at)).collect();
        units.sort_unstable();
        units.dedup();
        units.truncate(most);
        (0..3usize.pow(units.len() as u32)).map(move |outcome| {
            self.after_power_loss_at(|at| {
                let Some(nth) = units.iter().position(|one| *one == unit(at)) else {
                    return Fate::Kept;
                };
                match outcome / 3usize.pow(nth as u32) % 3 {
                    0 => Fate::Kept,
                    1 => Fate::Lost,
                    // Of a superblock, nothing changes in the second half.
                    _ if at < 0x1_0000 => Fate::Cut(12),
                    _ if at >= 0x3_0000 && !(at / SECTOR).is_multiple_of(2) => Fate::Kept,
                    _ => Fate::Torn,
                }
            })
        })
    }

    /// Returns an outcome of a loss of power: seed 0 loses everything that was not flushed, 1 keeps
    /// it, others mix.
    pub fn some_outcome(&self, seed: u64) -> RamDisk {
        let mut random = Random::new(seed);
        self.after_power_loss(|| match seed {
            0 => Fate::Lost,
            1 => Fate::Kept,
            // Mostly kept, mostly lost, or half and half: so that whole catalogs are kept, too.
            _ => match (random.below(12), seed % 3) {
                (0, _) => Fate::Torn,
                (1, 0) => Fate::Lost,
                (_, 0) => Fate::Kept,
                (1, 1) => Fate::Kept,
                (_, 1) => Fate::Lost,
                (n, _) if n % 2 == 0 => Fate::Kept,
                _ => Fate::Lost,
            },
        })
    }

    /// Returns whether this operation fails, and how many of `sectors` it does first.
    fn next_operation(&mut self, sectors: usize) -> Option<usize> {
        let operation = self.operations;
        self.operations += 1;
        if self.power_fails_at == Some(operation) {
            return Some(sectors);
        }
        if self.power_failed() {
            return Some(0);
        }
        let fails = self.fails_at.contains(&operation);
        fails.then(|| Random::new(operation as u64).below(sectors as u64 + 1) as usize)
    }
}

impl BlockDevice for FaultyDisk {
    type Error = Fault;

    fn block_count(&self) -> u64 {
        (self.durable.len() / SECTOR) as u64
    }

    fn read(&mut self, lba: u64, buf: &mut [u8]) -> Result<(), Fault> {
        if self.power_failed() {
            return Err(Fault { write: None });
        }
        let at = lba as usize * SECTOR;
        buf.copy_from_slice(&self.cache[at..at + buf.len()]);
        Ok(())
    }

    fn write(&mut self, lba: u64, data: &[u8]) -> Result<(), Fault> {
        let sectors = data.len() / SECTOR;
        assert_eq!(data.len(), sectors * SECTOR);
        let is_worn = lba < self.worn.end && self.worn.start < lba + sectors as u64;
        let failed = self.next_operation(sectors).or(is_worn.then_some(0));
        self.writes.push(data.len());
        for (n, sector) in data.chunks(SECTOR).enumerate().take(failed.unwrap_or(sectors)) {
            let at = (lba as usize + n) * SECTOR;
            self.cache[at..at + SECTOR].copy_from_slice(sector);
            self.unflushed.push((at, sector.to_vec()));
        }
        failed.map_or(Ok(()), |_| Err(Fault { write: Some(lba) }))
    }

    fn begin_write_while(
        &mut self,
        lba: u64,
        len: usize,
        fill: &mut dyn FnMut(&mut [u8]) -> bool,
    ) -> Result<bool, Fault> {
        let most = if self.depth == 0 { len } else { PIECE };
        for (lba, len) in pieces(lba, len, most.max(1)) {
            let mut data = vec![0; len];
            if !fill(&mut data) {
                return self.failed.map_or(Ok(false), Err);
            }
            self.begun.push((lba, data));
            self.carry_out(self.depth);
        }
        self.failed.map_or(Ok(true), Err)
    }

    fn end_writes(&mut self) -> Result<(), Fault> {
        self.carry_out(0);
        self.failed.take().map_or(Ok(()), Err)
    }

    fn flush(&mut self) -> Result<(), Fault> {
        if self.next_operation(0).is_some() {
            return Err(Fault { write: None });
        }
        self.unflushed.clear();
        self.durable.copy_from_slice(&self.cache);
        Ok(())
    }

    fn request_of(&self, error: &Fault) -> Option<Request> {
        error.write.map(Request::Write)
    }
}

/// A disk that counts how often others might have had the core, what is read, and what is summed.
pub struct Counted {
    disk: RamDisk,
    /// Times that it was asked to let others run.
    pub pauses: usize,
    /// Bytes that were read.
    pub read: usize,
    /// Bytes whose CRC it was asked for.
    pub summed: Cell<usize>,
}

impl Counted {
    pub fn new(disk: RamDisk) -> Self {
        Self { disk, pauses: 0, read: 0, summed: Cell::new(0) }
    }
}

impl BlockDevice for Counted {
    type Error = BeyondEnd;

    fn block_count(&self) -> u64 {
        self.disk.block_count()
    }

    fn read(&mut self, lba: u64, buf: &mut [u8]) -> Result<(), BeyondEnd> {
        self.read += buf.len();
        self.disk.read(lba, buf)
    }

    fn write(&mut self, lba: u64, data: &[u8]) -> Result<(), BeyondEnd> {
        self.disk.write(lba, data)
    }

    fn flush(&mut self) -> Result<(), BeyondEnd> {
        self.disk.flush()
    }

    fn pause(&mut self) {
        self.pauses += 1;
    }

    fn crc32c(&self, bytes: &[u8]) -> u32 {
        self.summed.set(self.summed.get() + bytes.len());
        self.disk.crc32c(bytes)
    }
}

/// Returns the contents of a checkpoint that no other one has.
pub fn contents(seed: u64, len: usize) -> Vec<u8> {
    let mut random = Random::new(seed + 1);
    let words = (0..len.div_ceil(64)).flat_map(|_| [random.below(1 << 32) as u8; 64]);
    words.take(len).collect()
}

/// Returns the contents of a checkpoint of which each block shrinks to some more than its half.
pub fn mixed(seed: u64, len: usize) -> Vec<u8> {
    let mut random = Random::new(seed + 1);
    let byte = |at: usize| if at % 4096 < 2048 { random.below(256) as u8 } else { seed as u8 };
    (0..len).map(byte).collect()
}

/// Returns a disk that is a store with room for `blocks` blocks of data and maps.
pub fn formatted(blocks: u32) -> RamDisk {
    formatted_as(blocks, stasis_store::layout::NEW_VERSION)
}

/// Returns a disk that is a store of this version, with room for `blocks` blocks.
pub fn formatted_as(blocks: u32, version: u32) -> RamDisk {
    let sectors = u64::from(stasis_store::layout::FIRST_DATA_BLOCK + blocks) * 8;
    let mut disk = RamDisk::new(sectors);
    // What stood there before must not matter.
    disk.bytes.fill(0xa5);
    let partition = Partition::whole(&disk);
    Store::format_as(&mut disk, partition, version).unwrap();
    disk
}

pub fn open<D: BlockDevice>(disk: D) -> Store<D> {
    let partition = Partition::whole(&disk);
    Store::open(disk, partition).unwrap()
}

/// Adds a checkpoint, written in pieces of odd lengths.
pub fn add<D: BlockDevice>(
    store: &mut Store<D>,
    name: &str,
    data: &[u8],
) -> Result<u64, stasis_store::Error<D::Error>> {
    let mut writer = store.begin(name, data.len() as u64, 0)?;
    for piece in data.chunks(5000) {
        writer.write(piece)?;
    }
    Ok(writer.commit()?.number)
}

pub fn read<D: BlockDevice>(store: &mut Store<D>, number: u64) -> Vec<u8> {
    let mut reader = store.open_checkpoint(number).unwrap();
    let mut data = vec![0; reader.length() as usize];
    reader.read_at(0, &mut data).unwrap();
    data
}

/// Returns a disk with a store that an older version of this code has made: `tests/golden/store`.
/// The file has the number of sectors, and of each that is not zero its number and its bytes.
pub fn golden(name: &str) -> RamDisk {
    let path = format!("{}/../../tests/golden/store/{name}.sectors", env!("CARGO_MANIFEST_DIR"));
    let bytes = std::fs::read(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    let number = |bytes: &[u8]| u32::from_le_bytes(bytes[..4].try_into().unwrap());
    let mut disk = RamDisk::new(number(&bytes).into());
    for sector in bytes[4..].chunks_exact(4 + SECTOR) {
        let at = number(sector) as usize * SECTOR;
        disk.bytes[at..at + SECTOR].copy_from_slice(&sector[4..]);
    }
    disk
}

/// A user of a volume who makes late writes, as a guest does.
#[derive(Clone, Debug, Default)]
pub struct Writer(Arc<Mutex<Kept>>);

#[derive(Debug, Default)]
struct Kept {
    late: Late,
    is_open: bool,
}

impl Writer {
    /// Makes a late write behind those before. Returns whether it may.
    pub fn write(&self, data: &[u8]) -> bool {
        let kept = &mut *self.0.lock().unwrap();
        let Late { len, buffer, .. } = &mut kept.late;
        if !kept.is_open || *len + data.len() > MOST_LATE {
            return false;
        }
        buffer.resize(MOST_LATE, 0xdb);
        buffer[*len..][..data.len()].copy_from_slice(data);
        *len += data.len();
        true
    }
}

impl LateWrites for Writer {
    fn begin(&self, offset: u64) {
        let kept = &mut *self.0.lock().unwrap();
        (kept.is_open, kept.late.offset, kept.late.len) = (true, offset, 0);
    }

    fn end(&self) -> bool {
        let kept = &mut *self.0.lock().unwrap();
        kept.is_open = false;
        kept.late.len > 0
    }

    fn take(&self) -> Late {
        std::mem::take(&mut self.0.lock().unwrap().late)
    }

    fn put_back(&self, late: Late) {
        self.0.lock().unwrap().late = late;
    }
}
