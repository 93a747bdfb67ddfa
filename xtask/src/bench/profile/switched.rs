//! A machine's log of what it executes, which is switched on and off while the machine runs:
//! [`Switched`].

use std::fs::File;
use std::io::{BufReader, Seek, SeekFrom};
use std::ops::Range;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::log::Events;
use crate::monitor::{Monitor, Socket};
use crate::qemu::Machine;

/// A log that is off but for what is done [meanwhile](Self::during).
pub struct Switched {
    monitor: Monitor,
    file: PathBuf,
}

impl Switched {
    /// Returns `machine` with such a log: of the instructions at `text`, in `file`, by commands at
    /// `socket`.
    pub fn prepare(machine: Machine, text: &Range<u64>, file: &Path, socket: &Socket) -> Machine {
        machine
            .arg("-accel")
            .arg("tcg,one-insn-per-tb=on")
            .arg("-dfilter")
            .arg(format!("{:#x}..{:#x}", text.start, text.end - 1))
            .arg("-D")
            .arg(file)
            .arg("-qmp")
            .arg(socket.option())
    }

    /// Returns the log of a [prepared](Self::prepare) machine that runs.
    ///
    /// # Errors
    ///
    /// The machine's monitor does not answer.
    pub fn connect(socket: &Socket, file: PathBuf) -> Result<Self> {
        Ok(Self { monitor: socket.connect()?, file })
    }

    /// Does something, and returns what was logged meanwhile.
    ///
    /// # Errors
    ///
    /// The work fails, or QEMU has written no log.
    pub fn during(&mut self, work: impl FnOnce() -> Result<()>) -> Result<Events<BufReader<File>>> {
        let before = std::fs::metadata(&self.file).map_or(0, |log| log.len());
        self.monitor.type_in("log exec,nochain")?;
        work()?;
        self.monitor.type_in("log none")?;
        let mut log = File::open(&self.file).context("QEMU has written no log")?;
        // The log is shorter than before if QEMU has begun a new file.
        let length = log.metadata()?.len();
        log.seek(SeekFrom::Start(if before < length { before } else { 0 }))?;
        Ok(Events::new(BufReader::new(log)))
    }
}
