//! The UART of the channel. The console's task alone uses it, so that no two frames are mixed.

use spin::Once;
use stasis_channel::Frame;
use stasis_console::PIECE;
use stasis_hw::serial::Serial;
use stasis_run::turns::Task;

static UART: Once<Serial> = Once::new();

/// Sets the UART, and switches it on.
pub fn init(uart: Serial) {
    uart.init();
    UART.call_once(|| uart);
}

/// Returns the oldest byte that was received and not read yet, if there is one. One with an error of the line is a byte like any other: the frame's CRC will tell.
pub fn read() -> Option<u8> {
    UART.get()?.read().map(|received| received as u8)
}

/// Sends a frame. That takes up to 90 ms at 115,200 bits/s, so the task yields before each piece.
pub fn send(task: &mut Task, frame: Frame) {
    let Some(uart) = UART.get() else { return };
    frame.write(&mut |bytes| {
        for piece in bytes.chunks(PIECE) {
            task.yield_now();
            piece.iter().for_each(|byte| uart.write(*byte));
        }
    });
}
