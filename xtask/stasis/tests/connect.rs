//! `stasis connect` and the tools that find it, with a machine that is a socket, a port of TCP or a
//! serial line, and answers as the channel's specification says.

mod machine;
mod patience;

use std::fs::File;
use std::io::{self, Write};
use std::net::TcpListener;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Child, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};

use machine::{at_a_socket, serve, stasis};
use nix::pty::openpty;
use nix::sys::signal::{Signal, kill};
use nix::sys::termios::{SetArg, cfmakeraw, tcgetattr, tcsetattr};
use nix::unistd::{Pid, ttyname};
use patience::{PATIENCE, wait_for};
use stasis_channel::Kind;

fn run(folder: &Path, words: &[&str]) -> Output {
    stasis(folder, words).output().unwrap()
}

/// Starts the tool, and returns it when the machine has got a frame of this kind of it.
fn started(folder: &Path, words: &[&str], kinds: &Receiver<Kind>, until: Kind) -> Child {
    kinds.try_iter().for_each(drop);
    let child = stasis(folder, words).stderr(Stdio::piped()).spawn().unwrap();
    while kinds.recv_timeout(PATIENCE).unwrap() != until {}
    child
}

/// Sends a signal to a tool. Returns its exit code and what it has said.
fn ended_by(signal: Signal, child: Child) -> (Option<i32>, String) {
    kill(Pid::from_raw(child.id() as i32), signal).unwrap();
    let output = child.wait_with_output().unwrap();
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

fn code_and_words(output: &Output) -> (Option<i32>, String) {
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn tools_find_a_connect_that_runs_and_it_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let (machine, kinds) = at_a_socket(folder.path());
    let place = folder.path().join("stasis.sock");
    let (code, said) = code_and_words(&run(folder.path(), &["ctl", "guests"]));
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("`stasis connect unix:PATH`"), "{said}");
    // Somebody was killed before, and has left this.
    drop(UnixListener::bind(&place).unwrap());
    let (code, said) = code_and_words(&run(folder.path(), &["ctl", "guests"]));
    assert!(code == Some(3) && said.contains("has ended; start it again"), "{said}");
    let connect = started(folder.path(), &["connect", &machine], &kinds, Kind::Hello);
    let list = wait_for("the list", || {
        let output = run(folder.path(), &["ctl", "guests"]);
        output.status.success().then_some(output)
    });
    assert_eq!(list.stdout, b"a list\n");
    let (code, said) = code_and_words(&run(folder.path(), &["connect", &machine]));
    assert!(code == Some(1) && said.contains("another `stasis connect` serves there"), "{said}");
    // The machine's own socket is one that another tool has.
    let words = ["ctl", "--to", &machine, "--patience", "1", "guests"];
    let (code, said) = code_and_words(&run(folder.path(), &words));
    assert!(code == Some(3) && said.contains("another tool has the channel"), "{said}");
    assert_eq!(ended_by(Signal::SIGTERM, connect).0, Some(0));
    assert!(kinds.try_iter().any(|kind| kind == Kind::Bye), "the machine is not told");
    assert!(!place.exists(), "the socket is still there");
}

#[test]
fn a_machine_is_reached_by_a_port_and_by_a_serial_line() {
    let folder = tempfile::tempdir().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = format!("tcp:{}", listener.local_addr().unwrap());
    let (told, kinds) = channel();
    let of_port = told.clone();
    std::thread::spawn(move || {
        let (line, _) = listener.accept().unwrap();
        serve(line.try_clone().unwrap(), line, &of_port);
    });
    let serial = openpty(None, None).unwrap();
    let mut settings = tcgetattr(&serial.slave).unwrap();
    cfmakeraw(&mut settings);
    tcsetattr(&serial.slave, SetArg::TCSANOW, &settings).unwrap();
    let device = ttyname(&serial.slave).unwrap().display().to_string();
    let line = File::from(serial.master);
    std::thread::spawn(move || serve(line.try_clone().unwrap(), line, &told));
    for target in [&port, &device] {
        let connect = started(folder.path(), &["connect", target], &kinds, Kind::Hello);
        let list = wait_for("the list", || {
            let output = run(folder.path(), &["ctl", "guests"]);
            output.status.success().then_some(output)
        });
        assert_eq!(list.stdout, b"a list\n", "{target}");
        assert_eq!(ended_by(Signal::SIGINT, connect).0, Some(0), "{target}");
    }
}

/// Each is asked again by a person, and must not be waited for, nor take one of the 16 places.
#[test]
fn a_request_that_the_line_has_lost_is_not_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let (machine, kinds) = at_a_socket(folder.path());
    let said = "error: the line has lost the end of the answer; ask again\n".to_owned();
    let alone = run(folder.path(), &["ctl", "--to", &machine, "lost"]);
    assert_eq!(code_and_words(&alone), (Some(4), said.clone()));
    let connect = started(folder.path(), &["connect", &machine], &kinds, Kind::Hello);
    wait_for("the list", || run(folder.path(), &["ctl", "guests"]).status.success().then_some(()));
    // More than a session has room for, all at a time.
    let tools = (0..20).map(|_| {
        let words = ["ctl", "--timeout", "60", "lost"];
        stasis(folder.path(), &words).stderr(Stdio::piped()).spawn().unwrap()
    });
    let tools: Vec<Child> = tools.collect();
    for tool in tools {
        let (code, words) = code_and_words(&tool.wait_with_output().unwrap());
        assert!(code == Some(1) && words.contains("of all clients") || words == said, "{words}");
    }
    let after = run(folder.path(), &["ctl", "--timeout", "60", "lost"]);
    assert_eq!(code_and_words(&after), (Some(4), said));
    assert_eq!(ended_by(Signal::SIGTERM, connect).0, Some(0));
}

#[test]
fn a_command_is_given_up_by_a_signal_and_by_its_time_limit() {
    let folder = tempfile::tempdir().unwrap();
    let (machine, kinds) = at_a_socket(folder.path());
    let to = ["ctl", "--to", &machine];
    let checkpoint = [&to[..], &["checkpoint", "linux"]].concat();
    let child = started(folder.path(), &checkpoint, &kinds, Kind::Request);
    // The machine's own words say what has become of it.
    assert_eq!(ended_by(Signal::SIGINT, child), (Some(6), "error: no\n".to_owned()));
    let file = folder.path().join("file").display().to_string();
    let get = [&to[..], &["get", "1", &file]].concat();
    let child = started(folder.path(), &get, &kinds, Kind::Request);
    assert_eq!(ended_by(Signal::SIGTERM, child).0, Some(6));
    // The list that it begins with is done all the same, and what comes behind it is given up.
    let late = [&to[..], &["--timeout", "1", "get", "1", &file]].concat();
    let (code, said) = code_and_words(&run(folder.path(), &late));
    assert!(code == Some(7) && said.contains("longer than --timeout"), "{said}");
    let child = started(folder.path(), &[&to[..], &["events"]].concat(), &kinds, Kind::Ping);
    assert_eq!(ended_by(Signal::SIGINT, child), (Some(0), String::new()));
    kinds.try_iter().for_each(drop);
    let late = ["ctl", "--to", &machine, "checkpoint", "linux", "--timeout", "1"];
    let (code, said) = code_and_words(&run(folder.path(), &late));
    assert!(code == Some(7) && said.contains("longer than --timeout"), "{said}");
    assert!(kinds.try_iter().any(|kind| kind == Kind::Cancel), "the machine is not told");
}

#[test]
fn a_machine_that_was_switched_off_has_done_what_it_was_told() {
    let folder = tempfile::tempdir().unwrap();
    let (machine, _kinds) = at_a_socket(folder.path());
    let (code, said) = code_and_words(&run(folder.path(), &["ctl", "--to", &machine, "quit"]));
    assert_eq!((code, said.as_str()), (Some(0), ""));
}

#[test]
fn what_is_mistyped_or_leads_nowhere_is_told_in_a_line_with_its_own_exit_code() {
    let folder = tempfile::tempdir().unwrap();
    let nowhere = format!("unix:{}", folder.path().join("none").display());
    let own = format!("unix:{}", folder.path().join("./stasis.sock").display());
    for (words, code, part) in [
        (&["ctl", "--to", "udp:x:1", "guests"][..], 2, "none of unix:PATH, tcp:HOST:PORT"),
        (&["ctl", "--to", &nowhere, "guests"], 3, "there is no such socket; does the machine run?"),
        (&["ctl", "--to", "tcp:127.0.0.1:1", "guests"], 3, "nobody listens there"),
        (&["ctl", "--to", "/dev/null", "guests"], 3, "/dev/null is no serial device"),
        (&["ctl", "get", "one"], 2, "it is `stasis ctl get CHECKPOINT FILE`"),
        (&["ctl", "output"], 2, "it is `stasis ctl output FOLDER [GUEST...]`"),
        (&["ctl", "attach", "linux"], 2, "`stasis attach GUEST` is a guest's terminal"),
        (&["ctl", "cancel"], 2, "Ctrl-C gives up a command"),
        (&["ctl", "guests", "--to"], 2, "--to has no value"),
        (&["ctl", "guests", "--timeout", "soon"], 2, "--timeout has no value, or not a right one"),
        (&["ctl", "guests", "--to", &nowhere], 3, "there is no such socket"),
        (&["ctl", "wait", "guest=a", "state=of"], 2, "did you mean \"off\"?"),
        (&["ctl", "guests", "--to=udp:x:1"], 2, "none of unix:PATH, tcp:HOST:PORT"),
        (&["ctl", "guests", "--baud", "9600", "--to", &nowhere], 1, "--baud is for a serial"),
        (&["ctl", "guests", "--timeout=18446744073709551615", "--to", &nowhere], 3, "no such"),
        (&["connect"], 2, "where is the machine?"),
        (&["connect", &own], 2, "is where this command serves, and not the machine"),
        (&["top"], 1, "there is no terminal to draw on"),
    ] {
        let (found, said) = code_and_words(&run(folder.path(), words));
        assert!(found == Some(code) && said.contains(part), "{words:?}: {found:?} {said}");
    }
    let empty = stasis(folder.path(), &["connect"]).env("STASIS_TO", "").output().unwrap();
    let (code, said) = code_and_words(&empty);
    assert!(code == Some(2) && said.contains("where is the machine?"), "{said}");
}

/// A line on which a machine says welcome, and nothing more.
struct Curt {
    line: UnixStream,
    has_spoken: bool,
}

impl Write for Curt {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match std::mem::replace(&mut self.has_spoken, true) {
            true => Ok(bytes.len()),
            false => self.line.write_all(bytes).map(|()| bytes.len()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Starts a machine at a socket in this folder that says no more than welcome. Returns what leads
/// to it, and the kinds of the frames that come.
fn curt_at_a_socket(folder: &Path) -> (String, Receiver<Kind>) {
    let path = folder.join("curt");
    let listener = UnixListener::bind(&path).unwrap();
    let (told, kinds) = channel();
    std::thread::spawn(move || {
        for line in listener.incoming().map(Result::unwrap) {
            let from = line.try_clone().unwrap();
            serve(from, Curt { line, has_spoken: false }, &told);
        }
    });
    (format!("unix:{}", path.display()), kinds)
}

#[test]
fn a_second_ctrl_c_while_the_machine_is_told_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let (machine, kinds) = curt_at_a_socket(folder.path());
    let words = ["connect", &machine, "--patience", "60"];
    let connect = started(folder.path(), &words, &kinds, Kind::Hello);
    let place = folder.path().join("stasis.sock");
    wait_for("the session", || kinds.try_iter().any(|kind| kind == Kind::Ping).then_some(()));
    kill(Pid::from_raw(connect.id() as i32), Signal::SIGINT).unwrap();
    while kinds.recv_timeout(PATIENCE).unwrap() != Kind::Bye {}
    assert_eq!(ended_by(Signal::SIGINT, connect).0, Some(0));
    assert!(!place.exists(), "the socket is still there");
}

#[test]
fn output_that_is_ended_before_the_first_list_has_come_is_no_failure() {
    let folder = tempfile::tempdir().unwrap();
    let (machine, kinds) = curt_at_a_socket(folder.path());
    let said = folder.path().join("said").display().to_string();
    let words = ["ctl", "--to", &machine, "--patience", "60", "output", &said];
    let output = started(folder.path(), &words, &kinds, Kind::Request);
    assert_eq!(ended_by(Signal::SIGINT, output), (Some(0), String::new()));
}

#[test]
fn a_tool_that_was_suspended_for_longer_than_its_patience_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let (machine, kinds) = at_a_socket(folder.path());
    let words = ["ctl", "--to", &machine, "--patience", "5", "events"];
    let events = started(folder.path(), &words, &kinds, Kind::Ping);
    let pid = Pid::from_raw(events.id() as i32);
    // Amid two pings, of which the first is answered: nothing has come when it goes on.
    std::thread::sleep(std::time::Duration::from_millis(400));
    kill(pid, Signal::SIGSTOP).unwrap();
    std::thread::sleep(std::time::Duration::from_secs(7));
    kinds.try_iter().for_each(drop);
    kill(pid, Signal::SIGCONT).unwrap();
    while kinds.recv_timeout(PATIENCE).unwrap() != Kind::Ping {}
    assert_eq!(ended_by(Signal::SIGINT, events), (Some(0), String::new()));
}

#[test]
fn a_debugger_whose_terminal_is_closed_leaves_the_guest() {
    let folder = tempfile::tempdir().unwrap();
    let (machine, kinds) = at_a_socket(folder.path());
    let words = ["gdb", "counter", "--to", &machine, "--", "-q", "-nx"];
    for signal in [Signal::SIGTERM, Signal::SIGHUP] {
        let gdb = started(folder.path(), &words, &kinds, Kind::Open);
        // The debugger's standard error is this pipe, too: it has ended when that is.
        let (code, said) = ended_by(signal, gdb);
        assert!(code == Some(6) && said.contains("given up"), "{signal}: {code:?} {said}");
        assert!(kinds.try_iter().any(|kind| kind == Kind::Bye), "{signal}: no word to the machine");
    }
}
