//! A conversation with the shell of a guest that prints lines of its own meanwhile.

use anyhow::{Result, bail};

use super::STEP_TIME;
use crate::console::Console;

/// Messages of a kernel with which something is wrong.
const COMPLAINTS: &str = "warning:|bug:|oops|stall|lockup|unstable|call trace|hung task|time jump";

/// Types `command; echo <name>=<what>`, and returns the value that the guest's shell prints.
///
/// # Errors
///
/// No answer comes within [`STEP_TIME`].
pub fn ask(console: &mut Console, command: &str, name: &str, what: &str) -> Result<String> {
    let separator = if command.is_empty() { "" } else { "; " };
    // The quotes keep the line that is echoed from being taken for the answer.
    console.send_line(&format!("{command}{separator}echo {name}\"=\"{what}"))?;
    let begin = format!("{name}=");
    let answer = console.find_line(&format!("the guest's answer {begin}"), STEP_TIME, |line| {
        line.split_once(&begin).map(|(_, answer)| answer.trim().to_owned())
    })?;
    Ok(answer)
}

/// Checks that the guest's kernel has said nothing with which something is wrong.
///
/// # Errors
///
/// The kernel complains: of what.
pub fn kernel_is_content(console: &mut Console) -> Result<()> {
    let complaints =
        ask(console, "", "complaints", &format!("$(dmesg | grep -ciE '{COMPLAINTS}')"))?;
    if complaints != "0" {
        console.send_line(&format!("dmesg | grep -iE '{COMPLAINTS}'; echo end=end"))?;
        let said = console.wait_for("end=end\r\n", STEP_TIME)?;
        bail!("the guest's kernel complains:\n{said}");
    }
    Ok(())
}
