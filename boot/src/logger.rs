//! The log. Each line has the time since the start and the level, and goes through the console.

use crate::terminal;
use log::{Level, LevelFilter, Log, Metadata, Record};
use stasis_run::clock;

struct Logger;

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata) -> bool {
        // `gdbstub` tells of each packet that it does not know, and debuggers try many: no news for
        // a person, unless they ask for it.
        let is_of_packets = metadata.target().starts_with("gdbstub");
        let most = if is_of_packets && log::max_level() < LevelFilter::Debug {
            LevelFilter::Off
        } else {
            log::max_level()
        };
        metadata.level() <= most
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
            let what = record.args();
            terminal::log(format_args!("[{seconds:5}.{micros:06}] {level}{what}"));
        }
    }

    fn flush(&self) {}
}

/// Starts the log, at the level of `log=<level>` in the boot arguments, or else at `info`.
pub fn init(bootargs: &str) {
    let asked = bootargs.split_whitespace().find_map(|word| word.strip_prefix("log="));
    let level = asked.map_or(Some(LevelFilter::Info), |name| name.parse().ok());
    log::set_max_level(level.unwrap_or(LevelFilter::Info));
    // Setting a logger fails only if there is one already. This is the only one.
    let _ = log::set_logger(&Logger);
    if let (None, Some(name)) = (level, asked) {
        log::warn!(
            "log={name} in the boot arguments: the levels are off, error, warn, info, debug, trace"
        );
    }
}
