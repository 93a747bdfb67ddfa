//! A machine that is a socket, a port of TCP or a serial line, and answers as the channel's
//! specification says; and the tool, as its user starts it.

use std::io::{Read, Write};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Command;
use std::sync::mpsc::{Receiver, Sender, channel};

use stasis_channel::message::{Hello, Status};
use stasis_channel::session::welcome;
use stasis_channel::{Frame, Kind, Reader};

fn send(line: &mut impl Write, kind: Kind, id: u16, payload: &[u8]) {
    let mut bytes = Vec::new();
    Frame { kind, id, payload }.write(&mut |piece| bytes.extend_from_slice(piece));
    // The tool may have left.
    let _ = line.write_all(&bytes);
}

/// Answers as a machine that is busy with a checkpoint, until the line is closed: lists of guests
/// at once, all else when it is given up, and the list of checkpoints has come to its end by then.
/// A request `lost` is not known, as if the line had lost that. Tells of each frame that has come.
pub fn serve(mut from: impl Read, mut to: impl Write, told: &Sender<Kind>) {
    let (mut reader, mut byte, mut nearly_done) = (Reader::new(), [0], None);
    let mut lost = Vec::new();
    while from.read(&mut byte).is_ok_and(|count| count == 1) {
        let Some(Ok(Frame { kind, id, payload })) = reader.push(byte[0]) else { continue };
        match kind {
            Kind::Hello => {
                let nonce = Hello::parse(payload).unwrap().nonce;
                send(&mut to, Kind::Welcome, 0, &welcome(nonce, 7, "a machine"));
            }
            Kind::Request if payload == b"guests" => {
                send(&mut to, Kind::Text, id, b"a list\n");
                send(&mut to, Kind::Done, id, &[Status::Done as u8]);
            }
            Kind::Request if payload == b"guests --json" => {
                send(&mut to, Kind::Rows, id, b"{\"name\":\"counter\"}\n{\"name\":\"idle\"}\n");
                send(&mut to, Kind::Done, id, &[Status::Done as u8]);
            }
            Kind::Request if payload == b"lost" => lost.push(id),
            // QEMU closes the line.
            Kind::Request if payload == b"quit" => return,
            Kind::Request if payload == b"store --json" => nearly_done = Some(id),
            // The end was on its way already.
            Kind::Cancel if nearly_done == Some(id) => {
                send(&mut to, Kind::Done, id, &[Status::Done as u8]);
            }
            Kind::Cancel => send(&mut to, Kind::Done, id, &[Status::GivenUp as u8, b'n', b'o']),
            Kind::Ping if lost.contains(&id) => send(&mut to, Kind::Pong, id, &[0; 4]),
            Kind::Ping => send(&mut to, Kind::Pong, id, &[&[0; 4][..], &id.to_le_bytes()].concat()),
            Kind::Bye => send(&mut to, Kind::Done, 0, &[Status::Done as u8]),
            _ => {}
        }
        // The test may have ended.
        let _ = told.send(kind);
    }
}

/// Starts a machine at a socket in this folder. Returns what leads to it, and the kinds of the
/// frames that come.
pub fn at_a_socket(folder: &Path) -> (String, Receiver<Kind>) {
    let path = folder.join("machine");
    let listener = UnixListener::bind(&path).unwrap();
    let (told, kinds) = channel();
    std::thread::spawn(move || {
        // QEMU has one at a time, too.
        for line in listener.incoming().map(Result::unwrap) {
            serve(line.try_clone().unwrap(), line, &told);
        }
    });
    (format!("unix:{}", path.display()), kinds)
}

/// Returns the tool, whose user has this folder for sockets.
pub fn stasis(folder: &Path, words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_stasis"));
    command.env("XDG_RUNTIME_DIR", folder).env_remove("STASIS_TO").args(words);
    command
}
