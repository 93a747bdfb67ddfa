//! The console's UART, and that of the channel for programs: which ones of those that there are.
//!
//! Asked are `console=` in the boot arguments, then `stdout-path`. The Raspberry Pi's firmware
//! replaces `console=serial0` by Linux's name for the UART that it has put on the header's pins,
//! which is the only way to learn of it; so Linux's names are understood, and come first.

use super::bus::{Bus, device};
use super::lookup::Lookup;
use super::{Uart, UartKind};
use dtoolkit::fdt::{Fdt, FdtNode};
use dtoolkit::{Node, Property};

/// UARTs that are looked at: a Raspberry Pi 4 has six.
pub const MAX_UARTS: usize = 8;

/// What became of the choice.
pub struct Console<'a> {
    /// The UART, if there is any.
    pub uart: Option<Uart>,
    /// What was asked for and is not there.
    pub lost: Option<&'a str>,
}

impl UartKind {
    /// Returns the kind of a UART that is `compatible`; `None` if it is none that is known.
    pub fn of(compatible: &str) -> Option<Self> {
        match compatible {
            "arm,pl011" => Some(Self::Pl011),
            "brcm,bcm2835-aux-uart" => Some(Self::Mini),
            _ => None,
        }
    }
}

/// Returns the UART that `node` is, if it is one that is known.
pub fn uart(node: FdtNode, bus: &Bus) -> Option<Uart> {
    let kind = node.compatible()?.find_map(UartKind::of)?;
    Some(Uart { kind, device: device(node, bus)? })
}

/// Chooses one of `uarts`, all that are in use: the one that is asked for, or the first.
pub fn choose<'a>(fdt: Fdt<'a>, bootargs: &'a str, uarts: &[Uart]) -> Console<'a> {
    let argument = bootargs.split_whitespace().rev().find_map(|word| word.strip_prefix("console="));
    let argument = argument.and_then(|value| value.split(',').next());
    let stdout = || fdt.find_node("/chosen")?.string("stdout-path")?.split(':').next();
    let asked = argument.or_else(stdout);
    let chosen = asked.and_then(|name| named(fdt, name, uarts));
    Console { uart: chosen.or(uarts.first().copied()), lost: asked.filter(|_| chosen.is_none()) }
}

/// The name that is no UART's: there is no UART for the channel alone.
const OFF: &str = "off";

/// Chooses the UART of the channel among `uarts`, all that are in use but the console's: the one
/// that `channel=` in the boot arguments names, or else the first of `spare`, behind which there is
/// no device. Nothing is sent there before a client has said hello.
pub fn choose_channel<'a>(
    fdt: Fdt<'a>,
    bootargs: &'a str,
    (uarts, spare): (&[Uart], &[Uart]),
    console: Option<Uart>,
) -> Console<'a> {
    let is_other = |uart: &Uart| Some(*uart) != console;
    let asked = bootargs.split_whitespace().rev().find_map(|word| word.strip_prefix("channel="));
    match asked {
        None => Console { uart: spare.iter().copied().find(is_other), lost: None },
        Some(OFF) => Console { uart: None, lost: None },
        Some(name) => {
            let uart = named(fdt, name, uarts).filter(is_other);
            Console { uart, lost: asked.filter(|_| uart.is_none()) }
        }
    }
}

/// The UART of this name: Linux's, an alias, or a path.
fn named(fdt: Fdt, name: &str, uarts: &[Uart]) -> Option<Uart> {
    for (prefix, kind) in [("ttyAMA", UartKind::Pl011), ("ttyS", UartKind::Mini)] {
        if let Some(number) = name.strip_prefix(prefix) {
            // Linux numbers them by the aliases serial<n>, where there are any.
            let numbered = alias(fdt, |alias| alias.strip_prefix("serial") == Some(number))
                .and_then(|path| at(fdt, path, uarts));
            let mut candidates = numbered.iter().chain(uarts);
            return candidates.find(|uart| uart.kind == kind).copied();
        }
    }
    match name.starts_with('/') {
        true => at(fdt, name, uarts),
        false => at(fdt, alias(fdt, |alias| alias == name)?, uarts),
    }
}

/// The path behind the alias that `fits`.
fn alias<'a>(fdt: Fdt<'a>, fits: impl Fn(&str) -> bool) -> Option<&'a str> {
    let aliases = fdt.find_node("/aliases")?;
    let found = aliases.properties().find(|property| fits(property.name()))?;
    found.value_as().ok()
}

/// The UART at a path, if it is in use.
fn at(fdt: Fdt, path: &str, uarts: &[Uart]) -> Option<Uart> {
    let (mut node, mut bus) = (fdt.root(), Bus::root());
    for (depth, name) in path.split('/').filter(|name| !name.is_empty()).enumerate() {
        if depth > 0 {
            bus = bus.below(node);
        }
        node = node.child(name)?;
    }
    uart(node, &bus).filter(|uart| uarts.contains(uart))
}
