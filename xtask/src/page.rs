//! Pages that a guest serves, fetched by the host.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::report;

/// The longest silence of a server.
const PATIENCE: Duration = Duration::from_secs(120);
/// Attempts to get an answer, and the time between them. QEMU takes a connection before the guest
/// does, and ends it when the guest is not reached.
const ATTEMPTS: u32 = 5;
const PAUSE: Duration = Duration::from_secs(2);

/// Returns a port of this host that was free just now, for QEMU to lead to a guest.
pub fn free_port() -> Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no port is free")?;
    Ok(listener.local_addr()?.port())
}

/// Returns what a server has at a path. A port of this host leads to the server. Asks again,
/// [`ATTEMPTS`] times in all, when a connection ends before a byte has come, and says so each time.
///
/// # Errors
///
/// The server does not answer, or has no such page.
pub fn fetch(port: u16, path: &str) -> Result<Vec<u8>> {
    for attempt in 1..=ATTEMPTS {
        let answer = ask(port, path).with_context(|| format!("nobody answers for {path}"))?;
        if !answer.is_empty() {
            return page_in(answer, path);
        }
        report::note(format_args!(
            "attempt {attempt} of {ATTEMPTS} to fetch {path}: the connection has ended without an answer"
        ));
        thread::sleep(PAUSE);
    }
    bail!("no answer for {path} in {ATTEMPTS} attempts")
}

/// Returns all that a server sends until the connection ends: nothing, if it ends at once.
fn ask(port: u16, path: &str) -> io::Result<Vec<u8>> {
    let mut server = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    server.set_read_timeout(Some(PATIENCE))?;
    let mut answer = Vec::new();
    // In one piece: a server that answers to the first one resets the connection when the next one
    // comes.
    let request = format!("GET {path} HTTP/1.0\r\n\r\n");
    let ended = server.write_all(request.as_bytes()).and_then(|()| server.read_to_end(&mut answer));
    match ended {
        Err(error) if answer.is_empty() && is_end(&error) => Ok(answer),
        ended => ended.map(|_| answer),
    }
}

/// Returns whether the other end has ended the connection.
fn is_end(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe)
}

/// Returns the page in an answer, whose status must be 200.
fn page_in(mut answer: Vec<u8>, path: &str) -> Result<Vec<u8>> {
    let head = answer.windows(4).position(|end| end == b"\r\n\r\n");
    let head = head.with_context(|| format!("the answer for {path} has no end of its head"))?;
    let page = answer.split_off(head + 4);
    let status = String::from_utf8_lossy(&answer);
    let status = status.lines().next().unwrap_or_default();
    ensure!(status.split(' ').nth(1) == Some("200"), "the answer for {path} is {status}");
    Ok(page)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Answers one client after the other, and returns the port.
    fn serve(answers: &'static [&'static str]) -> Result<u16> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let port = listener.local_addr()?.port();
        thread::spawn(move || -> io::Result<()> {
            for answer in answers {
                let (mut client, _) = listener.accept()?;
                let mut request = [0; 64];
                let _ = client.read(&mut request)?;
                client.write_all(answer.as_bytes())?;
            }
            Ok(())
        });
        Ok(port)
    }

    #[test]
    fn a_connection_that_ends_at_once_is_tried_again() -> Result<()> {
        let port = serve(&["", "", "HTTP/1.0 200 OK\r\n\r\npage"])?;
        assert_eq!(fetch(port, "/")?, b"page");
        Ok(())
    }

    #[test]
    fn half_an_answer_and_an_error_are_final() -> Result<()> {
        let port = serve(&["HTTP/1.0 200 OK\r\n", "HTTP/1.0 404 Not Found\r\n\r\n"])?;
        assert!(fetch(port, "/").unwrap_err().to_string().contains("no end of its head"));
        assert!(fetch(port, "/").unwrap_err().to_string().contains("404"));
        Ok(())
    }
}
