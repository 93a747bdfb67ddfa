//! A guest's second terminal: a virtio console that an unmodified Linux drives, the console's
//! `attach --terminal`, and the channel's.

use std::io::{Read, Write};
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use stasis_qemu_tests::guests::SILENCE;
use stasis_qemu_tests::lab::Lab;
use stasis_qemu_tests::process::Process;
use stasis_qemu_tests::stasis::Stasis;
use xtask::qemu::ChannelSocket;

use crate::channel::tool;
use crate::linux::{dmesg_is_silent, look_at_dmesg, shell};
use crate::virtio::{log_in, machine};

/// A program of the guest's that answers each line that is typed at its terminal by the line's
/// number and its hash, and to `off` switches the guest off.
const ECHO: &str = "stty -F /dev/hvc0 -echo; (n=0; while read line; do \
                    [ \"$line\" = off ] && poweroff -f; n=$((n+1)); \
                    echo $n $(echo $line | md5sum); done < /dev/hvc0 > /dev/hvc0 &)";

/// Attaches the console to the guest's terminal.
fn attach(stasis: &mut Stasis) -> Result<()> {
    stasis.command("attach linux --terminal").map(drop)
}

/// Types a line at the guest's terminal, to which the console is attached, and waits for what
/// [`ECHO`] answers.
fn ask(stasis: &mut Stasis, line: &str, answer: &str) -> Result<()> {
    let console = &mut stasis.qemu.console;
    console.send_line(line)?;
    console.wait_for(answer, SILENCE).map(drop)?;
    Ok(())
}

/// Asks by `stasis attach linux --terminal`, which gives what was printed before, too.
fn ask_by_the_channel(socket: &ChannelSocket, line: &str, answer: &str) -> Result<()> {
    let mut tool = tool(socket, &["attach", "linux", "--terminal"])?;
    let mut tool = Process(tool.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?);
    let mut stdin = tool.0.stdin.take().context("no standard input")?;
    writeln!(stdin, "{line}")?;
    let (mut said, mut stdout) = (Vec::new(), tool.0.stdout.take().context("no output")?);
    let has_answer = |said: &[u8]| String::from_utf8_lossy(said).contains(answer);
    while !has_answer(&said) {
        let mut piece = [0; 256];
        let count = stdout.read(&mut piece)?;
        ensure!(count > 0, "no {answer} in {}", String::from_utf8_lossy(&said));
        said.extend(&piece[..count]);
    }
    // The end of the input ends the tool.
    drop(stdin);
    ensure!(tool.0.wait()?.success(), "the tool fails");
    Ok(())
}

pub fn linux_talks_at_its_terminal_before_and_after_a_resume(lab: &Lab) -> Result<()> {
    let (disk, socket) = (lab.disk()?, ChannelSocket::new()?);
    let setup = machine(lab, false, &[])?.change("linux", |config| config.terminal = true);
    let mut stasis = setup.disk(&disk).channel(&socket).boot()?;
    log_in(&mut stasis)?;
    look_at_dmesg(&mut stasis)?;
    // The file is longer than what is kept, and nobody reads it meanwhile.
    shell(&mut stasis, "seq 1 5000 > /dev/hvc0")?;
    shell(&mut stasis, ECHO)?;
    stasis.detach()?;
    attach(&mut stasis)?;
    stasis.qemu.console.wait_for("\n5000\r", SILENCE)?;
    ask(&mut stasis, "first", "1 eb260e9ae827821beceeed4104f0ad89")?;
    stasis.detach()?;
    ask_by_the_channel(&socket, "second", "2 59d0d19fc45ca69230d858f60a5557f8")?;
    let number = stasis.checkpoint("linux", "terminal")?;
    stasis.kill()?;

    let mut stasis = lab.machine().no_archive().disk(&disk).boot()?;
    stasis.resume(number)?;
    attach(&mut stasis)?;
    ask(&mut stasis, "third", "3 aa62cba149c51923916eff46f80fe74c")?;
    stasis.detach()?;
    stasis.attach("linux")?;
    dmesg_is_silent(&mut stasis)?;
    a_flood_keeps_nobody_from_the_console(&mut stasis)?;
    stasis.quit()
}

/// Lets the guest, at whose UART the console is, print at its terminal without end: Ctrl-] is
/// heard, what is typed arrives, and the guest ends with a word.
fn a_flood_keeps_nobody_from_the_console(stasis: &mut Stasis) -> Result<()> {
    shell(stasis, "(yes > /dev/hvc0 &)")?;
    stasis.detach()?;
    attach(stasis)?;
    stasis.qemu.console.wait_for("y\r\ny\r\n", SILENCE)?;
    stasis.detach()?;
    attach(stasis)?;
    stasis.qemu.console.send_line("off")?;
    stasis.qemu.console.wait_for("[guest \"linux\": is off]", SILENCE)?;
    stasis.is_alive()
}

pub fn a_guest_without_a_terminal_is_told_of(lab: &Lab) -> Result<()> {
    let socket = ChannelSocket::new()?;
    let mut stasis = lab.machine().guest("counter")?.channel(&socket).boot()?;
    let said = stasis.refused("attach counter --terminal")?;
    ensure!(
        said.contains("\"counter\" has no terminal; its configuration must say terminal = true"),
        "{said}"
    );
    let tool =
        tool(&socket, &["attach", "counter", "--terminal"])?.stdin(Stdio::null()).output()?;
    let said = String::from_utf8_lossy(&tool.stderr);
    ensure!(tool.status.code() == Some(1) && said.contains("has no terminal"), "{said}");
    stasis.quit()
}
