//! [`StreamName`]: what a client wants a stream to lead to.

use alloc::string::{String, ToString};

/// What a stream leads to, as the payload of a frame [`Open`](crate::Kind::Open) names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamName<'a> {
    /// The UART of a guest, or its terminal.
    Attach {
        /// The guest, by name or number.
        guest: &'a str,
        /// Whether the terminal is meant.
        is_terminal: bool,
    },
    /// A debugger's visit to a guest.
    Gdb {
        /// The guest, by name or number.
        guest: &'a str,
    },
    /// A checkpoint of the store, on its way to the client.
    Get {
        /// The checkpoint, by name or number.
        checkpoint: &'a str,
    },
    /// A checkpoint on its way into the store. What comes is taken in the turn of a request.
    Put {
        /// The name of the new checkpoint.
        name: &'a str,
        /// Bytes of the checkpoint.
        length: u64,
    },
    /// Back to the client.
    Echo,
}

/// A stream that there is not.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "no stream \"{0}\"; there are: attach GUEST [--terminal], gdb GUEST, get CHECKPOINT, put NAME BYTES, echo"
)]
pub struct NoStream(pub String);

impl<'a> StreamName<'a> {
    /// Returns what `line` says, whose words have blanks between them.
    ///
    /// # Errors
    ///
    /// [`NoStream`]: there is no stream of this name, or an argument is wrong, lacking, or too many.
    pub fn parse(line: &'a str) -> Result<Self, NoStream> {
        let mut words = line.split_ascii_whitespace();
        let words = core::array::from_fn(|_| words.next());
        match words {
            [Some("attach"), Some(guest), None, _] => {
                Ok(Self::Attach { guest, is_terminal: false })
            }
            [Some("attach"), Some(guest), Some("--terminal"), None] => {
                Ok(Self::Attach { guest, is_terminal: true })
            }
            [Some("gdb"), Some(guest), None, _] => Ok(Self::Gdb { guest }),
            [Some("get"), Some(checkpoint), None, _] => Ok(Self::Get { checkpoint }),
            [Some("put"), Some(name), Some(length), None] => {
                let length = length.parse().map_err(|_| NoStream(line.to_string()))?;
                Ok(Self::Put { name, length })
            }
            [Some("echo"), None, ..] => Ok(Self::Echo),
            _ => Err(NoStream(line.to_string())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_what_its_name_says() {
        let attach = |guest, is_terminal| Ok(StreamName::Attach { guest, is_terminal });
        assert_eq!(StreamName::parse("attach web"), attach("web", false));
        assert_eq!(StreamName::parse(" attach  7 "), attach("7", false));
        assert_eq!(StreamName::parse("attach web --terminal"), attach("web", true));
        assert_eq!(StreamName::parse("gdb web"), Ok(StreamName::Gdb { guest: "web" }));
        assert_eq!(StreamName::parse("get 3"), Ok(StreamName::Get { checkpoint: "3" }));
        let put = StreamName::Put { name: "morning", length: 4096 };
        assert_eq!(StreamName::parse("put morning 4096"), Ok(put));
        assert_eq!(StreamName::parse("echo"), Ok(StreamName::Echo));
    }

    #[test]
    fn a_name_with_a_word_too_few_or_too_many_is_no_stream_and_is_told_whole() {
        for name in [
            "",
            "attach",
            "attach web --uart",
            "attach web --terminal now",
            "gdb",
            "gdb web 1234",
            "get",
            "get a b",
            "put",
            "put morning",
            "put morning many",
            "put morning -1",
            "put morning 18446744073709551616",
            "put morning 1 2",
            "echo back",
            "ECHO",
        ] {
            assert_eq!(StreamName::parse(name), Err(NoStream(name.into())));
        }
    }
}
