//! The entries of an archive that holds an image (`docker save`, an OCI layout in a tar): names and offsets, without
//! the contents, which are read later.

use std::mem;

use super::Problem;
use super::session::{Archive, Session};
use crate::init::files::tar::{self, BLOCK, Header, Kind, Overrides};
use crate::wire::image::{ArchiveEntry, Failure, MAX_ARCHIVE_ENTRIES, MAX_ARCHIVE_NAME, Reply};

/// How many entries go into a message, which they then don't fill.
const BATCH: usize = 256;

/// Reads all headers and sends the entries to the library.
pub(super) fn index(archive: &Archive, session: &Session) -> Result<(), Problem> {
    let mut batch = Vec::new();
    let (mut count, mut at) = (0, 0_u64);
    let mut overrides = Overrides::default();
    loop {
        let mut block = [0; BLOCK];
        let read = archive.read_up_to(&mut block, at)?;
        if read == 0 {
            // Writers that forget the blocks of zeros at the end are read, too.
            break;
        }
        if read < BLOCK {
            return Err(malformed(at, "it ends in the middle of a header"));
        }
        at = after(at, BLOCK as u64)?;
        let header = tar::parse(&block, &mut overrides);
        match header.map_err(|_| malformed(at - BLOCK as u64, "the header is malformed"))? {
            Header::End => break,
            Header::Extended(kind, size) => {
                let mut content = vec![0; usize::try_from(size).unwrap_or(0)];
                if archive.read_up_to(&mut content, at)? < content.len() {
                    return Err(malformed(at, "it ends in the middle of an extended header"));
                }
                let taken = overrides.take(kind, &content);
                taken.map_err(|_| malformed(at, "the extended header is malformed"))?;
                at = padded(at, size)?;
            }
            Header::Entry(entry) => {
                let link = match entry.kind {
                    Kind::File => None,
                    Kind::HardLink | Kind::Symlink => Some(entry.target),
                    Kind::Directory => continue,
                    Kind::Fifo | Kind::Other(_) => {
                        return Err(malformed(at, "an entry is neither a file nor a directory nor a link"));
                    }
                };
                count += 1;
                if count > MAX_ARCHIVE_ENTRIES {
                    let text = format!("the archive has more than {MAX_ARCHIVE_ENTRIES} entries");
                    return Err(Problem::new(Failure::Limit, text));
                }
                let longest = link.as_ref().map_or(0, Vec::len).max(entry.path.len());
                if longest > MAX_ARCHIVE_NAME {
                    let text = format!("a name in the archive has more than {MAX_ARCHIVE_NAME} bytes");
                    return Err(Problem::new(Failure::Limit, text));
                }
                batch.push(ArchiveEntry { name: entry.path, offset: at, length: entry.size, link });
                at = padded(at, entry.size)?;
                if batch.len() == BATCH {
                    session.reply(&Reply::Entries { entries: mem::take(&mut batch), last: false });
                }
            }
        }
    }
    session.reply(&Reply::Entries { entries: batch, last: true });
    Ok(())
}

fn after(at: u64, count: u64) -> Result<u64, Problem> {
    at.checked_add(count).ok_or_else(|| malformed(at, "an entry is larger than any file"))
}

fn padded(at: u64, size: u64) -> Result<u64, Problem> {
    after(after(at, size)?, u64::try_from(tar::padding(size)).unwrap_or(0))
}

fn malformed(at: u64, what: &str) -> Problem {
    Problem::new(Failure::Malformed, format!("the archive, at byte {at}: {what}"))
}
