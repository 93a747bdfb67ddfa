//! The console's UART behind a lock. Only the [console](crate::console), a [panic](crate::panic)
//! and, while it has the line, the [channel](crate::channel) write to it.

use crate::early;
use core::fmt::{self, Write};
use spin::Once;
use spin::mutex::SpinMutex;
use stasis_devices::pl011::Character;
use stasis_hw::serial::Serial;

static UART: Once<SpinMutex<Serial>> = Once::new();

/// Sets the UART. Before that, what is written is dropped.
pub fn init(uart: Serial) {
    uart.init();
    UART.call_once(|| SpinMutex::new(uart));
}

/// The UART as a [`fmt::Write`] that sends CR LF for each line feed.
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

/// Writes bytes as they are, whoever has the line. Takes the lock of the UART.
pub fn write_bytes(bytes: &[u8]) {
    if let Some(uart) = UART.get() {
        let uart = uart.lock();
        bytes.iter().for_each(|byte| uart.write(*byte));
    }
}

/// Writes text, even if a core has died with the lock of the UART.
pub fn write_in_panic(arguments: fmt::Arguments) {
    in_panic(|uart| {
        let _ = Lines(uart).write_fmt(arguments);
    });
}

/// Writes bytes as they are, even if a core has died with the lock of the UART.
pub fn write_bytes_in_panic(bytes: &[u8]) {
    in_panic(|uart| bytes.iter().for_each(|byte| uart.write(*byte)));
}

/// Uses the UART under its lock, or without the lock if that does not become free in time.
fn in_panic(action: impl FnOnce(Serial)) {
    const PATIENCE: usize = 10_000_000;
    let Some(uart) = UART.get() else { return };
    let _guard = (0..PATIENCE).find_map(|_| uart.try_lock());
    // SAFETY: the driver is only an address, which is never changed. At worst, the output of two
    // cores is mixed.
    action(unsafe { *uart.as_mut_ptr() });
}

/// Sets the UART that is found by its address, if none was set: for a boot that has come to its end
/// before it knew the UART.
///
/// # Safety
///
/// This program is about to stop. If no UART was set, only this core runs, and the program uses
/// nothing but the image from now on.
pub unsafe fn find_in_panic() {
    if UART.get().is_none() {
        // SAFETY: no UART was set, so only this core runs and uses nothing but the image, by the
        // caller.
        unsafe { early::find() }.into_iter().for_each(init);
    }
}

/// Returns the oldest byte that the UART has received and nobody has read yet, if there is one.
/// Takes the lock of the UART.
pub fn read() -> Option<Character> {
    UART.get()?.lock().read().map(Character::from_data_register)
}
