//! `stasis ctl wait`: waits until something is so.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use serde_json::Value;
use stasis_client::{Client, Message};

use super::{Address, coded, end_of};
use crate::report::{Coded, mistyped};
use crate::suggest::nearest;

/// The states in which a guest can be, and that it is there no more.
const STATES: [&str; 8] =
    ["running", "paused", "debugged", "waiting", "off", "crashed", "lost", REMOVED];
const REMOVED: &str = "removed";

/// The events of `docs/channel.md` that are worth waiting for.
const EVENTS: [&str; 4] = ["guest", "checkpoint", "window", "notice"];

/// What is waited for.
#[derive(Debug, Default, PartialEq, Eq)]
struct Wish {
    guest: Option<String>,
    state: Option<String>,
    event: Option<String>,
}

impl Wish {
    fn of(conditions: &[&str]) -> Result<Self> {
        let mut wish = Self::default();
        for condition in conditions {
            let place = match condition.split_once('=') {
                Some(("guest", _)) => &mut wish.guest,
                Some(("state", _)) => &mut wish.state,
                Some(("event", _)) => &mut wish.event,
                _ => {
                    return Err(mistyped(format!(
                        "\"{condition}\" is none of guest=, state=, event="
                    )));
                }
            };
            *place = condition.split_once('=').map(|(_, value)| value.to_owned());
        }
        let known = |given: &Option<String>, kind: &str, names: &[&str]| {
            let Some(given) = given.as_deref().filter(|given| !names.contains(given)) else {
                return Ok(());
            };
            let (near, names) = (nearest(given, names.iter().copied()), names.join(", "));
            Err(mistyped(format!("there is no {kind} \"{given}\"{near}; there are {names}")))
        };
        known(&wish.state, "state", &STATES)?;
        known(&wish.event, "event", &EVENTS)?;
        match (&wish.guest, &wish.state, &wish.event) {
            (Some(_), Some(_), None) | (_, None, Some(_)) => Ok(wish),
            _ => {
                let why = "wait for guest=NAME state=STATE, or for event=NAME [guest=NAME]";
                Err(mistyped(why.to_owned()))
            }
        }
    }

    /// Returns whether a row of the list of guests is what is waited for.
    fn is_row(&self, row: &Value) -> bool {
        let is = |key: &str, wanted: &Option<String>| row[key].as_str() == wanted.as_deref();
        self.event.is_none() && is("name", &self.guest) && is("state", &self.state)
    }

    /// Returns whether an event is what is waited for.
    fn is_event(&self, event: &Value) -> bool {
        let is = |key: &str, wanted: &Option<String>| {
            wanted.is_none() || event[key].as_str() == wanted.as_deref()
        };
        self.event.is_some() && is("event", &self.event) && is("guest", &self.guest)
    }
}

/// The line may have lost an event, so the list is looked at from time to time.
const AGAIN: Duration = Duration::from_secs(5);

/// Waits until the conditions are met, at most as long as `timeout`.
pub(super) fn main(
    address: &Address,
    conditions: &[&str],
    timeout: Option<Duration>,
) -> Result<()> {
    let wish = Wish::of(conditions)?;
    let mut client = address.connect(true)?;
    let until = end_of(timeout);
    if wish.event.is_none() && is_so(&mut client, &wish)? {
        return Ok(());
    }
    loop {
        let tick = Instant::now() + AGAIN;
        match client.next(Some(until.map_or(tick, |until| until.min(tick)))).map_err(coded)? {
            Some(Message::Event(event)) => {
                let event: Value = serde_json::from_str(&event).unwrap_or_default();
                if wish.is_event(&event) || wish.event.is_none() && is_so(&mut client, &wish)? {
                    return Ok(());
                }
            }
            Some(_) => {}
            None if until.is_none_or(|until| Instant::now() < until) => {
                if wish.event.is_none() && is_so(&mut client, &wish)? {
                    return Ok(());
                }
            }
            None => {
                let why = format!("it was waited in vain for {}", conditions.join(" "));
                return Err(Coded { code: 7, why }.into());
            }
        }
    }
}

/// Asks the machine whether a guest is in the state that is waited for.
fn is_so(client: &mut Client, wish: &Wish) -> Result<bool> {
    let list = client.answer("guests --json").map_err(coded)?;
    let rows: Vec<Value> = list.lines().filter_map(|row| serde_json::from_str(row).ok()).collect();
    let name = wish.guest.as_deref();
    if rows.iter().all(|row| row["name"].as_str() != name) {
        match wish.state.as_deref() {
            Some(REMOVED) => return Ok(true),
            // One that is waited for may yet be made.
            Some("running") => {}
            _ => bail!("there is no guest \"{}\"", name.unwrap_or_default()),
        }
    }
    Ok(rows.iter().any(|row| wish.is_row(row)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_waited_for_is_a_state_or_an_event() {
        let wish = Wish::of(&["guest=linux", "state=off"]).unwrap();
        let row = |state: &str| serde_json::json!({"name": "linux", "state": state});
        assert!(wish.is_row(&row("off")) && !wish.is_row(&row("running")));
        let wish = Wish::of(&["event=checkpoint"]).unwrap();
        assert!(wish.is_event(&serde_json::json!({"event": "checkpoint", "guest": "a"})));
        assert!(!wish.is_row(&row("off")));
        for wrong in [&["guest=linux"][..], &["state=off"], &[], &["cow=off"], &["guest"]] {
            assert!(Wish::of(wrong).is_err(), "{wrong:?}");
        }
        for (wrong, near) in [
            (&["guest=linux", "state=runing"][..], "did you mean \"running\"?; there are running,"),
            (&["event=chekpoint"], "did you mean \"checkpoint\"?; there are guest,"),
        ] {
            let error = Wish::of(wrong).unwrap_err().to_string();
            assert!(error.contains(near), "{error}");
        }
    }
}
