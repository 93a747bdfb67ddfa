//! The console's UART behind a lock. What goes there is the [console](crate::console)'s to say, and a [panic](crate::panic)'s.

use crate::early;
use core::fmt::{self, Write};
use spin::Once;
use spin::mutex::SpinMutex;
use stasis_devices::pl011::Character;
use stasis_hw::serial::Serial;

static UART: Once<SpinMutex<Serial>> = Once::new();

/// Gives the output its UART. Until then, nothing can be said.
pub fn init(uart: Serial) {
    uart.init();
    UART.call_once(|| SpinMutex::new(uart));
}

/// The UART as a [`fmt::Write`]: a line feed goes out as CR LF.
struct Lines(Serial);

impl Write for Lines {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            if byte == b'\n' {
                self.0.write(b'\r');
            }
            self.0.write(byte);
        }
        Ok(())
    }
}

/// Writes bytes as they are.
pub fn write_bytes(bytes: &[u8]) {
    if let Some(uart) = UART.get() {
        let uart = uart.lock();
        bytes.iter().for_each(|byte| uart.write(*byte));
    }
}

/// Writes text even if another core died with the lock.
pub fn write_in_panic(arguments: fmt::Arguments) {
    in_panic(|uart| {
        let _ = Lines(uart).write_fmt(arguments);
    });
}

/// Writes bytes as they are, even if another core died with the lock.
pub fn write_bytes_in_panic(bytes: &[u8]) {
    in_panic(|uart| bytes.iter().for_each(|byte| uart.write(*byte)));
}

/// Uses the UART when its lock is free, or does not become so.
fn in_panic(action: impl FnOnce(Serial)) {
    const PATIENCE: usize = 10_000_000;
    let Some(uart) = UART.get().or_else(early) else { return };
    let _guard = (0..PATIENCE).find_map(|_| uart.try_lock());
    // SAFETY: the driver is an address; at worst, two cores' output is mixed.
    action(unsafe { *uart.as_mut_ptr() });
}

/// The UART of a boot that has come to its end before it had one.
fn early() -> Option<&'static SpinMutex<Serial>> {
    init(early::find()?);
    UART.get()
}

/// What was received first, if anything was.
pub fn read() -> Option<Character> {
    UART.get()?.lock().read().map(Character::from_data_register)
}
