//! Tries to hurt whoever runs it: every access, call and register that may catch a hypervisor unprepared.
//!
//! It expects no particular answers. It must come to its end, printing `survived`, whatever they are; and whoever else
//! is on the machine must not notice.

#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(not(target_os = "none"))]
fn main() {}

#[cfg(target_os = "none")]
mod calls;
#[cfg(target_os = "none")]
mod devices;
#[cfg(target_os = "none")]
mod storms;
#[cfg(target_os = "none")]
mod system;

#[cfg(target_os = "none")]
stasis_guests::entry!(run, storms::irq);

#[cfg(target_os = "none")]
fn run() {
    devices::attack();
    calls::attack();
    system::attack();
    storms::attack();
    stasis_guests::println!("survived");
}

/// Numbers without a pattern, the same in every run.
#[cfg(target_os = "none")]
struct Random(u64);

#[cfg(target_os = "none")]
impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}
