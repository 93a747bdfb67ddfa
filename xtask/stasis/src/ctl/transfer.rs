//! `stasis ctl get` and `put`: a checkpoint from a machine that runs into a file, and back.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;
use stasis_client::{Client, Error, Message, Status};
use stasis_state::Source;
use stasis_store::catalog::Which;

use super::bar::Bar;
use super::{Address, coded};
use crate::checkpoint::{Loaded, check_file};
use crate::output::Output;
use crate::report;

/// Writes a checkpoint of the machine's store to a file, and checks it.
pub(super) fn get(mut client: Client, which: &str, to: &Path) -> Result<()> {
    let total = size_of(&mut client, which)?;
    let mut output = Output::create(to)?;
    let (mut bar, mut done) = (Bar::default(), 0);
    let id = client.open(&format!("get {which}")).map_err(coded)?;
    loop {
        match client.next_for(id).map_err(coded)? {
            Message::Data { id: of, bytes } if of == id => {
                output.put(&bytes)?;
                done += bytes.len() as u64;
                bar.show(done, total.unwrap_or(done), "get");
            }
            Message::Done { id: of, status: Status::Done, .. } if of == id => break,
            Message::Done { id: of, status, why } if of == id => {
                return Err(coded(Error::Refused { status, why }));
            }
            _ => {}
        }
    }
    drop(bar);
    check_file(output.file())
        .with_context(|| format!("what came as checkpoint {which} is none"))?;
    output.finish_and_tell()?;
    report::step(format_args!("{}: {}", to.display(), report::size(done)));
    Ok(())
}

/// Returns the bytes of a checkpoint by the machine's list; `None` if it has none of that name or
/// number, which the machine itself will say.
fn size_of(client: &mut Client, which: &str) -> Result<Option<u64>> {
    let list = client.answer("store --json").map_err(coded)?;
    let mut rows = list.lines().rev().filter_map(|row| serde_json::from_str::<Value>(row).ok());
    let is_it = |row: &Value| match Which::from(which) {
        Which::Number(number) => row["number"].as_u64() == Some(number),
        Which::Name(name) => row["name"].as_str() == Some(name),
    };
    Ok(rows.find(is_it).and_then(|row| row["size"].as_u64()))
}

/// Checks the checkpoint in a file, and writes it into the machine's store under this name, in no
/// longer than `timeout`.
pub(super) fn put(
    address: &Address,
    timeout: Option<Duration>,
    file: &Path,
    name: &str,
) -> Result<()> {
    let mut loaded = Loaded::from_file(file)?;
    let mut client = address.connect_for(false, timeout)?;
    let (mut opened, _) = loaded.open()?;
    let total = opened.len();
    let id = client.open(&format!("put {name} {total}")).map_err(coded)?;
    let mut sent = Sent { id, done: 0, total, bar: Bar::default(), said: Vec::new(), end: None };
    let copied = opened.copy_to(&mut |bytes| sent.send(&mut client, bytes));
    if sent.end.is_none() {
        copied?;
        client.end(id).map_err(coded)?;
        while sent.end.is_none() {
            sent.receive(&mut client)?;
        }
    }
    let Sent { said, end, bar, .. } = sent;
    drop(bar);
    match end {
        Some((Status::Done, _)) | None => {
            report::step(String::from_utf8_lossy(&said).trim_end());
            Ok(())
        }
        Some((status, why)) => Err(coded(Error::Refused { status, why })),
    }
}

/// A checkpoint that is on its way to the machine.
struct Sent {
    id: u16,
    done: u64,
    total: u64,
    bar: Bar,
    /// What the machine has said.
    said: Vec<u8>,
    /// How it has ended, once it has.
    end: Option<(Status, String)>,
}

impl Sent {
    /// Sends all of these bytes, as the machine has room. Fails if the machine wants no more.
    fn send(&mut self, client: &mut Client, mut bytes: &[u8]) -> Result<()> {
        while !bytes.is_empty() {
            if self.end.is_some() {
                bail!("the machine wants no more");
            }
            let count = client.write(self.id, bytes).map_err(coded)?;
            bytes = &bytes[count..];
            self.done += count as u64;
            self.bar.show(self.done, self.total, "put");
            if count == 0 {
                self.receive(client)?;
            } else {
                while self.take(client.next(Some(Instant::now())).map_err(coded)?) {}
            }
        }
        Ok(())
    }

    fn receive(&mut self, client: &mut Client) -> Result<()> {
        let message = client.next_for(self.id).map_err(coded)?;
        self.take(Some(message));
        Ok(())
    }

    /// Takes a message. Returns whether there was one.
    fn take(&mut self, message: Option<Message>) -> bool {
        match message {
            None => return false,
            Some(Message::Text { id, bytes }) if id == self.id => self.said.extend(bytes),
            Some(Message::Done { id, status, why }) if id == self.id => {
                self.end = Some((status, why));
            }
            Some(_) => {}
        }
        true
    }
}
