//! A machine that is reset while tools talk with it by its channel.

use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use stasis_qemu_tests::guests::SILENCE;
use stasis_qemu_tests::lab::Lab;
use stasis_qemu_tests::process::Process;
use xtask::monitor::Socket;
use xtask::qemu::ChannelSocket;

/// Starts `stasis` with these words. It hears nothing of the machine for five seconds before it asks whether that was reset.
fn tool(to: &str, words: &[&str], path: Option<&Path>) -> Result<Process> {
    let mut tool = Command::new(std::env::current_exe()?);
    tool.env(crate::AS_TOOL, "1").env("STASIS_TO", to).args(words).args(path);
    tool.stdout(Stdio::null()).stderr(Stdio::piped());
    Ok(Process(tool.spawn().context("cannot start the tool")?))
}

/// Waits for a tool's end. Returns how it has ended, and what it has said.
fn end(mut tool: Process) -> Result<(ExitStatus, String)> {
    let mut said = String::new();
    let mut stderr = tool.0.stderr.take().context("the tool's messages go elsewhere")?;
    std::io::Read::read_to_string(&mut stderr, &mut said)?;
    Ok((tool.0.wait()?, said))
}

/// Waits until `is_so`.
fn wait_until(what: &str, is_so: impl Fn() -> bool) -> Result<()> {
    let limit = Instant::now() + SILENCE;
    while !is_so() {
        ensure!(Instant::now() < limit, "in vain: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// Returns the sizes of the files in a folder.
fn sizes(folder: &Path) -> Vec<u64> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|entry| Some(entry.metadata().ok()?.len())).collect()
}

/// Checks that a tool has ended by the reset, with one line that says so.
fn tells(tool: Process, word: &str) -> Result<()> {
    let (status, said) = end(tool)?;
    let last = said.lines().last().unwrap_or_default();
    ensure!(status.code() == Some(4) && last.contains(word), "{status}: {said}");
    Ok(())
}

pub fn tools_tell_that_the_machine_was_reset_in_the_midst(lab: &Lab) -> Result<()> {
    let (socket, monitor, shared) = (ChannelSocket::new()?, Socket::new()?, ChannelSocket::new()?);
    let machine = lab.machine().guest("counter")?.disk(&lab.disk()?);
    let mut stasis = machine.channel(&socket).monitor(&monitor).boot()?;
    stasis.checkpoint("counter", "one")?;
    let folder = lab.path("got");
    std::fs::create_dir(&folder)?;
    let reset = || monitor.connect()?.ask(r#"{"execute": "system_reset"}"#);
    let get = ["ctl", "--patience", "5", "get", "one"];
    let got = tool(&socket.target(), &get, Some(&folder.join("one.stasis")))?;
    wait_until("the checkpoint comes", || sizes(&folder).iter().any(|size| *size > 0))?;
    reset()?;
    tells(got, "was reset in the midst")?;
    ensure!(sizes(&folder).is_empty(), "half of a checkpoint is left");
    // The machine that has begun anew is one like any other, also for those who share its channel.
    let connect = ["connect", "--patience", "5", "--listen"];
    let connect = tool(&socket.target(), &connect, Some(shared.path()))?;
    wait_until("the socket is there", || shared.path().exists())?;
    let listed = tool(&shared.target(), &["ctl", "wait", "guest=counter", "state=running"], None)?;
    let (status, said) = end(listed)?;
    ensure!(status.success(), "{said}");
    let said = lab.path("said");
    let follows = tool(&shared.target(), &["ctl", "output"], Some(&said))?;
    wait_until("the guest's output comes", || sizes(&said).iter().any(|size| *size > 0))?;
    reset()?;
    tells(connect, "does not answer any more")?;
    tells(follows, "the connection was closed")?;
    let (status, said) = end(tool(&socket.target(), &["ctl", "guests"], None)?)?;
    ensure!(status.success(), "{said}");
    stasis.kill()
}
