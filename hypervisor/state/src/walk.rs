//! Walks over the records of a file, and checks what is common to all of them: lengths and CRCs.

use core::ops::Range;

use zerocopy::{FromZeros, IntoBytes};

use crate::{
    RecordHeader,
    envelope::RecordPlace,
    error::{Error, LoadError},
    header::{Header, HeaderTail},
    input::{Input, Source},
    memory,
    ram::WriteRam,
    routines::{PAGE_SIZE, PIECE},
};

type Result<T, S> = core::result::Result<T, LoadError<<S as Source>::Error>>;

pub(crate) struct Walk<'s, S> {
    input: Input<'s, S>,
    crc32c: fn(u32, &[u8]) -> u32,
    header: Header,
    tail: HeaderTail,
    index: u32,
}

/// A record whose header was read.
pub(crate) struct Open {
    pub(crate) place: RecordPlace,
    pub(crate) length: u32,
    /// Bytes of the body, with its padding, that were not read yet.
    left: u64,
    reserved: u32,
    crc: u32,
    stored_crc: u32,
}

impl Open {
    /// Returns the bytes of the body with its padding.
    pub(crate) fn padded_len(&self) -> usize {
        self.length.next_multiple_of(8) as usize
    }
}

impl<'s, S: Source> Walk<'s, S> {
    /// Reads and checks the file's header, and returns a walk that stands before the first record.
    pub(crate) fn new(
        source: &'s mut S,
        crc32c: fn(u32, &[u8]) -> u32,
        buffer_len: usize,
    ) -> Result<Self, S> {
        let mut input = Input::new(source, buffer_len);
        let file_len = input.left();
        let mut header = Header::new_zeroed();
        let present = file_len.min(Header::LEN as u64) as usize;
        input.read(&mut header.as_mut_bytes()[..present]).map_err(LoadError::Source)?;
        if present < Header::LEN {
            header.check_beginning(present)?;
            return Err(truncated(file_len, Header::LEN as u64));
        }
        header.check_shape()?;
        let header_len = u64::from(header.header_len);
        if file_len < header_len {
            return Err(truncated(file_len, header_len));
        }
        let mut unsigned = header;
        unsigned.crc = 0;
        let mut computed = crc32c(0, unsigned.as_bytes());
        let mut left = header_len - Header::LEN as u64;
        let mut tail = HeaderTail::default();
        if header.has_tail() {
            input.read(tail.as_mut_bytes()).map_err(LoadError::Source)?;
            computed = crc32c(computed, tail.as_bytes());
            left -= size_of::<HeaderTail>() as u64;
        }
        while left > 0 {
            let chunk = input.chunk(left).map_err(LoadError::Source)?;
            computed = crc32c(computed, chunk);
            left -= chunk.len() as u64;
        }
        if computed != header.crc {
            let found = header.crc;
            return Err(Error::HeaderCrc { found, computed }.into());
        }
        header.check_content(file_len)?;
        if tail.reserved != 0 {
            return Err(Error::HeaderReserved { found: tail.reserved as u32 }.into());
        }
        Ok(Self { input, crc32c, header, tail, index: 0 })
    }

    /// Returns the offset of the record RAM_DIRECTORY that the header states; 0 if it states none.
    pub(crate) fn directory(&self) -> u64 {
        self.tail.directory
    }

    /// Goes on at `offset`, which lies behind what was read, without reading what is before it.
    ///
    /// # Errors
    ///
    /// [`Error::HeaderDirectory`] if `offset` does not lie there.
    pub(crate) fn jump(&mut self, offset: u64) -> Result<(), S> {
        let far = offset.checked_sub(self.at()).filter(|far| *far <= self.left());
        self.input.skip(far.ok_or(Error::HeaderDirectory { found: offset })?);
        Ok(())
    }

    pub(crate) fn header(&self) -> Header {
        self.header
    }

    /// Returns how many bytes of the file are left.
    pub(crate) fn left(&self) -> u64 {
        self.input.left()
    }

    /// Returns how many bytes of the file were passed so far.
    pub(crate) fn at(&self) -> u64 {
        self.input.at()
    }

    /// Lets others have the core, as [`Source::pause`] says.
    pub(crate) fn pause(&mut self) {
        self.input.pause();
    }

    /// Reads the header of the next record and returns it; `None` at the end of the file.
    pub(crate) fn next(&mut self) -> Result<Option<Open>, S> {
        self.pause();
        let left = self.input.left();
        if left == 0 {
            return Ok(None);
        }
        let index = self.index;
        if left < RecordHeader::LEN as u64 {
            return Err(Error::RecordHeaderCut { index, left }.into());
        }
        let mut header = RecordHeader::new_zeroed();
        self.input.read(header.as_mut_bytes()).map_err(LoadError::Source)?;
        let place = RecordPlace { index, kind: header.kind, instance: header.instance };
        self.index = index.saturating_add(1);
        let left = self.input.left();
        let length = header.padded_len();
        if length > left {
            return Err(Error::RecordCut { place, length, left }.into());
        }
        let covered = &header.as_bytes()[..RecordHeader::COVERED];
        let crc = (self.crc32c)(0, covered);
        Ok(Some(Open {
            place,
            length: header.length,
            left: length,
            reserved: header.reserved,
            crc,
            stored_crc: header.crc,
        }))
    }

    /// Fills `out` with the next bytes of the body. The caller has checked that as many are left.
    pub(crate) fn read(&mut self, open: &mut Open, out: &mut [u8]) -> Result<(), S> {
        debug_assert!(out.len() as u64 <= open.left);
        self.input.read(out).map_err(LoadError::Source)?;
        open.crc = (self.crc32c)(open.crc, out);
        open.left -= out.len() as u64;
        Ok(())
    }

    /// Copies the next bytes of the body to `bytes` of a guest's memory. The caller has checked
    /// that as many are left. The CRC is that of what is in the memory then.
    pub(crate) fn read_memory(
        &mut self,
        open: &mut Open,
        ram: &mut dyn WriteRam,
        bytes: Range<usize>,
    ) -> Result<(), S> {
        self.copy_to(open, ram, bytes.clone())?;
        let crc = memory::crc32c(ram, open.crc, bytes, &mut || self.input.pause());
        open.crc = crc.map_err(|_| Error::Changed)?;
        Ok(())
    }

    /// Copies the next bytes of the body to `bytes` of a guest's memory, without their CRC. The
    /// caller has checked that as many are left.
    pub(crate) fn copy_to(
        &mut self,
        open: &mut Open,
        ram: &mut dyn WriteRam,
        bytes: Range<usize>,
    ) -> Result<(), S> {
        debug_assert!(bytes.len() as u64 <= open.left);
        let (mut at, mut written) = (bytes.start, Ok(()));
        let take = &mut |piece: &[u8]| {
            written = written.and_then(|()| ram.write(at, piece));
            at += piece.len();
        };
        self.input.read_with(bytes.len(), take).map_err(LoadError::Source)?;
        written.map_err(|_| Error::Changed)?;
        open.left -= bytes.len() as u64;
        Ok(())
    }

    /// Returns the CRC of the next page of the body alone. The caller has checked that it is left.
    pub(crate) fn page_crc(&mut self, open: &mut Open) -> Result<u32, S> {
        debug_assert!(PAGE_SIZE as u64 <= open.left);
        let (mut crc, mut left) = (0, PAGE_SIZE as u64);
        while left > 0 {
            let chunk = self.input.chunk(left).map_err(LoadError::Source)?;
            crc = (self.crc32c)(crc, chunk);
            left -= chunk.len() as u64;
        }
        open.left -= PAGE_SIZE as u64;
        Ok(crc)
    }

    /// Fills `page` with the next page of the body, and returns its CRC alone. The caller has
    /// checked that it is left.
    pub(crate) fn read_page(&mut self, open: &mut Open, page: &mut [u8]) -> Result<u32, S> {
        debug_assert!(page.len() as u64 <= open.left);
        self.input.read(page).map_err(LoadError::Source)?;
        open.left -= page.len() as u64;
        Ok((self.crc32c)(0, page))
    }

    /// Reads what is left of the body, for its CRC alone.
    pub(crate) fn digest(&mut self, open: &mut Open) -> Result<(), S> {
        while open.left > 0 {
            let chunk = self.input.chunk(open.left.min(PIECE as u64)).map_err(LoadError::Source)?;
            open.crc = (self.crc32c)(open.crc, chunk);
            open.left -= chunk.len() as u64;
            self.pause();
        }
        Ok(())
    }

    /// Passes the rest of the body without reading it.
    pub(crate) fn skip(&mut self, open: Open) {
        self.input.skip(open.left);
    }

    /// Ends a record whose body has been read to its end: checks its CRC and its reserved field.
    pub(crate) fn finish(&self, open: &Open) -> Result<(), S> {
        debug_assert_eq!(open.left, 0);
        self.check_head(open)
    }

    /// Checks the CRC of what was read of a record, and its reserved field. Before the body is
    /// read, that is the header's.
    pub(crate) fn check_head(&self, open: &Open) -> Result<(), S> {
        let Open { place, crc, .. } = *open;
        if crc != open.stored_crc {
            return Err(Error::RecordCrc { place, found: open.stored_crc, computed: crc }.into());
        }
        if open.reserved != 0 {
            return Err(Error::RecordReserved { place }.into());
        }
        Ok(())
    }
}

fn truncated<E>(has: u64, needs: u64) -> LoadError<E> {
    Error::Truncated { has, needs }.into()
}
