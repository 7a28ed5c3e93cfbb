//! What a sandbox offers to do with its files.

use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::copy;
use super::entry::{DirectoryEntry, FileInfo, FileTotals};
use super::operation::FileOperation;
use super::request::{FileOptions, FileRequest};
use super::task::FileTask;
use crate::error::{Error, Result};
use crate::event::Queue;
use crate::sandbox::{Command, Control, Sandbox, Shared, State};

/// Files. Paths are absolute and the sandbox's own. These functions wait; [`Sandbox::begin_file`] doesn't.
impl Sandbox {
    /// Begins an operation, which goes on by itself. Never blocks. With a queue its end is an event
    /// ([`crate::Event::OperationDone`]) there, with that cookie.
    pub fn begin_file(
        &self,
        request: FileRequest,
        options: &FileOptions,
        events: Option<(&Queue, u64)>,
    ) -> Result<FileOperation> {
        Ok(self.start_file(self.prepare_file(request, options, events)?))
    }

    fn prepare_file(
        &self,
        request: FileRequest,
        options: &FileOptions,
        events: Option<(&Queue, u64)>,
    ) -> Result<FileTask> {
        match self.state() {
            State::Running => {}
            State::Starting => return Err(Error::still_starting(self.id())),
            State::Ending | State::Ended => {
                return Err(self.shared().ended());
            }
        }
        FileTask::prepare(self.shared(), request, options, events)
    }

    fn start_file(&self, running: FileTask) -> FileOperation {
        start(self.control(), running)
    }

    /// Begins to write a directory to a stream as a layer of an image.
    pub(crate) fn begin_pack_layer(&self, path: &Path, limit: u64, time: Duration) -> Result<FileOperation> {
        Ok(self.start_file(FileTask::pack_layer(self.shared(), path, limit, time)?))
    }

    /// Begins to make a directory of an image's archive that comes on a stream.
    pub(crate) fn begin_unpack_image(
        &self,
        path: &Path,
        limit: u64,
        time: Duration,
    ) -> Result<FileOperation> {
        Ok(self.start_file(FileTask::unpack_image(self.shared(), path, limit, time)?))
    }

    fn file(&self, request: FileRequest, options: &FileOptions) -> Result<FileOperation> {
        let operation = self.begin_file(request, options, None)?;
        operation.wait(None)?;
        Ok(operation)
    }

    /// Reads a file whole: up to 16 MiB, or the limit given.
    pub fn read_file(&self, path: impl AsRef<Path>, options: &FileOptions) -> Result<Vec<u8>> {
        self.file(FileRequest::Read(path.as_ref().into()), options)?.bytes()
    }

    /// Writes a file whole: up to 16 MiB, or the limit given. One that is there is replaced, in place.
    pub fn write_file(&self, path: impl AsRef<Path>, bytes: &[u8], options: &FileOptions) -> Result<()> {
        self.file(FileRequest::Write(path.as_ref().into(), bytes.to_vec()), options).map(drop)
    }

    /// Lists a directory, in no order: up to 100,000 entries, or the limit given.
    pub fn list_directory(
        &self,
        path: impl AsRef<Path>,
        options: &FileOptions,
    ) -> Result<Vec<DirectoryEntry>> {
        self.file(FileRequest::List(path.as_ref().into()), options)?.entries()
    }

    /// What a path is.
    pub fn stat_file(&self, path: impl AsRef<Path>, options: &FileOptions) -> Result<FileInfo> {
        self.file(FileRequest::Stat(path.as_ref().into()), options)?.info()
    }

    /// Makes a directory.
    pub fn make_directory(&self, path: impl AsRef<Path>, options: &FileOptions) -> Result<()> {
        self.file(FileRequest::MakeDirectory(path.as_ref().into()), options).map(drop)
    }

    /// Removes a file or an empty directory; with `recursive`, all that is below too.
    pub fn remove_file(&self, path: impl AsRef<Path>, options: &FileOptions) -> Result<FileTotals> {
        self.file(FileRequest::Remove(path.as_ref().into()), options)?.wait(None)
    }

    /// Gives a file or directory another name, on the same file system, over what is there.
    pub fn rename_file(
        &self,
        from: impl AsRef<Path>,
        to: impl AsRef<Path>,
        options: &FileOptions,
    ) -> Result<()> {
        self.file(FileRequest::Rename(from.as_ref().into(), to.as_ref().into()), options).map(drop)
    }

    /// Reads a file of any size into a descriptor of the host's.
    pub fn download_file(
        &self,
        path: impl AsRef<Path>,
        to: BorrowedFd<'_>,
        options: &FileOptions,
    ) -> Result<FileTotals> {
        self.out(FileRequest::Download(path.as_ref().into()), to, options)
    }

    /// Writes a file with all that a descriptor of the host's gives up to its end.
    pub fn upload_file(
        &self,
        path: impl AsRef<Path>,
        from: BorrowedFd<'_>,
        options: &FileOptions,
    ) -> Result<FileTotals> {
        self.into(FileRequest::Upload(path.as_ref().into()), from, options)
    }

    /// Writes a file or a tree as a tar archive to a descriptor of the host's.
    ///
    /// What the archive says comes from the sandbox: unpack it only with something that refuses absolute
    /// paths, `..`, devices, and paths through links.
    pub fn copy_out(
        &self,
        path: impl AsRef<Path>,
        to: BorrowedFd<'_>,
        options: &FileOptions,
    ) -> Result<FileTotals> {
        self.out(FileRequest::CopyOut(path.as_ref().into()), to, options)
    }

    /// Unpacks the tar archive that a descriptor of the host's gives into a directory.
    pub fn copy_in(
        &self,
        path: impl AsRef<Path>,
        from: BorrowedFd<'_>,
        options: &FileOptions,
    ) -> Result<FileTotals> {
        self.into(FileRequest::CopyIn(path.as_ref().into()), from, options)
    }

    fn out(&self, request: FileRequest, to: BorrowedFd<'_>, options: &FileOptions) -> Result<FileTotals> {
        let mut running = self.prepare_file(request, options, None)?;
        let done_pipe = running.done_pipe()?;
        let operation = self.start_file(running);
        let limit = options.limit.unwrap_or(u64::MAX);
        let copied = copy::out(operation.open_stream()?, to, done_pipe.as_fd(), limit);
        match copied {
            Ok(()) => operation.wait(None),
            // Dropping it ends it.
            Err(error) => Err(error),
        }
    }

    fn into(&self, request: FileRequest, from: BorrowedFd<'_>, options: &FileOptions) -> Result<FileTotals> {
        let mut running = self.prepare_file(request, options, None)?;
        let done_pipe = running.done_pipe()?;
        let operation = self.start_file(running);
        let stream = operation.open_stream()?;
        if let Err(error) = copy::into(from, &stream, done_pipe.as_fd()) {
            // Before the stream's end is seen: what was sent so far is not the whole.
            operation.cancel();
            let _ = operation.wait(None);
            return Err(error);
        }
        operation.wait(None)
    }
}

fn start(control: &Control, running: FileTask) -> FileOperation {
    let (number, progress) = (running.number(), Arc::clone(running.progress()));
    // A runtime that is gone drops the task, which ends the operation: the one place where that is reported.
    let _ = control.send(Command::File(Box::new(running)));
    FileOperation::new(number, progress, control.clone())
}

/// Begins to count the files that were changed in the root file system, and their bytes. One with more than `limit` bytes
/// ends it with [`crate::Code::Limit`]. `at_exit` says that it is for the exit snapshot.
pub(crate) fn begin_measure(
    shared: &Arc<Shared>,
    control: &Control,
    limit: u64,
    at_exit: bool,
) -> Result<FileOperation> {
    Ok(start(control, FileTask::measure(shared, limit, at_exit)?))
}
