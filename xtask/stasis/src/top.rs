//! `stasis top`: what the cores and the guests of a machine do, live, by its channel; and as a
//! record of it.
//!
//! [`state`] is what is known, [`screen`] draws it, [`record`] writes it, and [`recorded`] makes a
//! page of what was written.

mod record;
pub mod recorded;
mod screen;
mod state;

use std::io::{self, IsTerminal};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Args;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use stasis_client::{Client, Error, Message, Status};

use self::record::Record;
use self::state::State;
use crate::ctl::{Address, coded, end_of};

/// The text behind the command's help.
pub const DETAILS: &str = "\
Q, Esc or Ctrl-C ends it. Each line of the record is an object of JSON: \"at\" in seconds since 1970, and \"rows\" of `top`,
\"guests\", \"windows\" if they are others than before, or an \"event\". Where the output is no terminal, it only records.";

/// What the command takes.
#[derive(Args, Debug)]
pub struct Arguments {
    #[command(flatten)]
    address: Address,
    /// Seconds that each table is about
    #[arg(long, value_name = "SECONDS", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=3600))]
    interval: u64,
    /// Add all that is shown to a file
    #[arg(long, value_name = "FILE")]
    record: Option<PathBuf>,
    /// Seconds after which it ends by itself
    #[arg(long, value_name = "SECONDS")]
    seconds: Option<u64>,
}

/// Runs the command. Whatever ends it, the terminal is as it was.
///
/// # Errors
///
/// There is no session, it is lost, or the record can't be written.
pub fn main(arguments: Arguments) -> Result<()> {
    let Arguments { address, interval, record, seconds } = arguments;
    let is_terminal = io::stdout().is_terminal();
    ensure!(
        is_terminal || record.is_some(),
        "there is no terminal to draw on; --record FILE records"
    );
    let record = record.map(|path| Record::open(&path)).transpose()?;
    let client = address.connect(true)?;
    let state = State::new(client.machine());
    let until = end_of(seconds.map(Duration::from_secs));
    let mut top = Top {
        client,
        state,
        record,
        interval,
        tables: None,
        list: None,
        windows: None,
        listed: None,
    };
    if !is_terminal {
        return top.run(until, &mut |_| Ok(false));
    }
    let mut terminal = ratatui::try_init().context("cannot draw on the terminal")?;
    let result = top.run(until, &mut |state| {
        terminal.draw(|frame| screen::draw(frame, state))?;
        leaves()
    });
    ratatui::restore();
    result
}

/// Returns a time as people say it.
fn micros(us: u64) -> String {
    match us {
        0..10_000 => format!("{us} us"),
        10_000..10_000_000 => format!("{:.1} ms", us as f64 / 1e3),
        _ => format!("{:.1} s", us as f64 / 1e6),
    }
}

/// Returns whether a key was pressed that ends it.
fn leaves() -> Result<bool> {
    while event::poll(Duration::ZERO)? {
        if let Event::Key(key) = event::read()?
            && key.kind == KeyEventKind::Press
        {
            let is_control = key.modifiers.contains(KeyModifiers::CONTROL);
            match key.code {
                KeyCode::Esc | KeyCode::Char('q' | 'Q') => return Ok(true),
                KeyCode::Char('c') if is_control => return Ok(true),
                _ => {}
            }
        }
    }
    Ok(false)
}

/// The requests to a machine, and what is known by their answers.
struct Top {
    client: Client,
    state: State,
    record: Option<Record>,
    /// Seconds.
    interval: u64,
    /// The requests for tables and for the list of guests; `None` while there is none.
    tables: Option<u16>,
    list: Option<u16>,
    /// The request for the list of windows, which comes behind that of guests.
    windows: Option<u16>,
    /// When the guests were listed last.
    listed: Option<Instant>,
}

impl Top {
    /// Asks and shows, until `until` or until `show` returns true.
    fn run(
        &mut self,
        until: Option<Instant>,
        show: &mut dyn FnMut(&State) -> Result<bool>,
    ) -> Result<()> {
        const TICK: Duration = Duration::from_millis(200);
        loop {
            self.ask()?;
            let tick = Instant::now() + TICK;
            loop {
                match self.client.next(Some(tick)) {
                    Ok(Some(message)) => self.take(message)?,
                    Ok(None) => break,
                    Err(Error::Interrupted(_)) => return Ok(()),
                    Err(error) => return Err(coded(error)),
                }
            }
            if let Some(rows) = self.state.settle() {
                self.write("rows", rows)?;
            }
            if show(&self.state)? || until.is_some_and(|until| Instant::now() >= until) {
                return Ok(());
            }
        }
    }

    /// Forgets requests whose end the line has lost, so that they are asked again.
    fn forget_vanished(&mut self) {
        if self.tables.take_if(|id| self.client.has_vanished(*id)).is_some() {
            self.state.drop_begun();
        }
        if self.list.take_if(|id| self.client.has_vanished(*id)).is_some() {
            self.state.end_list(false);
        }
        if self.windows.take_if(|id| self.client.has_vanished(*id)).is_some() {
            self.state.end_windows(false);
        }
    }

    /// Asks for what is not asked for already.
    fn ask(&mut self) -> Result<()> {
        const MANY: u32 = 1_000_000;
        self.forget_vanished();
        if self.tables.is_none() {
            let line = format!("top {} {MANY} --json", self.interval);
            self.tables = Some(self.client.request(&line).map_err(coded)?);
        }
        let second = Duration::from_secs(1);
        if self.list.is_none() && self.listed.is_none_or(|at| at.elapsed() >= second) {
            self.listed = Some(Instant::now());
            self.list = Some(self.client.request("guests --json").map_err(coded)?);
            if self.windows.is_none() {
                self.windows = Some(self.client.request("windows --json").map_err(coded)?);
            }
        }
        Ok(())
    }

    fn take(&mut self, message: Message) -> Result<()> {
        match message {
            Message::Rows { id, bytes } if Some(id) == self.tables => self.state.tables(&bytes),
            Message::Rows { id, bytes } if Some(id) == self.list => self.state.list(&bytes),
            Message::Rows { id, bytes } if Some(id) == self.windows => {
                self.state.window_list(&bytes)
            }
            Message::Done { id, .. } if Some(id) == self.tables => {
                self.tables = None;
                self.state.drop_begun();
            }
            Message::Done { id, status, .. } if Some(id) == self.windows => {
                self.windows = None;
                if let Some(windows) = self.state.end_windows(status == Status::Done) {
                    self.write("windows", windows)?;
                }
            }
            Message::Done { id, status, .. } if Some(id) == self.list => {
                self.list = None;
                if let Some(guests) = self.state.end_list(status == Status::Done) {
                    self.write("guests", guests)?;
                }
            }
            Message::Event(event) => {
                let event = self.state.event(&event);
                self.write("event", event)?;
            }
            _ => {}
        }
        Ok(())
    }

    fn write(&mut self, key: &str, value: serde_json::Value) -> Result<()> {
        self.record.as_mut().map_or(Ok(()), |record| record.add(key, value))
    }
}
