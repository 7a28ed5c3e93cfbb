//! A runtime's images.

use super::Runtime;
use crate::error::Result;
use crate::event::{Operation, Queue};
use crate::image::{Image, ImageInfo, ImageOptions, ImageSource, PrunedImages};

/// Images. They are in a store that all of the user's programs share; see [`Image`].
///
/// At most two pulls, imports and builds of a runtime go on at once, and up to 64 operations wait. Functions named `..._begin`
/// return at once; while a pull or an import goes on, its [`Progress`](crate::Event::Progress) comes to the queue.
impl Runtime {
    /// Pulls an image from a registry into the store. `reference` is as docker has it: `python:3.12`,
    /// `registry.example:5000/team/app@sha256:...`. Nothing but its manifest is downloaded if the store has it already.
    pub fn pull_image(&self, reference: &str, options: &ImageOptions) -> Result<Image> {
        wait(&self.pull_image_begin(reference, options, None)?)
    }

    /// Begins that and returns at once.
    pub fn pull_image_begin(
        &self,
        reference: &str,
        options: &ImageOptions,
        events: Option<(&Queue, u64)>,
    ) -> Result<Operation<Image>> {
        self.inner.images.pull(reference, options, events)
    }

    /// Stores an image that is in files: an OCI layout, an archive of `docker save`, a tar archive of a root file system,
    /// or a directory that is one.
    ///
    /// ```no_run
    /// use sbx::{ImageOptions, Runtime};
    ///
    /// let mut options = ImageOptions::new();
    /// options.tag = Some("rootfs:1".to_owned());
    /// let image = Runtime::shared()?.import_image("/srv/rootfs.tar.gz", &options)?;
    /// # Ok::<(), sbx::Error>(())
    /// ```
    pub fn import_image(&self, source: impl Into<ImageSource>, options: &ImageOptions) -> Result<Image> {
        wait(&self.import_image_begin(source, options, None)?)
    }

    /// Begins that and returns at once.
    pub fn import_image_begin(
        &self,
        source: impl Into<ImageSource>,
        options: &ImageOptions,
        events: Option<(&Queue, u64)>,
    ) -> Result<Operation<Image>> {
        self.inner.images.import(source.into(), options, events)
    }

    /// Finds an image in the store by one of its names, its id, or at least 12 digits of its id.
    pub fn find_image(&self, name: &str) -> Result<Image> {
        wait(&self.find_image_begin(name, None)?)
    }

    /// Begins that and returns at once.
    pub fn find_image_begin(&self, name: &str, events: Option<(&Queue, u64)>) -> Result<Operation<Image>> {
        self.inner.images.find(name, events)
    }

    /// The store's images, the one that was used last first.
    pub fn list_images(&self) -> Result<Vec<ImageInfo>> {
        self.list_images_begin(None)?.wait(None).map(|images| images.to_vec())
    }

    /// Begins that and returns at once.
    pub fn list_images_begin(&self, events: Option<(&Queue, u64)>) -> Result<Operation<Vec<ImageInfo>>> {
        self.inner.images.list(events)
    }

    /// Gives an image one more name. Another image that has that name loses it.
    pub fn tag_image(&self, name: &str, tag: &str) -> Result<()> {
        self.tag_image_begin(name, tag, None)?.wait(None).map(drop)
    }

    /// Begins that and returns at once.
    pub fn tag_image_begin(
        &self,
        name: &str,
        tag: &str,
        events: Option<(&Queue, u64)>,
    ) -> Result<Operation<()>> {
        self.inner.images.tag(name, tag, events)
    }

    /// Removes an image from the store: by one of its names, which is all that goes if it has others; by its id with all
    /// of its names. Sandboxes that run on it go on.
    pub fn remove_image(&self, name: &str) -> Result<()> {
        self.remove_image_begin(name, None)?.wait(None).map(drop)
    }

    /// Begins that and returns at once.
    pub fn remove_image_begin(&self, name: &str, events: Option<(&Queue, u64)>) -> Result<Operation<()>> {
        self.inner.images.remove(name, events)
    }

    /// Removes images until the store has at most `max_bytes`. Those that builds have left without a name go first, then the
    /// others; of each kind those that were not used for longest.
    pub fn prune_images(&self, max_bytes: u64) -> Result<PrunedImages> {
        self.prune_images_begin(max_bytes, None)?.wait(None).map(|pruned| *pruned)
    }

    /// Begins that and returns at once.
    pub fn prune_images_begin(
        &self,
        max_bytes: u64,
        events: Option<(&Queue, u64)>,
    ) -> Result<Operation<PrunedImages>> {
        self.inner.images.prune(max_bytes, events)
    }
}

fn wait(operation: &Operation<Image>) -> Result<Image> {
    operation.wait(None).map(|image| Image::clone(&image))
}
