//! What `docker save` writes: `manifest.json`, and the configurations and layers that it names.
//!
//! Before docker 25 these are `<digest>.json` and `<id>/layer.tar`, with links between equal layers; since then it is an OCI
//! image layout with a `manifest.json`. podman and skopeo write the same.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::Value;

use super::container::{Container, digest_of_name};
use super::layout::is_name;
use super::{Found, Layer, Select, layered};
use crate::error::{Code, Error, Result};
use crate::image::json::{self, Object};

use crate::image::error;
use crate::image::registry::manifest;
use crate::image::store::OriginKind;

pub(super) const MANIFEST: &str = "manifest.json";
/// Docker's before 1.10 wrote only this.
pub(super) const REPOSITORIES: &str = "repositories";
/// As many layers as docker allows.
const MAX_LAYERS: usize = 127;
/// Names that an error lists.
const MAX_SHOWN: usize = 20;

/// An image of the archive.
struct Image {
    config: String,
    names: Vec<String>,
    layers: Vec<String>,
}

/// Whether `manifest.json` is docker's: others have files of that name, too.
pub(super) fn is_manifest(container: &Container) -> Result<bool> {
    let Ok(Value::Array(images)) = json::value(MANIFEST, &container.read(MANIFEST)?) else {
        return Ok(false);
    };
    Ok(images.first().is_some_and(|image| image.get("Config").is_some() && image.get("Layers").is_some()))
}

/// Finds the image.
pub(super) fn find(container: &Arc<Container>, select: Select<'_>) -> Result<Found> {
    let image = choose(images(&container.read(MANIFEST)?)?, select)?;
    let config = match digest_of_name(&image.config) {
        Some(digest) => container.read_checked(&image.config, digest)?,
        None => container.read(&image.config)?,
    };
    manifest::check_platform(&config, select.platform)?;
    if image.layers.len() > MAX_LAYERS {
        let text = format!("{MANIFEST}: has {} layers; the limit is {MAX_LAYERS}", image.layers.len());
        return Err(Error::new(Code::Limit, text));
    }
    let layers = image.layers.into_iter().map(|name| Layer {
        container: Arc::clone(container),
        digest: name.strip_prefix("blobs/").and_then(|_| digest_of_name(&name)),
        name,
        size: None,
        diff_id: None,
    });
    layered(OriginKind::DockerArchive, config, image.names, layers.collect())
}

fn images(bytes: &[u8]) -> Result<Vec<Image>> {
    let Value::Array(values) = json::value(MANIFEST, bytes)? else {
        return Err(error(format!("{MANIFEST}: must be an array of images")));
    };
    let image = |(number, value): (usize, &Value)| {
        let name = format!("{MANIFEST}[{number}]");
        let Value::Object(fields) = value else { return Err(error(format!("{name}: must be an object"))) };
        let image = Object::new(name, fields);
        Ok(Image {
            config: image.required("Config")?,
            names: image.strings("RepoTags")?,
            layers: image.strings("Layers")?,
        })
    };
    values.iter().enumerate().map(image).collect()
}

fn choose(images: Vec<Image>, select: Select<'_>) -> Result<Image> {
    let all: Vec<String> = images
        .iter()
        .flat_map(|image| image.names.iter().chain(image.names.is_empty().then_some(&image.config)))
        .take(MAX_SHOWN)
        .map(|name| format!("{name:?}"))
        .collect();
    let all = all.join(", ");
    let is_wanted = |image: &Image| {
        select.name.is_none_or(|wanted| {
            image.config == wanted || image.names.iter().any(|name| is_name(name, wanted))
        })
    };
    let mut found: Vec<Image> = images.into_iter().filter(is_wanted).collect();
    let distinct: BTreeSet<&str> = found.iter().map(|image| &image.config[..]).collect();
    if distinct.len() > 1 {
        return Err(Error::invalid(format!("{MANIFEST}: there are several images, select one: {all}")));
    }
    found.pop().ok_or_else(|| match select.name {
        Some(wanted) => {
            Error::new(Code::NotFound, format!("{MANIFEST}: there is no image {wanted:?}; there are: {all}"))
        }
        None => error(format!("{MANIFEST}: has no image")),
    })
}
