//! What Stasis says: the UART behind a lock, `println!`, and `log`.

use core::fmt::{self, Write};
use log::{Level, LevelFilter, Log, Metadata, Record};
use spin::Once;
use spin::mutex::SpinMutex;
use stasis_hw::serial::Serial;
use stasis_run::clock;

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

/// Writes to the UART, whole: no other core's output gets in between.
pub fn write(arguments: fmt::Arguments) {
    if let Some(uart) = UART.get() {
        let _ = Lines(*uart.lock()).write_fmt(arguments);
    }
}

/// Writes bytes as they are.
pub fn write_bytes(bytes: &[u8]) {
    if let Some(uart) = UART.get() {
        let uart = uart.lock();
        bytes.iter().for_each(|byte| uart.write(*byte));
    }
}

/// Writes even if another core died with the lock.
pub fn write_in_panic(arguments: fmt::Arguments) {
    const PATIENCE: usize = 10_000_000;
    let Some(uart) = UART.get() else { return };
    let _guard = (0..PATIENCE).find_map(|_| uart.try_lock());
    // SAFETY: the driver is an address; at worst, two cores' output is mixed.
    let driver = unsafe { *uart.as_mut_ptr() };
    let _ = Lines(driver).write_fmt(arguments);
}

/// A byte that was received, if there is one.
pub fn read() -> Option<u8> {
    UART.get()?.lock().read()
}

/// Prints a line to the console.
macro_rules! println {
    ($($argument:tt)*) => {
        $crate::output::write(format_args!("{}\n", format_args!($($argument)*)))
    };
}

struct Logger;

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &Record) {
        if self.enabled(record.metadata()) {
            let micros = clock::now_us();
            let (seconds, micros) = (micros / 1_000_000, micros % 1_000_000);
            let level = match record.level() {
                Level::Error => "error: ",
                Level::Warn => "warning: ",
                Level::Info | Level::Debug | Level::Trace => "",
            };
            println!("[{seconds:5}.{micros:06}] {level}{}", record.args());
        }
    }

    fn flush(&self) {}
}

/// Starts logging: as much as `log=<level>` in the boot arguments asks for, else what is of interest.
pub fn init_log(bootargs: &str) {
    let asked = bootargs.split_whitespace().find_map(|word| word.strip_prefix("log="));
    let level = asked.map_or(Some(LevelFilter::Info), |name| name.parse().ok());
    log::set_max_level(level.unwrap_or(LevelFilter::Info));
    // It fails only if a logger is set already, and this one is the only one.
    let _ = log::set_logger(&Logger);
    if let (None, Some(name)) = (level, asked) {
        log::warn!(
            "log={name} in the boot arguments: the levels are off, error, warn, info, debug, trace"
        );
    }
}
