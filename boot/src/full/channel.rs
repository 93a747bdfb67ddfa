//! The channel for programs: requests, streams and events, on a UART of its own, or on the
//! console's while a client has that. `docs/channel.md` specifies it, and [`stasis_channel`] keeps
//! to its rules; this module carries out what is asked.
//!
//! Only the console's task sends and receives here. [`serve`] is its turn. While a command takes
//! long, [`meanwhile`] answers what needs nothing of the command's: the lists, the streams, and the
//! wish to give it up.

mod attach;
pub mod current;
mod desk;
pub mod endpoint;
pub mod events;
mod gather;
pub mod line;
mod requests;
mod streams;
mod transfer;
mod watch;

use crate::machine::{self, Machine};
use crate::typed;
use crate::work::Work;
use alloc::boxed::Box;
use desk::Desk;
use spin::mutex::SpinMutex;
use stasis_arch::timer;
use stasis_channel::Reader;
use stasis_channel::silence::Silence;
use stasis_run::interrupts;
use stasis_run::turns::Task;

/// Bytes that are received in one turn.
const MOST: usize = 4096;

/// The channel; `None` before [`init`], and while the task serves it. Only the task takes it, so a
/// second one finds that it is served.
static CHANNEL: SpinMutex<Option<Box<Channel>>> = SpinMutex::new(None);

/// The frames that come, and what is done with them.
struct Channel {
    reader: Reader,
    desk: Desk,
    silence: Silence,
}

/// Opens the channel. If the machine has a UART for it, its interrupt wakes the task from now on.
pub fn init(machine: &Machine) {
    if let Some(name) = machine.lost_channel {
        log::warn!(
            "channel={name} in the boot arguments: there is no such UART beside the console"
        );
    }
    if let Some(uart) = machine.channel {
        // SAFETY: `Machine` is proof that the device tree says that the frame is the UART's, and
        // that it is mapped as a device. Only this driver uses it.
        line::init(unsafe { machine::serial(uart) });
        interrupts::open_channel(uart.device.intid);
        log::debug!("the channel is the UART at {}", uart.device.frame);
    }
    let desk = Desk::new(machine.model);
    let channel = Channel { reader: Reader::new(), desk, silence: Silence::default() };
    *CHANNEL.lock() = Some(Box::new(channel));
}

/// Does what has come, and carries out one request that waits. Returns whether there may be more.
pub fn serve(work: &mut Work) -> bool {
    let mut more = with(|channel| channel.turn(work.task)).unwrap_or(false);
    more |= with(|channel| channel.desk.work_streams(work)).unwrap_or(false);
    let next = with(|channel| channel.desk.next_waiting()).flatten();
    if let Some((id, line)) = next {
        let received =
            &mut |into: &mut [u8]| with(|channel| channel.desk.receive(id, into)).flatten();
        if let Some(result) = requests::carry_out(work, id, &line, received) {
            with(|channel| channel.desk.end(work.task, id, result));
        }
        return true;
    }
    typed::others_wait(false);
    // What was sent has let others run, who may have taken the interrupts, which wake the task
    // once.
    interrupts::listen_to_console();
    line::listen();
    more
}

/// Does what has come that needs nothing but the task, while a command is under way that may have
/// anything else.
pub fn meanwhile(task: &mut Task) {
    with(|channel| channel.turn(task));
    line::listen();
}

/// Returns the value of the counter at which a client must get something; `None` if nothing is
/// planned.
pub fn next_due() -> Option<u64> {
    with(|channel| channel.desk.next_due()).flatten()
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
        current::send_progress(task);
        for _ in 0..MOST {
            let Some(byte) = line::read() else {
                line::listen();
                return self.desk.step(task) | line::is_waiting();
            };
            self.take(task, byte);
        }
        self.desk.step(task);
        true
    }

    fn take(&mut self, task: &mut Task, byte: u8) {
        let (now, second) = (timer::counter(), timer::frequency());
        if self.silence.is_persons(byte, line::has_console(), now, second) {
            self.reader.clear();
            self.desk.leave(task);
            return;
        }
        match self.reader.push(byte) {
            None => {}
            Some(Err(damage)) => self.desk.session.damage(damage),
            Some(Ok(frame)) => {
                self.silence.hear(now);
                let action = self.desk.session.take(frame);
                self.desk.act(task, action);
            }
        }
    }
}
