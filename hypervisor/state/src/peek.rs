//! Tells whose checkpoint a file is, without reading all of it.

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

/// Bytes read at once: the record that is looked for is mostly the first.
const BUFFER: usize = 512;

/// The name of a checkpoint's guest. Nothing is checked but the record that it stands in, and what comes before.
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
