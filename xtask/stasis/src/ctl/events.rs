//! `stasis ctl events`: what happens on a machine, as it happens.

use std::io::{self, Write};
use std::time::{Duration, Instant};

use anyhow::Result;
use stasis_client::{Error, Message};

use super::{Address, coded, end_of};

/// Prints each event, until `timeout` is over, a signal ends it, or nobody reads.
pub(super) fn main(address: &Address, timeout: Option<Duration>) -> Result<()> {
    let mut client = address.connect(true)?;
    let until = end_of(timeout);
    let mut out = io::stdout();
    while until.is_none_or(|until| Instant::now() < until) {
        match client.next(until) {
            Ok(Some(Message::Event(event))) => {
                if writeln!(out, "{event}").and_then(|()| out.flush()).is_err() {
                    break;
                }
            }
            Err(Error::Interrupted(_)) => break,
            other => drop(other.map_err(coded)?),
        }
    }
    Ok(())
}
