//! The bytes between a debugger and a session.

use std::io::{self, Read, Write};

use anyhow::{Context, Result, bail};
use stasis_debug::Machine;
use stasis_debug::session::{BUFFER_BYTES, End, PACKET_BYTES, Session};

/// Serves the debugger at the other end of `input` and `output` until it leaves.
///
/// # Errors
///
/// The connection is lost, or what comes is not of gdb's protocol.
pub fn serve(machine: impl Machine, input: &mut impl Read, output: &mut impl Write) -> Result<()> {
    let mut buffer = [0; BUFFER_BYTES];
    let mut session = Session::new(machine, &mut buffer);
    let mut bytes = [0; PACKET_BYTES];
    loop {
        let count = match input.read(&mut bytes) {
            // A debugger that was killed does not say that it leaves.
            Ok(0) => return Ok(()),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(()),
            Err(error) => return Err(error).context("the debugger can't be heard"),
        };
        for byte in &bytes[..count] {
            session.receive(*byte);
            send(&mut session, output).context("the debugger can't be answered")?;
            match session.end() {
                None => {}
                Some(End::Left | End::Ended) => return Ok(()),
                Some(end) => bail!("{end}"),
            }
        }
    }
}

/// Sends all answers that wait.
fn send(session: &mut Session<'_, impl Machine>, output: &mut impl Write) -> io::Result<()> {
    let count = session.answers().len();
    if count > 0 {
        output.write_all(session.answers())?;
        output.flush()?;
        session.sent(count);
    }
    Ok(())
}
