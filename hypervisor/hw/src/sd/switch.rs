//! The switch of a card to high speed: SWITCH_FUNC (4.3.10).

use super::bus::{Bus, Data, Speed};
use super::command::Command;
use super::error::{Error, Fault};
use super::response::StatusErrors;

/// Bytes of the status that the card sends.
const LEN: usize = 64;
/// Function group 1, the access mode: its function 1 is high speed. Every other group stays as it
/// is.
const HIGH_SPEED: u32 = 0x00ff_fff1;
/// The functions are switched, not only asked for.
const SWITCH: u32 = 1 << 31;

/// Status of the functions, 512 bits, the highest first (table 4-13).
struct Functions([u8; LEN]);

impl Functions {
    /// Returns whether the card has high speed: bit 1 of the functions that group 1 supports, bits
    /// 415 to 400.
    fn support_high_speed(&self) -> bool {
        self.0[13] & 1 << 1 != 0
    }

    /// Returns whether the card's access mode is high speed: the function of group 1, bits 379
    /// to 376.
    fn are_high_speed(&self) -> bool {
        self.0[16] & 0xf == 1
    }
}

/// Switches the card and the bus to high speed if both have it. Returns the speed.
///
/// # Errors
///
/// The card or the bus can be at either speed then, and must be set up again.
pub fn speed_up(bus: &mut impl Bus) -> Result<Speed, Error> {
    if !bus.has_high_speed()
        || !functions(bus, HIGH_SPEED)?.support_high_speed()
        || !functions(bus, SWITCH | HIGH_SPEED)?.are_high_speed()
    {
        return Ok(Speed::Default);
    }
    bus.set_speed(Speed::High).map_err(Error::Controller)?;
    // By the new clock already: a card or a board that is not up to it shows here, and not in the
    // midst of a checkpoint. To ask for the current functions would be more, but QEMU's card does
    // not tell them.
    if functions(bus, HIGH_SPEED)?.are_high_speed() {
        Ok(Speed::High)
    } else {
        Err(failed(Fault::Differs))
    }
}

fn functions(bus: &mut impl Bus, argument: u32) -> Result<Functions, Error> {
    let mut status = [0; LEN];
    let answer = bus.execute(Command::SWITCH_FUNC, argument, Data::Read(&mut status));
    let answer = answer.map_err(failed)?;
    match StatusErrors::of(answer.short()) {
        Some(errors) => Err(failed(Fault::Status(errors))),
        None => Ok(Functions(status)),
    }
}

fn failed(fault: Fault) -> Error {
    Error::Start { command: Command::SWITCH_FUNC, fault, tries: 1 }
}
