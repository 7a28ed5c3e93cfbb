//! Imports an image from files: finds its parts, has each layer unpacked, and publishes the result.

use std::fs::File;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::thread;

use super::archive::{
    ArchiveEntry, Content, Found, Importer, Layer, PipeWriter, Select, Unpacker, write_directory,
};
use super::handle::Image;
use super::helper::{Helper, LayerInput, Limits, Summary, Whiteouts};
use super::options::{ImageFormat, ImageOptions, ImageSource};
use super::progress::Progress;
use super::registry::Platform;
use super::service::{Shared, StopOnDrop, parse_tag};
use super::store::{Origin, Store, Temporary, id_of_file};
use super::workers::Threads;
use super::{Digest, Watch, cancelled};
use crate::error::{Code, Context, Error, Result};
use crate::event::operation::Completion;
use crate::sys::thread::with_signals_blocked;

/// The most characters of where an image comes from.
const MAX_DESCRIPTION: usize = 500;

/// What is to be imported.
#[derive(Debug)]
pub(super) struct Import {
    source: ImageSource,
    format: ImageFormat,
    tag: Option<String>,
    platform: Platform,
    select: Option<String>,
    limits: Limits,
}

impl Import {
    /// Checks everything that needs no look at the files or the store.
    pub(super) fn new(source: ImageSource, options: &ImageOptions) -> Result<Self> {
        let of_pulls = [
            options.login.is_some(),
            options.ca_pem.is_some(),
            options.credential_helper.is_some(),
            !options.mirrors.is_empty(),
        ];
        if of_pulls.contains(&true) {
            return Err(Error::invalid("image options: what is for a registry is for pulls only"));
        }
        Ok(Self {
            source,
            format: options.format,
            tag: options.tag.as_deref().map(parse_tag).transpose()?,
            platform: options.platform.as_deref().map_or_else(|| Ok(Platform::host()), Platform::parse)?,
            select: options.select.clone(),
            limits: options.limits.into(),
        })
    }

    /// What it is imported from, for people.
    pub(super) fn name(&self) -> String {
        match &self.source {
            ImageSource::Path(path) => path.display().to_string(),
            ImageSource::Descriptor(_) => "a descriptor".to_owned(),
        }
    }

    pub(super) fn run(
        self,
        shared: &Shared,
        threads: &Threads,
        completion: &Completion<Image>,
    ) -> Result<Image> {
        let name = self.name();
        let store = shared.store()?;
        let ended = completion.has_ended();
        let progress = Progress::new(completion);
        progress.step(format!("reading {name}"));
        let mut importer = Importer {
            store,
            unpacker: &mut Asking { shared, store, limits: &self.limits, progress: &progress, ended },
            max_bytes: self.limits.bytes,
            cancelled: ended,
        };
        let select = Select { platform: &self.platform, name: self.select.as_deref() };
        let found =
            importer.find(self.source, self.format, select).map_err(|error| match error.os_error() {
                Some(libc::ENOENT) => error.with_code(Code::NotFound),
                _ => error,
            })?;
        let known = found.id();
        // The same image may be on its way by another name.
        let turn = known.map(|id| shared.take_turn(id, &|| cancelled(ended))).transpose()?;
        if let Some(id) = known
            && let Some(stored) = shared.stored(id, self.tag.as_deref())?
        {
            return Image::open(stored);
        }
        let bytes = found.bytes()?;
        self.limits.check_compressed(bytes).map_err(|error| error.context(&name))?;
        progress.add_total(bytes);
        let output = store.temporary("image")?;
        output.check_space(bytes)?;
        let mut helper = shared.helper(&output, &self.limits)?;
        let Found { kind, config, names, content } = found;
        match content {
            Content::Layers(layers) => {
                let count = layers.len();
                for (index, layer) in layers.iter().enumerate() {
                    let number = index + 1;
                    progress.step(format!("unpacking layer {number} of {count}"));
                    unpack(&mut helper, layer, Whiteouts::Oci, &progress, ended)
                        .map_err(|error| error.context(format!("{name}: layer {number}")))?;
                }
            }
            Content::Tarball(archive) => {
                progress.step(format!("unpacking {name}"));
                unpack(&mut helper, &archive, Whiteouts::None, &progress, ended)
                    .map_err(|error| error.context(&name))?;
            }
            Content::Directory(root) => {
                progress.step(format!("reading {name}"));
                let walk = Walk {
                    root,
                    path: PathBuf::from(&name),
                    max_entries: self.limits.entries,
                    store: store.device_and_inode()?,
                };
                walk.run(&mut helper, threads, &progress, ended)?;
            }
        }
        progress.step("writing the image");
        let Summary { dropped_xattrs, .. } =
            helper.finish(&mut Watch { cancelled: ended, progress: &mut |_| () })?;
        if dropped_xattrs > 0 {
            log::warn!("{name}: {dropped_xattrs} extended attributes were left out: an image has none");
        }
        let id = match known {
            Some(id) => id,
            None => id_of_file(output.file(), Digest::of(&config), &|| cancelled(ended))?,
        };
        cancelled(ended)?;
        let origin = Origin { kind, from: described(&name, &names) };
        let stored = store.publish(output, id, &config, origin, self.tag.as_deref(), ended)?;
        drop(turn);
        Image::open(stored)
    }
}

/// What it comes from, for people: the path, and its names there.
fn described(path: &str, names: &[String]) -> String {
    let text = if names.is_empty() { path.to_owned() } else { format!("{path} ({})", names.join(", ")) };
    text.chars().take(MAX_DESCRIPTION).collect()
}

/// The helper, as the module that finds an image's parts asks it. Each question has a process of its own: one that can't
/// answer ends, and that an archive is not an image's is no reason to give up. Each also has an output of its own, so
/// that none of them has the image's file.
struct Asking<'a> {
    shared: &'a Shared,
    store: &'a Store,
    limits: &'a Limits,
    progress: &'a Progress<'a, Image>,
    ended: &'a AtomicBool,
}

impl Asking<'_> {
    /// A process with an empty file for its output. Whatever it writes there goes with the file.
    fn helper(&self) -> Result<(Helper, Temporary)> {
        let output = self.store.temporary("question")?;
        Ok((self.shared.helper(&output, self.limits)?, output))
    }
}

impl Unpacker for Asking<'_> {
    fn index(&mut self, archive: BorrowedFd<'_>) -> Result<Vec<ArchiveEntry>> {
        let (mut helper, _output) = self.helper()?;
        helper.index(archive, &mut Watch { cancelled: self.ended, progress: &mut |_| () })
    }

    fn inflate(&mut self, input: OwnedFd, into: OwnedFd) -> Result<u64> {
        let file = File::from(input);
        let bytes = file.metadata().context("the size of an archive")?.len();
        self.progress.add_total(bytes);
        self.progress.step("decompressing the archive");
        let mut watch = Watch { cancelled: self.ended, progress: &mut self.progress.counter(bytes) };
        let (mut helper, _output) = self.helper()?;
        let inflated = helper.inflate(file.into(), into, &mut watch)?;
        (watch.progress)(bytes);
        Ok(inflated)
    }
}

fn unpack(
    helper: &mut Helper,
    layer: &Layer,
    whiteouts: Whiteouts,
    progress: &Progress<'_, Image>,
    ended: &AtomicBool,
) -> Result<()> {
    let (fd, range) = layer.open(ended)?;
    let diff_id = layer.diff_id.map(|id| *id.bytes());
    let (_, length) = range;
    let mut watch = Watch { cancelled: ended, progress: &mut progress.counter(length) };
    helper.layer(LayerInput { fd, range: Some(range) }, diff_id, whiteouts, &mut watch)?;
    (watch.progress)(length);
    Ok(())
}

/// A directory that is read by one thread, and unpacked by another.
struct Walk {
    root: OwnedFd,
    path: PathBuf,
    max_entries: u64,
    store: (u64, u64),
}

impl Walk {
    fn run(
        self,
        helper: &mut Helper,
        threads: &Threads,
        progress: &Progress<'_, Image>,
        ended: &AtomicBool,
    ) -> Result<()> {
        let _assistant = threads.wait_for_assistant(ended)?;
        let (reader, writer) = io::pipe().context("a pipe for a directory's files")?;
        thread::scope(|scope| {
            // Set when the other end of the pipe is gone.
            let stopped = StopOnDrop::default();
            let stop = stopped.flag();
            let read = move || {
                let mut into = PipeWriter::new(writer.into(), &stop)?;
                write_directory(self.root, &self.path, &mut into, self.max_entries, self.store, &stop)
            };
            let builder = thread::Builder::new().name("sbx-walk".to_owned());
            let walk = with_signals_blocked(|| builder.spawn_scoped(scope, read))?
                .context("a thread that reads a directory")?;
            let mut watch = Watch { cancelled: ended, progress: &mut progress.counter(u64::MAX) };
            let input = LayerInput { fd: reader.into(), range: None };
            let unpacked = helper.layer(input, None, Whiteouts::None, &mut watch);
            drop(stopped);
            let read =
                walk.join().map_err(|_| Error::new(Code::Panic, "reading a directory panicked: a bug"))?;
            // What the reader says is the cause, unless the reader itself was stopped by the other's end.
            match (unpacked, read) {
                (Ok(()), Ok(summary)) => {
                    if summary.left_out_sockets > 0 {
                        log::info!("{} sockets were left out", summary.left_out_sockets);
                    }
                    Ok(())
                }
                (Ok(()), Err(error)) => Err(error),
                (Err(error), Err(cause))
                    if cause.os_error() != Some(libc::EPIPE) && cause.code() != Code::Closed =>
                {
                    log::debug!("unpacking a directory that could not be read: {error}");
                    Err(cause)
                }
                (Err(error), _) => Err(error),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::fd::AsFd;
    use std::os::unix::fs::MetadataExt;
    use std::sync::Arc;

    use super::*;
    use crate::image::registry::RegistrySettings;
    use crate::image::service::Images;
    use crate::image::testing::Directory;
    use crate::keeper::{self, Program};

    #[test]
    fn a_process_that_answers_a_question_has_not_the_images_file() {
        let directory = Directory::new();
        let path = directory.path().join("store");
        let program = || Ok(Arc::new(Program::new(&keeper::Origin::new(None))?));
        let images = Images::new(Ok(path.clone()), RegistrySettings::from_environment(), Box::new(program));
        let store = images.shared().store().unwrap();
        let (_operation, completion) = crate::event::operation::Operation::new("".into(), Error::shut_down());
        let mut asking = Asking {
            shared: images.shared(),
            store,
            limits: &Limits::default(),
            progress: &Progress::new(&completion),
            ended: &AtomicBool::new(false),
        };
        let image = store.temporary("image").unwrap();
        let (helper, output) = asking.helper().unwrap();
        assert_ne!(output.file().metadata().unwrap().ino(), image.file().metadata().unwrap().ino());
        drop((helper, output));
        let archive = File::open(directory.file("archive.tar", &[0; 1024])).unwrap();
        assert_eq!(asking.index(archive.as_fd()).unwrap(), []);
        assert_eq!(image.file().metadata().unwrap().len(), 0);
        assert_eq!(fs::read_dir(path.join("v1/tmp")).unwrap().count(), 1, "the image's");
    }
}
