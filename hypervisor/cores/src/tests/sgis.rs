//! No SGI is lost, whoever takes it, and what its sender has written before is there for who takes
//! it.

use super::check_within;
use super::machine::Core;
use crate::sgis::Mailbox;
use crate::sync::Lock;
use loom::sync::Arc;
use loom::sync::atomic::{AtomicU32, Ordering};
use loom::thread;
use stasis_vgic::Sgis;

/// SGIs of the two words of a mailbox.
const SENT: [u16; 2] = [3, 12];
/// Times that each source sends its SGI.
const TIMES: u32 = 2;

/// A vCPU that is sent SGIs by two others.
struct Receiver {
    core: Core,
    mailbox: Mailbox,
    /// What each source has written last before it sent an SGI.
    memory: [AtomicU32; 2],
    /// What was there of that, for each source, when an SGI of it was taken last.
    records: Lock<[u32; 2]>,
}

impl Receiver {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            core: Core::new(1),
            mailbox: Mailbox::new(),
            memory: [0; 2].map(AtomicU32::new),
            records: Lock::new([0; 2]),
        })
    }

    /// Sends SGIs from a source, as `Domain::send_to_others` does.
    fn send(&self, source: usize, times: u32) {
        for time in 1..=times {
            self.memory[source].store(time, Ordering::Relaxed);
            if self.mailbox.put(SENT[source], source) {
                self.core.kick(0);
            }
        }
    }

    /// Takes what was sent, as `Domain::receive` does. Returns the records.
    fn receive(&self) -> [u32; 2] {
        let mut records = self.records.lock();
        let taken = self.mailbox.take();
        for source in 0..2 {
            if taken.0 & Sgis::only(SENT[source], source).0 != 0 {
                records[source] = self.memory[source].load(Ordering::Relaxed);
            }
        }
        *records
    }

    /// Waits as a vCPU does, until it has found the last of `times` from each source.
    fn wait_for(&self, times: [u32; 2]) {
        loop {
            match self.core.decide() {
                Some(_) if self.receive() == times => return,
                Some(task) => drop(self.core.sleep(task)),
                None => self.core.line.wait(),
            }
        }
    }
}

fn sender(receiver: &Arc<Receiver>, source: usize, times: u32) -> thread::JoinHandle<()> {
    let receiver = receiver.clone();
    thread::spawn(move || receiver.send(source, times))
}

#[test]
fn each_of_two_sources_is_heard() {
    check_within(2, || {
        let receiver = Receiver::new();
        let senders = [0, 1].map(|source| sender(&receiver, source, 1));
        receiver.wait_for([1, 1]);
        senders.into_iter().for_each(|sender| sender.join().unwrap());
    });
}

#[test]
fn an_sgi_that_is_sent_again_while_it_is_taken_is_not_lost() {
    check_within(3, || {
        let receiver = Receiver::new();
        let sender = sender(&receiver, 0, TIMES);
        receiver.wait_for([TIMES, 0]);
        sender.join().unwrap();
    });
}

#[test]
fn a_vcpu_that_is_in_its_guest_is_interrupted_by_an_sgi() {
    check_within(3, || {
        let receiver = Receiver::new();
        let sender = sender(&receiver, 0, TIMES);
        while receiver.core.decide().is_none() {
            receiver.core.line.wait();
        }
        while receiver.receive() != [TIMES, 0] {
            receiver.core.line.wait();
        }
        sender.join().unwrap();
    });
}

#[test]
fn an_sgi_that_somebody_else_has_put_into_the_records_is_found_there() {
    check_within(2, || {
        let receiver = Receiver::new();
        let sender = sender(&receiver, 0, TIMES);
        let looker = {
            let receiver = receiver.clone();
            thread::spawn(move || {
                receiver.receive();
            })
        };
        receiver.wait_for([TIMES, 0]);
        sender.join().unwrap();
        looker.join().unwrap();
    });
}
