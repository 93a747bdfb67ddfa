//! One command on the controller: its answer, and its blocks through the buffer port (3.7.1 and 3.7.2).

use super::registers::*;
use super::{CONTROLLER_MS, Registers, Sdhci};
use crate::sd::{Answer, BLOCK, Command, Data, Fault, Response, StatusErrors};
use crate::time::Wait;
use tock_registers::LocalRegisterCopy;
use tock_registers::fields::FieldValue;
use tock_registers::interfaces::{Readable, Writeable};

/// Milliseconds that a block may take to come, or to be wanted.
const DATA_MS: u64 = 1000;
/// Milliseconds that a card may take to finish what it was sent.
const BUSY_MS: u64 = 3000;

impl<W: Wait> Sdhci<W> {
    /// Sends a command, moves its data, waits for its end, and returns the answer.
    pub(super) fn send(
        &mut self,
        command: Command,
        argument: u32,
        data: &mut Data<'_>,
    ) -> Result<Response, Fault> {
        let begun = self.wait.millis();
        let bytes = match data {
            Data::None => 0,
            Data::Read(buf) => buf.len(),
            Data::Compare(buf) | Data::Write(buf) => buf.len(),
        };
        let takes_one =
            |registers: Registers| !registers.read(PRESENT).is_set(PRESENT::COMMAND_INHIBIT);
        self.wait(CONTROLLER_MS, "it does not take a command", takes_one)?;
        if bytes > 0 {
            self.wait_until_free()?;
            let blocks = BLOCKS::SIZE.val(BLOCK as u32) + BLOCKS::COUNT.val((bytes / BLOCK) as u32);
            self.write(BLOCKS, blocks.value);
        }
        self.write(STATUS, u32::MAX);
        self.write(ARGUMENT, argument);
        self.write(COMMAND, command_word(command, data, bytes / BLOCK));
        // If the controller does not even say that there was no answer, it has lost its card.
        self.expect(STATUS::COMMAND_COMPLETE::SET, begun, CONTROLLER_MS, |_| Fault::NoAnswer)?;
        let response = self.response();
        if bytes > 0 {
            StatusErrors::of(response.short()).map_or(Ok(()), |e| Err(Fault::Status(e)))?;
            let same = self.move_blocks(data, begun)?;
            self.expect(STATUS::TRANSFER_COMPLETE::SET, begun, BUSY_MS, |ms| Fault::Busy { ms })?;
            return if same { Ok(response) } else { Err(Fault::Differs) };
        }
        if command.answer == Answer::ShortBusy {
            self.wait_until_free()?;
        }
        Ok(response)
    }

    /// Waits until the card is not busy. The state of the lines is polled: not every controller has an interrupt for this.
    fn wait_until_free(&mut self) -> Result<(), Fault> {
        let free = PRESENT::DATA_INHIBIT::CLEAR + PRESENT::DATA_0::SET;
        let registers = self.registers;
        let is_free = || registers.read(PRESENT).matches_all(free).then_some(());
        self.wait.poll_ms(BUSY_MS, is_free).ok_or(Fault::Busy { ms: BUSY_MS })
    }

    /// Waits for a bit of the status, and clears it. An error bit ends the wait. After `limit_ms` milliseconds the error is `late`'s. `begun` is when
    /// the command was begun, on the clock of [`Wait::millis`].
    fn expect(
        &mut self,
        bit: FieldValue<u32, STATUS::Register>,
        begun: u64,
        limit_ms: u64,
        late: impl Fn(u64) -> Fault,
    ) -> Result<(), Fault> {
        let registers = self.registers;
        let end = self.wait.poll_ms(limit_ms, || {
            let status = registers.read(STATUS);
            if status.read(STATUS::ERRORS) != 0 {
                return Some(Err(status));
            }
            status.matches_all(bit).then_some(Ok(()))
        });
        match end {
            Some(Ok(())) => {
                self.write(STATUS, bit.value);
                Ok(())
            }
            Some(Err(status)) => {
                let auto_command = registers.read(AUTO_COMMAND);
                let auto_command = auto_command.read(AUTO_COMMAND::ERRORS) as u16;
                Err(fault(status, auto_command, self.wait.millis().saturating_sub(begun)))
            }
            None => Err(late(limit_ms)),
        }
    }

    fn response(&self) -> Response {
        let word = |index| u128::from(self.registers.read(RESPONSE.index(index)).get());
        Response { payload: word(0) | word(1) << 32 | word(2) << 64 | word(3) << 96 }
    }

    /// Moves the blocks through the buffer port. Returns whether those that are compared are equal.
    fn move_blocks(&mut self, data: &mut Data<'_>, begun: u64) -> Result<bool, Fault> {
        let frame = self.registers.0;
        let port = frame.at(BUFFER);
        let mut ready = |bit| self.expect(bit, begun, DATA_MS, |ms| Fault::DataTimeout { ms });
        let mut same = true;
        match data {
            Data::None => {}
            Data::Read(buf) => {
                for block in buf.chunks_exact_mut(BLOCK) {
                    ready(STATUS::READ_READY::SET)?;
                    for word in block.as_chunks_mut().0 {
                        *word = port.get().to_le_bytes();
                    }
                }
            }
            Data::Compare(buf) => {
                for block in buf.chunks_exact(BLOCK) {
                    ready(STATUS::READ_READY::SET)?;
                    for word in block.as_chunks().0 {
                        same &= *word == port.get().to_le_bytes();
                    }
                }
            }
            Data::Write(buf) => {
                for block in buf.chunks_exact(BLOCK) {
                    ready(STATUS::WRITE_READY::SET)?;
                    for word in block.as_chunks().0 {
                        port.set(u32::from_le_bytes(*word));
                    }
                }
            }
        }
        Ok(same)
    }
}

/// Returns the word that sends `command` for `blocks` blocks: Transfer Mode and Command.
fn command_word(command: Command, data: &Data<'_>, blocks: usize) -> u32 {
    let answer = match command.answer {
        Answer::None => COMMAND::RESPONSE::None,
        Answer::Bare => COMMAND::RESPONSE::Short,
        Answer::Long => COMMAND::RESPONSE::Long + COMMAND::CRC_CHECK::SET,
        Answer::Short => {
            COMMAND::RESPONSE::Short + COMMAND::CRC_CHECK::SET + COMMAND::INDEX_CHECK::SET
        }
        Answer::ShortBusy => {
            COMMAND::RESPONSE::ShortBusy + COMMAND::CRC_CHECK::SET + COMMAND::INDEX_CHECK::SET
        }
    };
    let mut word = answer + COMMAND::INDEX.val(command.index.into());
    if command == Command::STOP_TRANSMISSION {
        word += COMMAND::KIND::Abort;
    }
    word += match data {
        Data::None => COMMAND::KIND::Normal,
        Data::Write(_) => COMMAND::DATA_PRESENT::SET,
        Data::Read(_) | Data::Compare(_) => COMMAND::DATA_PRESENT::SET + COMMAND::READ::SET,
    };
    if blocks > 1 {
        word += COMMAND::MULTIPLE::SET
            + COMMAND::BLOCK_COUNT_ENABLE::SET
            + COMMAND::AUTO_COMMAND::Cmd12;
    }
    word.value
}

/// Returns the fault that the error bits of the status mean, `ms` milliseconds after the command was begun.
fn fault(status: LocalRegisterCopy<u32, STATUS::Register>, auto_command: u16, ms: u64) -> Fault {
    let damaged =
        STATUS::COMMAND_CRC::SET + STATUS::COMMAND_END_BIT::SET + STATUS::COMMAND_INDEX::SET;
    if status.any_matching_bits_set(damaged) {
        Fault::AnswerDamaged
    } else if status.is_set(STATUS::COMMAND_TIMEOUT) {
        Fault::NoAnswer
    } else if status.any_matching_bits_set(STATUS::DATA_CRC::SET + STATUS::DATA_END_BIT::SET) {
        Fault::DataDamaged
    } else if status.is_set(STATUS::DATA_TIMEOUT) {
        Fault::DataTimeout { ms }
    } else if status.is_set(STATUS::AUTO_COMMAND) {
        Fault::Stop { status: auto_command }
    } else {
        Fault::Other { status: status.read(STATUS::ERRORS) as u16 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_sent_with_what_its_answer_needs() {
        let word = |command, data: Data<'_>, blocks| command_word(command, &data, blocks);
        assert_eq!(word(Command::GO_IDLE_STATE, Data::None, 0), 0);
        assert_eq!(word(Command::ALL_SEND_CID, Data::None, 0), 0x0209_0000);
        assert_eq!(word(Command::SELECT_CARD, Data::None, 0), 0x071b_0000);
        assert_eq!(word(Command::SD_SEND_OP_COND, Data::None, 0), 0x2902_0000);
        assert_eq!(word(Command::STOP_TRANSMISSION, Data::None, 0), 0x0cdb_0000);
        assert_eq!(word(Command::READ_SINGLE_BLOCK, Data::Read(&mut []), 1), 0x113a_0010);
        assert_eq!(word(Command::READ_MULTIPLE_BLOCK, Data::Compare(&[]), 2), 0x123a_0036);
        assert_eq!(word(Command::WRITE_MULTIPLE_BLOCK, Data::Write(&[]), 2), 0x193a_0026);
    }

    #[test]
    fn the_controllers_errors_are_told_apart() {
        let fault = |bits: u32| fault(LocalRegisterCopy::new(bits), 0x12, 7);
        // Both together: somebody else was on the line.
        assert_eq!(fault(1 << 16 | 1 << 17), Fault::AnswerDamaged);
        assert_eq!(fault(1 << 16 | 1), Fault::NoAnswer);
        assert_eq!(fault(1 << 19), Fault::AnswerDamaged);
        assert_eq!(fault(1 << 20 | 1 << 1), Fault::DataTimeout { ms: 7 });
        assert_eq!(fault(1 << 21), Fault::DataDamaged);
        assert_eq!(fault(1 << 24), Fault::Stop { status: 0x12 });
        assert_eq!(fault(1 << 23), Fault::Other { status: 0x80 });
    }
}
