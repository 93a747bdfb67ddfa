//! Draws what a change has done, as SVG: for each operation a bar of before and one of after, on a
//! logarithmic scale.

use std::cmp::Ordering;
use std::fmt::Write;

use super::Numbers;
use super::svg::{self, text};

/// Width of the picture, in pixels.
const WIDTH: f64 = 1000.0;
const LABELS: f64 = 240.0;
/// Room for the numbers behind the longest bar, in pixels.
const NUMBERS: f64 = 150.0;
const HEAD: f64 = 50.0;
const BAR: f64 = 9.0;
const ROW: f64 = 26.0;

const BEFORE: &str = "#d0d0d0";
const SAME: &str = "#8f8f8f";
const BETTER: &str = "#4c9a5b";
const WORSE: &str = "#c8553d";

/// Returns the picture of what has become of each operation and each world switch.
pub fn draw(old: &Numbers, new: &Numbers) -> String {
    let (before, after) = (costs(old), costs(new));
    let most = before.iter().chain(&after).map(|(_, cost)| *cost).max().unwrap_or(1);
    let height = HEAD + ROW * after.len() as f64 + ROW;
    let title = format!(
        "Instructions under Stasis, on a logarithmic scale: \
         <tspan fill=\"{BEFORE}\">before</tspan>, <tspan fill=\"{SAME}\">after, unchanged</tspan>, \
         <tspan fill=\"{BETTER}\">after, less</tspan>, <tspan fill=\"{WORSE}\">after, more</tspan>"
    );
    let mut svg = svg::begin(WIDTH, height, &title);
    scale(&mut svg, most, height);
    for (row, (name, cost)) in after.iter().enumerate() {
        let y = HEAD + ROW * row as f64;
        text(&mut svg, 8.0, y + BAR + 4.0, name);
        let was = before.iter().find(|(other, _)| other == name).map(|(_, cost)| *cost);
        if let Some(was) = was {
            bar(&mut svg, y, was, most, BEFORE);
        }
        bar(&mut svg, y + BAR, *cost, most, color(was, *cost));
        let end = LABELS + length((*cost).max(was.unwrap_or(0)), most) + 6.0;
        text(&mut svg, end, y + BAR + 4.0, &change(was, *cost));
    }
    svg::end(svg)
}

/// Returns the name of each operation and each world switch, and what it costs under Stasis.
pub fn costs(numbers: &Numbers) -> Vec<(String, u64)> {
    let operations = numbers.operations.iter();
    let operations = operations.map(|operation| (operation.name.clone(), operation.stasis.min));
    let switches = numbers.switches.iter();
    let switches = switches.map(|switch| (format!("switch {}", switch.name), switch.cost.min));
    operations.chain(switches).collect()
}

/// Returns the color of a bar: grey for what has not changed, or was not measured before.
fn color(was: Option<u64>, cost: u64) -> &'static str {
    match was.map(|was| cost.cmp(&was)) {
        Some(Ordering::Greater) => WORSE,
        Some(Ordering::Less) => BETTER,
        Some(Ordering::Equal) | None => SAME,
    }
}

fn change(was: Option<u64>, cost: u64) -> String {
    match was {
        Some(was) if was == cost => format!("{cost}, 0.0 %"),
        Some(was) => {
            let percent = (cost as f64 / was.max(1) as f64 - 1.0) * 100.0;
            format!("{was} -> {cost}, {percent:+.1} %")
        }
        None => format!("{cost}, new"),
    }
}

/// Returns the length of a bar, in pixels; 0 for one instruction.
fn length(cost: u64, most: u64) -> f64 {
    let room = WIDTH - LABELS - NUMBERS;
    room * (cost.max(1) as f64).log10() / (most.max(10) as f64).log10()
}

fn scale(svg: &mut String, most: u64, height: f64) {
    let powers = (0..20).map(|power| 10_u64.pow(power));
    for power in powers.take_while(|power| *power <= most) {
        let x = LABELS + length(power, most);
        // Writing to a String does not fail.
        let _ = writeln!(
            svg,
            "<line x1=\"{x:.1}\" y1=\"{}\" x2=\"{x:.1}\" y2=\"{}\" stroke=\"#e0e0e0\"/>",
            HEAD - 6.0,
            height - ROW / 2.0
        );
        text(svg, x, HEAD - 10.0, &power.to_string());
    }
}

fn bar(svg: &mut String, y: f64, cost: u64, most: u64, color: &str) {
    // Writing to a String does not fail.
    let _ = writeln!(
        svg,
        "<rect x=\"{LABELS}\" y=\"{y:.1}\" width=\"{:.1}\" height=\"{BAR}\" fill=\"{color}\"/>",
        length(cost, most).max(1.0)
    );
}

#[cfg(test)]
mod tests {
    use super::super::history::tests::numbers;
    use super::*;

    #[test]
    fn what_has_become_dearer_has_another_color() {
        for (before, after, color, said) in [
            (100, 200, WORSE, "100 -&gt; 200, +100.0 %"),
            (200, 100, BETTER, "200 -&gt; 100, -50.0 %"),
            (100, 100, SAME, ">100, 0.0 %<"),
        ] {
            let svg = draw(&numbers(before), &numbers(after));
            assert_eq!(svg.matches("<rect x").count(), 2, "{svg}");
            assert!(svg.contains(&format!("height=\"9\" fill=\"{color}\"")), "{svg}");
            assert!(svg.contains(said), "{svg}");
        }
    }

    #[test]
    fn a_bar_of_ten_times_as_much_is_longer_by_a_step_of_the_scale() {
        let step = length(10, 10_000);
        assert!((length(1000, 10_000) - 3.0 * step).abs() < 0.001);
        assert!(length(0, 10_000) == 0.0);
    }
}
