//! A client and a machine that loses frames, or whose guest says what a machine says.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use stasis_channel::message::Hello;
use stasis_channel::session::welcome;
use stasis_channel::{Frame, Kind, Reader, VERSION};
use stasis_client::{Client, Error, Message, Options, Status};

/// Starts a machine that answers a hello by `greet` and all other frames by `answer`, and returns a
/// session with it.
fn session(
    greet: fn(&mut UnixStream, [u8; 4]),
    answer: fn(&mut UnixStream, Frame),
) -> Result<Client, Error> {
    session_of(greet, answer, Duration::from_secs(20))
}

/// Returns a session whose client waits as long as `patience` for the machine's signs of life.
fn session_of(
    greet: fn(&mut UnixStream, [u8; 4]),
    answer: fn(&mut UnixStream, Frame),
    patience: Duration,
) -> Result<Client, Error> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("machine");
    let listener = UnixListener::bind(&path).unwrap();
    std::thread::spawn(move || {
        let (mut line, _) = listener.accept().unwrap();
        let (mut reader, mut byte) = (Reader::new(), [0]);
        while line.read_exact(&mut byte).is_ok() {
            match reader.push(byte[0]) {
                Some(Ok(Frame { kind: Kind::Hello, payload, .. })) => {
                    greet(&mut line, Hello::parse(payload).unwrap().nonce);
                }
                Some(Ok(frame)) => answer(&mut line, frame),
                _ => {}
            }
        }
    });
    let target = format!("unix:{}", path.display()).parse().unwrap();
    Client::connect(&target, Options { patience, ..Options::default() })
}

fn send(line: &mut UnixStream, kind: Kind, id: u16, payload: &[u8]) {
    let mut bytes = Vec::new();
    Frame { kind, id, payload }.write(&mut |piece| bytes.extend_from_slice(piece));
    // The client may have left.
    let _ = line.write_all(&bytes);
}

fn greet(line: &mut UnixStream, nonce: [u8; 4]) {
    send(line, Kind::Welcome, 0, &welcome(nonce, 7, "a machine"));
}

#[test]
fn what_a_guest_has_said_before_is_not_the_machines_answer() {
    let client = session(
        |line, nonce| {
            send(line, Kind::Refused, 0, &[9, 9, 1, 2, 3, 4]);
            send(line, Kind::Welcome, 0, &welcome([1, 2, 3, 4], 7, "a guest"));
            send(line, Kind::Done, 1, &[0]);
            // The client reads that before the machine answers.
            std::thread::sleep(Duration::from_millis(200));
            greet(line, nonce);
        },
        |line, frame| {
            if frame.kind == Kind::Request {
                send(line, Kind::Done, frame.id, &[Status::Failed as u8, b'n', b'o']);
            }
        },
    );
    let mut client = client.unwrap();
    assert_eq!(client.machine(), "a machine");
    let error = client.answer("quit").unwrap_err();
    assert_eq!((error.to_string().as_str(), error.exit_code()), ("no", 1));
}

#[test]
fn a_machine_of_another_version_is_named() {
    let refuse = |line: &mut UnixStream, nonce: [u8; 4]| {
        send(line, Kind::Refused, 0, &[[VERSION + 1, VERSION + 2].as_slice(), &nonce].concat());
    };
    let error = session(refuse, |_, _| ()).unwrap_err();
    assert!(error.to_string().contains("version 2 to 3"), "{error}");
    assert_eq!(error.exit_code(), 5);
}

#[test]
fn the_end_of_a_stream_that_the_line_has_lost_is_missed() {
    let client = session(greet, |line, frame| {
        if frame.kind == Kind::Ping {
            send(line, Kind::Pong, frame.id, &[0; 4]);
        }
    });
    let mut client = client.unwrap();
    let id = client.open("get 1").unwrap();
    assert!(matches!(client.next_for(id), Err(Error::Damaged)));
}

#[test]
fn an_end_behind_data_that_the_line_has_lost_is_a_loss() {
    let client = session(greet, |line, frame| {
        if frame.kind == Kind::Open {
            send(line, Kind::Data, frame.id, b"\0\0\0\0abc");
            send(line, Kind::End, frame.id, &[9, 0, 0, 0]);
        }
    });
    let mut client = client.unwrap();
    let id = client.open("get 1").unwrap();
    assert_eq!(client.next_for(id).unwrap(), Message::Data { id, bytes: b"abc".to_vec() });
    let end = client.next_for(id).unwrap();
    assert!(matches!(&end, Message::Done { status: Status::Lost, .. }), "{end:?}");
}

#[test]
fn a_machine_that_was_reset_in_the_midst_is_not_taken_for_the_one_before() {
    static BOOT: AtomicU32 = AtomicU32::new(1);
    let greet = |line: &mut UnixStream, nonce: [u8; 4]| {
        let boot = BOOT.fetch_add(1, Ordering::Relaxed);
        send(line, Kind::Welcome, 0, &welcome(nonce, boot, "a machine"));
    };
    // What it was asked for before, the machine does not know any more.
    let client = session_of(greet, |_, _| (), Duration::from_secs(2));
    let error = client.unwrap().answer("checkpoint linux").unwrap_err();
    assert!(matches!(error, Error::Reset), "{error:?}");
    assert_eq!(error.exit_code(), 4);
}
