//! `sbx_tunnel_map`: where the ports of a sandbox are reached.

use std::ffi::{CString, c_char, c_int};
use std::ptr;

use super::call::{call_on, call_or, call_with};
use super::error::sbx_error;
use super::handle::{self, Object};
use super::structs::{self, Layout, c_text};
use crate::error::{Code, Error, Result};
use crate::tunnel::{Tunnel, TunnelMap};

/// Where the ports of a sandbox are reached. It doesn't change and outlives the sandbox; any thread may read it.
#[derive(Debug)]
pub struct sbx_tunnel_map {
    _private: [u8; 0],
}

/// Where one port of a sandbox is reached. Its texts belong to the map. The caller owns the struct; zero it or use
/// SBX_TUNNEL_INIT.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct sbx_tunnel {
    /// sizeof(sbx_tunnel), or 0.
    pub size: u32,
    /// SBX_PORT_....
    pub kind: i32,
    /// The port inside, as the config has it.
    pub container_port: u32,
    /// The port on the host that the tunnel listens on.
    pub port: u32,
    /// The address on the host that it listens on, or the name that its certificate is for.
    pub host: *const c_char,
    /// Its https:// URL; NULL if it is unencrypted.
    pub url: *const c_char,
    /// The certificate of the CA to trust, in PEM: see sbx_tunnel_map_ca_pem. NULL if it is unencrypted, or has the
    /// host's own certificate.
    pub ca_pem: *const c_char,
    /// The pin of its certificate, as curl's --pinnedpubkey takes it: "sha256//" and the SHA-256 of its public key info
    /// in base64. NULL if it is unencrypted.
    pub spki_sha256: *const c_char,
}

// SAFETY: repr(C), begins with its size, 48 bytes without padding, integers and raw pointers only.
unsafe impl Layout for sbx_tunnel {
    const NAME: &'static str = "sbx_tunnel";
    const FIRST_SIZE: usize = 48;
}

impl From<&Texts> for sbx_tunnel {
    fn from(texts: &Texts) -> Self {
        let text = |text: &Option<CString>| text.as_ref().map_or(ptr::null(), |text| text.as_ptr());
        Self {
            size: 0,
            kind: texts.kind,
            container_port: texts.container_port.into(),
            port: texts.port.into(),
            host: texts.host.as_ptr(),
            url: text(&texts.url),
            ca_pem: text(&texts.ca_pem),
            spki_sha256: text(&texts.spki_sha256),
        }
    }
}

#[derive(Debug)]
pub(super) struct TunnelMapObject(Vec<Texts>);

#[derive(Debug)]
struct Texts {
    kind: i32,
    container_port: u16,
    port: u16,
    host: CString,
    url: Option<CString>,
    ca_pem: Option<CString>,
    spki_sha256: Option<CString>,
}

impl Object for TunnelMapObject {
    type Opaque = sbx_tunnel_map;
    const KIND: &'static str = "tunnel map";
}

impl TunnelMapObject {
    pub(super) fn new(map: &TunnelMap) -> Self {
        let texts = |tunnel: &Tunnel| Texts {
            kind: tunnel.kind() as i32,
            container_port: tunnel.container_port(),
            port: tunnel.port(),
            host: c_text(tunnel.host()),
            url: tunnel.url().map(c_text),
            ca_pem: tunnel.url().and(map.ca_pem()).map(c_text),
            spki_sha256: tunnel.url().and(map.spki_pin()).map(c_text),
        };
        Self(map.iter().map(texts).collect())
    }

    fn get(&self, container_port: u32) -> Result<&Texts> {
        self.0
            .iter()
            .find(|tunnel| u32::from(tunnel.container_port) == container_port)
            .ok_or_else(|| Error::new(Code::NotFound, format!("port {container_port}: has no tunnel")))
    }
}

fn text(
    map: *const sbx_tunnel_map,
    container_port: u32,
    field: impl FnOnce(&Texts) -> Option<&CString>,
) -> *const c_char {
    call_or(ptr::null(), || {
        call_with(map, |map: &TunnelMapObject| {
            Ok(field(map.get(container_port)?).map_or(ptr::null(), |text| text.as_ptr()))
        })
    })
}

/// How many tunnels there are.
///
/// Returns the count.
///
/// # Safety
/// None: a bad handle is an error.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_tunnel_map_count(map: *const sbx_tunnel_map) -> c_int {
    // SAFETY: NULL is allowed for the error.
    unsafe {
        call_on(map, ptr::null_mut::<sbx_error>(), |map: &TunnelMapObject| {
            Ok(c_int::try_from(map.0.len()).unwrap_or(c_int::MAX))
        })
    }
}

/// Reads one tunnel of the map, from 0, in the order of their container ports.
///
/// Returns 0 and fills *tunnel; SBX_ENOTFOUND (the index), SBX_EINVALID, SBX_ESIZE.
///
/// # Safety
/// `tunnel` must point to a tunnel struct or be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_tunnel_map_tunnel(
    map: *const sbx_tunnel_map,
    index: usize,
    tunnel: *mut sbx_tunnel,
) -> c_int {
    let read = |map: &TunnelMapObject| {
        // SAFETY: as the caller promises.
        let tunnel = unsafe { structs::output("tunnel", tunnel) }?;
        let found = map.0.get(index);
        let found = found.ok_or_else(|| Error::new(Code::NotFound, format!("there is no tunnel {index}")))?;
        tunnel.write(&sbx_tunnel::from(found));
        Ok(0)
    };
    // SAFETY: NULL is allowed for the error.
    unsafe { call_on(map, ptr::null_mut::<sbx_error>(), read) }
}

/// The https:// URL of the encrypted tunnel of a container port, as in sbx_tunnel.
///
/// Returns NULL for a bad handle, a port without a tunnel, and an unencrypted tunnel.
///
/// # Safety
/// None: a bad handle is an error.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_tunnel_map_url(
    map: *const sbx_tunnel_map,
    container_port: u32,
) -> *const c_char {
    text(map, container_port, |tunnel| tunnel.url.as_ref())
}

/// The certificate of the CA, in PEM, that an encrypted tunnel's certificate was made under, as in sbx_tunnel. It is
/// this sandbox's alone: a client that trusts it doesn't take another sandbox on the same port for this one. Both are
/// valid from half a year before the sandbox was created until half a year after.
///
/// Returns NULL for a bad handle, a port without a tunnel, an unencrypted tunnel, and one with the host's own
/// certificate.
///
/// # Safety
/// None: a bad handle is an error.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_tunnel_map_ca_pem(
    map: *const sbx_tunnel_map,
    container_port: u32,
) -> *const c_char {
    text(map, container_port, |tunnel| tunnel.ca_pem.as_ref())
}

/// Frees a map and its texts.
///
/// # Safety
/// No text of the map may be used after.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_tunnel_map_free(map: *mut sbx_tunnel_map) {
    call_or((), || handle::take::<TunnelMapObject>(map).map(drop));
}
