//! Bytes that someone chose, with every CRC right.

use crate::{
    common::{edit::sign, load, load_ram},
    edited, small,
};
use proptest::prelude::*;
use stasis_state::header::Header;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn no_body_of_any_record_makes_the_reader_panic(
        position in any::<prop::sample::Index>(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        kind in prop::option::weighted(0.2, any::<u16>()),
        instance in prop::option::weighted(0.2, 0u16..10),
        length in prop::option::weighted(0.2, 0usize..9000),
    ) {
        let file = edited(|file| {
            let position = position.index(file.records.len());
            let record = &mut file.records[position];
            if let Some(length) = length {
                record.body.resize(length, 0);
            }
            for (at, value) in changes {
                if !record.body.is_empty() {
                    let at = at.index(record.body.len());
                    record.body[at] = value;
                }
            }
            record.header.kind = kind.unwrap_or(record.header.kind);
            record.header.instance = instance.unwrap_or(record.header.instance);
        });
        if let Ok(checkpoint) = load(&file)
            && *checkpoint.state.guest.ram_size < 1 << 20
        {
            load_ram(&file, &checkpoint).unwrap();
        }
    }

    #[test]
    fn no_bytes_after_a_good_header_make_the_reader_panic(
        bytes in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let mut file = small()[..Header::LEN].to_vec();
        file.extend_from_slice(&bytes);
        let total_len = file.len() as u64;
        sign(&mut file, |header| header.total_len = total_len);
        prop_assert!(load(&file).is_err());
    }
}
