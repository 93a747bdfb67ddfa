//! The PL061 GPIO controller (ARM DDI 0190B).

/// The controller's registers.
pub const GPIO: usize = 0x0903_0000;
/// GPIODATA: bits \[9:2\] of the address are the mask of the lines.
pub const DATA: usize = GPIO;
/// GPIODIR: 1 is an output.
pub const DIR: usize = GPIO + 0x400;
/// GPIOIS: 1 is level-sensitive.
pub const IS: usize = GPIO + 0x404;
/// GPIOIBE: 1 is both edges.
pub const IBE: usize = GPIO + 0x408;
/// GPIOIEV: 1 is the rising edge, or the high level.
pub const IEV: usize = GPIO + 0x40c;
/// GPIOIE: 1 lets the line interrupt.
pub const IE: usize = GPIO + 0x410;
/// GPIORIS.
pub const RIS: usize = GPIO + 0x414;
/// GPIOMIS.
pub const MIS: usize = GPIO + 0x418;
/// GPIOIC.
pub const IC: usize = GPIO + 0x41c;
/// GPIOAFSEL.
pub const AFSEL: usize = GPIO + 0x420;
/// The identification registers, GPIOPeriphID4 and on.
pub const ID: usize = GPIO + 0xfd0;
/// The line of the power key, as a bit of each register.
pub const KEY: u32 = 1 << 3;
/// INTID of its interrupt.
pub const INTID: u32 = 39;
