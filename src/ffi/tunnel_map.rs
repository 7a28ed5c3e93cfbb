//! `sbx_tunnel_map`: where the ports of a sandbox are reached.

use std::ffi::{CString, c_char, c_int};
use std::ptr;

use super::call::{call_on, call_or, call_with};
use super::error::sbx_error;
use super::handle::{self, Object};
use super::structs::c_text;
use crate::error::{Code, Error, Result};
use crate::tunnel::{Tunnel, TunnelMap};

/// Where the ports of a sandbox are reached, keyed by container port. It doesn't change and outlives the
/// sandbox; any thread may read it. Texts live as long as it.
#[derive(Debug)]
pub struct sbx_tunnel_map {
    _private: [u8; 0],
}

#[derive(Debug)]
pub(super) struct TunnelMapObject(Vec<Texts>);

#[derive(Debug)]
struct Texts {
    container_port: u16,
    port: u16,
    host: Option<CString>,
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
            container_port: tunnel.container_port(),
            port: tunnel.port(),
            host: Some(c_text(tunnel.host())),
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
/// Returns the count; SBX_EHANDLE, SBX_EFORKED, SBX_EPANIC.
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

/// The container port of the tunnel with an index below the count.
///
/// Returns the port; SBX_ENOTFOUND, SBX_EHANDLE, SBX_EFORKED, SBX_EPANIC.
///
/// # Safety
/// None: a bad handle is an error.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_tunnel_map_container_port(map: *const sbx_tunnel_map, index: usize) -> c_int {
    // SAFETY: NULL is allowed for the error.
    unsafe {
        call_on(map, ptr::null_mut::<sbx_error>(), |map: &TunnelMapObject| {
            let tunnel = map.0.get(index);
            let tunnel =
                tunnel.ok_or_else(|| Error::new(Code::NotFound, format!("there is no tunnel {index}")))?;
            Ok(c_int::from(tunnel.container_port))
        })
    }
}

/// The port on the host that a tunnel listens on.
///
/// Returns the port; SBX_ENOTFOUND, SBX_EHANDLE, SBX_EFORKED, SBX_EPANIC.
///
/// # Safety
/// None: a bad handle is an error.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_tunnel_map_port(map: *const sbx_tunnel_map, container_port: u32) -> c_int {
    // SAFETY: NULL is allowed for the error.
    unsafe {
        call_on(map, ptr::null_mut::<sbx_error>(), |map: &TunnelMapObject| {
            Ok(c_int::from(map.get(container_port)?.port))
        })
    }
}

/// The address on the host that a tunnel listens on. NULL for a bad handle or a port without a tunnel.
///
/// # Safety
/// None: a bad handle is an error.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_tunnel_map_host(
    map: *const sbx_tunnel_map,
    container_port: u32,
) -> *const c_char {
    text(map, container_port, |tunnel| tunnel.host.as_ref())
}

/// The https:// url of an encrypted tunnel. NULL for a bad handle, a port without a tunnel, and a plain tunnel.
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

/// The certificate of the CA, in PEM, that an encrypted tunnel's certificate was made under. It is this sandbox's
/// alone: a client that trusts it doesn't take another sandbox on the same port for this one. Both are valid from
/// half a year before the sandbox was created until half a year after. NULL for a bad handle, a port without a tunnel, a
/// plain tunnel, and one with the host's own certificate.
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

/// The pin of an encrypted tunnel's certificate: SHA-256 of its public key info, in base64. NULL for a bad handle, a
/// port without a tunnel, and a plain tunnel.
///
/// # Safety
/// None: a bad handle is an error.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_tunnel_map_spki_sha256(
    map: *const sbx_tunnel_map,
    container_port: u32,
) -> *const c_char {
    text(map, container_port, |tunnel| tunnel.spki_sha256.as_ref())
}

/// Frees a map and its texts; NULL is allowed.
///
/// # Safety
/// No text of the map may be used after.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_tunnel_map_free(map: *mut sbx_tunnel_map) {
    call_or((), || handle::take::<TunnelMapObject>(map).map(drop));
}
