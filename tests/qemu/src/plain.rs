//! A machine without Stasis: QEMU that runs a guest by itself, with a monitor.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Result;
use xtask::console::Console;
use xtask::monitor::{Monitor, Socket};
use xtask::qemu::{Machine, Qemu};

use crate::lab::Lab;
use crate::stasis::Conversation;
use xtask::workspace::write;

/// The longest time until QEMU has its monitor.
const PATIENCE: Duration = Duration::from_secs(30);

/// A machine that runs without Stasis. It ends when this is dropped, and leaves a transcript.
pub struct Plain {
    qemu: Qemu,
    monitor: Monitor,
    transcript: PathBuf,
}

impl Lab {
    /// Starts a machine without Stasis.
    pub fn plain(&self, machine: Machine) -> Result<Plain> {
        let transcript = self.next_transcript();
        // Taken, before another machine looks for one.
        write(&transcript, b"")?;
        let socket = Socket::new()?;
        let qemu = machine.arg("-qmp").arg(socket.option()).start()?;
        let end = Instant::now() + PATIENCE;
        let monitor = loop {
            match socket.connect() {
                Err(_) if Instant::now() < end => std::thread::sleep(Duration::from_millis(20)),
                connected => break connected?,
            }
        };
        Ok(Plain { qemu, monitor, transcript })
    }
}

impl Plain {
    /// Stops the guest, writes the machine to a stream, and ends it.
    pub fn leave(mut self, stream: &Path) -> Result<()> {
        self.monitor.save(stream)
    }
}

impl Conversation for Plain {
    fn console(&mut self) -> &mut Console {
        &mut self.qemu.console
    }
}

impl Drop for Plain {
    fn drop(&mut self) {
        // A transcript that is lacking is no failure of the test.
        let _ = write(&self.transcript, self.qemu.console.transcript().as_bytes());
    }
}
