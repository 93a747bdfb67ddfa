//! Reads QEMU's log of the instructions that it executes, one in each line, and of its accesses to
//! GICH.

use std::io::{BufRead, Lines, Result};

/// An event in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The core of this number has executed the instruction at this address.
    Instruction(usize, u64),
    /// GICH was read.
    Read,
    /// GICH was written.
    Write,
}

/// A line of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Line {
    Event(Event),
    /// The instruction at this address, which was in the line before, was not executed. QEMU had to
    /// do something else first, and logs it again later.
    Undone(u64),
}

impl Line {
    /// Returns what a line says: `Trace <core>: <block> [<cs_base>/<pc>/<flags>/<cflags>]
    /// <symbol>`, `Stopped execution of TB chain before <block> [<pc>] <symbol>`, or a trace event.
    fn parse(line: &str) -> Option<Self> {
        let address = |digits| u64::from_str_radix(digits, 16).ok();
        match line.split_once(' ')? {
            ("gic_hyp_read", _) => Some(Self::Event(Event::Read)),
            ("gic_hyp_write", _) => Some(Self::Event(Event::Write)),
            ("Trace", rest) => {
                let (core, rest) = rest.split_once(':')?;
                let pc = address(rest.split('/').nth(1)?)?;
                Some(Self::Event(Event::Instruction(core.parse().ok()?, pc)))
            }
            ("Stopped", rest) => {
                let (_, rest) = rest.split_once('[')?;
                Some(Self::Undone(address(rest.split_once(']')?.0)?))
            }
            _ => None,
        }
    }
}

/// An iterator over all events of a log.
pub struct Events<R> {
    lines: Lines<R>,
    /// The event that the next line may undo.
    last: Option<Event>,
}

impl<R: BufRead> Events<R> {
    /// Returns the events of a log from its present position on.
    pub fn new(log: R) -> Self {
        Self { lines: log.lines(), last: None }
    }
}

impl<R: BufRead> Iterator for Events<R> {
    type Item = Result<Event>;

    fn next(&mut self) -> Option<Self::Item> {
        for line in self.lines.by_ref() {
            match line.map(|line| Line::parse(&line)) {
                Ok(None) => {}
                Ok(Some(Line::Undone(pc))) => {
                    let undone =
                        |event: &Event| matches!(event, Event::Instruction(_, last) if *last == pc);
                    self.last.take_if(|last| undone(last));
                }
                Ok(Some(Line::Event(event))) => {
                    if let Some(last) = self.last.replace(event) {
                        return Some(Ok(last));
                    }
                }
                Err(error) => return Some(Err(error)),
            }
        }
        self.last.take().map(Ok)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn events(log: &str) -> Vec<Event> {
        Events::new(log.as_bytes()).map(Result::unwrap).collect()
    }

    #[test]
    fn a_line_is_an_instruction_or_an_access() {
        let log = "Trace 1: 0x7f9d88000100 [00000000/0000000040212345/00000461/ff022201] x\n\
                   gic_hyp_write hyp write at 0x00000100: 0x1a000000\n\
                   qemu: warning: no trace\n\
                   gic_hyp_read hyp read at 0x00000100: 0x1a000000\n";
        assert_eq!(events(log), [Event::Instruction(1, 0x4021_2345), Event::Write, Event::Read]);
        assert_eq!(events(""), []);
    }

    #[test]
    fn an_instruction_that_was_put_off_counts_once() {
        let trace = |pc| format!("Trace 0: 0x7f [00000000/{pc:016x}/00000461/ff022201] x\n");
        let stopped = |pc| format!("Stopped execution of TB chain before 0x7f [{pc:016x}] x\n");
        let log =
            trace(0x1000) + &trace(0x1004) + &stopped(0x1004) + &trace(0x1004) + &trace(0x1008);
        let counted = [0x1000, 0x1004, 0x1008].map(|pc| Event::Instruction(0, pc));
        assert_eq!(events(&log), counted);
        assert_eq!(events(&(trace(0x1000) + &stopped(0x2000))), [Event::Instruction(0, 0x1000)]);
    }
}
