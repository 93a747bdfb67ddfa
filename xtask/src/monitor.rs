//! QEMU's monitor, to look into a machine from outside, or to pull its card.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use tempfile::TempDir;

use crate::workspace::read;

/// For all that is asked of a QEMU.
const PATIENCE: Duration = Duration::from_secs(60);

/// Where a machine has its monitor. Not in the lab: a socket's path has to be shorter than 108 bytes, wherever the
/// project stands.
pub struct Socket(TempDir);

impl Socket {
    /// A place for a socket.
    pub fn new() -> Result<Self> {
        Ok(Self(tempfile::tempdir().context("there is no place for a monitor")?))
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("monitor")
    }

    /// What QEMU's option `-qmp` is given for it.
    pub fn option(&self) -> String {
        format!("unix:{},server=on,wait=off", self.path().display())
    }

    /// The monitor of the machine that was started with this socket.
    pub fn connect(&self) -> Result<Monitor> {
        let stream = UnixStream::connect(self.path()).context("QEMU has no monitor")?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Monitor::new(stream.try_clone()?, stream)
    }
}

/// QEMU's monitor (docs/interop/qmp-spec).
pub struct Monitor {
    input: Box<dyn Write + Send>,
    output: BufReader<Box<dyn Read + Send>>,
}

impl Monitor {
    /// The one that reads `input` and writes `output`.
    pub fn new(
        input: impl Write + Send + 'static,
        output: impl Read + Send + 'static,
    ) -> Result<Self> {
        let output: Box<dyn Read + Send> = Box::new(output);
        let mut monitor = Self { input: Box::new(input), output: BufReader::new(output) };
        monitor.line()?;
        monitor.ask(r#"{"execute": "qmp_capabilities"}"#)?;
        Ok(monitor)
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        ensure!(self.output.read_line(&mut line)? > 0, "QEMU has ended");
        Ok(line)
    }

    /// The answer to a command.
    pub fn ask(&mut self, command: &str) -> Result<String> {
        self.input.write_all(command.as_bytes())?;
        loop {
            let line = self.line()?;
            if line.contains(r#""error":"#) {
                bail!("QEMU answers {command} with {line}");
            }
            if line.contains(r#""return":"#) {
                return Ok(line);
            }
        }
    }

    /// The answer to a command as a person types it.
    fn typed(&mut self, command: &str) -> Result<String> {
        self.ask(&format!(
            r#"{{"execute": "human-monitor-command", "arguments": {{"command-line": "{command}"}}}}"#
        ))
    }

    /// The word at a physical address, which may be a device's.
    pub fn word(&mut self, address: u64) -> Result<u32> {
        let answer = self.typed(&format!("xp /1wx {address:#x}"))?;
        let word = answer.split_once(": 0x").and_then(|(_, word)| word.get(..8));
        let word = word.and_then(|word| u32::from_str_radix(word, 16).ok());
        word.with_context(|| format!("QEMU says {answer} of the word at {address:#x}"))
    }

    /// A command as a person types it, which answers nothing if all is well.
    pub fn type_in(&mut self, command: &str) -> Result<()> {
        let answer = self.typed(command)?;
        ensure!(answer.contains(r#""return": """#), "QEMU answers {command} with {answer}");
        Ok(())
    }

    /// The machine at this instant, which then goes on.
    pub fn snapshot(&mut self, path: &Path) -> Result<Vec<u8>> {
        self.ask(r#"{"execute": "stop"}"#)?;
        let uri = format!("file:{}", path.display());
        self.ask(&format!(r#"{{"execute": "migrate", "arguments": {{"uri": "{uri}"}}}}"#))?;
        let end = Instant::now() + PATIENCE;
        loop {
            let answer = self.ask(r#"{"execute": "query-migrate"}"#)?;
            if answer.contains(r#""completed""#) {
                break;
            }
            ensure!(!answer.contains(r#""failed""#), "QEMU has not saved its machine: {answer}");
            ensure!(Instant::now() < end, "QEMU saves its machine for ever: {answer}");
            std::thread::sleep(Duration::from_millis(20));
        }
        let stream = read(path)?;
        self.ask(r#"{"execute": "cont"}"#)?;
        Ok(stream)
    }
}
