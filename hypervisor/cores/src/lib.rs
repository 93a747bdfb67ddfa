//! The protocols between the machine's cores, without the machine.
//!
//! - [`hold`]: a vCPU makes others of its guest stand still for one access.
//! - [`gate`]: no core enters a guest that somebody wants whole, or that does not run.
//! - [`agenda`]: a core's tasks, and whether the core must decide anew which of them has it.
//! - [`news`]: what has come for a guest from outside, until one of the guest's cores takes it.
//! - [`sgis`]: SGIs that the vCPUs of a guest send to each other, until the receiver's core takes
//!   them.
//! - [`copies`]: memory as it was at an instant, while cores write it.
//! - [`clones`]: memory that guests share, while one of them moves its pages or ceases to use it.
//! - [`absent`]: memory that is still elsewhere, while cores want it.
//! - [`sync`]: the atomics and the locks that the protocols are made of.
//!
//! The crate `run` wires the protocols to the machine. It passes functions to them for what they
//! need of it, such as "interrupt that core" and "is my turn over". One thing must be true of an
//! interrupt: the core that sends it makes its writes visible first, and the core that takes it
//! reads after it (`gic::kick` and `interrupts::take` in `run` have the barriers). A core that is
//! at EL2 takes no interrupt. The interrupt stays pending, and the core finds it when it enters a
//! guest or waits.
//!
//! # Who writes, who reads, in which order, and why
//!
//! | atomic | written by | read by | order | why |
//! |---|---|---|---|---|
//! | `Hold::wanted` | the holder | the held vCPU's core | store `true`: Relaxed, then a SeqCst fence; store `false`: Release; load: Acquire | the fence: of the two cores that write `wanted` and `running`, at least one sees what the other has written. Release and Acquire: the vCPU finds what the holder's access has changed when it goes on |
//! | `Hold::running` | the held vCPU's core | the holder | store `true`: Relaxed, then a SeqCst fence; store `false`: Release; load: Acquire | the fence: see `Hold::wanted`. Release and Acquire: the holder finds what was folded |
//! | `Gate::reasons` | the core that wants or stops the guest | the cores of its vCPUs | Relaxed | the scheduler's lock, the vCPU's lock or the interrupt comes between the writer and each reader that must see the change |
//! | `Agenda::is_stale` | whoever wakes a task; the core itself | the core itself | Relaxed | others write after they had the lock of the tasks, the core before it takes that lock; the interrupt makes the core look |
//! | `News::has_come` | whoever brings something; the core that takes it | each core of the guest | swap `true`: Release; swap `false`: Acquire; look: Relaxed | the core that takes the flag finds what all have brought before they set it. The look decides nothing but whether to take |
//! | `Bits` | whoever rings | the core that takes them | `fetch_or`: Release; look: Relaxed; swap: Acquire | a bell may be taken by the flag of another one: then the bit alone carries what the ringing guest has written to shared memory before |
//! | `Mailbox` | the sender of an SGI | whoever takes it, under the lock of what a guest's vCPUs share | `fetch_or`: Release; look: Relaxed; swap: Acquire | it may be taken before its kick comes: then the bit alone carries what the sending vCPU has written before |
//! | `clones::Entry` | the core of whoever moves the page, one at a time | it; a snapshot, on another core | `put`: Release; `find`: Acquire; by the writer itself (`own`), or when nobody else looks (`take`): Relaxed | whoever finds a table finds it empty, and whoever finds a frame finds the copy in it |
//! | `clones::Users` | whoever begins or ceases to use a block | all of them | one more: Relaxed; one less: AcqRel; the look: Acquire | the look that finds one user, and the last one who leaves, come after all that others did with the block. Who counts one more is a user |
//! | `Notice` | the core that leaves it | the one core that takes it | Relaxed | the data that it is about is behind a lock, which the writer had before, and which the reader holds |
//!
//! As a test, each of these orderings was weakened once, and each step left out: the commit that
//! brought this crate lists them, with loom's answers. loom takes a SeqCst access for a weaker one.
//! So there are fences where two cores each write one flag and read the other one's.
//!
//! | lock | protects | taken |
//! |---|---|---|
//! | [`Lock`](sync::Lock) of what a guest's vCPUs share | the guest | after the locks of its vCPUs |
//! | [`Lock`](sync::Lock) in [`hold::Turns`] | nothing: the vCPU that has it is the guest's holder | with no other lock |
//! | [`Lock`](sync::Lock) in [`agenda::Agenda`] | a core's tasks | after all other locks |
//! | [`Lock`](sync::Lock) in [`copies::Copies`] | which pages were copied, whether one was written without, and the copies while they are made | after that of what a guest's vCPUs share |
//! | [`Lock`](sync::Lock) in [`absent::Absent`] | which units are there, and which were asked for | after that of what a guest's vCPUs share |
//!
//! Pages themselves are read and written past the lock of [`copies::Copies`]. The reader has it
//! after it has read a page, and the writer before it writes the page: if the writer comes later,
//! what was read is older than what it writes; and if it came before, the reader finds the copy. A
//! writer that has no frame and does not wait says so under the lock, before it writes: the reader
//! looks for that after its last read.
//!
//! A unit that is absent is written past the lock of [`absent::Absent`], by its loader alone.
//! Others have had the lock after the loader, or have found the entry of a translation that the
//! loader has written behind a barrier.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod absent;
pub mod agenda;
pub mod clones;
pub mod copies;
pub mod gate;
pub mod hold;
pub mod news;
pub mod sgis;
pub mod sync;
#[cfg(test)]
mod tests;
