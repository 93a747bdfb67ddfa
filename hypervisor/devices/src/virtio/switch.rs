//! The switch of the guests' networks: who gets a frame, and who may send it. [`Switch`] knows the ports; whoever has it moves the frames.
//!
//! A port's own address is known from the start, and others that it sends under are learned, so that a guest can have guests or containers of its
//! own. Nobody sends under an address that is another port's: such a frame is dropped.

use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::net::{ADDRESS, Address};

/// The most addresses that are learned of a port; the oldest one is forgotten for a new one.
const MAX_LEARNED: usize = 8;

/// A port of a network, for a card in a guest's slot. `T` is the guest.
#[derive(Clone, Debug)]
pub struct Port<T> {
    /// The guest.
    pub guest: T,
    /// The card's slot.
    pub slot: u8,
    network: String,
    address: Address,
    learned: Vec<Address>,
}

/// All networks of a machine.
#[derive(Clone, Debug)]
pub struct Switch<T> {
    ports: Vec<Port<T>>,
}

/// Why a frame is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dropped {
    /// The sender has no port.
    NoPort,
    /// The source is no address of one card, or it is another port's.
    Spoofed,
    /// The destination is the sender's own port.
    ToItself,
}

fn is_group(address: Address) -> bool {
    address[0] & 1 != 0
}

impl<T> Default for Switch<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Switch<T> {
    /// Returns a switch without ports.
    pub const fn new() -> Self {
        Self { ports: Vec::new() }
    }

    /// Adds a port.
    pub fn plug(&mut self, guest: T, slot: u8, address: Address, network: &str) {
        let network = network.to_string();
        self.ports.push(Port { guest, slot, network, address, learned: Vec::new() });
    }

    /// Removes the ports of the guests for which `is_it` says so.
    pub fn unplug(&mut self, is_it: impl Fn(&T) -> bool) {
        self.ports.retain(|port| !is_it(&port.guest));
    }

    /// Returns the ports that get a `frame` that comes from the card in `slot` of the guest for which `is_it` says so. Learns its source.
    ///
    /// # Errors
    ///
    /// [`Dropped`].
    pub fn forward(
        &mut self,
        is_it: impl Fn(&T) -> bool,
        slot: u8,
        frame: &[u8],
    ) -> Result<impl Iterator<Item = &Port<T>>, Dropped> {
        let is_sender = |port: &Port<T>| port.slot == slot && is_it(&port.guest);
        let from = self.ports.iter().position(is_sender).ok_or(Dropped::NoPort)?;
        let (Some(to), Some(source)) = (address(frame, 0), address(frame, ADDRESS)) else {
            return Err(Dropped::Spoofed);
        };
        let network = self.ports[from].network.clone();
        let owner = self.owner(&network, source);
        if is_group(source) || owner.is_some_and(|owner| owner != from) {
            return Err(Dropped::Spoofed);
        }
        if owner.is_none() {
            self.ports[from].learn(source);
        }
        let only = if is_group(to) { None } else { self.owner(&network, to) };
        if only == Some(from) {
            return Err(Dropped::ToItself);
        }
        let ports = self.ports.iter().enumerate();
        Ok(ports
            .filter(move |(n, port)| {
                *n != from && port.network == network && only.is_none_or(|only| only == *n)
            })
            .map(|(_, port)| port))
    }

    /// Returns the port of a network that has an address.
    fn owner(&self, network: &str, address: Address) -> Option<usize> {
        let in_network = |port: &&Port<T>| port.network == network;
        // A card's own address comes before what others have sent under it.
        let own = |port: &Port<T>| in_network(&port) && port.address == address;
        let learned = |port: &Port<T>| in_network(&port) && port.learned.contains(&address);
        self.ports.iter().position(own).or_else(|| self.ports.iter().position(learned))
    }
}

impl<T> Port<T> {
    fn learn(&mut self, address: Address) {
        if self.learned.len() == MAX_LEARNED {
            self.learned.remove(0);
        }
        self.learned.push(address);
    }
}

/// Returns the address at `offset` of a frame.
fn address(frame: &[u8], offset: usize) -> Option<Address> {
    frame.get(offset..offset + ADDRESS)?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Address = [2, 0, 0, 0, 0, 0xa];
    const B: Address = [2, 0, 0, 0, 0, 0xb];
    const C: Address = [2, 0, 0, 0, 0, 0xc];
    const OTHER: Address = [2, 0, 0, 0, 0, 0xf];
    const ALL: Address = [0xff; 6];

    fn switch() -> Switch<char> {
        let mut switch = Switch::new();
        for (guest, address, network) in [('a', A, "lan"), ('b', B, "lan"), ('c', C, "lan")] {
            switch.plug(guest, 0, address, network);
        }
        switch.plug('x', 0, A, "other");
        switch
    }

    fn sent(
        switch: &mut Switch<char>,
        from: char,
        to: Address,
        source: Address,
    ) -> Result<String, Dropped> {
        let frame = [&to[..], &source, &[8, 0]].concat();
        let ports = switch.forward(|guest| *guest == from, 0, &frame)?;
        Ok(ports.map(|port| port.guest).collect())
    }

    #[test]
    fn a_frame_goes_to_the_port_with_its_address_and_in_its_network_alone() {
        let mut switch = switch();
        assert_eq!(sent(&mut switch, 'a', B, A).unwrap(), "b");
        assert_eq!(sent(&mut switch, 'a', ALL, A).unwrap(), "bc");
        assert_eq!(sent(&mut switch, 'x', ALL, A).unwrap(), "");
        assert_eq!(sent(&mut switch, 'a', A, A), Err(Dropped::ToItself));
        assert_eq!(sent(&mut switch, 'z', B, A), Err(Dropped::NoPort));
    }

    #[test]
    fn an_unknown_address_is_everybodys_until_it_is_learned() {
        let mut switch = switch();
        assert_eq!(sent(&mut switch, 'a', OTHER, A).unwrap(), "bc");
        assert_eq!(sent(&mut switch, 'c', ALL, OTHER).unwrap(), "ab");
        assert_eq!(sent(&mut switch, 'a', OTHER, A).unwrap(), "c");
    }

    #[test]
    fn nobody_sends_under_a_neighbours_address() {
        let mut switch = switch();
        assert_eq!(sent(&mut switch, 'a', B, C), Err(Dropped::Spoofed));
        assert_eq!(sent(&mut switch, 'a', B, ALL), Err(Dropped::Spoofed));
        assert_eq!(sent(&mut switch, 'c', ALL, OTHER).unwrap(), "ab");
        assert_eq!(sent(&mut switch, 'a', B, OTHER), Err(Dropped::Spoofed));
        // A port that is plugged in later has its address back from whoever was faster.
        switch.plug('d', 0, OTHER, "lan");
        assert_eq!(sent(&mut switch, 'c', ALL, OTHER), Err(Dropped::Spoofed));
        assert_eq!(sent(&mut switch, 'a', OTHER, A).unwrap(), "d");
    }

    #[test]
    fn what_is_learned_of_a_port_is_bounded() {
        let mut switch = switch();
        for n in 0..100 {
            assert!(sent(&mut switch, 'a', B, [6, 0, 0, 0, 0, n]).is_ok());
        }
        assert_eq!(switch.ports[0].learned.len(), MAX_LEARNED);
        switch.unplug(|guest| *guest == 'a');
        assert_eq!(sent(&mut switch, 'b', A, B).unwrap(), "c", "nobody has the address");
    }

    #[test]
    fn a_frame_that_is_cut_goes_nowhere() {
        let mut switch = switch();
        assert!(switch.forward(|guest| *guest == 'a', 0, &[0; 11]).is_err());
    }
}
