//! Stops a machine at an address of its guest, by QEMU's remote protocol for gdb, and lets it log
//! what it executes from one stop to the next.

use std::io::{BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use super::log::{Event, Events};
use crate::qemu::{Machine, PROGRAM};

/// Time that QEMU may take to open its socket.
const START_TIME: Duration = Duration::from_secs(30);

/// Runs `machine` to its guest's call of `mark` with the number `number`, counted from 0. Passes to
/// `step` what happens from there to the call `count` calls later.
pub fn trace(
    machine: Machine,
    mark: u64,
    number: usize,
    count: usize,
    mut step: impl FnMut(Event),
) -> Result<()> {
    // The socket is not in the checkout: its path must be shorter than 108 bytes.
    let room = tempfile::tempdir()?;
    let socket = room.path().join("gdb");
    let mut command = machine
        .arg("-accel")
        .arg("tcg,one-insn-per-tb=on")
        .arg("-S")
        .arg("-gdb")
        .arg(format!("unix:{},server=on,wait=off", socket.display()))
        .command();
    let child = command
        .args(["-display", "none", "-monitor", "none", "-serial", "null"])
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start {PROGRAM}"))?;
    let mut child = Ends(child);
    let log = child.0.stderr.take().context("QEMU was started without its pipe")?;
    // The log ends when the machine does.
    let debugger = std::thread::spawn(move || -> Result<()> {
        let mut debugger = Debugger::connect(&socket)?;
        debugger.ask(&format!("Z1,{mark:x},4"))?;
        for _ in 0..=number {
            debugger.run_to(mark)?;
        }
        debugger.monitor("log exec,nochain,trace:gic_hyp_read,trace:gic_hyp_write")?;
        for _ in 0..count {
            debugger.run_to(mark)?;
        }
        debugger.monitor("log none")?;
        drop(child);
        Ok(())
    });
    for event in Events::new(BufReader::new(log)) {
        step(event?);
    }
    debugger.join().unwrap_or_else(|_| bail!("the debugger has panicked"))
}

/// A process that is killed when this is dropped.
struct Ends(Child);

impl Drop for Ends {
    fn drop(&mut self) {
        // If the process has ended already, there is nothing to kill.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

struct Debugger {
    stream: UnixStream,
    /// Whether the machine stands at the breakpoint, which would stop it again.
    stopped: bool,
}

impl Debugger {
    fn connect(socket: &Path) -> Result<Self> {
        let deadline = Instant::now() + START_TIME;
        let stream = loop {
            match UnixStream::connect(socket) {
                Ok(stream) => break stream,
                Err(error) if Instant::now() > deadline => {
                    return Err(error).context("QEMU has no socket for a debugger");
                }
                Err(_) => std::thread::sleep(Duration::from_millis(10)),
            }
        };
        Ok(Self { stream, stopped: false })
    }

    /// Continues to the breakpoint at `mark`. If the machine stands there, first executes that
    /// instruction alone.
    fn run_to(&mut self, mark: u64) -> Result<()> {
        if self.stopped {
            self.ask(&format!("z1,{mark:x},4"))?;
            self.send("s")?;
            self.answer()?;
            self.ask(&format!("Z1,{mark:x},4"))?;
        }
        self.stopped = true;
        self.send("c")?;
        let why = self.answer()?;
        ensure!(why.starts_with('T'), "the machine stopped with \"{why}\"");
        Ok(())
    }

    /// Gives QEMU's monitor a command.
    fn monitor(&mut self, command: &str) -> Result<()> {
        let hex: String = command.bytes().map(|byte| format!("{byte:02x}")).collect();
        self.ask(&format!("qRcmd,{hex}"))
    }

    fn ask(&mut self, packet: &str) -> Result<()> {
        self.send(packet)?;
        let answer = self.answer()?;
        ensure!(answer == "OK", "QEMU answers \"{packet}\" with \"{answer}\"");
        Ok(())
    }

    fn send(&mut self, packet: &str) -> Result<()> {
        Ok(write!(self.stream, "${packet}#{:02x}", checksum(packet))?)
    }

    /// Returns the next packet, and acknowledges it. Bytes between packets are left out.
    fn answer(&mut self) -> Result<String> {
        let mut byte = || -> Result<u8> {
            let mut byte = [0];
            self.stream.read_exact(&mut byte).context("QEMU has ended")?;
            Ok(byte[0])
        };
        while byte()? != b'$' {}
        let mut packet = String::new();
        loop {
            match byte()? {
                b'#' => break,
                other => packet.push(other.into()),
            }
        }
        for _ in 0..2 {
            byte()?;
        }
        self.stream.write_all(b"+")?;
        Ok(packet)
    }
}

fn checksum(packet: &str) -> u8 {
    packet.bytes().fold(0, u8::wrapping_add)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_has_the_sum_of_its_bytes() {
        assert_eq!(
            checksum("qRcmd"),
            0x71_u8.wrapping_add(b'R').wrapping_add(b'c').wrapping_add(b'm').wrapping_add(b'd')
        );
    }
}
