//! A command of the console's, and its answer.

use std::io::{self, Write};
use std::time::Duration;

use anyhow::Result;
use stasis_client::{Error, Part, Status};
use stasis_console::command::{self, Command};

use super::bar::Bar;
use super::{Address, coded};

/// The option of a command of the console's that makes its answer objects of JSON.
const JSON: &str = "--json";

/// Sends a command, and prints its answer as it comes.
pub(super) fn main(
    address: &Address,
    line: &str,
    json: bool,
    timeout: Option<Duration>,
) -> Result<()> {
    let line = with_json(line, json);
    let mut client = address.connect_for(false, timeout)?;
    let (mut out, mut bar) = (io::stdout(), Bar::default());
    let mut is_unheard = false;
    let result = client.ask(&line, &mut |part| {
        match part {
            Part::Bytes(bytes) => {
                bar.hide(|| is_unheard |= out.write_all(bytes).and_then(|()| out.flush()).is_err());
            }
            Part::Progress { done, total, what } => bar.show(done, total, what),
            Part::Nothing => {}
        }
        !is_unheard
    });
    drop(bar);
    match result {
        Err(Error::Refused { status: Status::GivenUp, .. }) if is_unheard => Ok(()),
        // A machine that is off does not say so.
        Err(Error::Closed | Error::Silent(_)) if command::parse(&line) == Ok(Command::Quit) => {
            Ok(())
        }
        result => result.map_err(coded),
    }
}

/// Returns the line with the option that makes the answer JSON, where the command has one and it is
/// wanted.
fn with_json(line: &str, json: bool) -> String {
    let longer = format!("{line} {JSON}");
    let takes_it = command::parse(&longer).is_ok_and(|command| command.answers_in_json());
    match json && !line.ends_with(JSON) && takes_it {
        true => longer,
        false => line.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_asked_for_where_there_is_any() {
        assert_eq!(with_json("guests", true), "guests --json");
        assert_eq!(with_json("guests --json", true), "guests --json");
        assert_eq!(with_json("network", true), "network --json");
        assert_eq!(with_json("guests", false), "guests");
        assert_eq!(with_json("pause linux", true), "pause linux");
        assert_eq!(with_json("top 1", true), "top 1 --json");
    }
}
