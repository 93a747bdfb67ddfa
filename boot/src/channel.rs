//! The channel for programs: requests, streams and events on a UART of its own. `docs/channel.md` specifies it, and [`stasis_channel`] keeps to its rules; this
//! module carries out what is asked.
//!
//! Only the console's task sends and receives here. [`serve`] is its turn. While a command takes long, [`meanwhile`] answers what needs nothing of the command's:
//! the lists, the streams, and the wish to give it up.

mod line;
pub mod requests;
pub mod streams;

pub use requests::Ticket;

use crate::machine::Machine;
use crate::work::Work;
use crate::{serial, typed};
use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use spin::mutex::SpinMutex;
use stasis_channel::message::Status;
use stasis_channel::session::{Action, Session, welcome};
use stasis_channel::{Frame, Kind, MAX_PAYLOAD, Reader, VERSION};
use stasis_run::turns::Task;
use stasis_run::{interrupts, random};
use streams::Stream;

/// Bytes that are received in one turn.
const MOST: usize = 4096;

/// The channel; `None` before [`init`], and while the task serves it. Only the task takes it, so a second one finds that it is served.
static CHANNEL: SpinMutex<Option<Box<Channel>>> = SpinMutex::new(None);

/// The frames that come, and what is done with them.
struct Channel {
    reader: Reader,
    desk: Desk,
}

/// What is under way.
struct Desk {
    session: Session,
    /// Requests that wait for their turn: their ids and their command lines.
    waiting: VecDeque<(u16, String)>,
    streams: Vec<Stream>,
    /// The machine, in words.
    name: String,
    /// A number that is another one after each boot.
    boot: u32,
}

/// Opens the channel, if the machine has a UART for it. Its interrupt wakes the task from now on.
pub fn init(machine: &Machine) {
    if let Some(name) = machine.lost_channel {
        log::warn!(
            "channel={name} in the boot arguments: there is no such UART beside the console"
        );
    }
    let Some(uart) = machine.channel else { return };
    // SAFETY: `Machine` is proof that the device tree says that the frame is the UART's, and that it is mapped as a device. Only this driver uses it.
    line::init(unsafe { serial(uart) });
    interrupts::open_channel(uart.device.intid);
    log::debug!("the channel is the UART at {}", uart.device.frame);
    let desk = Desk {
        session: Session::new(),
        waiting: VecDeque::new(),
        streams: Vec::new(),
        name: format!("Stasis {} on {}", env!("CARGO_PKG_VERSION"), machine.model),
        boot: u32::from_le_bytes(random::bytes().unwrap_or_default()),
    };
    *CHANNEL.lock() = Some(Box::new(Channel { reader: Reader::new(), desk }));
}

/// Does what has come, and carries out one request that waits. Returns whether there may be more.
pub fn serve(work: &mut Work) -> bool {
    let mut more = with(|channel| channel.turn(work.task)).unwrap_or(false);
    more |= streams::work(work);
    let next = with(|channel| channel.desk.waiting.pop_front()).flatten();
    if let Some((id, line)) = next {
        requests::carry_out(work, id, &line);
        return true;
    }
    typed::others_wait(false);
    more
}

/// Does what has come that needs nothing but the task, while a command is under way that may have anything else.
pub fn meanwhile(task: &mut Task) {
    with(|channel| channel.turn(task));
}

/// Calls `action` with the channel, unless there is none, or somebody serves it already.
fn with<T>(action: impl FnOnce(&mut Channel) -> T) -> Option<T> {
    let mut channel = CHANNEL.lock().take()?;
    let result = action(&mut channel);
    *CHANNEL.lock() = Some(channel);
    Some(result)
}

impl Channel {
    /// Takes what was received, and sends what there is to send. Returns whether there may be more.
    fn turn(&mut self, task: &mut Task) -> bool {
        requests::send_progress(task);
        for _ in 0..MOST {
            let Some(byte) = line::read() else {
                interrupts::listen_to_channel();
                return self.desk.step(task);
            };
            match self.reader.push(byte) {
                None => {}
                Some(Err(damage)) => self.desk.session.damage(damage),
                Some(Ok(frame)) => {
                    let action = self.desk.session.take(frame);
                    self.desk.act(task, action);
                }
            }
        }
        self.desk.step(task);
        true
    }
}

impl Desk {
    fn act(&mut self, task: &mut Task, action: Action) {
        match action {
            Action::Nothing => {}
            Action::Begin => {
                self.give_all_up();
                self.send(task, Kind::Welcome, 0, &welcome(self.boot, &self.name));
            }
            Action::Leave => self.give_all_up(),
            Action::Refuse => {
                self.give_all_up();
                self.send(task, Kind::Refused, 0, &[VERSION, VERSION]);
            }
            Action::Request { id, line } => self.request(task, id, line),
            Action::Open { id, name } => match streams::open(name) {
                Ok(end) => self.streams.push(Stream { id, end }),
                Err((status, why)) => self.done(task, id, status, &why),
            },
            Action::Cancel(id) => self.cancel(task, id),
            // Each turn looks at all streams.
            Action::Look(_) => {}
            Action::Pong(id) => self.send(task, Kind::Pong, id, &self.session.pong()),
            Action::End { id, status, why } => {
                self.streams.retain(|stream| stream.id != id);
                self.done(task, id, status, why);
            }
        }
    }

    /// Answers a request now, if it needs nothing but the task; else in its turn.
    fn request(&mut self, task: &mut Task, id: u16, line: &str) {
        match requests::answer_now(task, id, line) {
            Some(result) => self.end_request(task, id, result),
            None => {
                self.waiting.push_back((id, line.into()));
                typed::others_wait(true);
            }
        }
    }

    fn end_request(&mut self, task: &mut Task, id: u16, result: Result<(), (Status, String)>) {
        match result {
            Ok(()) => self.done(task, id, Status::Done, ""),
            Err((status, why)) => self.done(task, id, status, &why),
        }
    }

    fn cancel(&mut self, task: &mut Task, id: u16) {
        let is_waiting = self.waiting.iter().any(|(waiting, _)| *waiting == id);
        let is_stream = self.streams.iter().any(|stream| stream.id == id);
        self.waiting.retain(|(waiting, _)| *waiting != id);
        self.streams.retain(|stream| stream.id != id);
        if is_waiting || is_stream {
            self.done(task, id, Status::GivenUp, "given up");
        } else {
            requests::give_up(id);
        }
    }

    /// Ends what the client had under way, which is not there any more.
    fn give_all_up(&mut self) {
        self.waiting.clear();
        self.streams.clear();
        requests::disown();
    }

    /// Ends a request or a stream: its id is free again.
    fn done(&mut self, task: &mut Task, id: u16, status: Status, why: &str) {
        self.session.close(id);
        let mut payload = Vec::from([status as u8]);
        payload.extend(why.bytes().take(MAX_PAYLOAD - 1));
        self.send(task, Kind::Done, id, &payload);
    }

    fn send(&self, task: &mut Task, kind: Kind, id: u16, payload: &[u8]) {
        line::send(task, Frame { kind, id, payload });
    }
}
