//! Finds the name of a checkpoint's guest without reading all of the file.

use alloc::string::String;
use alloc::vec;

use crate::{
    RecordType,
    decode::decode,
    envelope::Name,
    error::{Error, LoadError},
    guest::Guest,
    input::Source,
    reader::MAX_REGISTERS_LEN,
    routines::Routines,
    walk::Walk,
};

/// Bytes that are read at once. The record with the name is mostly the first.
const BUFFER: usize = 512;

/// Returns the name of a checkpoint's guest, or `?` if its record holds no name. Checks only the
/// file's header and the record with the name.
///
/// # Errors
///
/// [`LoadError::Source`] if the source fails, [`LoadError::Format`] if the file is no checkpoint or
/// has no such record.
pub fn read_name<S: Source>(
    source: &mut S,
    routines: Routines,
) -> Result<String, LoadError<S::Error>> {
    let mut walk = Walk::new(source, routines.crc32c, BUFFER)?;
    while let Some(mut open) = walk.next()? {
        let place = open.place;
        if place.record_type() != Some(RecordType::Guest) || open.length > MAX_REGISTERS_LEN {
            walk.skip(open);
            continue;
        }
        let mut body = vec![0; open.padded_len()];
        walk.read(&mut open, &mut body)?;
        walk.finish(&open)?;
        let mut guest = Guest::default();
        decode(&mut guest, place, &body[..open.length as usize])?;
        return Ok(String::from(guest.name_text()));
    }
    Err(Error::RecordMissing(Name(RecordType::Guest, 0)).into())
}
