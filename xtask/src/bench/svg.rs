//! The parts that all pictures in SVG have in common.

use std::fmt::Write;

/// Returns the beginning of a picture of this size in pixels, with its title, which must be SVG
/// already.
pub fn begin(width: f64, height: f64, title: &str) -> String {
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" \
         font-family=\"monospace\" font-size=\"11\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
         <text x=\"8\" y=\"18\" font-size=\"14\">{title}</text>\n"
    )
}

/// Returns the picture with its end.
pub fn end(mut svg: String) -> String {
    svg += "</svg>\n";
    svg
}

/// Adds a text that begins at this position.
pub fn text(svg: &mut String, x: f64, y: f64, text: &str) {
    // Writing to a String does not fail.
    let _ = writeln!(svg, "<text x=\"{x:.1}\" y=\"{y:.1}\">{}</text>", escape(text));
}

/// Returns a text with the characters escaped that mean something in SVG.
pub fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
