//! The addresses of network cards: [`Address`].

/// Bytes of an address.
pub const ADDRESS: usize = 6;

/// An address of a network card.
pub type Address = [u8; ADDRESS];

/// Returns the address of a guest's card in a network: the same one for the same names, and locally
/// administered.
pub fn address_of(guest: &str, network: &str) -> Address {
    // FNV-1a, 64 bits.
    let bytes = guest.bytes().chain([0]).chain(network.bytes());
    let hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let [a, b, c, d, e, ..] = (hash ^ hash >> 40).to_le_bytes();
    [0x52, a, b, c, d, e]
}
