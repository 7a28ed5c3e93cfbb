//! Builds images: reads a Dockerfile, and carries its steps out in sandboxes and with the files of contexts.

pub(crate) mod context;
pub(crate) mod dockerfile;
mod executor;
/// What the fuzz targets call.
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzed;
mod glob;
mod ignore;
mod key;
mod options;
mod output;
mod owner;
mod run;
mod settings;

use crate::error::Result;
use crate::event::{Operation, Queue};
use crate::image::{BuildLimits, Image};
use crate::runtime::Runtime;
use dockerfile::Dockerfile;
pub use options::Build;

/// Builds.
impl Runtime {
    /// Builds an image by a Dockerfile, and stores it.
    ///
    /// RUN is a program in a sandbox on the image so far; what it changes is in the next one. The policy of these sandboxes is
    /// blocked unless [`Build::set_config`] gives another. COPY and ADD take files from the build's contexts. The results of
    /// steps are stored, and used again by builds with the same steps on the same image and the same files.
    ///
    /// ```no_run
    /// use sbx::{Build, Config, Policy, Runtime};
    ///
    /// let mut config = Config::new();
    /// config.set_policy(&Policy::open())?;
    /// let mut build = Build::new("FROM python:3.12-slim\nRUN pip install requests\n");
    /// build.set_config(&config)?;
    /// let image = Runtime::shared()?.build_image(&build)?;
    /// # Ok::<(), sbx::Error>(())
    /// ```
    pub fn build_image(&self, build: &Build) -> Result<Image> {
        self.build_image_begin(build, None)?.wait(None).map(|image| Image::clone(&image))
    }

    /// Begins that and returns at once. The values of its [`Progress`](crate::Event::Progress) are steps: those that are
    /// done, and all. Where it fails, the error names the step, and has the last lines that its program has said.
    pub fn build_image_begin(
        &self,
        build: &Build,
        events: Option<(&Queue, u64)>,
    ) -> Result<Operation<Image>> {
        build.check()?;
        let file = Dockerfile::parse(&build.dockerfile, &build.args)?;
        let (build, creator) = (build.clone(), self.creator());
        let title = match &build.tag {
            Some(tag) => format!("building the image {tag}"),
            None => "building an image".to_owned(),
        };
        let limits = BuildLimits { timeout: build.timeout, max_bytes: build.max_bytes };
        self.images().build(title, limits, events, move |workshop| {
            executor::execute(&build, &file, workshop, &creator)
        })
    }
}
