//! Draws a machine's [`State`] on a terminal of any size.

use ratatui::Frame;
use ratatui::layout::{Constraint, Rect};
use ratatui::style::{Color, Modifier, Style, Stylize};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Cell, Paragraph, Row, Table};
use stasis_console::text::Size;

use super::micros;
use super::state::{Guest, State, Vcpu, Window};

/// A column of a table: its title, its width, and the least width of a terminal that has room for
/// it.
type Column<T> = (&'static str, u16, u16, fn(&T) -> String);

const GUESTS: &[Column<Guest>] = &[
    ("guest", 14, 0, |guest| guest.name.clone()),
    ("state", 8, 0, |guest| guest.state.clone()),
    ("memory", 10, 0, |guest| Size(guest.memory).to_string()),
    ("changed", 10, 46, |guest| guest.changed.map_or_else(|| "?".to_owned(), left)),
    ("own", 10, 57, |guest| Size(guest.own).to_string()),
    ("shared", 10, 68, |guest| left(guest.shared)),
    ("to load", 10, 79, |guest| left(guest.to_load)),
];

const VCPUS: &[Column<Vcpu>] = &[
    ("guest", 14, 0, |vcpu| vcpu.guest.clone()),
    ("vCPU", 4, 0, |vcpu| vcpu.vcpu.to_string()),
    ("core", 4, 0, |vcpu| vcpu.core.to_string()),
    ("share", 6, 0, |vcpu| percent(vcpu.share)),
    ("intr", 7, 48, |vcpu| vcpu.interrupts.to_string()),
    ("switch", 7, 56, |vcpu| vcpu.switches.to_string()),
    ("irq", 7, 64, |vcpu| vcpu.irq.to_string()),
    ("mmio", 7, 72, |vcpu| vcpu.mmio.to_string()),
    ("sysreg", 7, 80, |vcpu| vcpu.sysreg.to_string()),
    ("call", 6, 90, |vcpu| vcpu.call.to_string()),
    ("wait", 7, 98, |vcpu| vcpu.wait.to_string()),
    ("fault", 6, 106, |vcpu| vcpu.fault.to_string()),
];

const WINDOWS: &[Column<Window>] = &[
    ("window of", 14, 0, |window| window.guest.clone()),
    ("core", 4, 0, |window| window.core.to_string()),
    ("missed", 9, 0, |window| window.missed.to_string()),
    ("last late", 9, 40, |window| window.late_us.map_or("-".to_owned(), micros)),
    ("at", 9, 56, |window| micros(window.at_us)),
    ("length", 9, 64, |window| micros(window.length_us)),
    ("of frame", 9, 72, |window| micros(window.frame_us)),
];

fn percent(share: f64) -> String {
    format!("{:.1}%", share * 100.0)
}

fn left(bytes: u64) -> String {
    if bytes == 0 { "-".to_owned() } else { Size(bytes).to_string() }
}

/// Draws it: the cores, the guests, the vCPUs, the windows if there are any, the last events; what
/// finds no room is left out from the bottom.
pub(super) fn draw(frame: &mut Frame, state: &State) {
    let [title, cores, guests, vcpus, windows, events] = areas(state, frame.area());
    let about = format!("  over {}.{} s", state.millis / 1000, state.millis % 1000 / 100);
    let line = Line::from(vec![Span::from(state.machine.clone()).bold(), Span::from(about).dim()]);
    frame.render_widget(Paragraph::new(line), title);
    let lines: Vec<Line> =
        state.cores.iter().map(|core| bar(core.core, core.share, cores)).collect();
    frame.render_widget(Paragraph::new(lines), cores);
    let colour = |guest: &Guest| match guest.state.as_str() {
        "running" => Style::new(),
        "crashed" | "lost" => Style::new().fg(Color::Red),
        _ => Style::new().fg(Color::Yellow),
    };
    table(frame, guests, GUESTS, &state.guests, colour);
    table(frame, vcpus, VCPUS, &state.vcpus, |_| Style::new());
    if !state.windows.is_empty() {
        let colour = |window: &Window| match window.missed {
            0 => Style::new(),
            _ => Style::new().fg(Color::Yellow),
        };
        table(frame, windows, WINDOWS, &state.windows, colour);
    }
    let lines = state.events.iter().rev().map(|event| Line::from(event.clone()).dim());
    frame.render_widget(Paragraph::new(lines.collect::<Vec<_>>()), events);
}

/// Returns the places of the title, the cores, the guests, the vCPUs, the windows and the events,
/// from the top. On a low terminal, the first of them have all of their lines, and the last ones
/// none.
fn areas(state: &State, whole: Rect) -> [Rect; 6] {
    let of_table = |rows: usize| if rows == 0 { 0 } else { rows + 2 };
    let (guests, vcpus) = (state.guests.len() + 2, state.vcpus.len() + 2);
    let windows = of_table(state.windows.len());
    let mut rest = whole;
    [1, state.cores.len(), guests, vcpus, windows, usize::MAX].map(|height| {
        let height = rest.height.min(u16::try_from(height).unwrap_or(u16::MAX));
        let area = Rect { height, ..rest };
        rest = Rect { y: rest.y + height, height: rest.height - height, ..rest };
        area
    })
}

/// Returns a core's line: its share as a bar.
fn bar(core: u32, share: f64, area: Rect) -> Line<'static> {
    const WORDS: usize = 16;
    let room = usize::from(area.width).saturating_sub(WORDS);
    let full = ((share.clamp(0.0, 1.0) * room as f64).round() as usize).min(room);
    let colour = if share > 0.9 { Color::Red } else { Color::Green };
    Line::from(vec![
        Span::from(format!("core {core:<2} ")),
        Span::from("█".repeat(full)).fg(colour),
        Span::from("·".repeat(room - full)).dim(),
        Span::from(format!(" {:>6}", percent(share))),
    ])
}

fn table<T>(
    frame: &mut Frame,
    area: Rect,
    columns: &[Column<T>],
    rows: &[T],
    style: impl Fn(&T) -> Style,
) {
    let shown = || columns.iter().filter(|(_, _, least, _)| *least <= area.width);
    let titles = Row::new(shown().map(|(title, ..)| Cell::from(*title)));
    let rows = rows.iter().map(|row| {
        Row::new(shown().map(|(_, _, _, text)| Cell::from(text(row)))).style(style(row))
    });
    let widths = shown().map(|(_, width, ..)| Constraint::Length(*width));
    let titles = titles.style(Style::new().add_modifier(Modifier::REVERSED)).top_margin(1);
    frame.render_widget(Table::new(rows, widths).header(titles), area);
}

#[cfg(test)]
mod tests {
    use super::super::state::tests::known;
    use super::*;
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    /// Returns a terminal of this size on which all was drawn.
    fn terminal(width: u16, height: u16) -> Terminal<TestBackend> {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| draw(frame, &known())).unwrap();
        terminal
    }

    /// Returns what stands on a terminal of this size.
    fn drawn(width: u16, height: u16) -> String {
        terminal(width, height).backend().to_string()
    }

    #[test]
    fn a_terminal_of_40_columns_shows_who_has_the_cores() {
        let text = drawn(40, 24);
        for part in ["core 0 ", " 25.0%", "linux", "running", "256.0 MiB", "checkpoint 3"] {
            assert!(text.contains(part), "{part} is lacking:\n{text}");
        }
        assert!(!text.contains("mmio"), "{text}");
    }

    #[test]
    fn a_wide_terminal_shows_why_vcpus_exit() {
        let text = drawn(120, 24);
        for part in ["mmio", "sysreg", "fault", "to load", "3.0 MiB"] {
            assert!(text.contains(part), "{part} is lacking:\n{text}");
        }
    }

    #[test]
    fn windows_are_shown_where_there_are_any() {
        let mut state = known();
        state.window_list(br#"{"core":1,"frame_us":10000,"guest":"rt","at_us":0,"length_us":2000,"missed":7,"late_us":215}"#);
        state.window_list(b"\n");
        state.end_windows(true);
        let mut terminal = Terminal::new(TestBackend::new(72, 24)).unwrap();
        terminal.draw(|frame| draw(frame, &state)).unwrap();
        let text = terminal.backend().to_string();
        for part in ["window of", "rt", "7", "215 us", "2000 us", "10.0 ms"] {
            assert!(text.contains(part), "{part} is lacking:\n{text}");
        }
        assert!(!drawn(72, 24).contains("window of"));
    }

    #[test]
    fn a_low_terminal_shows_its_first_lines_whole() {
        let text = drawn(40, 5);
        let lines: Vec<&str> = text.lines().collect();
        for (line, part) in [(0, "Stasis 0.1.0"), (1, "core 0 "), (3, "guest"), (4, "linux")] {
            assert!(lines[line].contains(part), "{part} is lacking:\n{text}");
        }
        assert!(!text.contains("vCPU"), "{text}");
    }

    #[test]
    fn a_terminal_without_room_is_drawn_on_without_harm() {
        for (width, height) in [(1, 1), (0, 0), (200, 2), (7, 50), (40, 3), (40, 7), (u16::MAX, 1)]
        {
            terminal(width, height);
        }
    }
}
