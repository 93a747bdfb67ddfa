//! Bytes as what comes by the channel's line: its owner, its frames, the rules of a session, and
//! the flow of its streams.

use stasis_channel::message::Status;
use stasis_channel::pipe::Pipe;
use stasis_channel::session::{Action, MAX_OPEN, Session};
use stasis_channel::shared::{Shared, WAKE};
use stasis_channel::{Frame, Kind, MAX_PAYLOAD, Reader};

/// Reads the bytes twice: as they are, and as frames that are whole. Of each three bytes then, one
/// is the kind, one the id, one the length of the payload.
pub fn run(data: &[u8]) {
    serve(data);
    let mut line = WAKE.to_vec();
    let mut add = |kind, id, payload: &[u8]| {
        Frame { kind, id, payload }.write(&mut |bytes| line.extend_from_slice(bytes));
    };
    add(Kind::Hello, 0, &[1, 1, 1, 0, 0, 0, 0]);
    let mut rest = data;
    while let [kind, id, len, behind @ ..] = rest {
        let kind = Kind::ALL[usize::from(*kind) % Kind::ALL.len()];
        let payload = &behind[..behind.len().min((*len).into())];
        add(kind, (*id % 24).into(), payload);
        rest = &behind[payload.len()..];
    }
    serve(&line);
}

/// A machine that does what it is told, and whose clients are granted nothing by it but by the
/// rules.
fn serve(line: &[u8]) {
    let (mut shared, mut reader, mut session) = (Shared::new(), Reader::new(), Session::new());
    for byte in line {
        let Some(byte) = shared.take(*byte, &mut |_| ()) else { continue };
        match reader.push(byte) {
            None => {}
            Some(Err(damage)) => session.damage(damage),
            Some(Ok(frame)) => {
                assert!(frame.payload.len() <= MAX_PAYLOAD);
                act(&mut session, frame);
            }
        }
    }
}

fn act(session: &mut Session, frame: Frame) {
    let id = frame.id;
    match session.take(frame) {
        Action::Request { id, line } => assert!(id != 0 && line.len() <= MAX_PAYLOAD),
        Action::Open { id, .. } => assert!(id != 0 && session.pipe(id).is_some()),
        Action::Cancel(id) => assert!(session.close(id)),
        Action::End { id, status, why } => {
            assert!(status != Status::Done && !why.is_empty());
            session.close(id);
        }
        Action::Leave | Action::Refuse => assert!(!session.is_open()),
        _ => {}
    }
    assert!(session.pong().len() <= 4 + 2 * MAX_OPEN);
    if let Some(pipe) = session.pipe(id) {
        answer(pipe);
    }
}

/// Reads a half of what has come, sends it back, and sends what may be sent.
fn answer(pipe: &mut Pipe) {
    for _ in 0..pipe.waiting() / 2 {
        let byte = pipe.read().expect("it waits");
        pipe.write(&[byte]);
    }
    while let Some((_, payload)) = pipe.next_frame() {
        assert!(payload.len() <= MAX_PAYLOAD);
    }
}
