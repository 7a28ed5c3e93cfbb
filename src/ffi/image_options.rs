//! `sbx_image_options`.

use std::ffi::{c_char, c_int};
use std::ptr;

use super::codes::{
    SBX_IMAGE_FORMAT_AUTO, SBX_IMAGE_FORMAT_DIRECTORY, SBX_IMAGE_FORMAT_DOCKER, SBX_IMAGE_FORMAT_OCI,
    SBX_IMAGE_FORMAT_TARBALL,
};
use super::input;
use super::structs::{self, Layout};
use crate::error::{Error, Result};
use crate::image::{ImageFormat, ImageOptions};

/// How an image is pulled or imported. The caller owns it; zero it or use SBX_IMAGE_OPTIONS_INIT, which suits most, as
/// NULL does. Texts are copied.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct sbx_image_options {
    /// sizeof(sbx_image_options), or 0.
    pub size: u32,
    /// What is imported: SBX_IMAGE_FORMAT_.... For import only.
    pub format: i32,
    /// The name that the image is stored under. NULL: a pulled image has its reference's, an imported one none but its
    /// id.
    pub tag: *const c_char,
    /// Which one, where there are several: "os/architecture" or "os/architecture/variant", as "linux/arm64/v8". NULL:
    /// this machine's.
    pub platform: *const c_char,
    /// Which image of an archive or a layout that has several: one of its names. For import only.
    pub select: *const c_char,
    /// For the registry, as are all fields down to `mirrors`: a user. NULL: as ~/.docker/config.json says, or no login.
    /// For pull only.
    pub username: *const c_char,
    /// That user's password or token.
    pub password: *const c_char,
    /// Certificates, in PEM, of authorities that are trusted beside the system's.
    pub ca_pem: *const c_char,
    /// The absolute path of a program that speaks docker's protocol for credential helpers. It is asked before
    /// ~/.docker/config.json.
    pub credential_helper: *const c_char,
    /// Mirrors, one a line: "registry=host", as "docker.io=mirror.example:5000". They are asked first, in this order.
    pub mirrors: *const c_char,
    /// The most bytes of the image's files. More is SBX_ELIMIT, as with all limits below. 0: 16 GiB.
    pub limit_bytes: u64,
    /// The most entries: files, directories, links. 0: 1,000,000.
    pub limit_entries: u64,
    /// How many times larger a layer may be than what it is compressed to, beyond its first 16 MiB. 0: 200.
    pub limit_ratio: u64,
    /// The most bytes of memory for names and the like. 0: 512 MiB.
    pub limit_memory_bytes: u64,
    /// How many directories a path may be deep. 0: 64.
    pub limit_depth: u32,
    /// The most layers. 0: 127.
    pub limit_layers: u32,
}

// SAFETY: repr(C), begins with its size, 112 bytes without padding, integers and raw pointers only.
unsafe impl Layout for sbx_image_options {
    const NAME: &'static str = "sbx_image_options";
    const FIRST_SIZE: usize = 112;
}

const ZERO: sbx_image_options = sbx_image_options {
    size: 0,
    format: 0,
    tag: ptr::null(),
    platform: ptr::null(),
    select: ptr::null(),
    username: ptr::null(),
    password: ptr::null(),
    ca_pem: ptr::null(),
    credential_helper: ptr::null(),
    mirrors: ptr::null(),
    limit_bytes: 0,
    limit_entries: 0,
    limit_ratio: 0,
    limit_memory_bytes: 0,
    limit_depth: 0,
    limit_layers: 0,
};

/// Reads the options.
///
/// # Safety
/// `options` must be NULL or point to options of the host's, whose texts are terminated or NULL.
pub(super) unsafe fn read_options(options: *const sbx_image_options) -> Result<ImageOptions> {
    let mut read = ImageOptions::new();
    // SAFETY: as the caller promises.
    let Some(given) = unsafe { structs::read(options, ZERO) }? else { return Ok(read) };
    read.format = format(given.format)?;
    let text = |what, at: *const c_char| {
        if at.is_null() {
            return Ok(None);
        }
        // SAFETY: as the caller promises.
        unsafe { input::text(what, at) }.map(Some)
    };
    let owned = |what, at| text(what, at).map(|found| found.map(str::to_owned));
    read.tag = owned("tag", given.tag)?;
    read.platform = owned("platform", given.platform)?;
    read.select = owned("select", given.select)?;
    match (text("username", given.username)?, text("password", given.password)?) {
        (Some(username), Some(password)) => drop(read.set_login(username, password)),
        (None, None) => {}
        _ => return Err(Error::invalid("username: must be set together with a password")),
    }
    read.ca_pem = owned("ca_pem", given.ca_pem)?;
    if !given.credential_helper.is_null() {
        // SAFETY: as the caller promises.
        read.credential_helper = Some(unsafe { input::path("credential_helper", given.credential_helper) }?);
    }
    for line in text("mirrors", given.mirrors)?.unwrap_or_default().lines() {
        let (registry, mirror) = line
            .split_once('=')
            .ok_or_else(|| Error::invalid(format!("mirrors: {line:?} must be \"registry=host\"")))?;
        read.mirrors.push((registry.trim().to_owned(), mirror.trim().to_owned()));
    }
    let limits = &mut read.limits;
    set(&mut limits.bytes, given.limit_bytes);
    set(&mut limits.entries, given.limit_entries);
    set(&mut limits.ratio, given.limit_ratio);
    set(&mut limits.memory, given.limit_memory_bytes);
    set(&mut limits.depth, given.limit_depth);
    set(&mut limits.layers, given.limit_layers);
    Ok(read)
}

/// 0 stands for the default.
fn set<T: Default + PartialEq>(limit: &mut T, given: T) {
    if given != T::default() {
        *limit = given;
    }
}

fn format(number: c_int) -> Result<ImageFormat> {
    match number {
        SBX_IMAGE_FORMAT_AUTO => Ok(ImageFormat::Auto),
        SBX_IMAGE_FORMAT_OCI => Ok(ImageFormat::Oci),
        SBX_IMAGE_FORMAT_DOCKER => Ok(ImageFormat::Docker),
        SBX_IMAGE_FORMAT_TARBALL => Ok(ImageFormat::Tarball),
        SBX_IMAGE_FORMAT_DIRECTORY => Ok(ImageFormat::Directory),
        _ => Err(Error::invalid(format!("format {number}: must be one of SBX_IMAGE_FORMAT_..."))),
    }
}
