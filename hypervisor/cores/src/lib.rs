//! The protocols between the machine's cores, without the machine.
//!
//! - [`hold`]: a vCPU makes others of its guest stand still for one access.
//! - [`gate`]: no core enters a guest that somebody wants whole, or that does not run.
//! - [`agenda`]: a core's tasks, and whether the core must decide anew which of them has it.
//! - [`news`]: what has come for a guest from outside, until one of the guest's cores takes it.
//! - [`sync`]: the atomics and the locks that the protocols are made of.
//!
//! The crate `run` wires the protocols to the machine. It passes functions to them for what they need of it, such as "interrupt that core" and "is my
//! turn over". One thing must be true of an interrupt: the core that sends it makes its writes visible first, and the core that takes it reads after
//! it (`gic::kick` and `interrupts::take` in `run` have the barriers). A core that is at EL2 takes no interrupt. The interrupt stays pending, and the
//! core finds it when it enters a guest or waits.
//!
//! # Who writes, who reads, in which order, and why
//!
//! | atomic | written by | read by | order | why |
//! |---|---|---|---|---|
//! | `Hold::wanted` | the holder | the held vCPU's core | store `true`: Relaxed, then a SeqCst fence; store `false`: Release; load: Acquire | the fence: of `wanted` and `running`, written by two cores, one is seen by the other one. Release and Acquire: what the holder's access changed is there when the vCPU goes on |
//! | `Hold::running` | the held vCPU's core | the holder | store `true`: Relaxed, then a SeqCst fence; store `false`: Release; load: Acquire | the fence: that of `wanted`. Release and Acquire: what was folded is there when the holder reads it |
//! | `Gate::reasons` | who wants or stops the guest | the cores of its vCPUs | Relaxed | the scheduler's lock, the vCPU's lock or the interrupt comes between the writer and each reader for whom it matters |
//! | `Agenda::is_stale` | whoever wakes a task; the core itself | the core itself | Relaxed | all writes of others are after they had the lock of the tasks, those of the core before it has it; the interrupt makes the core look |
//! | `News::has_come` | whoever brings something; the core that takes it | each core of the guest's | swap `true`: Release; swap `false`: Acquire; look: Relaxed | who takes the flag finds what all had brought before they set it. The look decides on nothing but whether to take |
//! | `Bits` | whoever rings | the core that takes them | `fetch_or`: Release; look: Relaxed; swap: Acquire | a bell may be taken by the flag of another one: then the bit alone carries what the ringing guest has written to shared memory before |
//! | `Notice` | who leaves it | the one core that takes it | Relaxed | what it is about is behind a lock that the writer had before, and the reader has at the time |
//!
//! Each of these was weakened once, and each step left out: the commit that brought this crate lists them, with what loom said. loom takes a SeqCst access
//! for a weaker one, so where two cores each write one flag and read the other one's, there are fences.
//!
//! | lock | protects | taken |
//! |---|---|---|
//! | [`Lock`](sync::Lock) of what a guest's vCPUs share | the guest | after the locks of its vCPUs |
//! | [`Lock`](sync::Lock) in [`hold::Turns`] | nothing: who has it is the guest's holder | with no other lock |
//! | [`Lock`](sync::Lock) in [`agenda::Agenda`] | a core's tasks | as the last one |

#![no_std]
#![forbid(unsafe_code)]

#[cfg(test)]
extern crate std;

pub mod agenda;
pub mod gate;
pub mod hold;
pub mod news;
pub mod sync;
#[cfg(test)]
mod tests;
