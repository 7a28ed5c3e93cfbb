//! The images of a sandbox: its root, those that are mounted at paths, and the small one that has init.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;

use super::init_image;
use crate::config::Config;
use crate::config::image::RootImage;
use crate::error::{Code, Context, Error, Result};
use crate::image::erofs::{MAGIC, SUPERBLOCK};
use crate::keeper::Program;
use crate::runsc::bundle::{BundleImage, image_path};
use crate::runsc::probe::Runsc;
use crate::runsc::rootfs;

/// What a runtime starts its sandboxes with.
#[derive(Debug)]
pub(crate) struct HostResources {
    /// The keeper's program.
    pub(crate) program: Arc<Program>,
    /// An image that has init.
    init_image: Result<OwnedFd>,
}

impl HostResources {
    /// With this program.
    pub(crate) fn new(program: Program) -> Self {
        let init_image = program.bytes().and_then(|program| init_image::make(&program));
        Self { program: Arc::new(program), init_image }
    }

    fn init_image(&self) -> Result<OwnedFd> {
        let image = self.init_image.as_ref().map_err(Error::clone)?;
        image.try_clone().context("a copy of a descriptor")
    }
}

/// The images of a sandbox, opened. Only init's if neither its root nor a mount is one, and none at all where runsc can't
/// have any.
#[derive(Debug, Default)]
pub(super) struct Images {
    /// The root's path, as runsc sees it.
    pub(super) root: Option<PathBuf>,
    /// The others.
    pub(super) mounts: Vec<BundleImage>,
    /// Their descriptors, by index. Init's is the first.
    pub(super) files: Vec<OwnedFd>,
}

impl Images {
    /// Opens what the configuration names, and init's.
    pub(super) fn open(config: &Config, runsc: &Runsc, host: &HostResources) -> Result<Self> {
        let mut images = Self::default();
        let init = match runsc.check_images().and_then(|()| host.init_image()) {
            Ok(init) => init,
            // Then the keeper copies init into the root.
            Err(_) if config.image().is_none() && config.image_mounts().is_empty() => return Ok(images),
            Err(error) => return Err(error),
        };
        let source = images.add(init);
        images.mounts.push(BundleImage { source, destination: rootfs::OURS.into() });
        if let Some(image) = config.image() {
            images.root = Some(images.add(open(image)?));
        }
        for mount in config.image_mounts() {
            let source = images.add(open(&mount.image)?);
            images.mounts.push(BundleImage { source, destination: mount.destination.clone().into() });
        }
        Ok(images)
    }

    fn add(&mut self, file: OwnedFd) -> PathBuf {
        let path = image_path(self.files.len());
        self.files.push(file);
        path
    }
}

fn open(image: &RootImage) -> Result<OwnedFd> {
    let file = image.file.open().map(File::from);
    let checked = file.and_then(|file| check(&file).map(|()| file));
    checked.map(OwnedFd::from).map_err(|error| error.context(format!("image {}", image.name)))
}

/// Refuses what isn't a whole EROFS image: runsc's own words don't say what is wrong.
fn check(file: &File) -> Result<()> {
    let wrong = |text: &str| Err(Error::new(Code::Image, text));
    let metadata = file.metadata().context("its file")?;
    let mut superblock = [0_u8; 40];
    if !metadata.is_file() || file.read_exact_at(&mut superblock, SUPERBLOCK as u64).is_err() {
        return wrong("its file is not an EROFS image");
    }
    let [.., b0, b1, b2, b3] = superblock;
    if !superblock.starts_with(&MAGIC.to_le_bytes()) {
        return wrong("its file is not an EROFS image");
    }
    let bits = superblock.get(12).copied().unwrap_or_default();
    let blocks = u64::from(u32::from_le_bytes([b0, b1, b2, b3]));
    match blocks.checked_mul(1_u64.checked_shl(u32::from(bits)).unwrap_or(u64::MAX)) {
        Some(size) if size <= metadata.len() => Ok(()),
        _ => wrong("its file is damaged: it is shorter than it says itself"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inits_image_is_whole_and_a_part_of_it_is_not() {
        let image = File::from(init_image::make(&[7; 5000]).unwrap());
        check(&image).unwrap();
        let length = usize::try_from(image.metadata().unwrap().len()).unwrap();
        let mut bytes = vec![0; length];
        image.read_exact_at(&mut bytes, 0).unwrap();
        assert!(length.is_multiple_of(4096) && bytes.windows(5000).any(|part| part == [7; 5000]));
        for (cut, text) in [(length - 4096, "shorter"), (1060, "not an EROFS"), (0, "not an EROFS")] {
            let part = File::from(crate::sys::memfd::sealed(bytes.get(..cut).unwrap()).unwrap());
            assert!(check(&part).unwrap_err().message().contains(text), "{cut}");
        }
        assert!(check(&File::open("/").unwrap()).is_err());
    }
}
