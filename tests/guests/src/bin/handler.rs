//! Placeholder.
#![cfg_attr(target_os = "none", no_std, no_main)]
#[cfg(not(target_os = "none"))]
fn main() {}
#[cfg(target_os = "none")]
stasis_guests::entry!(main, stasis_guests::runtime::no_irq);
#[cfg(target_os = "none")]
fn main() {}
