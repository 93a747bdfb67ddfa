//! Nothing that is brought is left lying, and what was written before is there for who takes it.

use super::machine::Core;
use super::{check, check_within};
use crate::news::{Bits, News, Notice};
use crate::sync::Lock;
use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::thread;

/// A guest with a core, and peers that ring it.
struct Guest {
    core: Core,
    news: News,
    bells: Bits,
    /// What each peer writes to the memory that they share before it rings.
    memory: [UnsafeCell<u32>; 2],
    /// One bit for each guest that has rung, as far as this guest has heard.
    heard: Lock<u32>,
}

impl Guest {
    fn new(cores: usize) -> Arc<Self> {
        let guest = Self {
            core: Core::new(cores),
            news: News::of_new_guest(),
            bells: Bits::new(),
            memory: [0; 2].map(UnsafeCell::new),
            heard: Lock::new(0),
        };
        guest.news.take();
        Arc::new(guest)
    }

    /// Rings the guest from a core of the peer's, as `Connected::ring` does.
    fn ring(&self, peer: usize) {
        self.memory[peer].with_mut(|_| ());
        self.bells.set(peer);
        self.news.announce();
        self.core.kick(0);
    }

    /// Passes on what has come, before an entry, as `Domain::pass_news` does. Returns all that was
    /// heard.
    fn pass(&self) -> u32 {
        let mut heard = self.heard.lock();
        if self.news.is_there() {
            self.news.take();
            let rung = self.bells.take();
            for peer in (0..2).filter(|peer| rung >> peer & 1 != 0) {
                self.memory[peer].with(|_| ());
            }
            *heard |= rung;
        }
        *heard
    }

    /// Waits for bells, as a vCPU does, until all of these were heard.
    fn wait_for(&self, all: u32) {
        loop {
            match self.core.decide() {
                Some(_) if self.pass() == all => return,
                Some(task) => drop(self.core.sleep(task)),
                None => self.core.line.wait(),
            }
        }
    }
}

#[test]
fn each_of_two_that_ring_is_heard() {
    check_within(2, || {
        let guest = Guest::new(1);
        let peers = [0, 1].map(|peer| {
            let guest = guest.clone();
            thread::spawn(move || guest.ring(peer))
        });
        guest.wait_for(0b11);
        peers.into_iter().for_each(|peer| peer.join().unwrap());
    });
}

#[test]
fn a_bell_that_another_vcpu_of_the_guest_takes_is_heard() {
    check_within(2, || {
        let guest = Guest::new(1);
        let peer = {
            let guest = guest.clone();
            thread::spawn(move || {
                guest.ring(0);
                guest.ring(1)
            })
        };
        let other = {
            let guest = guest.clone();
            thread::spawn(move || guest.pass())
        };
        guest.wait_for(0b11);
        peer.join().unwrap();
        other.join().unwrap();
    });
}

#[test]
fn who_finds_a_notice_finds_what_it_is_about() {
    check(|| {
        let deadline = Arc::new((Lock::new(0), Notice::new(), Core::new(1)));
        let leaving = {
            let deadline = deadline.clone();
            thread::spawn(move || {
                for until in 1..=2 {
                    *deadline.0.lock() = until;
                    deadline.1.leave();
                    deadline.2.kick(0);
                }
            })
        };
        let (lock, notice, core) = &*deadline;
        let mut seen = 0;
        loop {
            match core.decide() {
                Some(_) if seen == 2 => break,
                Some(task) => {
                    let until = lock.lock();
                    if notice.take() {
                        seen = *until;
                    }
                    drop(until);
                    if seen != 2 {
                        core.sleep(task);
                    }
                }
                None => core.line.wait(),
            }
        }
        leaving.join().unwrap();
        notice.take();
        assert!(!notice.take(), "it was taken");
    });
}
