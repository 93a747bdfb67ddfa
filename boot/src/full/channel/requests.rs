//! Requests: command lines that come by the channel, and their answers. One that takes long is
//! carried out at a time, and others wait for it.

use super::current::{self, Ticket};
use super::transfer::{self, Received};
use super::watch::TopWatch;
use crate::answer::Answer;
use crate::console::commands;
use crate::console::error::NotCarriedOut;
use crate::console::find::guests_are_free;
use crate::work::Work;
use alloc::string::{String, ToString};
use stasis_channel::Kind;
use stasis_channel::message::Status;
use stasis_channel::stream::StreamName;
use stasis_console::command::{self, Command};
use stasis_run::turns::Task;

/// Returns the kind of the frames with the answer to a command.
fn kind_of(command: &Command) -> Kind {
    if command.answers_in_json() { Kind::Rows } else { Kind::Text }
}

/// What has become of a request that has come.
pub enum Begun {
    /// The request has ended, with this result.
    Ended(Result<(), (Status, String)>),
    /// The request is answered again and again.
    Watches(TopWatch),
    /// The request must wait for its turn.
    Waits,
}

/// Answers a request that needs nothing but the task, or that is wrong.
pub fn begin(task: &mut Task, id: u16, line: &str) -> Begun {
    let failed = |why: &str| Begun::Ended(Err((Status::Failed, why.to_string())));
    let command = match command::parse(line) {
        Ok(Command::Attach { .. }) => return failed("a program opens the stream \"attach GUEST\""),
        Ok(Command::Cancel) => return failed("a program sends a frame to cancel a request"),
        Ok(command) => command,
        Err(error) => return Begun::Ended(Err(said(NotCarriedOut::Mistyped(error)))),
    };
    let ticket = Ticket { id, kind: kind_of(&command), is_current: false };
    let mut answer = Answer::to_channel(ticket);
    if let Some(result) = commands::look(task, &command, &mut answer) {
        answer.send(task);
        return Begun::Ended(result.map_err(|why| said(why.into())));
    }
    match guests_are_free().then(|| TopWatch::of(id, &command, answer)).flatten() {
        Some(watch) => Begun::Watches(watch),
        None => Begun::Waits,
    }
}

/// Carries out a request that has waited, or takes the checkpoint that a stream brings, by
/// `received`. Returns the result, unless the client is gone.
pub fn carry_out(
    work: &mut Work,
    id: u16,
    line: &str,
    received: Received,
) -> Option<Result<(), (Status, String)>> {
    current::begin(id);
    let kind = command::parse(line).map_or(Kind::Text, |command| kind_of(&command));
    let mut answer = Answer::to_channel(Ticket { id, kind, is_current: true });
    let result = match StreamName::parse(line) {
        Ok(StreamName::Put { name, length }) => {
            let result = transfer::receive(work, (name, length), received, &mut answer);
            answer.send(work.task);
            result.map_err(|error| (Status::Failed, error.to_string()))
        }
        _ => commands::execute(work, line, &mut answer).map_err(said),
    };
    let (current, result) = current::end(result);
    (current == Some(id)).then_some(result)
}

fn said(refusal: NotCarriedOut) -> (Status, String) {
    let status = match refusal {
        NotCarriedOut::Mistyped(_) => Status::Mistyped,
        NotCarriedOut::Failed(_) => Status::Failed,
    };
    (status, refusal.to_string())
}
