//! A card in use: [`Card`]. Setting it up is chapter 4.2, moving data 4.3.
//!
//! A command that failed is tried again, a few times. Before each new try the card must recover: it
//! has to answer, under the address that it was given, that it is ready for the next command. A
//! card that does not is *lost*: it was pulled, or has lost its power, or hangs. It may even be
//! another card by now. So a lost card is not set up again without its user's knowledge: every call
//! fails, until [`Card::start`] makes a new [`Card`].
//!
//! What is written is read again and compared, unless the user has switched that off. Cards that
//! are worn out are known to acknowledge writes and drop them, and so does QEMU when its image
//! fails.

use super::BLOCK;
use super::bus::{Bus, Data, Speed};
use super::command::Command;
use super::error::{Error, Fault};
use super::response::{Description, OCR, Response, STATUS, Status, StatusErrors};
use super::switch::speed_up;
use tock_registers::LocalRegisterCopy;

/// Most blocks that one command moves, 128 KiB: as many as a controller's buffer for DMA holds, and
/// enough that the cost of a command does not matter. More take several commands.
pub const MAX_BLOCKS: usize = 256;
/// Number of tries of each operation.
const TRIES: u32 = 3;
/// Milliseconds that a card may take to power up (4.2.3).
const POWER_UP_MS: u64 = 1000;
/// Milliseconds that a card may take to write what it was sent. The specification allows 500
/// (4.6.2.2), but cards that tidy up take longer.
const BUSY_MS: u64 = 3000;

/// Argument of SEND_IF_COND: 2.7 to 3.6 V, and a pattern that the card sends back (4.3.13).
const INTERFACE_CONDITION: u32 = 0x1aa;
/// Argument of SET_BUS_WIDTH: four lines.
const FOUR_LINES: u32 = 0b10;

/// What came of a try: nothing, or the command that failed and why.
type Attempt = Result<(), (Command, Fault)>;

/// A card that was set up.
#[derive(Debug)]
pub struct Card<B> {
    bus: B,
    identity: Identity,
    /// Whether what is written is read again and compared.
    verify: bool,
    /// Error with which the card was lost.
    lost: Option<Error>,
}

/// Data that a card tells while it is set up.
#[derive(Clone, Copy, Debug)]
struct Identity {
    /// Relative card address in bits 31 to 16, as commands take it.
    address: u32,
    description: Description,
    /// Units of a command's argument for one block: cards of standard capacity count in bytes,
    /// others in blocks.
    unit: u64,
    speed: Speed,
}

impl<B> Card<B> {
    /// Returns the same card with the bus that `map` makes of its bus: another way to the same
    /// slot.
    pub fn map_bus<C>(self, map: impl FnOnce(B) -> C) -> Card<C> {
        let Self { bus, identity, verify, lost } = self;
        Card { bus: map(bus), identity, verify, lost }
    }
}

impl<B: Bus> Card<B> {
    /// Sets up the card in the slot, whatever state it is in, and returns it.
    ///
    /// # Errors
    ///
    /// [`Error::NoCard`] if the slot is empty; what the controller or the last try has failed with;
    /// [`Error::Unusable`] if the card is of a kind that is not supported.
    pub fn start(mut bus: B) -> Result<Self, Error> {
        let mut tries = 0;
        let identity = loop {
            tries += 1;
            bus.restart().map_err(Error::Controller)?;
            // The last try does without what not every card and board has.
            match identify(&mut bus, tries < TRIES) {
                Ok(identity) => break identity,
                Err(Error::Start { .. } | Error::NoCard) if tries < TRIES => {}
                Err(Error::Start { command, fault, .. }) => {
                    return Err(Error::Start { command, fault, tries });
                }
                Err(error) => return Err(error),
            }
        };
        Ok(Self { bus, identity, verify: true, lost: None })
    }

    /// Returns the bus to the card's slot.
    pub fn bus_mut(&mut self) -> &mut B {
        &mut self.bus
    }

    /// Sets whether what is written is read again and compared. At first it is.
    pub fn verify(&mut self, verify: bool) {
        self.verify = verify;
    }

    /// Returns the number of blocks.
    pub fn capacity(&self) -> u64 {
        self.identity.description.blocks
    }

    /// Returns the speed of the data lines.
    pub fn speed(&self) -> Speed {
        self.identity.speed
    }

    /// Returns whether every write will be refused.
    pub fn is_write_protected(&self) -> bool {
        self.identity.description.write_protected
    }

    /// Checks that the card is still the one that was set up: another one does not know the
    /// address.
    ///
    /// # Errors
    ///
    /// [`Error::Lost`] if the card does not answer as it should, or was lost before.
    pub fn check(&mut self) -> Result<(), Error> {
        if let Some(lost) = self.lost {
            return Err(lost);
        }
        let Err(fault) = self.wait_until_ready() else { return Ok(()) };
        self.recover(Command::SEND_STATUS, fault)
    }

    /// Reads whole blocks, from number `block` on, into `buf`.
    ///
    /// # Errors
    ///
    /// [`Error::Length`] and [`Error::BeyondEnd`], before the card is asked; [`Error::Failed`]
    /// after the last try; [`Error::Lost`] if the card is lost.
    pub fn read(&mut self, block: u64, buf: &mut [u8]) -> Result<(), Error> {
        self.check_range(block, buf.len())?;
        let firsts = (block..).step_by(MAX_BLOCKS);
        for (first, part) in firsts.zip(buf.chunks_mut(MAX_BLOCKS * BLOCK)) {
            self.persist(&mut |card| {
                let command = reading(part.len());
                let read = card.transfer(command, first, Data::Read(&mut *part));
                read.map_err(|fault| (command, fault))
            })?;
        }
        Ok(())
    }

    /// Writes whole blocks, from number `block` on, and checks that the card has them, unless
    /// [`verify`](Self::verify) is off. After that they last.
    ///
    /// # Errors
    ///
    /// [`Error::WriteProtected`], [`Error::Length`] and [`Error::BeyondEnd`], before the card is
    /// asked; [`Error::Failed`] after the last try; [`Error::Lost`] if the card is lost.
    pub fn write(&mut self, block: u64, data: &[u8]) -> Result<(), Error> {
        if self.is_write_protected() {
            return Err(Error::WriteProtected);
        }
        self.check_range(block, data.len())?;
        let firsts = (block..).step_by(MAX_BLOCKS);
        for (first, part) in firsts.zip(data.chunks(MAX_BLOCKS * BLOCK)) {
            self.persist(&mut |card| {
                let command = writing(part.len());
                let written = card.transfer(command, first, Data::Write(part));
                written.map_err(|fault| (command, fault))?;
                if !card.verify {
                    return Ok(());
                }
                let compared = card.transfer(reading(part.len()), first, Data::Compare(part));
                compared.map_err(|fault| match fault {
                    // The write failed, not the read that found out.
                    Fault::Differs => (command, fault),
                    _ => (reading(part.len()), fault),
                })
            })?;
        }
        Ok(())
    }

    fn check_range(&self, block: u64, len: usize) -> Result<(), Error> {
        if !len.is_multiple_of(BLOCK) {
            return Err(Error::Length { len });
        }
        let (count, capacity) = (len / BLOCK, self.capacity());
        match block.checked_add(count as u64) {
            Some(end) if end <= capacity => Ok(()),
            _ => Err(Error::BeyondEnd { block, count, capacity }),
        }
    }

    /// Calls `attempt` until it succeeds, [`TRIES`] times at the most.
    fn persist(&mut self, attempt: &mut dyn FnMut(&mut Self) -> Attempt) -> Result<(), Error> {
        if let Some(lost) = self.lost {
            return Err(lost);
        }
        let mut tries = 0;
        loop {
            tries += 1;
            let Err((command, fault)) = attempt(self) else { return Ok(()) };
            self.recover(command, fault)?;
            if tries == TRIES {
                return Err(Error::Failed { command, fault, tries });
            }
        }
    }

    /// Moves blocks, and waits until the card says that it has finished without an error.
    fn transfer(&mut self, command: Command, first: u64, data: Data<'_>) -> Result<(), Fault> {
        // This fits: `first` is within the card, and `identify` has checked that its end can be
        // addressed.
        let argument = (first * self.identity.unit) as u32;
        self.bus.execute(command, argument, data)?;
        self.wait_until_ready()
    }

    /// Waits until the card has written everything and takes another command.
    fn wait_until_ready(&mut self) -> Result<(), Fault> {
        let start = self.bus.millis();
        loop {
            let late = self.bus.millis().saturating_sub(start) > BUSY_MS;
            let answer =
                self.bus.execute(Command::SEND_STATUS, self.identity.address, Data::None)?;
            sound(answer)?;
            let status = Status::new(answer.short());
            if status.matches_all(STATUS::CURRENT_STATE::Transfer + STATUS::READY_FOR_DATA::SET) {
                return Ok(());
            }
            if late {
                return Err(Fault::Busy { ms: BUSY_MS });
            }
        }
    }

    /// Brings the card back to the transfer state after a command that failed. A card that does not
    /// get there is lost.
    fn recover(&mut self, command: Command, fault: Fault) -> Result<(), Error> {
        for _ in 0..TRIES {
            // If there is nothing to stop, the command is illegal, and has no answer.
            let _ = self.bus.execute(Command::STOP_TRANSMISSION, 0, Data::None);
            // The first answer may still have the errors in it. Sending them clears them.
            let _ = self.bus.execute(Command::SEND_STATUS, self.identity.address, Data::None);
            if self.wait_until_ready().is_ok() {
                return Ok(());
            }
        }
        let lost = Error::Lost { command, fault };
        self.lost = Some(lost);
        Err(lost)
    }
}

/// Returns the command that reads `len` bytes.
fn reading(len: usize) -> Command {
    if len == BLOCK { Command::READ_SINGLE_BLOCK } else { Command::READ_MULTIPLE_BLOCK }
}

/// Returns the command that writes `len` bytes.
fn writing(len: usize) -> Command {
    if len == BLOCK { Command::WRITE_BLOCK } else { Command::WRITE_MULTIPLE_BLOCK }
}

/// Checks that the status in an answer has no errors.
fn sound(answer: Response) -> Result<(), Fault> {
    StatusErrors::of(answer.short()).map_or(Ok(()), |errors| Err(Fault::Status(errors)))
}

/// Sends a command without data while the card is set up, and returns its answer.
fn ask(bus: &mut impl Bus, command: Command, argument: u32) -> Result<Response, Error> {
    let failed = |fault| Error::Start { command, fault, tries: 1 };
    bus.execute(command, argument, Data::None).map_err(failed)
}

/// Sends a command without data that is answered with the card's status, and checks that the status
/// has no errors.
fn order(bus: &mut impl Bus, command: Command, argument: u32) -> Result<Response, Error> {
    let answer = ask(bus, command, argument)?;
    sound(answer).map_err(|fault| Error::Start { command, fault, tries: 1 })?;
    Ok(answer)
}

/// Takes the card through card identification mode to data transfer mode, 4.2 and figure 4-13, and
/// to high speed if that is wanted and possible.
fn identify(bus: &mut impl Bus, fast: bool) -> Result<Identity, Error> {
    ask(bus, Command::GO_IDLE_STATE, 0)?;
    let version_2 = offer_voltage(bus)?;
    let high_capacity = power_up(bus, version_2)?;
    ask(bus, Command::ALL_SEND_CID, 0)?;
    let address = ask(bus, Command::SEND_RELATIVE_ADDR, 0)?.short() & 0xffff_0000;
    let csd = ask(bus, Command::SEND_CSD, address)?.long();
    let unusable = |why| Error::Unusable { command: Command::SEND_CSD, why };
    let description = Description::of(csd).ok_or(unusable("it is of a kind newer than SDXC"))?;
    let unit = if high_capacity { 1 } else { BLOCK as u64 };
    if description.blocks * unit > 1 << 32 {
        return Err(unusable("its blocks can't be addressed in the way that it wants"));
    }
    bus.set_speed(Speed::Default).map_err(Error::Controller)?;
    order(bus, Command::SELECT_CARD, address)?;
    order(bus, Command::APP_CMD, address)?;
    order(bus, Command::SET_BUS_WIDTH, FOUR_LINES)?;
    bus.four_lines();
    order(bus, Command::SET_BLOCKLEN, BLOCK as u32)?;
    let can_switch = fast && description.has_functions;
    let speed = if can_switch { speed_up(bus)? } else { Speed::Default };
    Ok(Identity { address, description, unit, speed })
}

/// Returns whether the card is of version 2.00 or later. Earlier ones do not answer SEND_IF_COND.
fn offer_voltage(bus: &mut impl Bus) -> Result<bool, Error> {
    let command = Command::SEND_IF_COND;
    match ask(bus, command, INTERFACE_CONDITION) {
        Ok(answer) if answer.short() == INTERFACE_CONDITION => Ok(true),
        Ok(_) => Err(Error::Unusable { command, why: "it does not work with 2.7 to 3.6 V" }),
        Err(Error::Start { fault: Fault::NoAnswer, .. }) => Ok(false),
        Err(other) => Err(other),
    }
}

/// Waits until the card has powered up. Returns whether it is of high capacity, and so addressed by
/// blocks.
fn power_up(bus: &mut impl Bus, version_2: bool) -> Result<bool, Error> {
    let command = Command::SD_SEND_OP_COND;
    let mut offer = OCR::VOLTAGES::All;
    if version_2 {
        offer += OCR::HIGH_CAPACITY::SET;
    }
    let start = bus.millis();
    loop {
        let late = bus.millis().saturating_sub(start) > POWER_UP_MS;
        match order(bus, Command::APP_CMD, 0) {
            Err(Error::Start { fault: Fault::NoAnswer, .. }) if !version_2 => {
                return Err(Error::NoCard);
            }
            answer => answer?,
        };
        let ocr = ask(bus, command, offer.value)?.short();
        let ocr = LocalRegisterCopy::<u32, OCR::Register>::new(ocr);
        if ocr.is_set(OCR::POWERED_UP) {
            return if ocr.read(OCR::AT_3V3) != 0 {
                Ok(ocr.is_set(OCR::HIGH_CAPACITY))
            } else {
                Err(Error::Unusable { command, why: "it does not work with 3.3 V" })
            };
        }
        if late {
            let fault = Fault::Busy { ms: POWER_UP_MS };
            return Err(Error::Start { command, fault, tries: 1 });
        }
    }
}
