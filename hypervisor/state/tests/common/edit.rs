//! A file taken apart into its records, to be put together again with one thing wrong and every CRC right.

use stasis_state::{RecordHeader, RecordType, RegHeader, header::Header, routines::crc32c};
use zerocopy::{FromBytes, IntoBytes};

#[derive(Clone, Debug)]
pub struct Edited {
    pub header: Header,
    pub records: Vec<EditedRecord>,
}

#[derive(Clone, Debug)]
pub struct EditedRecord {
    pub header: RecordHeader,
    pub body: Vec<u8>,
}

impl Edited {
    pub fn from_file(file: &[u8]) -> Self {
        let (header, mut rest) = Header::read_from_prefix(file).unwrap();
        let mut records = Vec::new();
        while !rest.is_empty() {
            let (header, body) = RecordHeader::read_from_prefix(rest).unwrap();
            let (body, after) = body.split_at(header.length as usize);
            rest = &after[header.padded_len() as usize - body.len()..];
            let body = body.to_vec();
            records.push(EditedRecord { header, body });
        }
        Self { header, records }
    }

    /// Returns the file, with lengths and CRCs that are right.
    pub fn to_file(&self) -> Vec<u8> {
        let mut bytes = self.header.as_bytes().to_vec();
        for record in &self.records {
            let mut header = record.header;
            header.length = record.body.len() as u32;
            let mut body = record.body.clone();
            body.resize(body.len().next_multiple_of(8), 0);
            let covered = &header.as_bytes()[..RecordHeader::COVERED];
            header.crc = crc32c(crc32c(0, covered), &body);
            bytes.extend_from_slice(header.as_bytes());
            bytes.extend_from_slice(&body);
        }
        let total_len = bytes.len() as u64;
        sign(&mut bytes, |header| header.total_len = total_len);
        bytes
    }

    pub fn position(&self, kind: RecordType, instance: u16) -> usize {
        self.records
            .iter()
            .position(|r| r.header.kind == kind as u16 && r.header.instance == instance)
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

/// Changes the header of a file, and gives it the right CRC.
pub fn sign(file: &mut [u8], change: impl FnOnce(&mut Header)) {
    let (header, _) = Header::mut_from_prefix(file).unwrap();
    change(header);
    header.crc = 0;
    let end = (header.header_len as usize).min(file.len());
    let crc = crc32c(0, &file[..end]);
    Header::mut_from_prefix(file).unwrap().0.crc = crc;
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
