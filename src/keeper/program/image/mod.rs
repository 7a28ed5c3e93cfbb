//! The image helper: makes one EROFS file out of layers that strangers made.
//!
//! Archives and compressed streams are read here and nowhere else, in a process that lives for one image and can do
//! nothing but read what it was given, write its output and answer the library (`confine`). It is started with its
//! channel to the library as descriptor 3, the file to write as 4 and the pidfd of the library's thread as 5, and ends
//! with that thread, with the channel, or with the first failure.

mod confine;
mod export;
mod index;
mod session;

#[path = "../../../image/convert/mod.rs"]
#[allow(dead_code, unused_imports, reason = "the tests use the rest")]
pub(crate) mod convert;
#[path = "../../../image/erofs/mod.rs"]
#[allow(dead_code, unused_imports, reason = "the tests use the rest")]
pub(crate) mod erofs;

use std::io;
use std::os::fd::OwnedFd;
use std::panic;
use std::process::ExitCode;
use std::rc::Rc;

use crate::channel::Channel;
use crate::system;
use crate::wire::image::{self as wire, Failure, Limits, Reply, Request, Resources};
use convert::{Converter, Trouble};
use session::{Appended, Archive, EXIT_DONE, EXIT_FAILED, Input, Output, Session, exit};

const CHANNEL: i32 = 3;
const OUTPUT: i32 = 4;
const HOST: i32 = 5;

/// Why a request failed.
#[derive(Debug)]
pub(super) struct Problem {
    failure: Failure,
    errno: i32,
    text: String,
}

impl Problem {
    fn new(failure: Failure, text: String) -> Self {
        Self { failure, errno: 0, text }
    }
}

impl From<io::Error> for Problem {
    fn from(error: io::Error) -> Self {
        let errno = error.raw_os_error().unwrap_or(libc::EIO);
        Self { failure: Failure::System, errno, text: error.to_string() }
    }
}

/// Runs the helper.
pub(crate) fn main() -> ExitCode {
    let session = Session::new(Channel::new(system::inherited(CHANNEL)), system::inherited(HOST));
    report_panics();
    if let Err(error) = confine::detach(HOST) {
        session.fail(
            Failure::System,
            error.raw_os_error().unwrap_or(libc::EIO),
            "leaving the host's session",
        );
        return ExitCode::FAILURE;
    }
    let (Request::Setup { limits, resources }, fds) = session.next() else { return ExitCode::FAILURE };
    if !fds.is_empty() {
        return ExitCode::FAILURE;
    }
    serve(&Rc::new(session), &limits, &resources)
}

/// Reports why there will be no image.
pub(crate) fn refuse(why: &str) -> ExitCode {
    let text = why.as_bytes().to_vec();
    let reply = Reply::Failed { failure: Failure::System, errno: libc::ENOEXEC, text };
    let _ = Channel::new(system::inherited(CHANNEL)).send(&reply.encode(), Vec::new());
    ExitCode::FAILURE
}

/// Reports a panic's place. Its message would go nowhere.
fn report_panics() {
    panic::set_hook(Box::new(|info| {
        let place = info.location().map_or_else(String::new, ToString::to_string);
        let reply = Reply::Failed { failure: Failure::Internal, errno: 0, text: place.into_bytes() };
        // The session may be in use. The process ends here, so both may own the descriptor.
        let _ = Channel::new(system::inherited(CHANNEL)).send(&reply.encode(), Vec::new());
        exit(EXIT_FAILED)
    }));
}

fn serve(session: &Rc<Session>, limits: &Limits, resources: &Resources) -> ! {
    match confine::confine(CHANNEL, resources) {
        Ok(isolated) => session.reply(&Reply::Ready { isolated }),
        Err(error) => {
            session.fail(Failure::System, error.raw_os_error().unwrap_or(libc::EIO), "confining itself");
            exit(EXIT_FAILED);
        }
    }
    let output = Output::new(system::inherited(OUTPUT), session);
    let mut converter = Converter::new(output, *limits);
    loop {
        let (request, fds) = session.next();
        let done = match request {
            Request::Finish { is_root } if fds.is_empty() => {
                match if is_root { converter.finish() } else { converter.finish_as_it_is() } {
                    Ok((_, summary)) => session.reply(&Reply::Finished(summary)),
                    Err(trouble) => fail(session, &problem(session, trouble)),
                }
                exit(EXIT_DONE);
            }
            request => handle(request, fds, session, &mut converter, limits),
        };
        match done {
            Ok(Some(reply)) => session.reply(&reply),
            Ok(None) => {}
            Err(problem) => fail(session, &problem),
        }
    }
}

/// Reports why the request failed, and ends.
fn fail(session: &Session, problem: &Problem) -> ! {
    session.fail(problem.failure, problem.errno, &problem.text);
    exit(EXIT_FAILED)
}

/// Handles a request; returns the reply that is to be sent.
fn handle(
    request: Request,
    fds: Vec<OwnedFd>,
    session: &Rc<Session>,
    converter: &mut Converter<Output>,
    limits: &Limits,
) -> Result<Option<Reply>, Problem> {
    let converted = match request {
        Request::Base => converter.base(&mut Archive::new(only(fds)?, session)),
        Request::Layer { range, diff_id, whiteouts } => {
            let mut input = Input::new(only(fds)?, range, session);
            converter.layer(&mut input, diff_id, whiteouts)
        }
        Request::Index => return index::index(&Archive::new(only(fds)?, session), session).map(|()| None),
        Request::Inflate => {
            let [input, output] = fds.try_into().map_err(|_| out_of_order())?;
            let mut output = Appended::new(output, session);
            let mut input = Input::new(input, None, session);
            convert::inflate::inflate(&mut input, &mut output, limits)
                .map_err(|trouble| problem(session, trouble))?;
            return Ok(Some(Reply::Inflated { bytes: output.length() }));
        }
        Request::FindDirectory { path } if fds.is_empty() => {
            let found = converter.has_directory(&path).map_err(|trouble| problem(session, trouble))?;
            return Ok(Some(Reply::Directory { found }));
        }
        Request::Export => {
            let [image, archive] = fds.try_into().map_err(|_| out_of_order())?;
            let exported = export::export(&mut Archive::new(image, session), archive, session, limits)
                .map_err(|trouble| problem(session, trouble))?;
            return Ok(Some(Reply::Exported(exported)));
        }
        Request::Setup { .. } | Request::FindDirectory { .. } | Request::Finish { .. } => {
            return Err(out_of_order());
        }
    };
    converted.map(|()| Some(Reply::Done)).map_err(|trouble| problem(session, trouble))
}

fn only(fds: Vec<OwnedFd>) -> Result<OwnedFd, Problem> {
    let [fd] = fds.try_into().map_err(|_| out_of_order())?;
    Ok(fd)
}

fn out_of_order() -> Problem {
    Problem::new(Failure::Internal, "a request out of order".into())
}

/// A failed system call explains more than what the converter made of it.
fn problem(session: &Session, trouble: Trouble) -> Problem {
    if let Some((what, errno)) = session.fault() {
        return Problem { failure: Failure::System, errno, text: what.into() };
    }
    let failure = match &trouble {
        Trouble::Limit(_) => Failure::Limit,
        Trouble::Digest { .. } => Failure::Digest,
        Trouble::Io(error) if error.kind() == io::ErrorKind::FileTooLarge => Failure::Limit,
        // Not of a system call: a decompressor's.
        Trouble::Malformed(_) | Trouble::Io(_) => Failure::Malformed,
    };
    Problem::new(failure, trouble.to_string())
}
