//! A terminal as its user has it, for the tests of the library and of init.

use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;

/// The user's end of a terminal.
pub(crate) struct Screen {
    pub(crate) stream: UnixStream,
    /// Output that was read and not looked for yet.
    seen: String,
}

impl Screen {
    pub(crate) fn new(stream: UnixStream) -> Self {
        Self { stream, seen: String::new() }
    }

    pub(crate) fn type_in(&mut self, text: &str) {
        self.stream.write_all(text.as_bytes()).unwrap();
    }

    /// Reads until the text appears, or to the end for `None`. Returns the output up to there.
    pub(crate) fn see(&mut self, text: Option<&str>) -> String {
        let mut buffer = [0; 1024];
        loop {
            if let Some(end) = text.and_then(|text| Some(self.seen.find(text)? + text.len())) {
                return self.seen.drain(..end).collect();
            }
            match self.stream.read(&mut buffer) {
                Ok(0) if text.is_none() => return std::mem::take(&mut self.seen),
                Ok(0) => panic!("the terminal ended before {text:?}: {:?}", self.seen),
                Ok(length) => self.seen.push_str(&String::from_utf8_lossy(&buffer[..length])),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => panic!("{error} while waiting for {text:?}: {:?}", self.seen),
            }
        }
    }
}
