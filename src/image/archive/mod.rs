//! What an image is imported from: an OCI image layout or what `docker save` writes, as a directory or a tar archive; the
//! tar archive of a root file system; a directory.
//!
//! This module finds the parts: it reads the JSON and checks the digests, and never decompresses or reads tar. The helper
//! lists an archive's entries and decompresses one that is compressed as a whole; both are kept in the store's temporary
//! files if they can't be read at any offset.

mod container;
mod directory;
mod docker;
mod layout;
pub(crate) mod tar;
#[cfg(test)]
mod tests;

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::fcntl::{OFlag, open as open_path};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::stat::{Mode, fstat};

use container::Container;
pub(crate) use directory::{PipeWriter, write as write_directory};

pub(crate) use super::helper::ArchiveEntry;
use super::options::{ImageFormat as Format, ImageSource as Source};
use super::registry::Platform;
use super::store::{ImageId, OriginKind, Store, Temporary, id_of_layers};
use super::{Digest, ImageConfig, error};
use crate::error::{Code, Context, Error, Result};
use crate::sys::signal_guard;

const CHUNK_BYTES: usize = 256 * 1024;

/// Which image of several.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Select<'a> {
    pub(crate) platform: &'a Platform,
    /// One of its names.
    pub(crate) name: Option<&'a str>,
}

/// What the confined helper does for an archive.
pub(crate) trait Unpacker {
    /// The entries of an uncompressed tar archive. An error of [`Code::Limit`] or [`Code::Image`] if it can't be an image's.
    fn index(&mut self, archive: BorrowedFd<'_>) -> Result<Vec<ArchiveEntry>>;
    /// Decompresses a file into an empty one; returns the length.
    fn inflate(&mut self, input: OwnedFd, into: OwnedFd) -> Result<u64>;
}

/// What importing needs.
pub(crate) struct Importer<'a> {
    pub(crate) store: &'a Store,
    pub(crate) unpacker: &'a mut dyn Unpacker,
    /// The longest archive, decompressed.
    pub(crate) max_bytes: u64,
    pub(crate) cancelled: &'a AtomicBool,
}

/// An image that was found.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) kind: OriginKind,
    /// The configuration's JSON.
    pub(crate) config: Vec<u8>,
    /// The names that the image has in its archive or layout.
    pub(crate) names: Vec<String>,
    pub(crate) content: Content,
}

/// Its files.
#[derive(Debug)]
pub(crate) enum Content {
    /// Layers, the lowest first, with whiteouts as OCI defines them.
    Layers(Vec<Layer>),
    /// A tar archive of all of it, perhaps compressed.
    Tarball(Layer),
    /// A directory, for [`write_directory`].
    Directory(OwnedFd),
}

/// A layer's bytes.
#[derive(Clone, Debug)]
pub(crate) struct Layer {
    container: Arc<Container>,
    /// Its name in there.
    name: String,
    /// The digest of its bytes as they are, if that is known.
    digest: Option<Digest>,
    size: Option<u64>,
    /// The digest of its bytes when they are decompressed, if that is known.
    pub(crate) diff_id: Option<Digest>,
}

impl Found {
    /// The id that the image will have, if it is known before the image is made.
    pub(crate) fn id(&self) -> Option<ImageId> {
        let Content::Layers(layers) = &self.content else { return None };
        let diff_ids: Option<Vec<Digest>> = layers.iter().map(|layer| layer.diff_id).collect();
        Some(id_of_layers(Digest::of(&self.config), &diff_ids?))
    }

    /// The bytes of all layers, as they are.
    pub(crate) fn bytes(&self) -> Result<u64> {
        match &self.content {
            Content::Layers(layers) => {
                layers.iter().try_fold(0_u64, |sum, layer| Ok(sum.saturating_add(layer.bytes()?)))
            }
            Content::Tarball(layer) => layer.bytes(),
            Content::Directory(_) => Ok(0),
        }
    }
}

impl Layer {
    /// The number of bytes.
    pub(crate) fn bytes(&self) -> Result<u64> {
        Ok(self.container.require(&self.name)?.length)
    }

    /// Opens it: a descriptor, and the part of the file behind it that is the layer's. Its digest is checked on this
    /// descriptor; whether the file is changed after that, the decompressed bytes' digest shows.
    pub(crate) fn open(&self, cancelled: &AtomicBool) -> Result<(OwnedFd, (u64, u64))> {
        let part = self.container.require(&self.name)?;
        if let Some(size) = self.size
            && size != part.length
        {
            let text = format!("{}: has {} bytes, not {size} as the manifest says", self.name, part.length);
            return Err(error(text));
        }
        if let Some(digest) = self.digest {
            let found =
                Digest::of_file(&part.file, part.offset, part.length, &|| super::cancelled(cancelled))?;
            if found != digest {
                return Err(error(format!("{}: has the digest {found}, not {digest}", self.name)));
            }
        }
        let fd = part.file.as_fd().try_clone_to_owned().context("a descriptor of a layer")?;
        Ok((fd, (part.offset, part.length)))
    }
}

impl Importer<'_> {
    /// Finds the image in a source.
    pub(crate) fn find(&mut self, source: Source, format: Format, select: Select<'_>) -> Result<Found> {
        let (fd, shown) = match source {
            Source::Path(path) => {
                let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
                let fd = open_path(&path, flags, Mode::empty()).context(format!("opening {path:?}"))?;
                (fd, format!("{path:?}"))
            }
            Source::Descriptor(fd) => (fd, "the descriptor".to_owned()),
        };
        let found = self.find_in(fd, &shown, format, select);
        found.map_err(|cause| if cause.message().starts_with(&shown) { cause } else { cause.context(shown) })
    }

    fn find_in(&mut self, fd: OwnedFd, shown: &str, format: Format, select: Select<'_>) -> Result<Found> {
        let mode = fstat(&fd).context("looking at the source")?.st_mode & libc::S_IFMT;
        if mode == libc::S_IFDIR {
            return match format {
                Format::Tarball => Err(error("is a directory, not an archive")),
                Format::Directory => Ok(directory_image(fd, select.platform)),
                Format::Auto | Format::Oci | Format::Docker => {
                    let container = Arc::new(Container::Directory(fd));
                    match image_of(&container, format, select)? {
                        Some(found) => Ok(found),
                        None => match Arc::try_unwrap(container) {
                            Ok(Container::Directory(fd)) if format == Format::Auto => {
                                Ok(directory_image(fd, select.platform))
                            }
                            _ => Err(no_image(format)),
                        },
                    }
                }
            };
        }
        if format == Format::Directory {
            return Err(error("is not a directory"));
        }
        let (file, spool) = match mode {
            libc::S_IFREG => (File::from(fd), None),
            libc::S_IFIFO | libc::S_IFSOCK | libc::S_IFCHR => {
                let spool = self.spool(&fd, shown)?;
                (clone(spool.file())?, Some(spool))
            }
            _ => return Err(error("is neither a file, nor a directory, nor a pipe")),
        };
        let compression = compression(&file)?;
        if format == Format::Tarball {
            return tarball(Container::archive(file, spool, Vec::new()), select.platform);
        }
        let (file, spool) = if compression {
            let inflated = self.store.temporary("archive")?;
            self.unpacker.inflate(file.into(), clone(inflated.file())?.into())?;
            (clone(inflated.file())?, Some(inflated))
        } else {
            (file, spool)
        };
        let entries = match self.unpacker.index(file.as_fd()) {
            // More entries than an image's archive has, or some of another kind; or it is damaged, which unpacking finds.
            Err(cause) if matches!(cause.code(), Code::Limit | Code::Image) && format == Format::Auto => {
                return tarball(Container::archive(file, spool, Vec::new()), select.platform);
            }
            other => other?,
        };
        let container = Arc::new(Container::archive(file, spool, entries));
        match image_of(&container, format, select)? {
            Some(found) => Ok(found),
            None if format == Format::Auto => tarball_of(container, select.platform),
            None => Err(no_image(format)),
        }
    }

    /// Keeps what can be read only once in a file.
    fn spool(&self, fd: &OwnedFd, shown: &str) -> Result<Temporary> {
        let spool = self.store.temporary("spool")?;
        let mut buffer = vec![0; CHUNK_BYTES];
        let mut total = 0_u64;
        loop {
            wait_readable(fd, self.cancelled)?;
            let got = match nix::unistd::read(fd, &mut buffer) {
                Ok(0) => return Ok(spool),
                Ok(got) => got,
                Err(nix::errno::Errno::EAGAIN | nix::errno::Errno::EINTR) => continue,
                Err(cause) => return Err(cause).context(format!("reading {shown}")),
            };
            total += got as u64;
            if total > self.max_bytes {
                let text = format!("has more than {} bytes, the limit of an image", self.max_bytes);
                return Err(Error::new(Code::Limit, text));
            }
            let mut bytes = buffer.get(..got).unwrap_or_default();
            while !bytes.is_empty() {
                match signal_guard::write(spool.file().as_fd(), bytes) {
                    Ok(written) => bytes = bytes.get(written..).unwrap_or_default(),
                    Err(cause) if cause.kind() == io::ErrorKind::Interrupted => {}
                    Err(cause) => return Err(cause).context(format!("keeping {shown} in the image store")),
                }
            }
        }
    }
}

/// Waits until there is something to read, or the operation is cancelled.
fn wait_readable(fd: &OwnedFd, cancelled: &AtomicBool) -> Result<()> {
    const INTERVAL_MS: u16 = 100;
    loop {
        if cancelled.load(Ordering::Relaxed) {
            return Err(Error::new(Code::Closed, "the operation was cancelled"));
        }
        match poll(&mut [PollFd::new(fd.as_fd(), PollFlags::POLLIN)], PollTimeout::from(INTERVAL_MS)) {
            Ok(0) | Err(nix::errno::Errno::EINTR) => {}
            Ok(_) => return Ok(()),
            Err(cause) => return Err(cause).context("waiting for the source"),
        }
    }
}

fn clone(file: &File) -> Result<File> {
    file.try_clone().context("a descriptor of an archive")
}

/// The image of a layout or of `docker save`. `None` if there is neither. A layout is preferred: it names the digest of
/// every part.
fn image_of(container: &Arc<Container>, format: Format, select: Select<'_>) -> Result<Option<Found>> {
    let has = |name: &str| container.open(name).map(|part| part.is_some());
    if format != Format::Docker && has(layout::INDEX)? && (format == Format::Oci || has(layout::MARKER)?) {
        return layout::find(container, select).map(Some);
    }
    if format != Format::Oci
        && has(docker::MANIFEST)?
        && (format == Format::Docker || docker::is_manifest(container)?)
    {
        return docker::find(container, select).map(Some);
    }
    if format == Format::Docker && has(docker::REPOSITORIES)? {
        return Err(error(
            "was saved by a docker before 1.10, which is not supported: save it again with a current one",
        ));
    }
    Ok(None)
}

fn no_image(format: Format) -> Error {
    match format {
        Format::Oci => error("is no OCI image layout: there is no index.json"),
        _ => error("was not written by docker save: there is no manifest.json"),
    }
}

/// Completes an image of layers: their number and digests are the configuration's.
fn layered(kind: OriginKind, config: Vec<u8>, names: Vec<String>, mut layers: Vec<Layer>) -> Result<Found> {
    let diff_ids = ImageConfig::parse(&config)?.diff_ids;
    if diff_ids.len() != layers.len() {
        return Err(error(format!(
            "the image has {} layers, but its configuration has the digests of {}",
            layers.len(),
            diff_ids.len()
        )));
    }
    for (layer, diff_id) in layers.iter_mut().zip(diff_ids) {
        layer.diff_id = Some(diff_id);
    }
    Ok(Found { kind, config, names, content: Content::Layers(layers) })
}

fn tarball(container: Container, platform: &Platform) -> Result<Found> {
    tarball_of(Arc::new(container), platform)
}

fn tarball_of(container: Arc<Container>, platform: &Platform) -> Result<Found> {
    let layer = Layer { container, name: String::new(), digest: None, size: None, diff_id: None };
    Ok(Found {
        kind: OriginKind::RootTarball,
        config: plain_config(platform),
        names: Vec::new(),
        content: Content::Tarball(layer),
    })
}

fn directory_image(root: OwnedFd, platform: &Platform) -> Found {
    Found {
        kind: OriginKind::Directory,
        config: plain_config(platform),
        names: Vec::new(),
        content: Content::Directory(root),
    }
}

/// The configuration of an image that brings none.
pub(super) fn plain_config(platform: &Platform) -> Vec<u8> {
    let platform = platform.to_string();
    let mut parts = platform.splitn(3, '/');
    let mut config = serde_json::Map::new();
    for name in ["os", "architecture", "variant"] {
        if let Some(value) = parts.next() {
            config.insert(name.to_owned(), value.into());
        }
    }
    serde_json::Value::Object(config).to_string().into_bytes()
}

/// Whether a file is compressed. An error for what can't be decompressed here.
fn compression(file: &File) -> Result<bool> {
    let mut magic = [0; 6];
    let got = file.read_at(&mut magic, 0).context("reading its beginning")?;
    match magic.get(..got).unwrap_or_default() {
        [0x1f, 0x8b, ..] | [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Ok(true),
        [0xfd, b'7', b'z', b'X', b'Z', 0] => Err(unsupported("xz")),
        [b'B', b'Z', b'h', ..] => Err(unsupported("bzip2")),
        [b'P', b'K', 3, 4, ..] => Err(error("is a zip archive, not a tar archive")),
        [b'!', b'<', b'a', b'r', b'c', b'h'] => {
            Err(error("is an ar archive (a Debian package?), not a tar archive"))
        }
        _ => Ok(false),
    }
}

fn unsupported(name: &str) -> Error {
    error(format!("is compressed by {name}; only gzip and zstd are supported: decompress it first"))
}
