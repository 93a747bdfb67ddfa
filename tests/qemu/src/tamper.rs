//! Checkpoints that are taken out of a disk, changed, and put back.
//!
//! The file is taken apart and put together again with right checksums by code of its own: a reader
//! that agrees with it agrees with the format, not with itself.

use std::io::{BufReader, Read, Seek, SeekFrom, Write};
use std::path::Path;

use anyhow::{Context, Result, anyhow, bail, ensure};
use crc::{CRC_32_ISCSI, Crc};
use stasis_state::directory::{DirectoryHead, Entry};
use stasis_state::envelope::{RecordHeader, RecordType};
use stasis_state::guest::{GuestPower, GuestPowerState};
use stasis_state::header::{Header, HeaderTail};
use stasis_state::{Capture, GuestState, Index, PageContent, RegHeader, Routines, Target};
use stasis_store::block::SECTOR;
use stasis_store::{Store, partition};
use xtask::disk::{self, FileDisk};
use zerocopy::{FromBytes, IntoBytes};

const CRC32C: Crc<u32> = Crc::<u32>::new(&CRC_32_ISCSI);

/// Bytes of a page, and of the units in which places of blocks are stored.
const PAGE: u64 = stasis_state::PAGE_SIZE as u64;

/// Returns the bytes of a checkpoint on a disk, also of a machine that does not write at the
/// moment.
pub fn get(disk: &Path, number: u64) -> Result<Vec<u8>> {
    let mut store = store(disk)?;
    let mut reader = store.open_checkpoint(number)?;
    let mut bytes = vec![0; usize::try_from(reader.length())?];
    reader.read_at(0, &mut bytes)?;
    Ok(bytes)
}

/// Puts bytes into a store as if they were a checkpoint: its number.
pub fn put(disk: &Path, name: &str, bytes: &[u8]) -> Result<u64> {
    let mut store = disk::store(disk, true)?;
    let mut writer = store.begin(name, bytes.len() as u64, 0)?;
    writer.write(bytes)?;
    Ok(writer.commit()?.number)
}

/// Returns the registers of a good checkpoint.
pub fn state(bytes: &[u8]) -> Result<GuestState> {
    let checkpoint = stasis_state::read(&mut &bytes[..], Routines::default(), &mut |_, _| ())
        .map_err(|error| anyhow!("{error:?}"))?;
    Ok(checkpoint.state)
}

/// Returns the RAM of a good checkpoint of a guest that shares no memory.
pub fn memory(bytes: &[u8]) -> Result<Vec<u8>> {
    let (routines, source) = (Routines::default(), &mut &bytes[..]);
    let checkpoint = stasis_state::read(source, routines, &mut |_, _| ())
        .map_err(|error| anyhow!("{error:?}"))?;
    let mut ram = vec![0; usize::try_from(*checkpoint.state.guest.ram_size)?];
    let target = Target { ram: &mut ram, shared: Vec::new() };
    stasis_state::read_memory(source, &checkpoint, target, routines, &mut |_, _| ())
        .map_err(|error| anyhow!("{error:?}"))?;
    Ok(ram)
}

/// Returns the number of a checkpoint with this one's guest whose memory is in blocks, so that it
/// can be loaded while the guest runs: this one, or one that is put beside it.
pub fn in_blocks(disk: &Path, number: u64) -> Result<u64> {
    let bytes = get(disk, number)?;
    if Index::open(&mut &bytes[..], Routines::default()).is_ok() {
        return Ok(number);
    }
    put(disk, "in-blocks", &captured(&state(&bytes)?, &memory(&bytes)?)?)
}

/// Returns the bytes of a checkpoint of this guest, whose memory is in blocks.
fn captured(state: &GuestState, ram: &Vec<u8>) -> Result<Vec<u8>> {
    let capture = Capture::new(state.records(), ram, &[], Routines::default())?;
    let mut written = Vec::new();
    capture.write(&mut written, &mut |_, _| ()).map_err(|error| anyhow!("{error:?}"))?;
    Ok(written)
}

/// Returns the number of a checkpoint with this one's guest, which is put beside it: in it the
/// guest has switched its machine off, so it does not run when it is resumed.
pub fn switched_off(disk: &Path, number: u64) -> Result<u64> {
    let bytes = get(disk, number)?;
    let (mut state, ram) = (state(&bytes)?, memory(&bytes)?);
    state.power = GuestPower::of(GuestPowerState::Off);
    put(disk, "switched-off", &captured(&state, &ram)?)
}

/// Returns the guest-physical addresses of the pages that a checkpoint says were touched first, in
/// that order.
pub fn touched(bytes: &[u8]) -> Result<Vec<u64>> {
    let opened = Index::open(&mut &bytes[..], Routines::default());
    let (_, index) = opened.map_err(|error| anyhow!("{error:?}"))?;
    let runs = index.touched().iter().map(|run| run.pages());
    Ok(runs.flat_map(|(first, pages)| (0..pages).map(move |n| first + n * PAGE)).collect())
}

/// Returns where the bytes of a checkpoint have the page at a guest-physical address, whose memory
/// is in blocks.
pub fn page_at(bytes: &[u8], address: u64) -> Result<usize> {
    let source = &mut &bytes[..];
    let opened = Index::open(source, Routines::default());
    let (_, index) = opened.map_err(|error| anyhow!("{error:?}"))?;
    let piece = index.piece(source, address).map_err(|error| anyhow!("{error:?}"))?;
    match piece.context("the block is zeros")?.page(address) {
        PageContent::Raw { offset, .. } => Ok(usize::try_from(offset)?),
        other => Err(anyhow!("the page at {address:#x} is {other:?}")),
    }
}

/// Returns where the bytes of a checkpoint have the metadata of the first block with any content.
pub fn first_block(bytes: &[u8]) -> Result<usize> {
    let opened = Index::open(&mut &bytes[..], Routines::default());
    let (_, index) = opened.map_err(|error| anyhow!("{error:?}"))?;
    let first = index.entries().first().context("all of the memory is zeros")?;
    Ok(usize::try_from(first.bytes().start)?)
}

/// Changes a byte of a disk's image, also while a machine has it: as a medium that goes bad.
pub fn spoil(disk: &Path, sector: usize) -> Result<()> {
    let mut image = std::fs::File::options().read(true).write(true).open(disk)?;
    let mut byte = [0];
    let at = (sector * SECTOR + SECTOR / 2) as u64;
    image.seek(SeekFrom::Start(at))?;
    image.read_exact(&mut byte)?;
    image.seek(SeekFrom::Start(at))?;
    Ok(image.write_all(&[!byte[0]])?)
}

/// Returns a sector of a disk's image from which on the image has this page.
pub fn sector_of(disk: &Path, page: &[u8]) -> Result<usize> {
    let mut image = BufReader::with_capacity(1 << 20, std::fs::File::open(disk)?);
    let mut found = vec![0; page.len()];
    let mut sector = 0;
    while image.read_exact(&mut found).is_ok() {
        if found == page {
            return Ok(sector);
        }
        sector += page.len() / SECTOR;
    }
    bail!("the image does not have the page")
}

/// Returns the numbers and names of the checkpoints on a disk.
pub fn list(disk: &Path) -> Result<Vec<(u64, String)>> {
    let store = store(disk)?;
    Ok(store
        .list()
        .iter()
        .map(|checkpoint| (checkpoint.number, checkpoint.name.to_string()))
        .collect())
}

/// Returns the store of a disk that a machine may have open.
fn store(disk: &Path) -> Result<Store<FileDisk>> {
    let mut file = FileDisk::open_unlocked(disk)?;
    let partition = partition::find(&mut file)?;
    Ok(Store::open(file, partition)?)
}

/// A checkpoint, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// The file's header; lengths and checksum are made right in the end.
    pub header: Header,
    /// Whether the header has a tail, with the offset of the directory.
    has_tail: bool,
    /// The offset in units of 4096 bytes at which the first block of memory was.
    first_block: Option<u64>,
    /// The file's records.
    pub records: Vec<Record>,
}

/// A record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The number of its type.
    pub kind: u16,
    /// Which one of that type.
    pub instance: u16,
    /// The record's body, without padding.
    pub body: Vec<u8>,
}

impl Record {
    /// Returns whether the record is of this type.
    pub fn is(&self, kind: RecordType) -> bool {
        self.kind & !RecordHeader::OPTIONAL == kind as u16
    }
}

impl File {
    /// Takes a checkpoint apart. It must be a good one.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let (header, _) = Header::read_from_prefix(bytes).ok().context("no room for a header")?;
        ensure!(
            header.total_len == bytes.len() as u64,
            "the file has {} bytes, not {}",
            bytes.len(),
            header.total_len
        );
        let tail = &bytes[size_of::<Header>()..header.header_len as usize];
        ensure!(header.crc == header_crc(&header, tail), "the header's checksum is wrong");
        let mut rest = &bytes[header.header_len as usize..];
        let (mut records, mut first_block) = (Vec::new(), None);
        while !rest.is_empty() {
            let (record, after) =
                RecordHeader::read_from_prefix(rest).ok().context("no room for a record")?;
            let padded = usize::try_from(record.padded_len())?;
            let content = after.get(..padded).context("a record is cut short")?;
            ensure!(
                record.crc == record_crc(&record, content),
                "record {}: the checksum is wrong",
                records.len()
            );
            let at = (bytes.len() - rest.len()) as u64;
            if record.kind == RecordType::RamBlock as u16 {
                first_block.get_or_insert(at / PAGE);
            }
            records.push(Record {
                kind: record.kind,
                instance: record.instance,
                body: content[..record.length as usize].to_vec(),
            });
            rest = &after[padded..];
        }
        Ok(Self { header, has_tail: !tail.is_empty(), first_block, records })
    }

    /// Puts it together, with the lengths, checksums and places that it then needs.
    pub fn to_bytes(&self) -> Vec<u8> {
        let tail_len = if self.has_tail { size_of::<HeaderTail>() } else { 0 };
        let head = size_of::<Header>() + tail_len;
        let mut bytes = vec![0; head];
        let (mut directory, mut moved) = (0, None);
        for (index, record) in self.records.iter().enumerate() {
            let mut body = record.body.clone();
            let at = bytes.len() as u64;
            let is_block = |record: &Record| record.is(RecordType::RamBlock);
            if record.is(RecordType::Pad) && self.records.get(index + 1).is_some_and(is_block) {
                let start = at + size_of::<RecordHeader>() as u64;
                body = vec![0; (start.next_multiple_of(PAGE) - start) as usize];
            } else if is_block(record) {
                let first = self.first_block.unwrap_or(at / PAGE);
                moved.get_or_insert((at / PAGE).wrapping_sub(first));
            } else if record.is(RecordType::RamDirectory) {
                directory = at;
                shift(&mut body, moved.unwrap_or(0));
            }
            let mut header = RecordHeader {
                kind: record.kind,
                instance: record.instance,
                length: body.len() as u32,
                reserved: 0,
                crc: 0,
            };
            body.resize(body.len().next_multiple_of(8), 0);
            header.crc = record_crc(&header, &body);
            bytes.extend_from_slice(header.as_bytes());
            bytes.extend_from_slice(&body);
        }
        let tail = HeaderTail { directory, reserved: 0 };
        let tail = &tail.as_bytes()[..tail_len];
        let mut header = self.header;
        header.header_len = head as u32;
        header.total_len = bytes.len() as u64;
        header.crc = header_crc(&header, tail);
        bytes[..head].copy_from_slice(&[header.as_bytes(), tail].concat());
        bytes
    }

    /// Makes all of the memory zeros.
    pub fn clear_memory(&mut self) {
        let is_page =
            |record: &Record| record.is(RecordType::RamBlock) || record.is(RecordType::RamPages);
        self.records.retain(|record| !is_page(record));
        for record in &mut self.records {
            if record.is(RecordType::RamDirectory) {
                record.body = vec![0; size_of::<DirectoryHead>()];
            }
        }
    }

    /// Returns the value of a register of the record `R`.
    pub fn register<R: stasis_state::Record>(
        &mut self,
        instance: u16,
        name: &str,
    ) -> Result<&mut [u8]> {
        let id = R::REGISTERS
            .iter()
            .find(|register| register.name == name)
            .with_context(|| format!("there is no register {name}"))?
            .id;
        let record = self
            .records
            .iter_mut()
            .find(|record| record.is(R::TYPE) && record.instance == instance)
            .with_context(|| format!("there is no record {:?} {instance}", R::TYPE))?;
        let mut at = 0;
        while at < record.body.len() {
            let (header, _) = RegHeader::read_from_prefix(&record.body[at..])
                .ok()
                .context("a register is cut short")?;
            let value = at + size_of::<RegHeader>();
            if header.id == id {
                return Ok(&mut record.body[value..value + header.value_len()]);
            }
            at = value + header.value_len().next_multiple_of(8);
        }
        anyhow::bail!("the record {:?} has no register {name}", R::TYPE)
    }

    /// Sets a register that is one number.
    pub fn set<R: stasis_state::Record>(
        &mut self,
        instance: u16,
        name: &str,
        value: u64,
    ) -> Result<()> {
        let bytes = self.register::<R>(instance, name)?;
        let len = bytes.len();
        ensure!(len <= 8, "{name} is not one number");
        bytes.copy_from_slice(&value.to_le_bytes()[..len]);
        Ok(())
    }

    /// Returns all records but those of these types.
    pub fn without(&self, kinds: &[RecordType]) -> Vec<&Record> {
        self.records.iter().filter(|record| !kinds.iter().any(|kind| record.is(*kind))).collect()
    }
}

/// Moves what the entries of a directory say by so many units of 4096 bytes.
fn shift(body: &mut [u8], moved: u64) {
    let (head, rest) = body.split_at_mut(size_of::<DirectoryHead>());
    let blocks = u32::from_le_bytes([head[0], head[1], head[2], head[3]]) as usize;
    for entry in rest.chunks_exact_mut(size_of::<Entry>()).take(blocks) {
        let start = u32::from_le_bytes([entry[8], entry[9], entry[10], entry[11]]);
        entry[8..12].copy_from_slice(&start.wrapping_add(moved as u32).to_le_bytes());
    }
}

fn header_crc(header: &Header, tail: &[u8]) -> u32 {
    let header = Header { crc: 0, ..*header };
    CRC32C.checksum(&[header.as_bytes(), tail].concat())
}

/// Returns the checksum of a record: of RAM_PAGES it covers the header alone.
fn record_crc(header: &RecordHeader, padded: &[u8]) -> u32 {
    let mut digest = CRC32C.digest();
    digest.update(&header.as_bytes()[..RecordHeader::COVERED]);
    if header.kind != RecordType::RamPages as u16 {
        digest.update(padded);
    }
    digest.finalize()
}
