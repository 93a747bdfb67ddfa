//! A checkpoint's memory for tools: the extents one after the other, never more than one in memory.

use alloc::{vec, vec::Vec};

use zerocopy::{FromZeros, IntoBytes};

use crate::{
    RecordType,
    error::{Error, LoadError},
    input::Source,
    memory::{Extent, Kind},
    reader::Checkpoint,
    routines::{PAGE_SIZE, Routines},
    walk::Walk,
};

/// Bytes read at once between the pages.
const BUFFER: usize = 4 * 1024;

/// Hands every extent of a file that [`crate::read`] has checked to `each`, with its pages, or without where
/// all are zero.
pub fn read_extents<S: Source>(
    source: &mut S,
    checkpoint: &Checkpoint,
    routines: Routines,
    each: &mut dyn FnMut(&Extent, Option<&[u8]>),
) -> Result<(), LoadError<S::Error>> {
    let mut walk = Walk::new(source, routines.crc32c, BUFFER)?;
    if walk.header() != checkpoint.header {
        return Err(Error::Changed.into());
    }
    let mut pages: Vec<u8> = vec![];
    while let Some(mut open) = walk.next()? {
        let place = open.place;
        if place.record_type() != Some(RecordType::Memory) {
            walk.skip(open);
            continue;
        }
        if open.length < Extent::LEN as u32 {
            return Err(Error::Changed.into());
        }
        let mut extent = Extent::new_zeroed();
        walk.read(&mut open, extent.as_mut_bytes())?;
        match extent.check(place, open.length).map_err(|_| Error::Changed)? {
            Kind::Zero => {
                walk.finish(&open)?;
                each(&extent, None);
            }
            Kind::Raw => {
                pages.resize(extent.pages as usize * PAGE_SIZE, 0);
                walk.read(&mut open, &mut pages)?;
                walk.finish(&open)?;
                each(&extent, Some(&pages));
            }
        }
    }
    Ok(())
}
