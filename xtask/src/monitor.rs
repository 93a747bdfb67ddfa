//! QEMU's monitor, through which a test looks into a machine from outside, or pulls its card.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use tempfile::TempDir;

use crate::workspace::read;

/// Time that QEMU may take for an answer.
const PATIENCE: Duration = Duration::from_secs(60);

/// The socket of a machine's monitor. It is not in the machine's folder: a socket's path must be
/// shorter than 108 bytes, wherever the project lies.
pub struct Socket(TempDir);

impl Socket {
    /// Returns a path for a socket.
    pub fn new() -> Result<Self> {
        Ok(Self(tempfile::tempdir().context("there is no place for a monitor")?))
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("monitor")
    }

    /// Returns the value of QEMU's option `-qmp` for this socket.
    pub fn option(&self) -> String {
        format!("unix:{},server=on,wait=off", self.path().display())
    }

    /// Returns the monitor of the machine that was started with this socket.
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
    /// Returns the monitor that reads `input` and writes `output`.
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

    /// Sends a command, and returns the answer.
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

    /// Sends a command in the form in which a person types it, and returns the answer.
    fn typed(&mut self, command: &str) -> Result<String> {
        self.ask(&format!(
            r#"{{"execute": "human-monitor-command", "arguments": {{"command-line": "{command}"}}}}"#
        ))
    }

    /// Returns the word at a physical address, which may be that of a device.
    pub fn word(&mut self, address: u64) -> Result<u32> {
        let answer = self.typed(&format!("xp /1wx {address:#x}"))?;
        let word = answer.split_once(": 0x").and_then(|(_, word)| word.get(..8));
        let word = word.and_then(|word| u32::from_str_radix(word, 16).ok());
        word.with_context(|| format!("QEMU says {answer} of the word at {address:#x}"))
    }

    /// Sends a command in the form in which a person types it. Fails if it is answered, because
    /// then something is wrong.
    pub fn type_in(&mut self, command: &str) -> Result<()> {
        let answer = self.typed(command)?;
        ensure!(answer.contains(r#""return": """#), "QEMU answers {command} with {answer}");
        Ok(())
    }

    /// Returns the state of the machine at this instant. The machine goes on.
    pub fn snapshot(&mut self, path: &Path) -> Result<Vec<u8>> {
        self.save(path)?;
        let stream = read(path)?;
        self.ask(r#"{"execute": "cont"}"#)?;
        Ok(stream)
    }

    /// Stops the machine, and writes its state to a stream.
    pub fn save(&mut self, path: &Path) -> Result<()> {
        self.ask(r#"{"execute": "stop"}"#)?;
        let uri = format!("file:{}", path.display());
        self.ask(&format!(r#"{{"execute": "migrate", "arguments": {{"uri": "{uri}"}}}}"#))?;
        let end = Instant::now() + PATIENCE;
        loop {
            let answer = self.ask(r#"{"execute": "query-migrate"}"#)?;
            if answer.contains(r#""completed""#) {
                return Ok(());
            }
            ensure!(!answer.contains(r#""failed""#), "QEMU has not saved its machine: {answer}");
            ensure!(Instant::now() < end, "QEMU saves its machine for ever: {answer}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}
