//! Reads the registers of a record's body into the record.

use alloc::vec::Vec;

use zerocopy::FromBytes;

use crate::{
    envelope::RecordPlace,
    error::Error,
    register::{Descriptor, Record, RegHeader, VALUE_OFFSET, padding},
};

/// Sets the registers of `record` that `body` contains; the others keep their value. Returns how
/// many registers were skipped: those that are unknown, not 0, and marked as optional.
///
/// # Errors
///
/// The first rule of the format that the body breaks.
pub(crate) fn decode<R: Record>(
    record: &mut R,
    place: RecordPlace,
    body: &[u8],
) -> Result<u32, Error> {
    decode_into(record.as_mut_bytes(), R::REGISTERS, place, body)
}

/// Does the work of [`decode`] for every kind of record. `record` is the bytes of one, and
/// `registers` the table of its kind.
pub(crate) fn decode_into(
    record: &mut [u8],
    registers: &'static [Descriptor],
    place: RecordPlace,
    body: &[u8],
) -> Result<u32, Error> {
    let mut seen = 0u64;
    let mut skipped = 0;
    let mut unknown = Vec::new();
    let mut rest = body;
    // Nearly all files hold the registers in the order of the table, so the next one is tried
    // first.
    let mut expected = 0;
    while !rest.is_empty() {
        let at = body.len() - rest.len();
        let cut = Error::RegisterCut { place, at };
        let (header, after) = RegHeader::read_from_prefix(rest).map_err(|_| cut.clone())?;
        let len = header.value_len();
        let (value, after) = after.split_at_checked(len).ok_or(cut.clone())?;
        let (pad, after) = after.split_at_checked(padding(len)).ok_or(cut)?;
        rest = after;
        check_header(place, &header)?;
        let id = header.id;
        if pad.iter().any(|&byte| byte != 0) {
            return Err(Error::RegisterPadding { place, id });
        }
        let known = find(registers, id, expected);
        let Some((index, register)) = known else {
            if unknown.contains(&id) {
                return Err(Error::RegisterTwice { place, id });
            }
            unknown.push(id);
            if value.iter().all(|&byte| byte == 0) {
                continue;
            }
            if header.flags & RegHeader::OPTIONAL != 0 {
                skipped += 1;
                continue;
            }
            return Err(Error::UnknownRegister { place, id });
        };
        expected = index + 1;
        if seen & 1 << index != 0 {
            return Err(Error::RegisterTwice { place, id });
        }
        seen |= 1 << index;
        let target = target(place, register, &header)?;
        record[target..target + len].copy_from_slice(value);
    }
    Ok(skipped)
}

/// Checks the header of a register, known or unknown: width, flags and count.
fn check_header(place: RecordPlace, header: &RegHeader) -> Result<(), Error> {
    let &RegHeader { id, width, flags, .. } = header;
    if !matches!(width, 1 | 2 | 4 | 8 | 16) {
        return Err(Error::RegisterWidth { place, id, width });
    }
    if flags & !RegHeader::OPTIONAL != 0 {
        return Err(Error::RegisterFlags { place, id, flags });
    }
    if header.count == 0 {
        return Err(Error::RegisterEmpty { place, id });
    }
    Ok(())
}

fn find(
    registers: &'static [Descriptor],
    id: u16,
    expected: usize,
) -> Option<(usize, &'static Descriptor)> {
    if let Some(register) = registers.get(expected)
        && register.id == id
    {
        return Some((expected, register));
    }
    registers.iter().enumerate().find(|(_, register)| register.id == id)
}

/// Returns the offset in the record to which the elements go that the header announces.
///
/// # Errors
///
/// [`Error::WrongWidth`] or [`Error::WrongCount`] if the register has no such elements.
fn target(
    place: RecordPlace,
    register: &'static Descriptor,
    header: &RegHeader,
) -> Result<usize, Error> {
    let shape = register.shape;
    let name = register.name;
    if header.width != shape.width {
        return Err(Error::WrongWidth { place, name, found: header.width, expected: shape.width });
    }
    let (first, count) = (header.first, header.count);
    if u32::from(first) + u32::from(count) > u32::from(shape.count) {
        return Err(Error::WrongCount { place, name, first, count, limit: shape.count });
    }
    Ok(register.offset + VALUE_OFFSET + usize::from(first) * usize::from(shape.width))
}
