//! What stands below the lists of checkpoints and of volumes: how much room the store has
//! ([`Room`]), and what else there is to know of it ([`StoreEnd`]).

use core::fmt::{self, Write};

use crate::text::Size;

/// How much room a store has, in bytes.
#[derive(Clone, Copy, Debug)]
pub struct Room {
    /// Bytes that are free.
    pub free: u64,
    /// Bytes that it has in all.
    pub capacity: u64,
}

impl Room {
    /// Writes it to `out`, below the list of volumes: as text for a person, or as JSON.
    ///
    /// # Errors
    ///
    /// The errors of `out`.
    pub fn write(self, out: &mut dyn Write, json: bool) -> fmt::Result {
        let Self { free, capacity } = self;
        match json {
            true => writeln!(out, "{{\"free\":{free},\"capacity\":{capacity}}}"),
            false => writeln!(out, "{} of {} free", Size(free), Size(capacity)),
        }
    }
}

/// What stands below the list of a store's checkpoints.
#[derive(Clone, Copy, Debug)]
pub struct StoreEnd<'a> {
    /// How much room there is.
    pub room: Room,
    /// How new checkpoints are compressed; `None` if they are not.
    pub compression: Option<&'a str>,
    /// The numbers of the checkpoints whose block maps are damaged.
    pub damaged: &'a [u64],
}

impl StoreEnd<'_> {
    /// Writes it to `out`: as text for a person, or as JSON.
    ///
    /// # Errors
    ///
    /// The errors of `out`.
    pub fn write(self, out: &mut dyn Write, json: bool) -> fmt::Result {
        let Self { room, compression, damaged } = self;
        if json {
            let (Room { free, capacity }, how) = (room, compression.unwrap_or("none"));
            return writeln!(
                out,
                "{{\"free\":{free},\"capacity\":{capacity},\"compress\":\"{how}\",\"damaged\":{damaged:?}}}"
            );
        }
        room.write(out, false)?;
        if let Some(how) = compression {
            writeln!(out, "new checkpoints are compressed by {how}")?;
        }
        damaged.iter().try_for_each(|number| {
            writeln!(
                out,
                "the block map of checkpoint {number} is damaged: some or all of it can't be read"
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use std::string::String;

    use super::*;

    const ROOM: Room = Room { free: 3 << 20, capacity: 8 << 20 };

    fn written(end: StoreEnd<'_>, json: bool) -> String {
        let mut out = String::new();
        end.write(&mut out, json).unwrap();
        out
    }

    #[test]
    fn a_person_and_a_program_read_the_same_of_a_store() {
        let end = StoreEnd { room: ROOM, compression: None, damaged: &[] };
        let plain =
            "{\"free\":3145728,\"capacity\":8388608,\"compress\":\"none\",\"damaged\":[]}\n";
        assert_eq!(written(end, true), plain);
        assert_eq!(written(end, false), "3.0 MiB of 8.0 MiB free\n");
        let end = StoreEnd { compression: Some("lz4"), damaged: &[4, 7], ..end };
        let lz4 =
            "{\"free\":3145728,\"capacity\":8388608,\"compress\":\"lz4\",\"damaged\":[4, 7]}\n";
        assert_eq!(written(end, true), lz4);
        let lines = "3.0 MiB of 8.0 MiB free\nnew checkpoints are compressed by lz4\n\
            the block map of checkpoint 4 is damaged: some or all of it can't be read\n\
            the block map of checkpoint 7 is damaged: some or all of it can't be read\n";
        assert_eq!(written(end, false), lines);
        let mut out = String::new();
        ROOM.write(&mut out, true).unwrap();
        assert_eq!(out, "{\"free\":3145728,\"capacity\":8388608}\n");
    }
}
