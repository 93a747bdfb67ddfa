//! [`Process`]: a program that a test starts beside its machine; [`wait_until`] something is so.

use std::io::Read;
use std::process::{Child, ExitStatus};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::guests::SILENCE;

/// The longest that a program may take to end.
const LONGEST: Duration = Duration::from_secs(240);

/// A process that ends with the test.
#[derive(Debug)]
pub struct Process(pub Child);

impl Process {
    /// Waits for the end. Returns how it has ended, and the messages that it has sent to a pipe.
    ///
    /// # Errors
    ///
    /// There is no such pipe, or the program does not end.
    pub fn end(mut self) -> Result<(ExitStatus, String)> {
        let mut said = String::new();
        let mut stderr = self.0.stderr.take().context("the program's messages go elsewhere")?;
        wait_for(LONGEST, "the program ends", || Ok(self.0.try_wait()?.is_some()))?;
        stderr.read_to_string(&mut said)?;
        Ok((self.0.wait()?, said))
    }
}

/// Waits until something is so.
///
/// # Errors
///
/// Whether it is so can't be told, or it is not for as long as a guest may be silent.
pub fn wait_until(what: &str, is_so: impl FnMut() -> Result<bool>) -> Result<()> {
    wait_for(SILENCE, what, is_so)
}

fn wait_for(limit: Duration, what: &str, mut is_so: impl FnMut() -> Result<bool>) -> Result<()> {
    let end = Instant::now() + limit;
    while !is_so()? {
        ensure!(Instant::now() < end, "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

impl Drop for Process {
    fn drop(&mut self) {
        // The process may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
