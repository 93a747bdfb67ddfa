//! `stasis ctl output`: what guests send, into files, for as long as the machine and this tool run.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;
use stasis_client::{Client, Error, Message, Status};

use super::{Address, coded, end_of};
use crate::report;

/// Guests that are followed at the most: as many streams as a session has, and a request beside
/// them.
const MOST: usize = 15;

/// Opens a file to which a guest's output is added.
///
/// # Errors
///
/// The file can't be opened.
pub(super) fn open(path: &Path) -> Result<File> {
    let file = OpenOptions::new().append(true).create(true).open(path);
    file.with_context(|| format!("cannot write {}", path.display()))
}

/// The guests whose output goes into files of a folder.
struct Outputs {
    client: Client,
    folder: PathBuf,
    /// The guests that are wanted; all if there are none.
    wanted: Vec<String>,
    /// The guest and the file of each stream.
    files: BTreeMap<u16, (String, File)>,
    /// Guests for which there was no stream left, and of which that was said.
    left_out: Vec<String>,
}

/// Adds what these guests send to `FOLDER/GUEST.log`; what all send, also those that come later, if
/// none is named. Ends after `timeout`, by a signal, or when each guest that is named is gone.
pub(super) fn main(
    address: &Address,
    folder: &Path,
    guests: &[&str],
    timeout: Option<Duration>,
) -> Result<()> {
    std::fs::create_dir_all(folder)
        .with_context(|| format!("cannot make the folder {}", folder.display()))?;
    let client = address.connect(true)?;
    let wanted: Vec<String> = guests.iter().map(|guest| (*guest).to_owned()).collect();
    let (folder, files) = (folder.to_owned(), BTreeMap::new());
    let mut outputs = Outputs { client, folder, wanted, files, left_out: Vec::new() };
    if !outputs.begin()? {
        return Ok(());
    }
    let until = end_of(timeout);
    while until.is_none_or(|until| Instant::now() < until) {
        if outputs.files.is_empty() && !outputs.wanted.is_empty() {
            return Ok(());
        }
        match outputs.client.next(until) {
            Ok(Some(message)) => outputs.take(message)?,
            Ok(None) | Err(Error::Interrupted(_)) => break,
            Err(error) => return Err(coded(error)),
        }
    }
    Ok(())
}

impl Outputs {
    /// Follows the guests that are there, and those that come while the machine is asked for them.
    /// Returns false if a signal has ended that.
    fn begin(&mut self) -> Result<bool> {
        let asked = self.client.request("guests --json").map_err(coded)?;
        let (mut list, mut meanwhile) = (Vec::new(), Vec::new());
        loop {
            let message = match self.client.next_for(asked) {
                Err(Error::Interrupted(_)) => return Ok(false),
                message => message.map_err(coded)?,
            };
            match message {
                Message::Rows { id, bytes } if id == asked => list.extend(bytes),
                Message::Done { id, status: Status::Done, .. } if id == asked => break,
                Message::Done { id, status, why } if id == asked => {
                    return Err(coded(Error::Refused { status, why }));
                }
                message => meanwhile.push(message),
            }
        }
        self.follow_all(&crate::names::names_in(&list))?;
        meanwhile.into_iter().try_for_each(|message| self.take(message))?;
        Ok(true)
    }

    /// Follows the guests that are wanted of those that are there.
    fn follow_all(&mut self, there: &[String]) -> Result<()> {
        if let Some(absent) = self.wanted.iter().find(|guest| !there.contains(guest)) {
            bail!("there is no guest \"{absent}\"; there are: {}", there.join(", "));
        }
        there.iter().try_for_each(|guest| self.follow(guest))
    }

    /// Follows a guest, unless it is followed already, or is not wanted.
    fn follow(&mut self, guest: &str) -> Result<()> {
        let is_wanted = self.wanted.is_empty() || self.wanted.iter().any(|one| one == guest);
        if !is_wanted || self.files.values().any(|(other, _)| other == guest) {
            return Ok(());
        }
        if self.files.len() >= MOST {
            if !self.left_out.iter().any(|other| other == guest) {
                self.left_out.push(guest.to_owned());
                report::warn(format_args!(
                    "\"{guest}\" is not followed: there are {MOST} already; name those that you want"
                ));
            }
            return Ok(());
        }
        let path = self.folder.join(file_name(guest));
        let file = open(&path)?;
        let id = self.client.open(&format!("attach {guest}")).map_err(coded)?;
        report::step(format_args!("\"{guest}\": {}", path.display()));
        self.files.insert(id, (guest.to_owned(), file));
        Ok(())
    }

    fn take(&mut self, message: Message) -> Result<()> {
        match message {
            Message::Data { id, bytes } => {
                if let Some((guest, file)) = self.files.get_mut(&id) {
                    let written = file.write_all(&bytes);
                    written.with_context(|| format!("cannot write the output of \"{guest}\""))?;
                }
            }
            Message::Done { id, status, why } => match self.files.remove(&id) {
                Some((guest, _)) if status == Status::Lost => {
                    report::warn(format_args!("some output of \"{guest}\" is lost: {why}"));
                    // The machine may not know.
                    self.client.cancel(id).map_err(coded)?;
                    self.follow(&guest)?;
                }
                Some((guest, _)) if status != Status::Done => {
                    report::warn(format_args!("\"{guest}\" is followed no more: {why}"));
                }
                _ => {}
            },
            Message::Event(event) => {
                let event: Value = serde_json::from_str(&event).unwrap_or_default();
                if let ("guest", Some(guest)) =
                    (event["event"].as_str().unwrap_or_default(), event["guest"].as_str())
                    && event["state"] != "removed"
                {
                    self.follow(guest)?;
                }
            }
            _ => {}
        }
        Ok(())
    }
}

/// Returns the name of a guest's file. What can't stand in a name is a `_`.
fn file_name(guest: &str) -> String {
    let safe = |c: char| if c.is_alphanumeric() || "-+@".contains(c) { c } else { '_' };
    let dotted = |c: char| if c == '.' { '.' } else { safe(c) };
    let mut characters = guest.chars();
    // No file is hidden, and none leads to another folder.
    let first = characters.next().map(safe);
    first.into_iter().chain(characters.map(dotted)).chain(".log".chars()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guests_file_is_in_the_folder_whatever_the_guest_is_called() {
        for (guest, name) in [
            ("linux", "linux.log"),
            ("../../x", "_._.._x.log"),
            (".a", "_a.log"),
            ("a/b", "a_b.log"),
            ("v1.2", "v1.2.log"),
        ] {
            assert_eq!(file_name(guest), name);
        }
    }
}
