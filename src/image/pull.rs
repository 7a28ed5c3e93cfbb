//! Pulls an image: its layers are downloaded one after the other, and each is unpacked while the next one comes.

use std::sync::atomic::AtomicBool;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use super::handle::Image;
use super::helper::{Helper, LayerInput, Limits, Summary, Whiteouts};
use super::options::{ImageFormat, ImageOptions};
use super::progress::Progress;
use super::reference::Reference;
use super::registry::{Descriptor, Manifest, Platform, Registry, RegistrySettings};
use super::service::{Shared, StopOnDrop, parse_tag, tag_of};
use super::store::{Origin, OriginKind, Store, Temporary, id_of_layers};
use super::workers::Threads;
use super::{ImageConfig, Watch, cancelled, error};
use crate::error::{Code, Context, Error, Result};
use crate::sys::thread::with_signals_blocked;

/// How often a thread that waits for a layer looks whether its operation has ended.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// What is to be pulled.
#[derive(Debug)]
pub(super) struct Pull {
    pub(super) reference: Reference,
    tag: String,
    platform: Platform,
    settings: RegistrySettings,
    limits: Limits,
}

/// A layer that was downloaded, and its place.
type Downloaded = Result<(usize, Temporary)>;

impl Pull {
    /// Checks everything that needs no look at the network or the store.
    pub(super) fn new(reference: &str, options: &ImageOptions, registry: &RegistrySettings) -> Result<Self> {
        if options.format != ImageFormat::Auto || options.select.is_some() {
            return Err(Error::invalid("image options: format and select are for imports only"));
        }
        let reference = Reference::parse(reference)?;
        let tag = match &options.tag {
            Some(tag) => parse_tag(tag)?,
            None => tag_of(&reference)?,
        };
        let mut settings = registry.clone();
        if let Some(pem) = &options.ca_pem {
            settings.set_ca_pem(pem)?;
        }
        if let Some((username, password)) = &options.login {
            settings.set_login(username, password)?;
        }
        if let Some(helper) = &options.credential_helper {
            settings.set_credential_helper(helper)?;
        }
        for (prefix, mirror) in &options.mirrors {
            settings.add_mirror(prefix, mirror)?;
        }
        let platform = options.platform.as_deref().map_or_else(|| Ok(Platform::host()), Platform::parse)?;
        Ok(Self { reference, tag, platform, settings, limits: options.limits.into() })
    }

    pub(super) fn run(
        &self,
        shared: &Shared,
        threads: &Threads,
        progress: &Progress<'_, Image>,
        ended: &AtomicBool,
    ) -> Result<Image> {
        let store = shared.store()?;
        progress.step(format!("asking {} for {}", self.reference.registry(), self.reference));
        let registry = Registry::new(&self.settings)?;
        let mut watch = Watch { cancelled: ended, progress: &mut |_| () };
        let manifest = registry.resolve(&self.reference, &self.platform, &mut watch)?;
        let config = ImageConfig::parse(&manifest.config_bytes)?;
        if config.diff_ids.len() != manifest.layers.len() {
            return Err(error(format!(
                "image {}: its configuration names {} layers, and its manifest {}",
                self.reference,
                config.diff_ids.len(),
                manifest.layers.len()
            )));
        }
        let id = id_of_layers(manifest.config.digest, &config.diff_ids);
        // The same image may be on its way by another name.
        let _turn = shared.take_turn(id, &|| cancelled(ended))?;
        let stored = if let Some(found) = shared.stored(id, Some(&self.tag))? {
            found
        } else {
            let made =
                Unpacking { pull: self, store, registry: &registry, manifest: &manifest, config: &config };
            let output = made.run(shared, threads, progress, ended)?;
            cancelled(ended)?;
            let from = match self.reference.digest() {
                Some(_) => self.reference.to_string(),
                None => format!("{}@{}", self.reference, manifest.digest),
            };
            let origin = Origin { kind: OriginKind::Registry, from };
            store.publish(output, id, &manifest.config_bytes, origin, Some(&self.tag), ended)?
        };
        Image::open(stored)
    }
}

/// One image that is being downloaded and unpacked.
struct Unpacking<'a> {
    pull: &'a Pull,
    store: &'a Store,
    registry: &'a Registry,
    manifest: &'a Manifest,
    config: &'a ImageConfig,
}

impl Unpacking<'_> {
    /// The finished file.
    fn run(
        &self,
        shared: &Shared,
        threads: &Threads,
        progress: &Progress<'_, Image>,
        ended: &AtomicBool,
    ) -> Result<Temporary> {
        let layers = &self.manifest.layers;
        let compressed = layers.iter().fold(0_u64, |sum, layer| sum.saturating_add(layer.size));
        self.pull
            .limits
            .check_compressed(compressed)
            .map_err(|error| error.context(format!("image {}", self.pull.reference)))?;
        progress.add_total(compressed.saturating_mul(2));
        let output = self.store.temporary("image")?;
        // All that comes, and as much again: an image is hardly ever smaller than its layers.
        output.check_space(compressed.saturating_mul(2))?;
        let mut helper = shared.helper(&output, &self.pull.limits)?;
        // The helper ends with the thread that started it, so the other one downloads.
        match threads.assistant() {
            None => {
                for (index, layer) in layers.iter().enumerate() {
                    let file = self.download(index, layer, progress, ended)?;
                    self.unpack(&mut helper, index, file, progress, ended)?;
                }
            }
            Some(_assistant) => thread::scope(|scope| {
                // Set when no more layers are wanted.
                let stopped = StopOnDrop::default();
                // One layer waits, one is unpacked, one comes.
                let (sender, downloaded) = mpsc::sync_channel::<Downloaded>(1);
                let stop = stopped.flag();
                let download = move || {
                    for (index, layer) in layers.iter().enumerate() {
                        let file = self.download(index, layer, progress, &stop);
                        let failed = file.is_err();
                        // The other end is gone if a layer could not be unpacked.
                        if sender.send(file.map(|file| (index, file))).is_err() || failed {
                            return;
                        }
                    }
                };
                let builder = thread::Builder::new().name("sbx-download".to_owned());
                with_signals_blocked(|| builder.spawn_scoped(scope, download))?
                    .context("a thread that downloads layers")?;
                for _ in layers {
                    let (index, file) = wait_for(&downloaded, ended)??;
                    self.unpack(&mut helper, index, file, progress, ended)?;
                }
                Ok::<(), Error>(())
            })?,
        }
        progress.step("writing the image");
        let Summary { .. } = helper.finish(&mut Watch { cancelled: ended, progress: &mut |_| () })?;
        Ok(output)
    }

    fn download(
        &self,
        index: usize,
        layer: &Descriptor,
        progress: &Progress<'_, Image>,
        stop: &AtomicBool,
    ) -> Result<Temporary> {
        let number = index + 1;
        progress.step(format!("downloading layer {number} of {}", self.manifest.layers.len()));
        let file = self.store.temporary("layer")?;
        file.reserve(layer.size)?;
        let mut watch = Watch { cancelled: stop, progress: &mut progress.counter(layer.size) };
        self.registry.blob(&self.pull.reference, layer, file.file(), &mut watch)?;
        (watch.progress)(layer.size);
        Ok(file)
    }

    fn unpack(
        &self,
        helper: &mut Helper,
        index: usize,
        file: Temporary,
        progress: &Progress<'_, Image>,
        ended: &AtomicBool,
    ) -> Result<()> {
        let size = self.manifest.layers.get(index).map_or(0, |layer| layer.size);
        let diff_id = self.config.diff_ids.get(index).map(|id| *id.bytes());
        let fd = file.file().try_clone().context("a descriptor of a layer")?.into();
        let input = LayerInput { fd, range: Some((0, size)) };
        let mut watch = Watch { cancelled: ended, progress: &mut progress.counter(size) };
        let number = index + 1;
        helper
            .layer(input, diff_id, Whiteouts::Oci, &mut watch)
            .map_err(|error| error.context(format!("image {}: layer {number}", self.pull.reference)))?;
        (watch.progress)(size);
        Ok(())
    }
}

/// The next layer, unless the operation ends before it comes.
fn wait_for(downloaded: &Receiver<Downloaded>, ended: &AtomicBool) -> Result<Downloaded> {
    loop {
        cancelled(ended)?;
        match downloaded.recv_timeout(POLL_INTERVAL) {
            Ok(layer) => return Ok(layer),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => {
                return Err(Error::new(Code::Panic, "the download panicked: a bug of the library"));
            }
        }
    }
}
