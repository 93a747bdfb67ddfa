//! A client that sends a checkpoint slowly keeps nobody waiting.

use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use stasis_client::{Client, Message, Status};
use stasis_host::config::Policy;
use stasis_qemu_tests::guests::SILENCE;
use stasis_qemu_tests::lab::Lab;
use stasis_qemu_tests::tamper;
use xtask::qemu::ChannelSocket;

use crate::channel::client;
use crate::recovery::{grieve, machine, neighbour_is_well, step};

/// Sends bytes of a stream, all of them.
fn send(client: &mut Client, id: u16, mut bytes: &[u8]) -> Result<()> {
    while !bytes.is_empty() {
        let sent = client.write(id, bytes)?;
        bytes = &bytes[sent..];
        if sent == 0
            && let Message::Done { status, why, .. } =
                client.next(Some(Instant::now() + SILENCE))?.context("no room comes")?
        {
            bail!("it ends early: {status:?}: {why}");
        }
    }
    Ok(())
}

/// Waits for the end of a stream, which must be good.
fn ends(client: &mut Client, id: u16) -> Result<()> {
    loop {
        match client.next_for(id)? {
            Message::Done { status: Status::Done, .. } => return Ok(()),
            Message::Done { status, why, .. } => bail!("{status:?}: {why}"),
            _ => {}
        }
    }
}

pub fn commands_and_the_help_for_guests_go_on_while_a_checkpoint_comes(lab: &Lab) -> Result<()> {
    let disk = lab.disk()?;
    let mut stasis = machine(lab, |_| {})?.disk(&disk).boot()?;
    // A small one: the line is slow.
    let number = stasis.checkpoint("fragile", "one")?;
    stasis.quit()?;
    let bytes = tamper::get(&disk, number)?;

    let socket = ChannelSocket::new()?;
    let machine = machine(lab, |config| config.on_crash = Policy::Resume)?;
    let mut stasis = machine.disk(&disk).channel(&socket).boot()?;
    let mut client = client(&socket, false)?;
    let id = client.open(&format!("put two {}", bytes.len()))?;
    let (half, rest) = bytes.split_at(bytes.len() / 2);
    send(&mut client, id, half)?;
    // Each of these needs the store, or a guest that nobody else works on.
    let safe = stasis.checkpoint("fragile", "safe")?;
    stasis.command("volume create data 1M")?;
    stasis.command("restart counter")?;
    stasis.attach("fragile")?;
    step(&mut stasis)?;
    grieve(&mut stasis, b'x', &format!("for ever; it goes on from checkpoint {safe}"))?;
    step(&mut stasis)?;
    stasis.detach()?;
    ensure!(client.answer("store")?.contains("safe"), "the channel has another list");

    send(&mut client, id, rest)?;
    ends(&mut client, id)?;
    let list = client.answer("store")?;
    let number: u64 = list
        .lines()
        .find(|line| line.split_whitespace().nth(1) == Some("two"))
        .and_then(|line| line.split_whitespace().next()?.parse().ok())
        .with_context(|| format!("no checkpoint \"two\": {list}"))?;
    stasis.resume(number)?;
    stasis.attach("fragile")?;
    step(&mut stasis)?;
    stasis.detach()?;
    neighbour_is_well(&mut stasis)?;
    drop(client);
    stasis.quit()?;
    ensure!(tamper::get(&disk, number)? == bytes, "what was sent is not what is stored");
    Ok(())
}
