//! A file taken apart into its records, to be put together again with one thing wrong and every CRC
//! right.

use stasis_state::{
    PAGE_SIZE, RecordHeader, RecordType, RegHeader,
    directory::{DirectoryHead, Entry},
    header::{Header, HeaderTail},
    memory::{Extent, Kind},
    routines::crc32c,
};
use zerocopy::{FromBytes, Immutable, IntoBytes};

#[derive(Clone, Debug)]
pub struct Edited {
    pub header: Header,
    /// What follows the header, up to its length.
    pub tail: Vec<u8>,
    pub records: Vec<EditedRecord>,
    /// The unit of 4096 bytes at which the first block began.
    pub first_block: u32,
    /// Whether the places in the header, in PAD and in RAM_DIRECTORY are made right.
    pub is_laid_out: bool,
}

#[derive(Clone, Debug)]
pub struct EditedRecord {
    pub header: RecordHeader,
    pub body: Vec<u8>,
}

impl EditedRecord {
    pub fn is(&self, kind: RecordType) -> bool {
        self.header.kind & !RecordHeader::OPTIONAL == kind as u16
    }

    /// Returns the bytes of the record, with a length and CRCs that are right.
    fn to_bytes(&self) -> Vec<u8> {
        let mut header = self.header;
        header.length = self.body.len() as u32;
        let mut body = self.body.clone();
        body.resize(body.len().next_multiple_of(8), 0);
        header.crc = crc32c(0, &header.as_bytes()[..RecordHeader::COVERED]);
        if !self.is(RecordType::RamPages) {
            header.crc = crc32c(header.crc, &body);
        }
        [header.as_bytes(), &body].concat()
    }
}

impl Edited {
    pub fn from_file(file: &[u8]) -> Self {
        let (header, rest) = Header::read_from_prefix(file).unwrap();
        let (tail, mut rest) = rest.split_at(header.header_len as usize - Header::LEN);
        let (tail, mut records, mut first_block) = (tail.to_vec(), Vec::<EditedRecord>::new(), 0);
        while !rest.is_empty() {
            let at = file.len() - rest.len();
            let (header, body) = RecordHeader::read_from_prefix(rest).unwrap();
            let (body, after) = body.split_at(header.length as usize);
            rest = &after[header.padded_len() as usize - body.len()..];
            let record = EditedRecord { header, body: body.to_vec() };
            if record.is(RecordType::RamBlock) && first_block == 0 {
                first_block = (at / PAGE_SIZE) as u32;
            }
            records.push(record);
        }
        Self { header, tail, records, first_block, is_laid_out: true }
    }

    /// Returns the file, with lengths and CRCs that are right.
    pub fn to_file(&self) -> Vec<u8> {
        let mut bytes = [self.header.as_bytes(), &self.tail].concat();
        let mut moved = None;
        for (record, next) in
            self.records.iter().zip(self.records.iter().skip(1).map(Some).chain([None]))
        {
            let mut record = record.clone();
            if self.is_laid_out {
                if record.is(RecordType::Pad)
                    && next.is_some_and(|next| next.is(RecordType::RamBlock))
                {
                    let body = bytes.len() + RecordHeader::LEN;
                    record.body = vec![0; body.next_multiple_of(PAGE_SIZE) - body];
                }
                if record.is(RecordType::RamBlock) {
                    let at = (bytes.len() / PAGE_SIZE) as i64;
                    moved.get_or_insert(at - i64::from(self.first_block));
                }
                if record.is(RecordType::RamDirectory) {
                    if self.tail.len() >= 8 {
                        let at = bytes.len() as u64;
                        bytes[Header::LEN..][..8].copy_from_slice(&at.to_le_bytes());
                    }
                    shift(&mut record.body, moved.unwrap_or(0));
                }
            }
            bytes.extend_from_slice(&record.to_bytes());
        }
        let total_len = bytes.len() as u64;
        sign(&mut bytes, |header| header.total_len = total_len);
        bytes
    }

    /// Returns the file as the writer of minors 0 to 4 wrote it: with the memory, the given ranges
    /// of which ascend, in MEMORY records.
    pub fn into_older_file(mut self, minor: u16, memory: &[(u64, &[u8])]) -> Vec<u8> {
        self.header.minor = minor;
        self.header.header_len = Header::LEN as u32;
        self.tail.clear();
        let memory_like = [
            RecordType::RamBlock,
            RecordType::RamPages,
            RecordType::RamDirectory,
            RecordType::Pad,
            RecordType::Memory,
        ];
        self.records.retain(|record| !memory_like.iter().any(|kind| record.is(*kind)));
        for (address, bytes) in memory {
            let pages: Vec<&[u8]> = bytes.chunks(PAGE_SIZE).collect();
            let is_zero = |page: &&[u8]| page.iter().all(|&byte| byte == 0);
            let mut address = *address;
            for run in pages.chunk_by(|a, b| is_zero(a) == is_zero(b)) {
                let most =
                    if is_zero(&run[0]) { run.len() } else { Extent::MAX_RAW_PAGES as usize };
                for run in run.chunks(most) {
                    let kind = if is_zero(&run[0]) { Kind::Zero } else { Kind::Raw } as u32;
                    let extent = Extent { address, pages: run.len() as u32, kind };
                    let mut body = extent.as_bytes().to_vec();
                    if kind == Kind::Raw as u32 {
                        body.extend_from_slice(&run.concat());
                    }
                    let end = self.records.len() - 1;
                    self.insert(end, RecordType::Memory as u16, 0, &body);
                    address += extent.memory_len();
                }
            }
        }
        self.to_file()
    }

    pub fn position(&self, kind: RecordType, instance: u16) -> usize {
        self.records
            .iter()
            .position(|record| record.is(kind) && record.header.instance == instance)
            .expect("there is such a record")
    }

    pub fn record(&mut self, kind: RecordType, instance: u16) -> &mut EditedRecord {
        let position = self.position(kind, instance);
        &mut self.records[position]
    }

    /// Inserts a record before the one at `position`.
    pub fn insert(&mut self, position: usize, kind: u16, instance: u16, body: &[u8]) {
        let mut header = RecordHeader::new(RecordType::End, instance, 0);
        header.kind = kind;
        let body = body.to_vec();
        self.records.insert(position, EditedRecord { header, body });
    }
}

/// Moves what the entries of a directory say by so many units.
fn shift(body: &mut [u8], moved: i64) {
    let Ok((head, _)) = DirectoryHead::read_from_prefix(body) else { return };
    let rest = &mut body[size_of::<DirectoryHead>()..];
    let entries = (head.blocks as usize).min(rest.len() / size_of::<Entry>());
    for bytes in rest.as_chunks_mut::<{ size_of::<Entry>() }>().0.iter_mut().take(entries) {
        let start = &mut bytes[8..12];
        let old = u32::from_le_bytes(start.try_into().unwrap());
        start.copy_from_slice(&((i64::from(old) + moved) as u32).to_le_bytes());
    }
}

/// Changes the tail of the header of a file, and gives it the right CRC.
pub fn sign_tail(file: &mut [u8], change: impl FnOnce(&mut HeaderTail)) {
    change_copy(&mut file[Header::LEN..HeaderTail::END], change);
    sign(file, |_| ());
}

/// Changes the header of a file, and gives it the right CRC.
pub fn sign(file: &mut [u8], change: impl FnOnce(&mut Header)) {
    change_copy(file, |header: &mut Header| {
        change(header);
        header.crc = 0;
    });
    let (header, _) = Header::read_from_prefix(file).unwrap();
    let end = (header.header_len as usize).min(file.len());
    let crc = crc32c(0, &file[..end]);
    change_copy(file, |header: &mut Header| header.crc = crc);
}

/// Changes what bytes begin with, in a copy: bytes of a file lie in memory as they like.
fn change_copy<T: FromBytes + IntoBytes + Immutable>(
    bytes: &mut [u8],
    change: impl FnOnce(&mut T),
) {
    let (mut value, _) = T::read_from_prefix(bytes).unwrap();
    change(&mut value);
    value.write_to_prefix(bytes).unwrap();
}

/// Returns a register as it stands in a body.
pub fn register(header: RegHeader, value: &[u8]) -> Vec<u8> {
    let mut bytes = header.as_bytes().to_vec();
    bytes.extend_from_slice(value);
    bytes.resize(bytes.len().next_multiple_of(8), 0);
    bytes
}

/// Returns the header of a scalar.
pub fn scalar(id: u16, width: u8) -> RegHeader {
    RegHeader { id, width, flags: 0, first: 0, count: 1 }
}
