//! A card for tests, behind the bus: it keeps the rules of the specification, and goes wrong as it
//! is told.

use super::BLOCK;
use super::bus::{Bus, Data, Speed};
use super::command::{Answer, Command};
use super::error::Fault;
use super::response::{Response, StatusErrors};
use std::vec;
use std::vec::Vec;

/// What kind of card it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Version 1, addressed in bytes.
    Version1,
    /// Version 2 of standard capacity, addressed in bytes.
    Standard,
    /// SDHC or SDXC, addressed in blocks.
    High,
}

/// High speed of a card.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HighSpeed {
    Works,
    /// The card says that it does not have it.
    Lacks,
    /// The card has it, and does not switch.
    Refuses,
    /// The card switches, and what it then sends arrives damaged.
    Fails,
}

/// The states of 4.8 that are used here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Idle = 0,
    Ready = 1,
    Identification = 2,
    StandBy = 3,
    Transfer = 4,
    SendingData = 5,
    ReceiveData = 6,
    Programming = 7,
}

const OUT_OF_RANGE: u32 = 1 << 31;
const ADDRESS: u32 = 0x4567 << 16;

/// The card, and the controller that it is in.
#[derive(Debug)]
pub struct FakeCard {
    pub kind: Kind,
    pub memory: Vec<u8>,
    /// Whether the card is in the slot.
    pub inserted: bool,
    /// Faults that come in this order, each with its command: the command's number, and the fault.
    pub faults: Vec<(u8, Fault)>,
    /// Status bits of the answers to a command: its number, the bits.
    pub errors: Vec<(u8, u32)>,
    /// The number of written blocks after which the card is pulled.
    pub pulled_after: Option<usize>,
    /// The number of writes that the card acknowledges and drops.
    pub drops: usize,
    /// The number of questions for which the card stays busy after a write.
    pub busy_for: usize,
    /// The milliseconds that pass from one look at the clock to the next.
    pub look_ms: u64,
    /// The number of questions until the card has powered up.
    pub powers_up_after: usize,
    /// How the card behaves when asked for high speed; `None`: the card is too old to be asked.
    pub high_speed: Option<HighSpeed>,
    /// Bits of the CSD besides the capacity.
    pub csd: u128,
    /// Bits of the OCR.
    pub voltages: u32,
    /// The commands that came, in their order.
    pub log: Vec<u8>,
    /// The number of times that the controller was reset.
    pub restarts: usize,
    state: State,
    application: bool,
    lines: u32,
    speed: Option<Speed>,
    /// The card's own speed.
    pub switched: Speed,
    busy: usize,
    clock: core::cell::Cell<u64>,
}

/// Returns so many blocks of data, no two of which are alike. Each is the first one, turned
/// further: Miri takes too long for one byte after the other.
pub fn pattern(blocks: usize) -> Vec<u8> {
    let first: Vec<u8> = (0..BLOCK).map(|n| (n * 31 / 7) as u8).collect();
    let mut data = Vec::with_capacity(blocks * BLOCK);
    for block in 0..blocks {
        let (end, start) = first.split_at(block * 3 % BLOCK);
        data.extend_from_slice(start);
        data.extend_from_slice(end);
    }
    data
}

impl FakeCard {
    /// Returns a card of this many blocks, which do not hold zeros.
    pub fn new(kind: Kind, blocks: usize) -> Self {
        let mut memory = vec![0; blocks * BLOCK];
        for (number, block) in memory.chunks_mut(BLOCK).enumerate() {
            block.fill((number * 7 + 1) as u8);
        }
        Self {
            kind,
            memory,
            inserted: true,
            faults: Vec::new(),
            errors: Vec::new(),
            pulled_after: None,
            drops: 0,
            busy_for: 2,
            look_ms: 1,
            powers_up_after: 3,
            csd: 0,
            voltages: 0x00ff_8000,
            log: Vec::new(),
            restarts: 0,
            state: State::Idle,
            application: false,
            lines: 1,
            speed: None,
            switched: Speed::Default,
            high_speed: Some(HighSpeed::Works),
            busy: 0,
            clock: 0.into(),
        }
    }

    fn csd(&self) -> u128 {
        let blocks = (self.memory.len() / BLOCK) as u128;
        self.csd
            | u128::from(self.high_speed.is_some()) << 94
            | match self.kind {
                Kind::High => 1 << 126 | (blocks / 1024 - 1) << 48,
                // Units of 4 blocks.
                _ => 9 << 80 | (blocks / 4 - 1) << 62,
            }
    }

    fn status(&self) -> u32 {
        let ready = u32::from(self.state != State::Programming) << 8;
        (self.state as u32) << 9 | ready
    }

    /// Returns the bytes that a command is about.
    fn range(&self, argument: u32, len: usize) -> Option<core::ops::Range<usize>> {
        let unit = if self.kind == Kind::High { BLOCK } else { 1 };
        let start = argument as usize * unit;
        (start + len <= self.memory.len()).then_some(start..start + len)
    }

    /// Moves the data of a command whose answer is `status`.
    fn move_data(&mut self, argument: u32, data: Data<'_>, status: u32) -> Result<u32, Fault> {
        let (len, next) = match &data {
            Data::None => panic!("a command with data has none"),
            Data::Read(buf) => (buf.len(), State::SendingData),
            Data::Compare(buf) => (buf.len(), State::SendingData),
            Data::Write(buf) => (buf.len(), State::ReceiveData),
        };
        let range = self.range(argument, len);
        let status = status | if range.is_none() { OUT_OF_RANGE } else { 0 };
        self.state = next;
        if let Some(errors) = StatusErrors::of(status) {
            return Err(Fault::Status(errors));
        }
        let range = range.expect("it is out of range");
        match data {
            Data::Read(buf) => buf.copy_from_slice(&self.memory[range]),
            Data::Compare(expected) if self.memory[range.clone()] != *expected => {
                self.state = State::Transfer;
                return Err(Fault::Differs);
            }
            Data::Compare(_) | Data::None => {}
            Data::Write(buf) => {
                if let Some(left) = self.pulled_after.filter(|left| *left < len / BLOCK) {
                    self.memory[range.start..][..left * BLOCK]
                        .copy_from_slice(&buf[..left * BLOCK]);
                    self.inserted = false;
                    return Err(Fault::DataTimeout { ms: 1000 });
                }
                self.pulled_after = self.pulled_after.map(|left| left - len / BLOCK);
                if self.drops > 0 {
                    self.drops -= 1;
                } else {
                    self.memory[range].copy_from_slice(buf);
                }
                self.state = State::Programming;
                self.busy = self.busy_for;
                return Ok(status);
            }
        }
        self.state = State::Transfer;
        Ok(status)
    }

    /// Returns the answer of a card that is in the state that the command is for; `None` if the
    /// card says nothing.
    fn answer(
        &mut self,
        command: Command,
        argument: u32,
        data: Data<'_>,
    ) -> Result<Option<u128>, Fault> {
        let status = self.status();
        let ours = argument & 0xffff_0000 == ADDRESS;
        let answer = match (command.index, self.state) {
            (0, _) => {
                self.state = State::Idle;
                return Ok(None);
            }
            (8, State::Idle) if self.kind != Kind::Version1 => argument,
            (55, State::Idle) if argument == 0 => {
                self.application = true;
                status
            }
            (55, State::Transfer) if ours => {
                self.application = true;
                status
            }
            (41, State::Idle) => {
                let wants_blocks = argument & 1 << 30 != 0;
                if self.powers_up_after > 0 || (self.kind == Kind::High && !wants_blocks) {
                    self.powers_up_after = self.powers_up_after.saturating_sub(1);
                    self.voltages
                } else {
                    self.state = State::Ready;
                    let high = u32::from(self.kind == Kind::High) << 30;
                    1 << 31 | high | self.voltages
                }
            }
            (2, State::Ready) => {
                self.state = State::Identification;
                return Ok(Some(0x1234_5678));
            }
            (3, State::Identification) => {
                self.state = State::StandBy;
                ADDRESS
            }
            (9, State::StandBy) if ours => return Ok(Some(self.csd() >> 8)),
            (7, State::StandBy) if ours => {
                assert!(self.speed.is_some());
                self.state = State::Transfer;
                status
            }
            (6, State::Transfer) if !command.application => {
                let errors = self.take_errors(command);
                return self.switch(argument, data).map(|()| Some((status | errors).into()));
            }
            (6, State::Transfer) => {
                assert_eq!(argument, 2);
                self.lines = 4;
                status
            }
            (16, State::Transfer) => {
                assert_eq!(argument, BLOCK as u32);
                status
            }
            (13, _) if ours && !matches!(self.state, State::Idle) => {
                if self.state == State::Programming {
                    self.busy = self.busy.saturating_sub(1);
                    if self.busy == 0 {
                        self.state = State::Transfer;
                    }
                }
                status
            }
            (12, State::SendingData | State::ReceiveData) => {
                self.state = State::Transfer;
                status
            }
            (17 | 18 | 24 | 25, State::Transfer) => {
                let errors = self.take_errors(command);
                return self.move_data(argument, data, status | errors).map(|s| Some(s.into()));
            }
            _ => return Err(Fault::NoAnswer),
        };
        Ok(Some((answer | self.take_errors(command)).into()))
    }

    /// Answers SWITCH_FUNC with the status of the functions.
    fn switch(&mut self, argument: u32, data: Data<'_>) -> Result<(), Fault> {
        let high_speed = self.high_speed.expect("the card does not know the command");
        assert_eq!(argument & 0x7fff_ffff, 0x00ff_fff1, "only the access mode is switched");
        let Data::Read(status) = data else { panic!("the status of functions is read") };
        let has = high_speed != HighSpeed::Lacks;
        if argument >> 31 == 1 && has && high_speed != HighSpeed::Refuses {
            self.switched = Speed::High;
        }
        if high_speed == HighSpeed::Fails && self.speed == Some(Speed::High) {
            return Err(Fault::DataDamaged);
        }
        status[13] = 1 | u8::from(has) << 1;
        // A question is answered with what would be.
        let chosen =
            if argument >> 31 == 0 && has || self.switched == Speed::High { 1 } else { 0xf };
        status[16] = chosen;
        Ok(())
    }

    fn take_errors(&mut self, command: Command) -> u32 {
        let found = self.errors.iter().position(|(index, _)| *index == command.index);
        found.map_or(0, |at| self.errors.remove(at).1)
    }
}

impl Bus for FakeCard {
    fn restart(&mut self) -> Result<(), Fault> {
        (self.lines, self.speed, self.switched) = (1, None, Speed::Default);
        self.restarts += 1;
        Ok(())
    }

    fn has_high_speed(&self) -> bool {
        true
    }

    fn set_speed(&mut self, speed: Speed) -> Result<(), Fault> {
        assert_eq!(speed, self.switched, "the card was not told");
        self.speed = Some(speed);
        Ok(())
    }

    fn four_lines(&mut self) {
        assert_eq!(self.lines, 4, "the card was not told");
    }

    fn execute(
        &mut self,
        command: Command,
        argument: u32,
        data: Data<'_>,
    ) -> Result<Response, Fault> {
        let application = core::mem::take(&mut self.application);
        assert!(application || !command.application, "{command} was not announced");
        self.log.push(command.index);
        let fault = self.faults.first().filter(|(index, _)| *index == command.index).copied();
        let answer = match fault {
            _ if command.answer == Answer::None => self.answer(command, argument, data),
            _ if !self.inserted => Err(Fault::NoAnswer),
            Some((_, fault)) => {
                self.faults.remove(0);
                match data {
                    Data::Read(_) | Data::Compare(_) => self.state = State::SendingData,
                    Data::Write(_) => self.state = State::ReceiveData,
                    Data::None => {}
                }
                Err(fault)
            }
            None => self.answer(command, argument, data),
        };
        Ok(Response { payload: answer?.unwrap_or(0) })
    }

    fn millis(&self) -> u64 {
        self.clock.replace(self.clock.get() + self.look_ms)
    }
}
