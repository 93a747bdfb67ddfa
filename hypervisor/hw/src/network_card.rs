//! A network card of the machine, as the switch of the guests' networks uses it: [`NetworkCard`].
//! Each driver implements it; [`crate::virtio_net`] does.

/// Bytes of an address.
pub const ADDRESS: usize = 6;
/// Bytes of the longest frame: 1500 and the header, with a tag of 802.1Q.
pub const MAX_FRAME: usize = 1518;

/// A network card that takes every frame on its wire, whatever its destination, and sends frames
/// under any address. No method waits for the card.
pub trait NetworkCard: Send {
    /// Returns the card's own address, which nobody uses.
    fn address(&self) -> [u8; ADDRESS];

    /// Gives the card a frame, without its checksum. Returns whether the card had room for it; if
    /// not, the frame is lost.
    fn send(&mut self, frame: &[u8]) -> bool;

    /// Takes the next frame that has come, without its checksum, and returns its length; `None` if
    /// there is none.
    fn receive(&mut self, into: &mut [u8; MAX_FRAME]) -> Option<usize>;

    /// Ends the interrupt for all that has come so far. What comes from now on interrupts again.
    fn acknowledge(&mut self);

    /// Returns what is wrong with a card that was given up: it neither takes nor brings frames any
    /// more. `None` if it works.
    fn fault(&self) -> Option<&'static str>;
}
