//! The UART of the channel: one of its own, or else the console's, while a client has that
//! ([`Shared`]).
//!
//! The console's task alone sends frames, so that no two are mixed. Where the line is the
//! console's, what all cores say waits here meanwhile, and goes in frames, too.

use crate::output;
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, Ordering};
use spin::Once;
use spin::mutex::SpinMutex;
use stasis_channel::shared::Shared;
use stasis_channel::{Frame, MAX_PAYLOAD};
use stasis_console::PIECE;
use stasis_devices::pl011::Character;
use stasis_hw::serial::Serial;
use stasis_run::turns::Task;
use stasis_run::{interrupts, roster};

/// Bytes that were received and wait, at most. While there are as many, no more are read.
const RECEIVED: usize = 4096;

/// Bytes that the console has said and wait, at most. Of more, the oldest are dropped.
const SAID: usize = 16 << 10;

/// The UART that is the channel's alone.
static OWN: Once<Serial> = Once::new();

/// The console's line, as the channel's. The task alone takes it.
static CONSOLES: SpinMutex<Divided> = SpinMutex::new(Divided {
    shared: Shared::new(),
    typed: VecDeque::new(),
    received: VecDeque::new(),
});

/// Whether the console's line is the channel's. The task writes it, all read it before they say
/// something; relaxed, for it is about no other data.
static IS_ON: AtomicBool = AtomicBool::new(false);

/// What the console has said while the line is the channel's. A leaf among the locks.
static CONSOLE_SAID: SpinMutex<VecDeque<u8>> = SpinMutex::new(VecDeque::new());

/// What has come by the console's line.
struct Divided {
    shared: Shared,
    /// The console's, before it was read.
    typed: VecDeque<Character>,
    /// The channel's.
    received: VecDeque<u8>,
}

/// Sets the UART that is the channel's alone, and switches it on.
pub fn init(uart: Serial) {
    uart.use_fifos();
    uart.init();
    OWN.call_once(|| uart);
}

/// Returns the oldest byte for the channel that was received and not read yet, if there is one. One
/// with an error of the line is a byte like any other: the frame's CRC will tell.
pub fn read() -> Option<u8> {
    if let Some(uart) = OWN.get() {
        return uart.read().map(|received| received as u8);
    }
    if !has_console() {
        return None;
    }
    let mut divided = CONSOLES.lock();
    divided.pull();
    divided.received.pop_front()
}

/// Returns the oldest byte that was typed at the console, or a break, and takes it.
pub fn typed() -> Option<Character> {
    if OWN.get().is_some() {
        return output::read();
    }
    let mut divided = CONSOLES.lock();
    divided.pull();
    divided.typed.pop_front()
}

impl Divided {
    /// Gives the line back, and divides anew what came behind the channel's last frame.
    fn leave(&mut self) {
        self.shared.leave();
        for byte in core::mem::take(&mut self.received) {
            self.divide(byte);
        }
    }

    fn divide(&mut self, byte: u8) {
        let typed = &mut self.typed;
        let byte = self.shared.take(byte, &mut |byte| typed.push_back(byte.into()));
        self.received.extend(byte);
    }

    /// Reads from the UART until something is typed, or nothing more can be read.
    fn pull(&mut self) {
        while self.typed.is_empty() && self.received.len() < RECEIVED {
            let Some(character) = output::read() else { break };
            if character.is_break() {
                self.typed.push_back(character);
                continue;
            }
            self.divide(character.byte());
        }
        IS_ON.store(self.shared.is_on(), Ordering::Relaxed);
    }
}

/// Returns whether the console's line is the channel's at the moment.
pub fn has_console() -> bool {
    IS_ON.load(Ordering::Relaxed)
}

/// Gives the console's line back, if the channel has it, with what the console has said meanwhile,
/// and the bytes that came behind. Returns whether the channel had it: then the terminal must be
/// drawn again.
pub fn leave(task: &mut Task) -> bool {
    if !has_console() {
        return false;
    }
    // Until the line is the console's, what it says waits; so nothing is said out of turn.
    loop {
        let said = take_said();
        let waiting = CONSOLE_SAID.lock();
        if said.is_empty() && waiting.is_empty() {
            IS_ON.store(false, Ordering::Relaxed);
            break;
        }
        drop(waiting);
        for piece in said.chunks(PIECE) {
            task.yield_now();
            output::write_bytes(piece);
        }
    }
    CONSOLES.lock().leave();
    true
}

/// Says bytes as they are, for the console: on its line or, while the channel has that, in frames.
/// Takes the lock of the UART.
pub fn say(bytes: &[u8]) {
    if !keep_said(bytes) {
        output::write_bytes(bytes);
    }
}

/// Keeps what the console says while its line is the channel's. Returns whether it is.
fn keep_said(bytes: &[u8]) -> bool {
    if !has_console() {
        return false;
    }
    let mut said = CONSOLE_SAID.lock();
    // The line may have been given back meanwhile, which is done under this lock.
    if !has_console() {
        return false;
    }
    said.extend(bytes);
    let surplus = said.len().saturating_sub(SAID);
    said.drain(..surplus);
    drop(said);
    roster::wake_console();
    true
}

/// Returns what the console has said, as much as a frame has room for, and takes it.
pub fn take_said() -> Vec<u8> {
    let mut said = CONSOLE_SAID.lock();
    let len = said.len().min(MAX_PAYLOAD);
    said.drain(..len).collect()
}

/// Returns whether bytes wait that were read from the UART: some may have come behind the channel's
/// last frame.
pub fn is_waiting() -> bool {
    let divided = CONSOLES.lock();
    !divided.typed.is_empty() || !divided.received.is_empty()
}

/// Makes the next byte that is received wake the task.
pub fn listen() {
    match OWN.get() {
        Some(_) => interrupts::listen_to_channel(),
        None if has_console() => interrupts::listen_to_console(),
        None => {}
    }
}

/// Sends a frame. That takes up to 90 ms at 115,200 bits/s, so the task yields before each piece.
pub fn send(task: &mut Task, frame: Frame) {
    let own = OWN.get();
    if own.is_none() && !has_console() {
        return;
    }
    frame.write(&mut |bytes| {
        for piece in bytes.chunks(PIECE) {
            task.yield_now();
            match own {
                Some(uart) => piece.iter().for_each(|byte| uart.write(*byte)),
                None => output::write_bytes(piece),
            }
        }
    });
}
