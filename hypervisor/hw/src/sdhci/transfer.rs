//! One command on the controller (3.7.1 and 3.7.2): its answer, and its blocks, by DMA or through
//! the buffer port.

use super::dma::Transfer;
use super::registers::*;
use super::{CONTROLLER_MS, Engine, Registers, Sdhci};
use crate::sd::{Answer, BLOCK, Command, Data, Fault, Response, StatusErrors};
use crate::time::Wait;
use tock_registers::LocalRegisterCopy;
use tock_registers::fields::FieldValue;
use tock_registers::interfaces::{Readable, Writeable};

/// Milliseconds that a block may take to come, or to be wanted.
const DATA_MS: u64 = 1000;
/// Milliseconds that a card may take to finish what it was sent.
const BUSY_MS: u64 = 3000;
/// Milliseconds that all blocks of a command may take by DMA. The controller's own limit, for each
/// block, is shorter.
const DMA_MS: u64 = DATA_MS + BUSY_MS;
/// Bytes between two boundaries at which SDMA stops.
const SDMA_BOUNDARY: u32 = 512 * 1024;

impl<W: Wait> Sdhci<W> {
    /// Sends a command, moves its data, waits for its end, and returns the answer. With a
    /// `transfer` the data move by DMA, to and from its memory.
    pub(super) fn send(
        &mut self,
        command: Command,
        argument: u32,
        data: &mut Data<'_>,
        transfer: Option<&Transfer>,
    ) -> Result<Response, Fault> {
        let begun = self.wait.millis();
        let takes_one =
            |registers: Registers| !registers.read(PRESENT).is_set(PRESENT::COMMAND_INHIBIT);
        self.wait(CONTROLLER_MS, "it does not take a command", takes_one)?;
        let bytes = data.len();
        if bytes > 0 {
            self.wait_until_free()?;
            let blocks = BLOCKS::SIZE.val(bytes.min(BLOCK) as u32)
                + BLOCKS::SDMA_BOUNDARY::KiB512
                + BLOCKS::COUNT.val(bytes.div_ceil(BLOCK) as u32);
            self.write(BLOCKS, blocks.value);
        }
        let mut word = command_word(command, data, bytes / BLOCK);
        if let Some(transfer) = transfer {
            self.aim(transfer);
            word += COMMAND::DMA_ENABLE::SET.value;
        }
        self.write(STATUS, u32::MAX);
        self.write(ARGUMENT, argument);
        self.write(COMMAND, word);
        // If the controller does not even say that there was no answer, it has lost its card.
        self.expect(STATUS::COMMAND_COMPLETE::SET, begun, CONTROLLER_MS, |_| Fault::NoAnswer)?;
        let response = self.response();
        if bytes > 0 {
            StatusErrors::of(response.short()).map_or(Ok(()), |e| Err(Fault::Status(e)))?;
            let same = match transfer {
                Some(transfer) => self.wait_for_dma(transfer, begun).map(|()| true)?,
                None => self.move_blocks(data, begun)?,
            };
            self.expect(STATUS::TRANSFER_COMPLETE::SET, begun, BUSY_MS, |ms| Fault::Busy { ms })?;
            return if same { Ok(response) } else { Err(Fault::Differs) };
        }
        if command.answer == Answer::ShortBusy {
            self.wait_until_free()?;
        }
        Ok(response)
    }

    /// Tells the controller where the memory of `transfer` is (3.7.2.1 and 3.7.2.3).
    fn aim(&mut self, transfer: &Transfer) {
        if self.engine == Engine::Adma2 {
            self.write(ADMA_ADDRESS, transfer.table_address());
            self.modify(CONTROL, CONTROL::DMA_SELECT::Adma2);
        } else {
            self.write(SDMA_ADDRESS, transfer.data_address());
            self.modify(CONTROL, CONTROL::DMA_SELECT::Sdma);
        }
    }

    /// Waits until the controller has moved all blocks by DMA, or has failed. SDMA stops at each
    /// boundary until it is told where to go on, which is there.
    fn wait_for_dma(&mut self, transfer: &Transfer, begun: u64) -> Result<(), Fault> {
        let mut next = transfer.data_address();
        loop {
            let moved = STATUS::TRANSFER_COMPLETE::SET + STATUS::DMA_INTERRUPT::SET;
            let late = |ms| Fault::DataTimeout { ms };
            let status = self.expect_any(moved, begun, DMA_MS, late)?;
            if status.is_set(STATUS::TRANSFER_COMPLETE) {
                return Ok(());
            }
            self.write(STATUS, STATUS::DMA_INTERRUPT::SET.value);
            next = (next | (SDMA_BOUNDARY - 1)).wrapping_add(1);
            self.write(SDMA_ADDRESS, next);
        }
    }

    /// Waits until the card is not busy. The state of the lines is polled: not every controller has
    /// an interrupt for this.
    fn wait_until_free(&mut self) -> Result<(), Fault> {
        let free = PRESENT::DATA_INHIBIT::CLEAR + PRESENT::DATA_0::SET;
        let registers = self.registers;
        let is_free = || registers.read(PRESENT).matches_all(free).then_some(());
        self.wait.poll_ms(BUSY_MS, is_free).ok_or(Fault::Busy { ms: BUSY_MS })
    }

    /// Waits for a bit of the status, and clears it. An error bit ends the wait. After `limit_ms`
    /// milliseconds the error is `late`'s. `begun` is when the command was begun, on the clock of
    /// [`Wait::millis`].
    fn expect(
        &mut self,
        bit: FieldValue<u32, STATUS::Register>,
        begun: u64,
        limit_ms: u64,
        late: impl Fn(u64) -> Fault,
    ) -> Result<(), Fault> {
        self.expect_any(bit, begun, limit_ms, late)?;
        self.write(STATUS, bit.value);
        Ok(())
    }

    /// Waits as [`expect`](Self::expect) does for one of some bits of the status, and returns the
    /// status.
    fn expect_any(
        &mut self,
        bits: FieldValue<u32, STATUS::Register>,
        begun: u64,
        limit_ms: u64,
        late: impl Fn(u64) -> Fault,
    ) -> Result<LocalRegisterCopy<u32, STATUS::Register>, Fault> {
        let registers = self.registers;
        let end = self.wait.poll_ms(limit_ms, || {
            let status = registers.read(STATUS);
            let ended = status.read(STATUS::ERRORS) != 0 || status.any_matching_bits_set(bits);
            ended.then_some(status)
        });
        let status = end.ok_or_else(|| late(limit_ms))?;
        if status.read(STATUS::ERRORS) == 0 {
            return Ok(status);
        }
        let ms = self.wait.millis().saturating_sub(begun);
        Err(fault(status, registers, ms))
    }

    fn response(&self) -> Response {
        let word = |index| u128::from(self.registers.read(RESPONSE.index(index)).get());
        Response { payload: word(0) | word(1) << 32 | word(2) << 64 | word(3) << 96 }
    }

    /// Moves the blocks through the buffer port. Returns whether those that are compared are equal.
    fn move_blocks(&mut self, data: &mut Data<'_>, begun: u64) -> Result<bool, Fault> {
        let registers = self.registers;
        let mut ready = |bit| self.expect(bit, begun, DATA_MS, |ms| Fault::DataTimeout { ms });
        let mut same = true;
        match data {
            Data::None => {}
            Data::Read(buf) => {
                for block in buf.chunks_mut(BLOCK) {
                    ready(STATUS::READ_READY::SET)?;
                    registers.take_block(block);
                }
            }
            Data::Compare(buf) => {
                for block in buf.chunks(BLOCK) {
                    ready(STATUS::READ_READY::SET)?;
                    same &= registers.compare_block(block);
                }
            }
            Data::Write(buf) => {
                for block in buf.chunks(BLOCK) {
                    ready(STATUS::WRITE_READY::SET)?;
                    registers.put_block(block);
                }
            }
        }
        Ok(same)
    }
}

/// A block through the buffer port. Not generic, so that these loops are built for speed as this
/// crate is.
impl Registers {
    /// Reads a block into `block`.
    fn take_block(self, block: &mut [u8]) {
        let port = self.0.at(BUFFER);
        for word in block.as_chunks_mut().0 {
            *word = port.get().to_le_bytes();
        }
    }

    /// Reads a block, and returns whether it is equal to `block`.
    fn compare_block(self, block: &[u8]) -> bool {
        let port = self.0.at(BUFFER);
        let words = block.as_chunks().0.iter();
        words.fold(true, |same, word| same & (*word == port.get().to_le_bytes()))
    }

    /// Writes `block`.
    fn put_block(self, block: &[u8]) {
        let port = self.0.at(BUFFER);
        for word in block.as_chunks().0 {
            port.set(u32::from_le_bytes(*word));
        }
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

/// Returns the fault that the error bits of the status mean, `ms` milliseconds after the command
/// was begun.
fn fault(status: LocalRegisterCopy<u32, STATUS::Register>, registers: Registers, ms: u64) -> Fault {
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
    } else if status.is_set(STATUS::ADMA) {
        Fault::Dma { status: registers.read(ADMA_ERROR).read(ADMA_ERROR::STATUS) as u8 }
    } else if status.is_set(STATUS::AUTO_COMMAND) {
        let status = registers.read(AUTO_COMMAND).read(AUTO_COMMAND::ERRORS) as u16;
        Fault::Stop { status }
    } else {
        Fault::Other { status: status.read(STATUS::ERRORS) as u16 }
    }
}

#[cfg(test)]
mod tests {
    use super::super::fake::{FRAME, FakeController};
    use super::*;
    use crate::mmio::fake::frame;
    use crate::sd::fake::{FakeCard, Kind};

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
        let controller = FakeController::attach(0, FakeCard::new(Kind::High, 1024));
        controller.borrow_mut().auto_command_error = 0x12;
        controller.borrow_mut().adma_error = 0b101;
        let registers = Registers(frame(FRAME));
        let fault = |bits: u32| fault(LocalRegisterCopy::new(bits), registers, 7);
        // Both together: somebody else was on the line.
        assert_eq!(fault(1 << 16 | 1 << 17), Fault::AnswerDamaged);
        assert_eq!(fault(1 << 16 | 1), Fault::NoAnswer);
        assert_eq!(fault(1 << 19), Fault::AnswerDamaged);
        assert_eq!(fault(1 << 20 | 1 << 1), Fault::DataTimeout { ms: 7 });
        assert_eq!(fault(1 << 21), Fault::DataDamaged);
        assert_eq!(fault(1 << 24), Fault::Stop { status: 0x12 });
        assert_eq!(fault(1 << 25), Fault::Dma { status: 0b101 });
        assert_eq!(fault(1 << 23), Fault::Other { status: 0x80 });
    }
}
