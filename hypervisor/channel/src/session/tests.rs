//! A client that keeps to the rules, and one that does not.

use super::*;
use crate::message::Progress;
use proptest::prelude::*;

fn frame(kind: Kind, id: u16, payload: &[u8]) -> Frame<'_> {
    Frame { kind, id, payload }
}

fn begun() -> Session {
    let mut session = Session::new();
    assert_eq!(
        session.take(frame(Kind::Hello, 0, &[1, 3, WANTS_EVENTS, 5, 6, 7, 8, b'x'])),
        Action::Begin
    );
    assert!(session.wants_events());
    session
}

#[test]
fn nothing_is_done_before_a_hello() {
    let mut session = Session::new();
    assert_eq!(session.take(frame(Kind::Request, 1, b"quit")), Action::Nothing);
    assert_eq!(session.take(frame(Kind::Hello, 0, &[2, 9, 0, 5, 6, 7, 8])), Action::Refuse);
    assert_eq!(session.refusal(), [VERSION, VERSION, 5, 6, 7, 8]);
    assert_eq!(session.take(frame(Kind::Hello, 0, &[1])), Action::Refuse);
    assert_eq!(session.take(frame(Kind::Request, 1, b"quit")), Action::Nothing);
}

#[test]
fn a_request_is_under_way_until_it_is_closed() {
    let mut session = begun();
    assert_eq!(session.take(frame(Kind::Cancel, 5, &[])), Action::Nothing);
    let request = frame(Kind::Request, 5, b"guests");
    assert_eq!(session.take(request), Action::Request { id: 5, line: "guests" });
    assert_eq!(session.take(request), Action::Nothing, "the id is in use");
    assert_eq!(session.take(frame(Kind::Cancel, 5, &[])), Action::Cancel(5));
    assert_eq!(session.pong(), [0, 0, 0, 0, 5, 0]);
    assert!(session.close(5) && !session.close(5));
    assert_eq!(session.take(request), Action::Request { id: 5, line: "guests" });
}

#[test]
fn a_hello_ends_what_another_client_had_under_way() {
    let mut session = begun();
    session.take(frame(Kind::Open, 2, b"attach linux"));
    assert_eq!(session.take(frame(Kind::Hello, 0, &[1, 1, 0, 5, 6, 7, 8])), Action::Begin);
    assert!(!session.has(2) && !session.wants_events());
    assert_eq!(session.take(frame(Kind::Bye, 0, &[])), Action::Leave);
    assert_eq!(session.take(frame(Kind::Ping, 1, &[])), Action::Nothing);
}

#[test]
fn what_breaks_a_rule_is_refused_by_name() {
    let mut session = begun();
    let refused = |action| match action {
        Action::End { status, .. } => status,
        other => panic!("{other:?}"),
    };
    assert_eq!(refused(session.take(frame(Kind::Request, 0, b"guests"))), Status::Protocol);
    assert_eq!(refused(session.take(frame(Kind::Request, 1, b"\xff"))), Status::Mistyped);
    for id in 1..=MAX_OPEN as u16 {
        session.take(frame(Kind::Open, id, b"attach linux"));
    }
    assert_eq!(refused(session.take(frame(Kind::Request, 99, b"guests"))), Status::Busy);
    assert_eq!(refused(session.take(frame(Kind::Data, 1, &[1]))), Status::Protocol);
    assert_eq!(refused(session.take(frame(Kind::Data, 1, &[0, 0, 0, 0, 7]))), Status::Lost);
    assert_eq!(session.take(frame(Kind::Grant, 1, &[9, 0, 0, 0])), Action::Look(1));
    assert_eq!(session.take(frame(Kind::Welcome, 1, &[])), Action::Nothing);
}

#[test]
fn payloads_come_back() {
    let payload = begun().welcome(0x1234_5678, "Stasis");
    let back = Welcome::parse(&payload).unwrap();
    assert_eq!(
        back,
        Welcome { version: VERSION, nonce: [5, 6, 7, 8], boot: 0x1234_5678, name: "Stasis" }
    );
    let payload = [&Progress::head(3, 7)[..], b"stored"].concat();
    assert_eq!(Progress::parse(&payload), Some(Progress { done: 3, total: 7, what: "stored" }));
    assert_eq!(Progress::parse(&payload[..15]), None);
    for code in 0..=u8::MAX {
        assert!(Status::of(code).is_none_or(|status| status as u8 == code));
    }
}

proptest! {
    #[test]
    fn any_frames_keep_what_is_under_way_bounded(
        frames in proptest::collection::vec(
            (proptest::sample::select(Kind::ALL), 0..20u16, proptest::collection::vec(any::<u8>(), 0..9)),
            0..200,
        )
    ) {
        let mut session = begun();
        for (kind, id, payload) in &frames {
            session.take(frame(*kind, *id, payload));
            prop_assert!(session.pong().len() <= 4 + 2 * MAX_OPEN);
            while let Some((_, payload)) = session.pipe(*id).and_then(Pipe::next_frame) {
                prop_assert!(payload.len() <= MAX_PAYLOAD);
            }
        }
    }
}
