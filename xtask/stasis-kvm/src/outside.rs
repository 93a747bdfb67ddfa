//! What the guest's devices reach outside of it, besides its console and its disks: [`Outside`].

use std::fs::File;
use std::io::Read;

use stasis_devices::virtio::Outward;
use stasis_devices::virtio::net::MAX_FRAME;

/// A source of random bytes, and a network in which nobody is: what a card sends is lost, as on a
/// cable that ends nowhere.
#[derive(Debug)]
pub struct Outside {
    random: Option<File>,
    frame: [u8; MAX_FRAME],
}

impl Default for Outside {
    fn default() -> Self {
        Self { random: File::open("/dev/urandom").ok(), frame: [0; MAX_FRAME] }
    }
}

impl Outward for Outside {
    fn random(&mut self, into: &mut [u8]) -> bool {
        self.random.as_mut().is_some_and(|random| random.read_exact(into).is_ok())
    }

    fn frame(&mut self, len: usize) -> &mut [u8] {
        &mut self.frame[..len]
    }

    fn send(&mut self, _: u8, _: usize) {}

    /// A guest with a terminal is [refused](crate::image), so nothing is printed.
    fn text(&mut self, _: usize) -> &mut [u8] {
        &mut []
    }

    fn print(&mut self, _: usize) {}

    fn typed(&mut self, _: &mut [u8]) -> usize {
        0
    }

    fn take_typed(&mut self, _: usize) {}
}
