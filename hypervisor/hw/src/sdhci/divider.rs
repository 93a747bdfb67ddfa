//! The divider between a controller's base clock and the card's (2.2.14).

/// Divisors that a controller has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Versions 1.00 and 2.00: by 2, 4, and so on to 256.
    PowerOfTwo,
    /// From version 3.00 on: by any even number up to 2046.
    Even,
}

/// Half of a divisor; 0 stands for the divisor 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Divider(pub(super) u16);

impl Divider {
    /// Returns the smallest divider that makes at most `wanted` Hz of `base` Hz, or the largest
    /// that there is.
    pub(super) fn new(kind: Kind, base: u32, wanted: u32) -> Self {
        if base <= wanted {
            return Self(0);
        }
        let half = base.div_ceil(2 * wanted);
        Self(match kind {
            Kind::PowerOfTwo => half.next_power_of_two().min(0x80),
            Kind::Even => half.min(0x3ff),
        } as u16)
    }

    /// Returns the Hz that the divider makes of `base` Hz.
    pub(super) fn apply(self, base: u32) -> u32 {
        base / (2 * u32::from(self.0)).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_card_is_never_faster_than_wanted_if_that_can_be() {
        for base in [400_000, 25_000_000, 52_000_000, 100_000_000, 200_000_000, 250_000_000] {
            for wanted in [400_000, 25_000_000, 50_000_000] {
                let even = Divider::new(Kind::Even, base, wanted);
                assert!(even.apply(base) <= wanted, "{base}");
                assert!(even.apply(base) > base.min(wanted) / 4, "{base}");
                let power = Divider::new(Kind::PowerOfTwo, base, wanted);
                assert!(power.apply(base) <= wanted || power.0 == 0x80, "{base}");
                assert!(power.0 == 0 || power.0.is_power_of_two());
            }
        }
        assert_eq!(Divider::new(Kind::Even, 100_000_000, 25_000_000), Divider(2));
        assert_eq!(Divider::new(Kind::Even, 100_000_000, 400_000), Divider(125));
    }
}
