//! What the tests that boot QEMU have in common.
//!
//! - [`lab`]: a folder for each test, what is booted in it, and what is shown of it when it fails.
//! - [`stasis`]: a machine that runs Stasis, spoken to through its console.
//! - [`plain`]: a machine without Stasis, that can be stopped and written to a stream.
//! - [`process`]: a program beside the machine, which ends with its test.
//! - [`outer`]: a Linux with a KVM; [`nested`]: with `stasis-kvm` in it, [`accelerated`]: with
//!   another QEMU in it.
//! - [`guests`]: what the guests print, and whether it is right.
//! - [`differences`]: in what two transcripts of guest `handler` differ, and what a document says
//!   of that.
//! - [`beats`]: the same, of the real-time guests; [`steps`]: of the loop in Linux; [`sequence`]:
//!   that nothing of it is missing.
//! - [`round_trip`]: whether a guest that comes back is as it went.
//! - [`tamper`]: checkpoints that are taken out of a disk, changed, and put back.

pub mod accelerated;
pub mod beats;
pub mod differences;
pub mod guests;
pub mod lab;
pub mod nested;
pub mod outer;
pub mod plain;
pub mod process;
pub mod round_trip;
pub mod sequence;
pub mod stasis;
pub mod steps;
pub mod tamper;
