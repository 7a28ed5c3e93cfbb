//! Carries out the steps of a Dockerfile, one after the other.
//!
//! Steps that only change the configuration cost nothing: they go into the next image that is made anyway. What is left of
//! them at the end is written with the last one. Steps that copy files and stand together make one image; each program that
//! is run makes one. An image's file has no layers, so each is written whole.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::io::Write;

use super::context::{Context, ContextLimits, Selection};
use super::dockerfile::{Base, Copy, Dockerfile, Run, Step, StepKind};
use super::key::{self, Key};
use super::options::Build;
use super::output::Output;
use super::owner::{self, Owner};
use super::run::Steps;
use super::settings::Settings;
use crate::error::{Code, Context as _, Error, Result};
use crate::image::tar::{self, Archive, Kind};
use crate::image::{Digest, Image, ImageConfig, Layers, Workshop};
use crate::runtime::Creator;

/// The most steps that copy files into one image: an image takes 127 layers, and each has two, with the working directories
/// before it. One more is for those after the last.
const MAX_COPIES: usize = 60;
/// The longest title of a step.
const MAX_TITLE: usize = 200;

/// Builds an image.
pub(super) fn execute(
    build: &Build,
    file: &Dockerfile,
    workshop: &Workshop<'_>,
    creator: &Creator,
) -> Result<Image> {
    let mut output = Output::new(build.output.as_ref())?;
    let mut contexts = open_contexts(build, file)?;
    let (image, settings, title) = match file.base() {
        Base::Scratch => {
            let json = Workshop::empty_config();
            (None, Settings::new(&ImageConfig::default(), &json), "FROM scratch".to_owned())
        }
        Base::Image(name) => {
            let title = format!("FROM {name}");
            workshop.begin_step([0, 0], &title);
            let found = workshop.find(name).and_then(|found| match found {
                Some(image) => Ok(image),
                None => {
                    output.line(&format!("pulling {name}"));
                    workshop.pull(name)
                }
            });
            let image = found.map_err(|error| error.context(&title))?;
            let settings = Settings::new(image.config(), image.config_json());
            (Some(image), settings, title)
        }
    };
    let base = image.as_ref().map_or_else(ImageConfig::default, |image| image.config().clone());
    if let Some(why) = &base.on_build_error {
        return Err(Error::new(Code::Image, why.clone()).context(&title));
    }
    let recipe = if base.on_build.is_empty() {
        file.resolve(&base)?
    } else {
        let file = file.with_triggers(&base.on_build)?;
        contexts = open_contexts(build, &file)?;
        file.resolve(&base)?
    };
    let total = recipe.steps.len() + 1;
    for warning in &recipe.warnings {
        output.line(&format!("warning: {warning}"));
    }
    let mut executor = Executor {
        build,
        workshop,
        steps: Steps { build, workshop, creator },
        contexts: &contexts,
        output,
        settings,
        image,
        directories: Vec::new(),
        total,
    };
    executor.begin(0, &title, false);
    executor.run(&recipe.steps)?;
    executor.finish()
}

/// The directories that files are copied from, by name; the main one has none.
type Contexts = BTreeMap<Option<String>, Context>;

struct Executor<'a> {
    build: &'a Build,
    workshop: &'a Workshop<'a>,
    steps: Steps<'a>,
    contexts: &'a Contexts,
    output: Output,
    settings: Settings,
    /// What is made so far. None if that is nothing.
    image: Option<Image>,
    /// Working directories that may not be there yet. The next step makes them.
    directories: Vec<String>,
    total: usize,
}

/// A step that copies files, with what it found.
struct Files<'a> {
    step: &'a Step,
    index: usize,
    copy: &'a Copy,
    /// The files that the step's key was made of.
    selection: Selection<'a>,
    /// The working directories that come before it.
    directories: Vec<String>,
}

impl<'a> Executor<'a> {
    fn run(&mut self, steps: &'a [Step]) -> Result<()> {
        let mut index = 0;
        while let Some(step) = steps.get(index) {
            self.workshop.check()?;
            let rest = steps.get(index + 1..).unwrap_or_default();
            index = match &step.kind {
                StepKind::Run(run) => {
                    let settings = self.settings.clone();
                    let before = std::mem::take(&mut self.directories);
                    // What follows up to the next step that changes files goes into the same image.
                    let after = rest.iter().take_while(|step| !changes_files(step)).count();
                    let configuring = rest.get(..after).unwrap_or_default();
                    for step in configuring {
                        self.configure(step);
                    }
                    let after_it = std::mem::take(&mut self.directories);
                    self.run_step(index, step, run, &settings, [&before, &after_it])?;
                    for (offset, step) in configuring.iter().enumerate() {
                        self.begin(index + 2 + offset, &title(step), false);
                    }
                    index + 1 + after
                }
                StepKind::Copy(_) => {
                    let together = copied_together(steps.get(index..).unwrap_or_default());
                    self.copy_steps(index, together)?;
                    index + together.len()
                }
                _ => {
                    self.begin(index + 1, &title(step), false);
                    self.configure(step);
                    index + 1
                }
            };
        }
        Ok(())
    }

    /// Says that a step begins.
    fn begin(&mut self, number: usize, title: &str, is_cached: bool) {
        let (number, total) = (number as u64, self.total as u64);
        let cached = if is_cached { "CACHED " } else { "" };
        let text = format!("[{}/{total}] {cached}{title}", number + 1);
        self.workshop.begin_step([number, total], &text);
        self.output.line(&text);
    }

    /// Applies a step that changes the configuration alone.
    fn configure(&mut self, step: &Step) {
        match &step.kind {
            StepKind::Env(variables) => self.settings.set_env(variables),
            StepKind::Workdir(path) => {
                self.settings.set_working_dir(path);
                if path != "/" && !self.directories.contains(path) {
                    self.directories.push(path.clone());
                }
            }
            StepKind::User(user) => self.settings.set_user(user),
            StepKind::Cmd(argv) => self.settings.set_cmd(argv),
            StepKind::Entrypoint { argv, keeps_cmd } => self.settings.set_entrypoint(argv, *keeps_cmd),
            StepKind::Expose(ports) => self.settings.expose(ports),
            StepKind::Label(labels) => self.settings.label(labels),
            StepKind::Shell(argv) => self.settings.set_shell(argv),
            StepKind::StopSignal(signal) => self.settings.set_stop_signal(signal),
            StepKind::Run(_) | StepKind::Copy(_) => debug_assert!(false, "the step changes files"),
        }
    }

    /// Runs a program. `directories` are the working directories that are made before it, and those made after it.
    fn run_step(
        &mut self,
        index: usize,
        step: &Step,
        run: &Run,
        settings: &Settings,
        directories: [&[String]; 2],
    ) -> Result<()> {
        let image = match &self.image {
            Some(image) => image.clone(),
            None => self.workshop.make(None, &Workshop::empty_config(), "FROM scratch", |_| Ok(()))?,
        };
        let mut key = Key::new("run", Some(image.id()));
        key.add(key::of_run(run, settings).bytes());
        for directories in directories {
            key.list(directories.iter());
        }
        let key = key.finish();
        let _turn = self.workshop.take_turn(key)?;
        let found = self.find(key)?;
        self.begin(index + 1, &title(step), found.is_some());
        let made = match found {
            Some(image) => image,
            None => {
                let config = self.settings.json()?;
                let failed = |error: Error| failure(index, self.total, step, error);
                let ran = self.steps.run(&image, run, directories, settings, &mut self.output);
                let changes = ran.map_err(failed)?;
                let made = self
                    .workshop
                    .make(Some(&image), &config, &title(step), |layers| layers.add_changes(&changes));
                let made = made.map_err(failed)?;
                self.workshop.remember_step(key, &made);
                made
            }
        };
        self.image = Some(made);
        Ok(())
    }

    /// Copies the files of all these steps, and applies those between them.
    fn copy_steps(&mut self, first: usize, steps: &'a [Step]) -> Result<()> {
        let before = self.image.clone();
        let mut files = Vec::new();
        let mut key = Key::new("copy", before.as_ref().map(Image::id));
        for (index, step) in (first..).zip(steps) {
            let StepKind::Copy(copy) = &step.kind else {
                self.configure(step);
                continue;
            };
            let directories = std::mem::take(&mut self.directories);
            let failed = |error: Error| failure(index, self.total, step, error);
            // What the image has already is not looked at for that: it is a part of the key itself.
            let selection = self.select(copy, &|_| Ok(true)).map_err(failed)?;
            self.workshop.check()?;
            let digest = selection.digest();
            key.list(directories.iter())
                .add(&copy.destination)
                .add(copy.chown.as_deref().unwrap_or_default());
            key.add(copy.chmod.map_or_else(String::new, |mode| format!("{mode:o}"))).add(digest);
            files.push(Files { step, index, copy, selection, directories });
        }
        // The working directories after the last of them.
        let last = std::mem::take(&mut self.directories);
        key.list(last.iter());
        let key = key.finish();
        let _turn = self.workshop.take_turn(key)?;
        let found = self.find(key)?;
        for (index, step) in (first..).zip(steps) {
            self.begin(index + 1, &title(step), found.is_some() && changes_files(step));
        }
        let made = match found {
            Some(image) => image,
            None => {
                let config = self.settings.json()?;
                let mut owners = Vec::new();
                for file in &files {
                    let failed = |error: Error| failure(file.index, self.total, file.step, error);
                    owners.push(self.owner(before.as_ref(), file.copy).map_err(failed)?);
                }
                let from = files.first().map_or_else(String::new, |file| title(file.step));
                let made = self.workshop.make(before.as_ref(), &config, &from, |layers| {
                    files.iter().zip(owners).try_for_each(|(file, owner)| {
                        self.copy(layers, file, owner)
                            .map_err(|error| failure(file.index, self.total, file.step, error))
                    })?;
                    make_directories(layers, &last)
                })?;
                self.workshop.remember_step(key, &made);
                made
            }
        };
        self.image = Some(made);
        Ok(())
    }

    /// What a step copies.
    fn select(&self, copy: &Copy, is_directory: &dyn Fn(&str) -> Result<bool>) -> Result<Selection<'a>> {
        let context = self.contexts.get(&copy.context).ok_or_else(|| match &copy.context {
            Some(name) => Error::invalid(format!("the build has no context {name}: add one")),
            None => {
                Error::invalid("the build has no context, a directory that files are copied from: set one")
            }
        })?;
        context.select(copy, is_directory, ContextLimits::default(), &|| self.workshop.check())
    }

    /// Copies the files of one step.
    fn copy(&self, layers: &mut Layers<'_>, file: &Files<'_>, owner: Owner) -> Result<()> {
        make_directories(layers, &file.directories)?;
        let layers = RefCell::new(layers);
        let is_directory = |path: &str| layers.borrow_mut().has_directory(path);
        let selection = self.select(file.copy, &is_directory)?;
        if !selection.has_files_of(&file.selection) {
            return Err(Error::new(
                Code::Image,
                "the files of the build context were changed while they were read",
            ));
        }
        log::debug!("copying {} files and directories, {} bytes", selection.count(), selection.bytes());
        let check = || self.workshop.check();
        layers
            .borrow_mut()
            .add_tar(selection.bytes(), |into| selection.write_tar(into, owner, file.copy.chmod, &check))
    }

    fn owner(&self, image: Option<&Image>, copy: &Copy) -> Result<Owner> {
        let Some(chown) = &copy.chown else { return Ok((0, 0)) };
        owner::resolve(chown, |path| match image {
            Some(image) => self.steps.read(image, path, owner::MAX_FILE_BYTES),
            None => Ok(Vec::new()),
        })
    }

    fn find(&self, key: Digest) -> Result<Option<Image>> {
        if self.build.no_cache {
            return Ok(None);
        }
        self.workshop.find_step(key, self.build.max_age)
    }

    /// The image, with what the last steps have set and with its name.
    fn finish(mut self) -> Result<Image> {
        let config = self.settings.json()?;
        let directories = std::mem::take(&mut self.directories);
        let image = match self.image.take() {
            Some(image) if image.config_json() == config && directories.is_empty() => image,
            image => {
                let mut key = Key::new("configuration", image.as_ref().map(Image::id));
                key.add(&config).list(directories.iter());
                let key = key.finish();
                let _turn = self.workshop.take_turn(key)?;
                match self.find(key)? {
                    Some(found) => found,
                    None => {
                        let made = self.workshop.make(image.as_ref(), &config, "FROM", |layers| {
                            make_directories(layers, &directories)
                        })?;
                        self.workshop.remember_step(key, &made);
                        made
                    }
                }
            }
        };
        let image = match &self.build.tag {
            Some(tag) => self.workshop.tag(&image, tag)?,
            None => image,
        };
        self.workshop.begin_step([self.total as u64; 2], "done");
        self.output.line(&format!("done: {}", image.id()));
        Ok(image)
    }
}

/// The steps at the beginning that go into one image, of which the first copies files.
fn copied_together(steps: &[Step]) -> &[Step] {
    let mut copies = 0;
    let end = steps.iter().position(|step| {
        copies += usize::from(matches!(step.kind, StepKind::Copy(_)));
        matches!(step.kind, StepKind::Run(_)) || copies > MAX_COPIES
    });
    steps.get(..end.unwrap_or(steps.len())).unwrap_or_default()
}

fn changes_files(step: &Step) -> bool {
    matches!(step.kind, StepKind::Run(_) | StepKind::Copy(_))
}

/// Makes those of these working directories that aren't there.
fn make_directories(layers: &mut Layers<'_>, directories: &[String]) -> Result<()> {
    let mut missing = Vec::new();
    for directory in directories {
        if !layers.has_directory(directory)? {
            missing.push(directory);
        }
    }
    if missing.is_empty() { Ok(()) } else { layers.add_tar(0, |into| write_directories(into, &missing)) }
}

/// Writes an archive of directories.
fn write_directories(into: &mut dyn Write, paths: &[&String]) -> Result<()> {
    let mut archive = Archive::new(into);
    let written = paths.iter().try_for_each(|path| {
        let path = path.trim_matches('/').as_bytes();
        archive.entry(&tar::Entry {
            path,
            kind: Kind::Directory,
            mode: 0o755,
            uid: 0,
            gid: 0,
            seconds: 0,
            nanoseconds: 0,
        })
    });
    written.and_then(|()| archive.finish()).context("a working directory")
}

/// What a step is called.
fn title(step: &Step) -> String {
    let mut title: String = step.text.chars().take(MAX_TITLE).collect();
    if title.len() < step.text.len() {
        title.push_str("...");
    }
    title
}

/// What is wrong with a step.
fn failure(index: usize, total: usize, step: &Step, error: Error) -> Error {
    let text = format!("step {}/{total} (line {}): {}", index + 2, step.line, title(step));
    error.context(text)
}

/// Opens the directories that the Dockerfile copies from.
fn open_contexts(build: &Build, file: &Dockerfile) -> Result<Contexts> {
    let mut contexts = Contexts::new();
    if let Some(path) = &build.context {
        let context = match &build.ignore {
            Some(patterns) => Context::open_without(path, patterns)?,
            None => Context::open(path)?,
        };
        contexts.insert(None, context);
    }
    for name in file.contexts() {
        if let (Some(path), Entry::Vacant(place)) =
            (build.contexts.get(name), contexts.entry(Some(name.to_owned())))
        {
            place.insert(Context::open_named(path)?);
        }
    }
    Ok(contexts)
}
