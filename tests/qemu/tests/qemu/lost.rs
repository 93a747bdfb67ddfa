//! A machine that is reset while tools talk with it by its channel.

use std::path::Path;
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use stasis_qemu_tests::lab::Lab;
use stasis_qemu_tests::process::{Process, wait_until};
use xtask::monitor::Socket;
use xtask::qemu::ChannelSocket;

use crate::channel::tool;

/// Starts `stasis` with these words.
fn started(socket: &ChannelSocket, words: &[&str], path: Option<&Path>) -> Result<Process> {
    let mut tool = tool(socket, words)?;
    tool.args(path).stdout(Stdio::null()).stderr(Stdio::piped());
    Ok(Process(tool.spawn().context("cannot start the tool")?))
}

/// Returns the sizes of the files in a folder.
fn sizes(folder: &Path) -> Vec<u64> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|entry| Some(entry.metadata().ok()?.len())).collect()
}

/// Returns whether something has come into a file of a folder.
fn has_come(folder: &Path) -> bool {
    sizes(folder).iter().any(|size| *size > 0)
}

/// What a tool says whose machine was reset, and had begun anew when it was asked; and when it had
/// not.
const RESET: [&str; 2] = ["was reset in the midst", "does not answer any more"];

/// Checks that a tool has ended by the reset, with one line that has one of these words.
fn tells(tool: Process, words: &[&str]) -> Result<()> {
    let (status, said) = tool.end()?;
    let last = said.lines().last().unwrap_or_default();
    let is_told = words.iter().any(|word| last.contains(word));
    ensure!(status.code() == Some(4) && is_told, "{status}: {said}");
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
    let got = started(&socket, &get, Some(&folder.join("one.stasis")))?;
    wait_until("the checkpoint comes", || Ok(has_come(&folder)))?;
    reset()?;
    tells(got, &RESET)?;
    ensure!(sizes(&folder).is_empty(), "half of a checkpoint is left");
    // The machine that has begun anew is one like any other, also for those who share its channel.
    let connect = ["connect", "--patience", "5", "--listen"];
    let connect = started(&socket, &connect, Some(shared.path()))?;
    wait_until("the socket is there", || Ok(shared.path().exists()))?;
    let listed = started(&shared, &["ctl", "wait", "guest=counter", "state=running"], None)?;
    let (status, said) = listed.end()?;
    ensure!(status.success(), "{said}");
    let said = lab.path("said");
    let follows = started(&shared, &["ctl", "output"], Some(&said))?;
    wait_until("the guest's output comes", || Ok(has_come(&said)))?;
    reset()?;
    tells(connect, &RESET)?;
    tells(follows, &["the connection was closed"])?;
    let (status, said) = started(&socket, &["ctl", "guests"], None)?.end()?;
    ensure!(status.success(), "{said}");
    stasis.kill()
}
