//! The channel for programs: requests, streams and events, beside a person at the console.

use std::process::{Command, Output};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use stasis_client::{Client, Options, Target};
use stasis_guests::workload::Model;
use stasis_qemu_tests::guests::ticks;
use stasis_qemu_tests::lab::Lab;
use xtask::qemu::ChannelSocket;

/// Returns a session with a machine.
fn client(socket: &ChannelSocket, events: bool) -> Result<Client> {
    let target: Target = socket.target().parse().map_err(anyhow::Error::msg)?;
    Ok(Client::connect(&target, Options { events, ..Options::default() })?)
}

/// Runs `stasis ctl` for a machine.
fn ctl(socket: &ChannelSocket, words: &[&str]) -> Result<Output> {
    let mut tool = Command::new(std::env::current_exe()?);
    tool.env(crate::AS_TOOL, "1").args(["ctl", "--to"]).arg(socket.target()).args(words);
    tool.output().context("cannot start the tool")
}

/// Returns what `stasis ctl` prints, which must succeed.
fn said(socket: &ChannelSocket, words: &[&str]) -> Result<String> {
    let output = ctl(socket, words)?;
    let (out, err) = (String::from_utf8(output.stdout)?, String::from_utf8_lossy(&output.stderr));
    ensure!(output.status.success(), "{words:?} ends with {}: {err}", output.status);
    Ok(out)
}

/// Checks that `stasis ctl` ends with this code, and with one line that has this word.
fn fails(socket: &ChannelSocket, words: &[&str], code: i32, word: &str) -> Result<()> {
    let output = ctl(socket, words)?;
    let err = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.code() == Some(code), "{words:?} ends with {}: {err}", output.status);
    ensure!(err.lines().count() == 1 && err.contains(word), "{words:?} says {err:?}");
    Ok(())
}

pub fn requests_are_answered_beside_a_person_at_a_guest(lab: &Lab) -> Result<()> {
    let socket = ChannelSocket::new()?;
    let machine = lab.machine().guest("counter")?.disk(&lab.disk()?).channel(&socket);
    let mut stasis = machine.boot()?;
    let mut model = Model::new();
    stasis.attach("counter")?;
    ticks(&mut stasis.qemu.console, &mut model, 3)?;
    let rows = said(&socket, &["--json", "guests"])?;
    let row: Value = serde_json::from_str(rows.trim())?;
    ensure!(row["name"] == "counter" && row["state"] == "running", "{row}");
    said(&socket, &["checkpoint", "counter", "one"])?;
    ensure!(said(&socket, &["store"])?.contains("one"), "the store has no checkpoint");
    fails(&socket, &["pause", "nobody"], 1, "no guest \"nobody\"")?;
    fails(&socket, &["gusets"], 2, "did you mean \"guests\"")?;
    fails(&socket, &["wait", "cow=off"], 2, "cow=off")?;
    ticks(&mut stasis.qemu.console, &mut model, 3)?;
    let mut client = client(&socket, false)?;
    ensure!(client.machine().starts_with("Stasis "), "{}", client.machine());
    ensure!(client.answer("help")?.lines().count() > 10, "the help is short");
    drop(client);
    stasis.detach()?;
    stasis.quit()
}
