//! `sbx_build`: what an image is built from.

use std::ffi::{c_char, c_int};

use super::call::{call_new, call_or, call_with};
use super::config::{ConfigObject, sbx_config};
use super::draft::{self, Draft};
use super::error::sbx_error;
use super::handle::{self, Object};
use super::input;
use super::operation::{Begin, Events, Work, sbx_operation};
use super::queue::sbx_queue;
use super::runtime::{self, sbx_runtime};
use crate::build::Build;
use crate::error::{Context, Error, Result};
use crate::sys::descriptor;

/// What an image is built from, and how: a Dockerfile's text, directories that files are copied from, arguments, secrets.
///
/// A setter returns at once what is wrong and keeps it: sbx_image_build_begin returns the first bad value, with its text.
/// One sbx_build makes any number of images. One thread at a time sets; no function blocks.
#[derive(Debug)]
pub struct sbx_build {
    _private: [u8; 0],
}

pub(super) type BuildObject = Draft<Build>;

impl Object for BuildObject {
    type Opaque = sbx_build;
    const KIND: &'static str = "build";
}

/// Runs a setter.
fn set(build: *mut sbx_build, setter: impl FnOnce(&mut Build) -> Result<()>) -> c_int {
    draft::set(build, setter)
}

/// Makes a build. A Dockerfile has to be set (sbx_build_set_dockerfile).
///
/// Free it with sbx_build_free. Any thread, never blocks.
///
/// Returns 0 and sets *build; SBX_EINVALID, SBX_ELIMIT (no handle is left).
///
/// # Safety
/// `build` must point to a place for the result, `error` to an error struct or be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_build_new(build: *mut *mut sbx_build, error: *mut sbx_error) -> c_int {
    // SAFETY: as the caller promises.
    unsafe { call_new("build", build, error, || Ok(BuildObject::default())) }
}

/// Frees a build; NULL is allowed. Operations that were begun with it are not affected.
///
/// # Safety
/// None: a handle that was freed already is ignored.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_build_free(build: *mut sbx_build) {
    call_or((), || handle::take::<BuildObject>(build).map(drop));
}

/// Sets the text of the Dockerfile: `length` bytes of UTF-8, at most 1 MiB. It is the text, not a path.
///
/// It has one stage, of FROM, RUN, COPY, ADD (of files), ENV, ARG, WORKDIR, USER, CMD, ENTRYPOINT, EXPOSE, LABEL, SHELL and
/// STOPSIGNAL, with docker's meaning. What else docker has is refused by name, or ignored with a warning in the output where
/// it has no effect on the image. FROM names an image of the store, or one that is pulled as sbx_image_pull_begin does
/// without options; `FROM scratch` begins with nothing. The instructions that the base has for builds on it (ONBUILD) are done
/// first, with the build's arguments and contexts, as docker does them, but never with its secrets: a RUN of theirs with
/// --mount is refused. They are not the new image's.
///
/// Returns 0 or SBX_EINVALID.
///
/// # Safety
/// `text` must point to `length` bytes, or be NULL with a length of 0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_build_set_dockerfile(
    build: *mut sbx_build,
    text: *const u8,
    length: usize,
) -> c_int {
    set(build, |build| {
        // SAFETY: as the caller promises.
        let bytes = unsafe { input::bytes("dockerfile", text, length) }?;
        let text =
            std::str::from_utf8(bytes).map_err(|_| Error::invalid("dockerfile: must be a text in UTF-8"))?;
        build.set_dockerfile(text).map(drop)
    })
}

/// Sets the directory that COPY and ADD take files from. Its .dockerignore holds, unless sbx_build_set_ignore was called. No
/// link in it leads out of it.
///
/// Copied files belong to root unless --chown says otherwise; modes and times are the files' own.
///
/// Returns 0 or SBX_EINVALID.
///
/// # Safety
/// `path` must be a terminated text or NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_build_set_context(build: *mut sbx_build, path: *const c_char) -> c_int {
    set(build, |build| {
        // SAFETY: as the caller promises.
        let path = unsafe { input::path("context", path) }?;
        build.set_context(path).map(drop)
    })
}

/// Sets what of the context is left out, in the place of its .dockerignore, which is a file like any other then: `count`
/// patterns as that file has them, but for its comments, at most 10,000 and 1 MiB together. The last one that is about a path, or about a directory
/// above it, decides; with a ! before it the path is copied all the same. A count of 0 leaves out nothing; without this
/// function the file holds.
///
/// Returns 0; SBX_EINVALID (a text that is not a pattern; the error names it), SBX_ELIMIT.
///
/// # Safety
/// `patterns` must point to `count` terminated texts, or be NULL with a count of 0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_build_set_ignore(
    build: *mut sbx_build,
    patterns: *const *const c_char,
    count: usize,
) -> c_int {
    set(build, |build| {
        // SAFETY: as the caller promises.
        let patterns = unsafe { input::texts("ignore pattern", patterns, count) }?;
        build.set_ignore(patterns).map(drop)
    })
}

/// Adds a directory that `COPY --from=NAME` takes files from.
///
/// Returns 0 or SBX_EINVALID.
///
/// # Safety
/// `name` and `path` must be terminated texts or NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_build_add_context(
    build: *mut sbx_build,
    name: *const c_char,
    path: *const c_char,
) -> c_int {
    set(build, |build| {
        // SAFETY: as the caller promises.
        let name = unsafe { input::text("context name", name) }?;
        // SAFETY: as the caller promises.
        let path = unsafe { input::path("context", path) }?;
        build.add_context(name, path).map(drop)
    })
}

/// Sets the value of an ARG of the Dockerfile; setting the same name again replaces it. Steps and images can keep it: for a
/// secret there is sbx_build_add_secret.
///
/// Returns 0 or SBX_EINVALID.
///
/// # Safety
/// `name` and `value` must be terminated texts or NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_build_add_arg(
    build: *mut sbx_build,
    name: *const c_char,
    value: *const c_char,
) -> c_int {
    set(build, |build| {
        // SAFETY: as the caller promises.
        let name = unsafe { input::text("build argument", name) }?;
        // SAFETY: as the caller promises.
        let value = unsafe { input::text("build argument", value) }?;
        build.add_arg(name, value).map(drop)
    })
}

/// Adds a secret: `length` bytes, at most 512 KiB, for the steps that ask for it by `RUN --mount=type=secret,id=ID`.
///
/// Such a step finds them in a file at /run/secrets/ID, or at the target that it names: a link to a file in the sandbox's
/// memory, which is taken away before the step's result is stored. They are in no image, in nothing that the store keeps,
/// and in no text of the library's; a step isn't done again because a secret has changed. What a step's program does with
/// them is its own affair. The library overwrites its copies when they are no longer needed.
///
/// Returns 0 or SBX_EINVALID.
///
/// # Safety
/// `id` must be a terminated text or NULL, `value` point to `length` bytes, or be NULL with a length of 0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_build_add_secret(
    build: *mut sbx_build,
    id: *const c_char,
    value: *const u8,
    length: usize,
) -> c_int {
    set(build, |build| {
        // SAFETY: as the caller promises.
        let id = unsafe { input::text("secret id", id) }?;
        // SAFETY: as the caller promises.
        let value = unsafe { input::bytes("secret", value, length) }?;
        build.add_secret(id, value).map(drop)
    })
}

/// Sets what the sandboxes of RUN steps are like: policy, limits, name servers, host services and the like. A copy is taken.
///
/// Without it their policy is blocked: a step reaches nothing. A config's own policy is open unless it was set. What says
/// which program runs on what is the Dockerfile's: a config with a command, an image, a root directory, environment,
/// a working directory, a user, a host name, mounts, volumes, ports, a probe, an exit snapshot or a name is refused.
/// Its timeout doesn't hold, the build's does.
///
/// Returns 0, SBX_EINVALID or the config's own error.
///
/// # Safety
/// None: handles that were freed are refused.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_build_set_config(build: *mut sbx_build, config: *const sbx_config) -> c_int {
    set(build, |build| {
        let config = call_with(config, |config: &ConfigObject| Ok(config.copy()))?;
        build.set_config(&config).map(drop)
    })
}

/// Does every step again, also those whose result is stored. The new results are stored in their place.
///
/// Returns 0.
///
/// # Safety
/// None: a handle that was freed is refused.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_build_set_no_cache(build: *mut sbx_build) -> c_int {
    set(build, |build| build.set_no_cache().map(drop))
}

/// Does the steps again whose result was made more than `max_age_ms` ago, in whole seconds. By default results are used
/// whatever their age.
///
/// Returns 0 or SBX_EINVALID.
///
/// # Safety
/// None: a handle that was freed is refused.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_build_set_max_age_ms(build: *mut sbx_build, max_age_ms: i64) -> c_int {
    set(build, |build| build.set_max_age(input::duration("max_age_ms", max_age_ms)?).map(drop))
}

/// Limits how long all of the build may take, from 1 ms to 24 hours (default one hour): then it is SBX_ETIMEDOUT.
///
/// Returns 0 or SBX_EINVALID.
///
/// # Safety
/// None: a handle that was freed is refused.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_build_set_timeout_ms(build: *mut sbx_build, timeout_ms: i64) -> c_int {
    set(build, |build| build.set_timeout(input::duration("timeout_ms", timeout_ms)?).map(drop))
}

/// Limits the bytes that the build's steps add, together (default 64 GiB): what each image that is made is longer than the one
/// below it, and no step may change more than what is left. What is found in the cache doesn't count. More is SBX_ELIMIT.
///
/// Returns 0 or SBX_EINVALID.
///
/// # Safety
/// None: a handle that was freed is refused.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_build_set_max_bytes(build: *mut sbx_build, max_bytes: u64) -> c_int {
    set(build, |build| build.set_max_bytes(max_bytes).map(drop))
}

/// Sets the name that the image is stored under, a reference without a digest. Without it the image has none but its id, and
/// sbx_image_prune_begin removes it before others.
///
/// Returns 0 or SBX_EINVALID.
///
/// # Safety
/// `tag` must be a terminated text or NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_build_set_tag(build: *mut sbx_build, tag: *const c_char) -> c_int {
    set(build, |build| {
        // SAFETY: as the caller promises.
        let tag = unsafe { input::text("tag", tag) }?;
        build.set_tag(tag).map(drop)
    })
}

/// Writes what is being done, and what the programs of RUN steps say, to a descriptor: a pipe, socket, terminal or file.
///
/// A line begins each step: "[2/5] RUN make", or "[2/5] CACHED RUN make" where its result was stored. What a program says
/// comes as it is. A reader that is slow is waited for, five seconds in all; then it loses output, which a line says. The
/// descriptor is duplicated and stays the caller's.
///
/// Returns 0 or SBX_ESYSTEM (not a usable descriptor).
///
/// # Safety
/// None: a handle that was freed is refused.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_build_set_output_fd(build: *mut sbx_build, fd: c_int) -> c_int {
    set(build, |build| {
        let copy = descriptor::duplicate(fd).context("duplicating the output's descriptor")?;
        build.set_output(copy).map(drop)
    })
}

/// Builds an image and stores it: sbx_operation_image.
///
/// Each RUN is a program in a sandbox on the image so far, which ends with it; what it has changed is in the next image. What
/// was mounted is not, but /tmp is. COPY and ADD take their files from the build's contexts, read them here, and a confined
/// process writes the image. The result of a step is stored, and a build with the same step on the same image takes it:
/// for RUN the same program, arguments, environment, user and directory, for COPY files with the same names, modes and
/// contents.
///
/// SBX_EVENT_PROGRESS has the steps that are done in value[0], all of them in value[1], and the step in its detail. Where a
/// step fails, the error has its number, its text, how its program ended, and the last lines that it said; the results of
/// the steps before it stay stored. When it is cancelled, the sandbox ends, and nothing of that step stays.
///
/// The operation's own errors are those of sbx_image_pull_begin for FROM, those of sbx_create and sbx_exec for RUN,
/// SBX_EIMAGE (a program failed), SBX_ENOTFOUND (a file to be copied), SBX_ETIMEDOUT and SBX_ECLOSED. The rest is as for
/// sbx_image_pull_begin, whose bounds of operations hold.
///
/// Returns 0; SBX_EINVALID and SBX_EUNSUPPORTED (a setting, or the Dockerfile, with its line), SBX_ELIMIT, SBX_ECLOSED.
///
/// # Safety
/// `operation` must point to a place for the result, `error` to an error struct or be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_image_build_begin(
    runtime: *mut sbx_runtime,
    build: *const sbx_build,
    queue: *mut sbx_queue,
    cookie: u64,
    operation: *mut *mut sbx_operation,
    error: *mut sbx_error,
) -> c_int {
    let start = |events: Events<'_>| {
        let build = call_with(build, |build: &BuildObject| Ok(build.copy()))?;
        Ok(Work::Image(runtime::of(runtime)?.build_image_begin(&build, events)?))
    };
    // SAFETY: as the caller promises.
    unsafe { Begin { queue, cookie, operation, error }.freely(start) }
}
