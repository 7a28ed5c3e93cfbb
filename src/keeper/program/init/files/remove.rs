//! Removes a file or a tree.

use std::ffi::CStr;
use std::io;

use super::at::{self, In, Names};
use super::helper::{AtStep, Failure, Result, report_progress};
use crate::wire::files::{Outcome, Step, Totals};

/// The maximum depth of a tree; each level has a descriptor open.
pub(super) const MAX_DEPTH: usize = 1000;
/// How often a directory is read again if other processes fill it while it is emptied.
const MAX_ROUNDS: usize = 4;

pub(super) fn remove(path: &[u8], recursive: bool, missing_ok: bool) -> Result<Outcome> {
    let mut totals = Totals::default();
    let name = at::name(path).at_step(Step::Remove)?;
    match at::unlink(In::ROOT, &name, false) {
        Ok(()) => totals.entries = 1,
        Err(error) if missing_ok && is(&error, libc::ENOENT) => {}
        Err(error) if is_about_a_directory(&error) && recursive => {
            remove_directory(In::ROOT, &name, 0, &mut totals, path)?;
        }
        Err(error) if is_about_a_directory(&error) => {
            at::unlink(In::ROOT, &name, true).at_step(Step::Remove)?;
            totals.entries = 1;
        }
        Err(error) => return Err(error).at_step(Step::Remove),
    }
    Ok(Outcome::Done(totals))
}

fn is(error: &io::Error, number: i32) -> bool {
    error.raw_os_error() == Some(number)
}

/// The error of unlink(2) for a directory.
fn is_about_a_directory(error: &io::Error) -> bool {
    is(error, libc::EISDIR)
}

fn remove_directory(at: In, name: &CStr, depth: usize, totals: &mut Totals, path: &[u8]) -> Result<()> {
    let here = |failure: Failure| if failure.errno() == libc::EMFILE { deep() } else { failure.at(path) };
    if depth == MAX_DEPTH {
        return Err(deep());
    }
    let directory = at::open_directory(at, name).at_step(Step::Remove).map_err(here)?;
    let mut names = Names::of(directory).at_step(Step::Remove).map_err(here)?;
    for round in 1.. {
        while let Some(entry) = names.next() {
            report_progress();
            let entry = entry.at_step(Step::Remove).map_err(here)?;
            match at::unlink(In::from(&names), &entry, false) {
                Ok(()) => totals.entries += 1,
                Err(error) if is(&error, libc::ENOENT) => {}
                Err(error) => {
                    let path = [path, b"/", entry.to_bytes()].concat();
                    if !is_about_a_directory(&error) {
                        return Err(error).at_step(Step::Remove).map_err(|failure| failure.at(&path));
                    }
                    remove_directory(In::from(&names), &entry, depth + 1, totals, &path)?;
                }
            }
        }
        match at::unlink(at, name, true) {
            Err(error) if is(&error, libc::ENOTEMPTY) && round < MAX_ROUNDS => names.rewind(),
            done => {
                done.at_step(Step::Remove).map_err(here)?;
                break;
            }
        }
    }
    totals.entries += 1;
    Ok(())
}

fn deep() -> Failure {
    Failure::of(Step::Depth, libc::ENAMETOOLONG)
}
