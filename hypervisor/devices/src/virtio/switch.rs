//! The switch of the guests' networks: who gets a frame, and who may send it. [`Switch`] knows the
//! ports; whoever has it moves the frames.
//!
//! A port's own address is known from the start, and others that it sends under are learned, so
//! that a guest can have guests or containers of its own. Nobody sends under an address that is
//! another port's: such a frame is dropped. A copy of a guest has its original's address: that is
//! the port's for whose guest it was made, whichever is plugged in first.
//!
//! A network can have an uplink: a card of the machine's. Then an address that no port has is
//! outside. What guests send there goes to the uplink alone, and what comes from outside for such
//! an address goes to no guest, so that nobody sees the traffic of others. Addresses that were seen
//! outside are no guest's to send under, until they have not been seen there for [`REMEMBERED`]
//! seconds: a guest may have come from there with an address of its own making.

use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::address::{ADDRESS, Address};

/// The most addresses that are learned of a port; the oldest one is forgotten for a new one.
const MAX_LEARNED: usize = 8;
/// The most addresses that are known to be outside of a network; the one that was not seen for
/// longest is forgotten for a new one.
const MAX_OUTSIDE: usize = 64;
/// The seconds for which an address that was seen outside is remembered, as bridges do (IEEE
/// 802.1D, 7.9.2).
const REMEMBERED: u64 = 300;

/// A port of a network, for a card in a guest's slot. `T` is the guest.
#[derive(Clone, Debug)]
pub struct Port<T> {
    /// The guest.
    pub guest: T,
    /// The card's slot.
    pub slot: u8,
    network: usize,
    address: Address,
    /// Whether the address was made for this guest.
    is_original: bool,
    learned: Vec<Address>,
}

/// A card of a guest, which gets a port.
#[derive(Clone, Copy, Debug)]
pub struct Plug<'a> {
    /// The card's slot.
    pub slot: u8,
    /// The card's own address.
    pub address: Address,
    /// The name of its network.
    pub network: &'a str,
    /// Whether the address was made for this guest: a copy of a guest has another's.
    pub is_original: bool,
}

/// A network, which is there once a guest or an uplink was in it.
#[derive(Clone, Debug)]
struct Network {
    name: String,
    uplink: Option<Uplink>,
}

/// The way out of a network.
#[derive(Clone, Debug)]
struct Uplink {
    /// Number of the machine's card, which is whoever's that has the switch.
    card: usize,
    /// Addresses that were seen there, the one seen last at the end.
    outside: Vec<Sight>,
}

/// An address that was seen outside.
#[derive(Clone, Copy, Debug)]
struct Sight {
    address: Address,
    /// When it was seen last, in seconds.
    at: u64,
}

impl Sight {
    fn is_remembered(&self, now: u64) -> bool {
        now.saturating_sub(self.at) < REMEMBERED
    }
}

/// All networks of a machine.
#[derive(Clone, Debug)]
pub struct Switch<T> {
    networks: Vec<Network>,
    /// Those whose addresses were made for their guests stand before all others. Of several with
    /// one address in a network, the first has it.
    ports: Vec<Port<T>>,
}

/// The receivers of a frame.
#[derive(Clone, Debug)]
pub struct Receivers<P> {
    /// The ports that get it.
    pub ports: P,
    /// The number of the machine's card that it is sent by; `None` if it does not leave the
    /// machine.
    pub card: Option<usize>,
}

/// Why a frame is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dropped {
    /// The sender has no port.
    NoPort,
    /// The source is no address of one card, or it is another port's, or one that was seen outside
    /// of late.
    Spoofed,
    /// The destination is the sender's own port.
    ToItself,
}

fn is_group(address: Address) -> bool {
    address[0] & 1 != 0
}

/// Notes an address at the end, and forgets the first one if there are `most`.
fn note<A>(addresses: &mut Vec<A>, address: A, most: usize) {
    if addresses.len() == most {
        addresses.remove(0);
    }
    addresses.push(address);
}

impl<T> Default for Switch<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Switch<T> {
    /// Returns a switch without ports.
    pub const fn new() -> Self {
        Self { networks: Vec::new(), ports: Vec::new() }
    }

    /// Makes ports for the cards of a guest, in place of those that the guests have for which
    /// `is_it` says so.
    pub fn plug<'a>(
        &mut self,
        guest: &T,
        is_it: impl Fn(&T) -> bool,
        cards: impl Iterator<Item = Plug<'a>>,
    ) where
        T: Clone,
    {
        let before = self.ports.iter().position(|port| is_it(&port.guest));
        self.unplug(is_it);
        for Plug { slot, address, network, is_original } in cards {
            let network = self.network(network);
            let originals = self.ports.partition_point(|port| port.is_original);
            let at = match is_original {
                true => originals,
                // Before a copy of its own that was made since, if the guest is a copy itself.
                false => before.unwrap_or(self.ports.len()).clamp(originals, self.ports.len()),
            };
            let (guest, learned) = (guest.clone(), Vec::new());
            self.ports.insert(at, Port { guest, slot, network, address, is_original, learned });
        }
    }

    /// Removes the ports of the guests for which `is_it` says so.
    pub fn unplug(&mut self, is_it: impl Fn(&T) -> bool) {
        self.ports.retain(|port| !is_it(&port.guest));
    }

    /// Returns the number of ports of a network, with the uplink as one.
    pub fn port_count(&self, network: &str) -> usize {
        let ports = self.ports.iter().filter(|port| self.networks[port.network].name == network);
        let is_it = |it: &&Network| it.name == network && it.uplink.is_some();
        ports.count() + self.networks.iter().filter(is_it).count()
    }

    /// Makes the machine's card of this number the uplink of a network, which has no other one.
    pub fn connect(&mut self, network: &str, card: usize) {
        let network = self.network(network);
        self.networks[network].uplink = Some(Uplink { card, outside: Vec::new() });
    }

    /// Returns the ports that get a `frame` that comes from the card in `slot` of the guest for
    /// which `is_it` says so, and whether it leaves the machine. Learns its source. `now` counts
    /// seconds, as for [`admit`](Self::admit).
    ///
    /// # Errors
    ///
    /// [`Dropped`].
    pub fn forward(
        &mut self,
        is_it: impl Fn(&T) -> bool,
        slot: u8,
        frame: &[u8],
        now: u64,
    ) -> Result<Receivers<impl Iterator<Item = &Port<T>>>, Dropped> {
        let is_sender = |port: &Port<T>| port.slot == slot && is_it(&port.guest);
        let from = self.ports.iter().position(is_sender).ok_or(Dropped::NoPort)?;
        let (to, source) = addresses(frame)?;
        let network = self.ports[from].network;
        match self.owner(network, source) {
            Some(owner) if owner != from => return Err(Dropped::Spoofed),
            Some(_) => {}
            None if self.is_outside(network, source, now) => return Err(Dropped::Spoofed),
            None => note(&mut self.ports[from].learned, source, MAX_LEARNED),
        }
        let only = if is_group(to) { None } else { self.owner(network, to) };
        if only == Some(from) {
            return Err(Dropped::ToItself);
        }
        let uplink = self.networks[network].uplink.as_ref().map(|uplink| uplink.card);
        let leaves = uplink.filter(|_| only.is_none());
        let is_for_all = is_group(to) || leaves.is_none();
        let ports = self.ports_of(network, only, is_for_all).filter(move |(n, _)| *n != from);
        Ok(Receivers { ports: ports.map(|(_, port)| port), card: leaves })
    }

    /// Returns the ports that get a `frame` that has come to the machine's card of this number.
    /// Notes its source, which was seen at second `now`.
    ///
    /// # Errors
    ///
    /// [`Dropped`].
    pub fn admit(
        &mut self,
        card: usize,
        frame: &[u8],
        now: u64,
    ) -> Result<impl Iterator<Item = &Port<T>>, Dropped> {
        let is_it = |network: &Network| network.uplink.as_ref().is_some_and(|it| it.card == card);
        let network = self.networks.iter().position(is_it).ok_or(Dropped::NoPort)?;
        let (to, source) = addresses(frame)?;
        if self.ports.iter().any(|port| port.network == network && port.address == source) {
            return Err(Dropped::Spoofed);
        }
        self.see_outside(network, source, now);
        let only = if is_group(to) { None } else { self.owner(network, to) };
        Ok(self.ports_of(network, only, is_group(to)).map(|(_, port)| port))
    }

    /// Returns the number of a network, which is made if it is not there, in the place of one that
    /// nobody is in any more.
    fn network(&mut self, name: &str) -> usize {
        if let Some(there) = self.networks.iter().position(|network| network.name == name) {
            return there;
        }
        let made = Network { name: name.to_string(), uplink: None };
        let is_used = |n: usize| self.ports.iter().any(|port| port.network == n);
        let mut all = self.networks.iter().enumerate();
        match all.position(|(n, network)| network.uplink.is_none() && !is_used(n)) {
            Some(n) => {
                self.networks[n] = made;
                n
            }
            None => {
                self.networks.push(made);
                self.networks.len() - 1
            }
        }
    }

    /// Returns the port `only` of a network with its number, or without one all ports if
    /// `is_for_all` says so.
    fn ports_of(
        &self,
        network: usize,
        only: Option<usize>,
        is_for_all: bool,
    ) -> impl Iterator<Item = (usize, &Port<T>)> {
        let ports = self.ports.iter().enumerate();
        ports.filter(move |(n, port)| {
            port.network == network && only.map_or(is_for_all, |only| only == *n)
        })
    }

    fn is_outside(&self, network: usize, address: Address, now: u64) -> bool {
        let mut seen = self.networks[network].uplink.iter().flat_map(|uplink| &uplink.outside);
        seen.any(|sight| sight.address == address && sight.is_remembered(now))
    }

    /// Notes that an address is outside. A guest that has sent under it before does so no longer.
    fn see_outside(&mut self, network: usize, address: Address, now: u64) {
        let Some(uplink) = &mut self.networks[network].uplink else { return };
        let before = uplink.outside.iter().position(|sight| sight.address == address);
        let before = before.map(|n| uplink.outside.remove(n));
        note(&mut uplink.outside, Sight { address, at: now }, MAX_OUTSIDE);
        if before.is_some_and(|sight| sight.is_remembered(now)) {
            return;
        }
        for port in self.ports.iter_mut().filter(|port| port.network == network) {
            port.learned.retain(|learned| *learned != address);
        }
    }

    /// Returns the port of a network that has an address.
    fn owner(&self, network: usize, address: Address) -> Option<usize> {
        let in_network = |port: &&Port<T>| port.network == network;
        // A card's own address comes before what others have sent under it.
        let own = |port: &Port<T>| in_network(&port) && port.address == address;
        let learned = |port: &Port<T>| in_network(&port) && port.learned.contains(&address);
        self.ports.iter().position(own).or_else(|| self.ports.iter().position(learned))
    }
}

/// Returns where a frame goes, and where it comes from.
///
/// # Errors
///
/// [`Dropped::Spoofed`] if it is cut, or the source is no address of one card.
fn addresses(frame: &[u8]) -> Result<(Address, Address), Dropped> {
    let at = |offset| frame.get(offset..offset + ADDRESS)?.try_into().ok();
    match (at(0), at(ADDRESS)) {
        (Some(to), Some(source)) if !is_group(source) => Ok((to, source)),
        _ => Err(Dropped::Spoofed),
    }
}

#[cfg(test)]
mod tests;
