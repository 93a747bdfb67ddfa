//! Names that could be taken for something else at the console, or in a line of it.

use crate::{
    common::{edit::Edited, edit::sign, load, save, shared, state},
    small_of_1_0,
};
use stasis_state::{Error, RecordType, guest::Guest, invariants};
use zerocopy::IntoBytes;

/// What is no name, and how messages have it.
const ODD: [(&[u8], &str); 9] = [
    (b"x\nok", r#""x\nok""#),
    (b"a\x1b[2J", r#""a\x1b[2J""#),
    (b"\xc3\xa4", r#""\xc3\xa4""#),
    (b"0", r#""0""#),
    (b"all", r#""all""#),
    (b"a,b", r#""a,b""#),
    (b"a/b", r#""a/b""#),
    (b"two words", r#""two words""#),
    (b"", r#""""#),
];

/// Returns the small file, of a guest with this name and of this minor.
fn called(name: &[u8], minor: u16) -> Vec<u8> {
    let mut guest: Guest = state(1, 4 * 4096).guest;
    *guest.name = [0; 32];
    guest.name[..name.len()].copy_from_slice(name);
    let mut file = Edited::from_file(&small_of_1_0());
    file.record(RecordType::Guest, 0).body = guest.as_bytes().to_vec();
    let mut file = file.to_file();
    sign(&mut file, |header| header.minor = minor);
    file
}

#[test]
fn a_guest_is_called_by_the_rule_since_1_3() {
    for (name, shown) in ODD {
        let line = load(&called(name, 3)).unwrap_err().to_string();
        let expected = format!("GUEST: name is {shown}, which it cannot be: ");
        assert!(line.starts_with(&expected), "{line}");
        assert!(line.chars().all(|c| !c.is_control()), "{line:?}");
    }
    assert!(load(&called(b"linux-6.1_b", 3)).is_ok());
}

#[test]
fn a_guest_of_an_older_file_is_loaded_and_goes_on_under_another_name() {
    for (name, shown) in ODD {
        let mut state = load(&called(name, 2)).unwrap().state;
        assert_eq!(state.guest.name_text(), "?");
        let refusal = crate::host().check(&state).unwrap_err();
        assert!(matches!(refusal, Error::HostName { .. }), "{refusal}");
        let line = refusal.to_string();
        let expected =
            format!("the guest is called {shown}, which no guest can be since format 1.3: ");
        assert!(line.starts_with(&expected), "{line}");
        assert!(line.ends_with("; resume it under another name, with \"as NAME\""), "{line}");
        assert!(invariants::check(&state.records()).is_err(), "it is not written again");
        state.guest.set_name("other");
        assert_eq!(crate::host().check(&state), Ok(()));
        let memory = vec![0; 4 * 4096];
        assert_eq!(load(&save(&state, &memory).0).unwrap().state, state);
    }
}

#[test]
fn what_guests_share_is_called_by_the_rule_of_guests() {
    for (name, _) in ODD {
        let (mut state, mut regions) = (state(1, 4096), shared());
        regions.name[32..64].fill(0);
        regions.name[32..][..name.len()].copy_from_slice(name);
        state.devices.shared = Some(regions);
        let line = invariants::check(&state.records()).unwrap_err().to_string();
        assert!(line.starts_with("DEVICE_SHARED_MEMORY: name"), "{line}");
    }
}
