//! `sbx_config`: its life, and what program it describes.

use std::ffi::{c_char, c_int};

use super::call::{call_new, call_on, call_or, call_with};
use super::codes::{SBX_MOUNT_READ_ONLY, SBX_MOUNT_WRITABLE};
use super::draft::{self, Draft};
use super::error::sbx_error;
use super::handle::{self, Object};
use super::image::{ImageObject, sbx_image};
use super::input;
use crate::config::Config;
use crate::error::{Error, Result};

/// How a sandbox is created.
///
/// A setter returns at once what is wrong and keeps it: sbx_config_check and sbx_create return the first bad value,
/// with its text. So a program may set everything and check once. One config makes any number of sandboxes. One
/// thread at a time sets; no function blocks.
#[derive(Debug)]
pub struct sbx_config {
    _private: [u8; 0],
}

pub(super) type ConfigObject = Draft<Config>;

impl Object for ConfigObject {
    type Opaque = sbx_config;
    const KIND: &'static str = "config";
}

/// Runs a setter.
pub(super) fn set(config: *mut sbx_config, setter: impl FnOnce(&mut Config) -> Result<()>) -> c_int {
    draft::set(config, setter)
}

/// Makes a config with the defaults: no command, a curated view of the host's programs as root file system, no
/// ports, an open policy, 300 s of life.
///
/// Free it with sbx_config_free. Any thread, never blocks.
///
/// Returns 0 and sets *config; SBX_EINVALID, SBX_ELIMIT (no handle is left).
///
/// # Safety
/// `config` must point to a place for the result, `error` to an error struct or be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_config_new(config: *mut *mut sbx_config, error: *mut sbx_error) -> c_int {
    // SAFETY: as the caller promises.
    unsafe { call_new("config", config, error, || Ok(ConfigObject::default())) }
}

/// Checks a config: returns the first bad value, or the first rule between settings that is broken. It looks at the
/// config only, not at the host.
///
/// Returns 0; SBX_EINVALID, SBX_EUNSUPPORTED, SBX_ELIMIT.
///
/// # Safety
/// `error` must point to an error struct or be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_config_check(config: *const sbx_config, error: *mut sbx_error) -> c_int {
    // SAFETY: as the caller promises.
    unsafe { call_on::<ConfigObject>(config, error, |config| config.copy().check().map(|()| 0)) }
}

/// Frees a config. Sandboxes made with it are not affected.
///
/// # Safety
/// None: a handle that was freed already is ignored.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_config_free(config: *mut sbx_config) {
    call_or((), || handle::take::<ConfigObject>(config).map(drop));
}

/// Sets the program and its arguments: `argc` texts.
///
/// Linux's limits hold: each text is shorter than 131072 bytes, and together with the environment they have at most
/// 2097152, with 9 more counted for each. The first is looked up in the PATH of the sandbox's environment unless it
/// contains a slash. A sandbox without a command runs nothing by itself: it waits for sbx_exec until its time is
/// over or it is ended.
///
/// Returns 0 or SBX_EINVALID.
///
/// # Safety
/// `argv` must point to `argc` terminated texts.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_config_set_command(
    config: *mut sbx_config,
    argv: *const *const c_char,
    argc: usize,
) -> c_int {
    set(config, |config| {
        // SAFETY: as the caller promises.
        let argv = unsafe { input::texts("command argument", argv, argc) }?;
        config.set_command(argv).map(drop)
    })
}

/// Sets an environment variable for all programs of the sandbox; setting the same name again replaces it.
///
/// Names match ^[a-zA-Z_][a-zA-Z0-9_]*$. The bounds are those of arguments, which `NAME=value` counts among. Values
/// are never logged and never written to a file.
///
/// Returns 0 or SBX_EINVALID.
///
/// # Safety
/// `name` and `value` must be terminated texts or NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_config_set_env(
    config: *mut sbx_config,
    name: *const c_char,
    value: *const c_char,
) -> c_int {
    set(config, |config| {
        // SAFETY: as the caller promises.
        let name = unsafe { input::text("environment variable name", name) }?;
        // SAFETY: as the caller promises.
        let value = unsafe { input::text("environment variable value", value) }?;
        config.set_env(name, value).map(drop)
    })
}

/// Sets a secret environment variable: as sbx_config_set_env does, and the library overwrites its copies of the
/// value as soon as they are no longer needed (this config's with the last sandbox made with it). Inside, every
/// process of the same user, and of root, can read it.
///
/// Returns 0 or SBX_EINVALID.
///
/// # Safety
/// `name` and `value` must be terminated texts or NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_config_set_secret(
    config: *mut sbx_config,
    name: *const c_char,
    value: *const c_char,
) -> c_int {
    set(config, |config| {
        // SAFETY: as the caller promises.
        let name = unsafe { input::text("secret name", name) }?;
        // SAFETY: as the caller promises.
        let value = unsafe { input::text("secret value", value) }?;
        config.set_secret(name, value).map(drop)
    })
}

/// Sets the directory inside that the program starts in, an absolute path (default "/"). If it doesn't exist, it is
/// made, with its parents, owned by the sandbox's root, with mode 0755.
///
/// Returns 0 or SBX_EINVALID.
///
/// # Safety
/// `path` must be a terminated text or NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_config_set_workdir(config: *mut sbx_config, path: *const c_char) -> c_int {
    set(config, |config| {
        // SAFETY: as the caller promises.
        let path = unsafe { input::text("workdir", path) }?;
        config.set_workdir(path).map(drop)
    })
}

/// Sets the user that the program runs as: "name", "uid", "uid:gid" or "name:group" of the sandbox (default its
/// root). A uid without an entry in its /etc/passwd gets the group of the same number (on an image group 0, as in
/// docker), no further groups, and the home "/".
///
/// Returns 0 or SBX_EINVALID.
///
/// # Safety
/// `user` must be a terminated text or NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_config_set_user(config: *mut sbx_config, user: *const c_char) -> c_int {
    set(config, |config| {
        // SAFETY: as the caller promises.
        let user = unsafe { input::text("user", user) }?;
        config.set_user(user).map(drop)
    })
}

/// Sets the sandbox's host name: labels of letters, digits and inner hyphens (RFC 1123), at most 64 bytes.
///
/// Returns 0 or SBX_EINVALID.
///
/// # Safety
/// `name` must be a terminated text or NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_config_set_hostname(config: *mut sbx_config, name: *const c_char) -> c_int {
    set(config, |config| {
        // SAFETY: as the caller promises.
        let name = unsafe { input::text("hostname", name) }?;
        config.set_hostname(name).map(drop)
    })
}

/// Sets the sandbox's name: 1 to 64 of A-Z a-z 0-9 . _ - beginning with a letter or digit. No two live sandboxes of
/// a runtime have the same name.
///
/// Returns 0 or SBX_EINVALID.
///
/// # Safety
/// `name` must be a terminated text or NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_config_set_name(config: *mut sbx_config, name: *const c_char) -> c_int {
    set(config, |config| {
        // SAFETY: as the caller promises.
        let name = unsafe { input::text("name", name) }?;
        config.set_name(name).map(drop)
    })
}

/// Sets a tag, for the host's own use: sbx_sandbox_tag. Setting the same name again replaces it. Names have the
/// form of sandboxes' names, values at most 256 bytes; a sandbox has at most 64 tags.
///
/// Returns 0 or SBX_EINVALID.
///
/// # Safety
/// `name` and `value` must be terminated texts or NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_config_set_tag(
    config: *mut sbx_config,
    name: *const c_char,
    value: *const c_char,
) -> c_int {
    set(config, |config| {
        // SAFETY: as the caller promises.
        let name = unsafe { input::text("tag", name) }?;
        // SAFETY: as the caller promises.
        let value = unsafe { input::text("tag value", value) }?;
        config.set_tag(name, value).map(drop)
    })
}

/// Sets a directory of the host as the root file system. Without it a curated view of the host is used: programs in
/// /usr, /bin, /lib that everybody on the host may read, and a generated /etc. Either is under a memory overlay:
/// all of it can be written inside, and nothing on the host changes.
///
/// Returns 0 or SBX_EINVALID.
///
/// # Safety
/// `directory` must be a terminated text or NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_config_set_rootfs(config: *mut sbx_config, directory: *const c_char) -> c_int {
    set(config, |config| {
        // SAFETY: as the caller promises.
        let directory = unsafe { input::text("rootfs", directory) }?;
        config.set_rootfs(directory).map(drop)
    })
}

/// Sets an image as the root file system. What its config says holds where this config says nothing: its Entrypoint, Cmd,
/// Env, WorkingDir and User, by docker's rules. All of it can be written inside, and nothing in the image changes.
///
/// The image's handle may be freed after.
///
/// Returns 0, SBX_EHANDLE or SBX_EINVALID.
///
/// # Safety
/// None: a bad handle is an error.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_config_set_image(config: *mut sbx_config, image: *const sbx_image) -> c_int {
    set(config, |config| call_with(image, |image: &ImageObject| config.set_image(image.image()).map(drop)))
}

/// Has a snapshot taken when the sandbox ends, as sbx_sandbox_snapshot_begin does: when its program has ended, its time or its
/// idle time is over, or it is terminated or stopped. `tag` is a name for the image, or NULL. It needs sbx_config_set_image.
///
/// The programs are killed, and tunnels and connections closed; then the changes are stored, for which the sandbox lives for
/// up to 60 seconds more, and after that it ends. Four of a runtime are stored at a time, and others wait for their turn, each
/// for up to 10 minutes before its 60 seconds begin; pulls, imports and builds keep none waiting. SBX_EVENT_EXIT_SNAPSHOT and sbx_sandbox_exit_image give the image, or say
/// why there is none: the sandbox was out of memory, its engine was lost, it took too long, or the host did not want to wait
/// (a second sbx_terminate, or sbx_sandbox_free). A host that is killed takes its sandboxes along, without a snapshot. What a
/// snapshot has is said at sbx_sandbox_snapshot_begin.
///
/// Returns 0 or SBX_EINVALID.
///
/// # Safety
/// `tag` must be a terminated text or NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_config_set_exit_snapshot(config: *mut sbx_config, tag: *const c_char) -> c_int {
    set(config, |config| {
        // SAFETY: as the caller promises.
        let tag = if tag.is_null() { None } else { Some(unsafe { input::text("tag", tag) }?) };
        config.set_exit_snapshot(tag).map(drop)
    })
}

/// Mounts an image's files read-only at `destination`, an absolute path as sbx_config_add_mount takes it. It takes no time
/// and no copy. A sandbox has at most 16 of these.
///
/// Returns 0, SBX_EHANDLE or SBX_EINVALID.
///
/// # Safety
/// `destination` must be a terminated text or NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_config_add_image_mount(
    config: *mut sbx_config,
    image: *const sbx_image,
    destination: *const c_char,
) -> c_int {
    set(config, |config| {
        // SAFETY: as the caller promises.
        let destination = unsafe { input::text("mount destination", destination) }?;
        call_with(image, |image: &ImageObject| config.mount_image(image.image(), destination).map(drop))
    })
}

/// Sets the program that the command's arguments are for, in place of the image's Entrypoint, whose Cmd is not used then;
/// `argc` 0 is none. Without an image it comes before the command.
///
/// Returns 0 or SBX_EINVALID.
///
/// # Safety
/// `argv` must point to `argc` terminated texts.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_config_set_entrypoint(
    config: *mut sbx_config,
    argv: *const *const c_char,
    argc: usize,
) -> c_int {
    set(config, |config| {
        // SAFETY: as the caller promises.
        let argv = unsafe { input::texts("entrypoint argument", argv, argc) }?;
        config.set_entrypoint(argv).map(drop)
    })
}

/// Says that the sandbox has no program of its own, not the image's either: it waits for sbx_exec. Without an image that is
/// the default.
///
/// Returns 0.
///
/// # Safety
/// None: a bad handle is an error.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_config_set_no_command(config: *mut sbx_config) -> c_int {
    set(config, |config| config.set_no_command().map(drop))
}

/// Mounts a file or directory of the host inside: read-only, or with SBX_MOUNT_WRITABLE in `flags` writable.
///
/// Both paths are absolute; the destination is not "/", nor in /proc, /dev or /sys, nor used twice. What the sandbox
/// writes to a writable mount is on the host, as the host's user. It can make files executable there, but not set-id:
/// a mode with such a bit fails with EPERM or is not taken.
///
/// Returns 0 or SBX_EINVALID.
///
/// # Safety
/// `source` and `destination` must be terminated texts or NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_config_add_mount(
    config: *mut sbx_config,
    source: *const c_char,
    destination: *const c_char,
    flags: u32,
) -> c_int {
    set(config, |config| {
        // SAFETY: as the caller promises.
        let source = unsafe { input::text("mount source", source) }?;
        // SAFETY: as the caller promises.
        let destination = unsafe { input::text("mount destination", destination) }?;
        match flags {
            SBX_MOUNT_READ_ONLY => config.mount_read_only(source, destination).map(drop),
            SBX_MOUNT_WRITABLE => config.mount_writable(source, destination).map(drop),
            _ => Err(Error::invalid(format!("mount flags {flags:#x}: only SBX_MOUNT_... may be set"))),
        }
    })
}

/// Sets how long the sandbox may live, in milliseconds, more than 0 (default 300000). Then it is ended with code
/// 124 and SBX_EXIT_TIMED_OUT.
///
/// Returns 0 or SBX_EINVALID.
///
/// # Safety
/// None: a bad handle is an error.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_config_set_timeout_ms(config: *mut sbx_config, timeout_ms: i64) -> c_int {
    set(config, |config| config.set_timeout(input::duration("timeout_ms", timeout_ms)?).map(drop))
}

/// Sets how long the sandbox may be idle, in milliseconds, more than 0 (default: as long as it lives). Then it is
/// ended with code 124 and SBX_EXIT_IDLE.
///
/// It is idle while no program of sbx_exec runs or is being started, no operation on files goes on except watches,
/// no byte passes a tunnel or sbx_connect, and nothing is written to its program's standard input. What that
/// program does by itself doesn't count, nor does a connection on which nothing is sent.
///
/// Returns 0 or SBX_EINVALID.
///
/// # Safety
/// None: a bad handle is an error.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_config_set_idle_timeout_ms(
    config: *mut sbx_config,
    idle_timeout_ms: i64,
) -> c_int {
    set(config, |config| {
        config.set_idle_timeout(input::duration("idle_timeout_ms", idle_timeout_ms)?).map(drop)
    })
}
