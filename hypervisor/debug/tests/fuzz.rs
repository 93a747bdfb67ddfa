//! The fuzz target `gdb`, with random packets of the right letters.

use proptest::prelude::*;

#[path = "../../../tests/fuzz/src/gdb.rs"]
mod gdb;

proptest! {
    #[test]
    fn whatever_packets_come_the_guest_stays_a_guest(
        lines in prop::collection::vec(
            "[!@]?[$gGmMpPzZcsvHTDkqQ?]([0-9a-fx,:;.#c\u{3}-]|vCont|Cont;s:1|40000000|00000000){0,24}",
            0..20,
        ),
    ) {
        gdb::run(lines.join("\n").as_bytes());
    }
}
