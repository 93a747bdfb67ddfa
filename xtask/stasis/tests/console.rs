//! `stasis console` at a terminal, whose other end is the test, with a machine that is a socket or
//! another terminal.

mod patience;

use std::fs::File;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::pty::openpty;
use nix::sys::signal::{Signal, kill};
use nix::sys::termios::{BaudRate, LocalFlags, Termios, cfgetospeed, tcgetattr};
use nix::unistd::{Pid, ttyname};
use patience::wait_for;

/// A terminal: the end at which a person sits, and the end that programs have.
struct Terminal {
    person: File,
    program: File,
}

impl Terminal {
    fn new() -> Self {
        let pair = openpty(None, None).unwrap();
        // A child that had the person's end, too, would never see it gone.
        for end in [&pair.master, &pair.slave] {
            fcntl(end, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).unwrap();
        }
        Self { person: pair.master.into(), program: pair.slave.into() }
    }

    fn path(&self) -> PathBuf {
        ttyname(&self.program).unwrap()
    }

    fn settings(&self) -> Termios {
        tcgetattr(&self.program).unwrap()
    }

    fn is_raw(&self) -> bool {
        !self.settings().local_flags.intersects(LocalFlags::ICANON | LocalFlags::ECHO)
    }
}

/// `stasis console` at a terminal.
struct Console {
    terminal: Terminal,
    child: Child,
    seen: Arc<Mutex<Vec<u8>>>,
    before: Termios,
}

impl Console {
    fn start(words: &[&str]) -> Self {
        let terminal = Terminal::new();
        let before = terminal.settings();
        let end = || Stdio::from(terminal.program.try_clone().unwrap());
        let child = command(words).stdin(end()).stdout(end()).stderr(end()).spawn().unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (mut person, copy) = (terminal.person.try_clone().unwrap(), Arc::clone(&seen));
        std::thread::spawn(move || {
            let mut piece = [0; 4096];
            while let Ok(count @ 1..) = person.read(&mut piece) {
                copy.lock().unwrap().extend_from_slice(&piece[..count]);
            }
        });
        Self { terminal, child, seen, before }
    }

    /// Returns the console that is connected to a machine, when its terminal is raw.
    fn connected(words: &[&str]) -> Self {
        let console = Self::start(words);
        wait_for("a raw terminal", || console.terminal.is_raw().then_some(()));
        console
    }

    fn screen(&self) -> String {
        String::from_utf8_lossy(&self.seen.lock().unwrap()).into_owned()
    }

    fn sees(&self, text: &str) {
        wait_for(&format!("{text:?} on the screen {:?}", self.screen()), || {
            self.screen().contains(text).then_some(())
        });
    }

    fn type_in(&mut self, keys: &[u8]) {
        self.terminal.person.write_all(keys).unwrap();
    }

    /// Waits for the end, and checks that the terminal has the settings from before.
    fn ends(mut self) -> (ExitStatus, String) {
        let status = wait_for("the end", || self.child.try_wait().unwrap());
        let screen = wait_for("the last words", || {
            let screen = self.screen();
            (status.success() || screen.contains("error:")).then_some(screen)
        });
        assert_eq!(self.terminal.settings(), self.before, "{screen}");
        (status, screen)
    }
}

impl Drop for Console {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn command(words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_stasis"));
    command.arg("console").args(words);
    command
}

/// A machine that listens at a socket in a folder, and the target that leads there.
fn machine(folder: &Path) -> (UnixListener, String) {
    let path = folder.join("serial");
    (UnixListener::bind(&path).unwrap(), format!("unix:{}", path.display()))
}

/// Returns what a machine is sent next, of this length.
fn receive(machine: &mut impl Read, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    machine.read_exact(&mut bytes).unwrap();
    bytes
}

#[test]
fn keys_go_to_the_machine_as_they_are_and_its_bytes_to_the_terminal() {
    let folder = tempfile::tempdir().unwrap();
    let (listener, target) = machine(folder.path());
    let mut console = Console::connected(&[&target]);
    let mut machine = listener.accept().unwrap().0;
    // Ctrl-C, Ctrl-Z, Ctrl-S, Ctrl-D, return, Ctrl-]; and Ctrl-A, which is typed twice.
    console.type_in(b"he\x03\x1a\x13\x04\r\x1d\x01\x01\xff");
    assert_eq!(receive(&mut machine, 10), b"he\x03\x1a\x13\x04\r\x1d\x01\xff");
    machine.write_all(b"one\r\ntwo\nstasis> ").unwrap();
    console.sees("one\r\ntwo\nstasis> ");
    console.type_in(b"\x01b\x01h");
    console.sees("a socket has none");
    console.sees("Ctrl-A X: leave");
    console.type_in(b"\x01x");
    let (status, screen) = console.ends();
    assert!(status.success() && screen.contains("Ctrl-A X leaves it"), "{screen}");
    assert_eq!(machine.read(&mut [0; 8]).unwrap(), 0, "it was sent what was meant for the command");
}

#[test]
fn a_terminal_has_its_settings_again_whatever_ends_the_command() {
    let folder = tempfile::tempdir().unwrap();
    let (listener, target) = machine(folder.path());
    let signal = |name| {
        move |console: &mut Console, _: &UnixStream| {
            kill(Pid::from_raw(console.child.id() as i32), name).unwrap();
        }
    };
    type Way = Box<dyn Fn(&mut Console, &UnixStream)>;
    let ways: [(Way, &str); 6] = [
        (
            Box::new(|_, machine| machine.shutdown(Shutdown::Both).unwrap()),
            "was closed by the machine",
        ),
        (Box::new(signal(Signal::SIGTERM)), "ended by SIGTERM"),
        (Box::new(signal(Signal::SIGHUP)), "ended by SIGHUP"),
        (Box::new(signal(Signal::SIGINT)), "ended by SIGINT"),
        (Box::new(signal(Signal::SIGQUIT)), "ended by SIGQUIT"),
        (Box::new(|console, _| console.type_in(b"\x01x")), ""),
    ];
    for (way, why) in ways {
        let mut console = Console::connected(&[&target]);
        let machine = listener.accept().unwrap().0;
        way(&mut console, &machine);
        let (status, screen) = console.ends();
        assert!(screen.contains(why), "{why}: {screen}");
        assert_eq!(status.code(), Some(i32::from(!why.is_empty())), "{why}");
    }
}

#[test]
fn a_machine_that_takes_nothing_keeps_nobody_from_leaving() {
    let folder = tempfile::tempdir().unwrap();
    let (listener, target) = machine(folder.path());
    let mut console = Console::connected(&[&target]);
    let _machine = listener.accept().unwrap().0;
    // More than a socket takes.
    console.type_in(&vec![b'x'; 2 << 20]);
    console.type_in(b"\x01x");
    assert!(console.ends().0.success());
}

#[test]
fn a_serial_device_has_the_settings_of_a_machines_line_and_one_reader() {
    let device = Terminal::new();
    let before = device.settings();
    let path = device.path();
    let path = path.to_str().unwrap();
    let mut console = Console::connected(&[path, "--baud", "57600"]);
    assert!(device.is_raw());
    assert_eq!(cfgetospeed(&device.settings()), BaudRate::B57600);

    let second = command(&[path]).stdin(Stdio::null()).output().unwrap();
    let complaint = String::from_utf8_lossy(&second.stderr);
    assert!(complaint.contains("is busy: another program has it open"), "{complaint}");
    assert_eq!(second.status.code(), Some(1));

    let mut machine = device.person.try_clone().unwrap();
    console.type_in(b"help\r");
    assert_eq!(receive(&mut machine, 5), b"help\r");
    machine.write_all(b"ok\r\n").unwrap();
    console.sees("ok\r\n");
    console.type_in(b"\x01b\x01x");
    assert!(console.ends().0.success());
    assert_eq!(device.settings(), before);
}

#[test]
fn a_serial_device_that_is_pulled_out_ends_the_command() {
    let device = Terminal::new();
    let console = Console::connected(&[device.path().to_str().unwrap()]);
    let (status, screen) = {
        drop(device);
        console.ends()
    };
    assert_eq!(status.code(), Some(1));
    assert!(screen.contains("is lost") || screen.contains("was closed"), "{screen}");
}

#[test]
fn what_cannot_be_opened_is_answered_with_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let (listener, target) = machine(folder.path());
    std::fs::write(path("file"), "").unwrap();
    drop(UnixListener::bind(path("stale")).unwrap());
    for (words, why) in [
        (vec![path("ttyUSB0")], "is the adapter plugged in?"),
        (vec![path("file")], "is no serial device"),
        (vec![path("serial")], "is a socket: connect to unix:"),
        (vec![format!("unix:{}", path("none"))], "does the machine run?"),
        (vec![format!("unix:{}", path("stale"))], "nobody listens there"),
        (vec!["tcp:localhost:1".to_owned()], "nobody listens there"),
        (vec![target, "--baud".to_owned(), "9600".to_owned()], "for a serial device alone"),
    ] {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let output = command(&words).stdin(Stdio::null()).output().unwrap();
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert!(complaint.contains(why), "{words:?}: {complaint}");
        assert_eq!(output.status.code(), Some(1), "{words:?}");
    }
    drop(listener);
}

#[test]
fn a_programs_bytes_go_to_the_machine_as_they_are_and_their_end_ends_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (listener, target) = machine(folder.path());
    let mut command = command(&[&target]);
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut machine = listener.accept().unwrap().0;
    child.stdin.take().unwrap().write_all(b"\x01x\x01\x01\r").unwrap();
    assert_eq!(receive(&mut machine, 5), b"\x01x\x01\x01\r");
    machine.write_all(&[7; 100_000]).unwrap();
    let mut output = child.stdout.take().unwrap();
    assert_eq!(receive(&mut output, 100_000), [7; 100_000]);
    // A program that reads no more ends it, as with | head.
    drop(output);
    let status = wait_for("the end", || child.try_wait().unwrap());
    assert!(status.success());
}
