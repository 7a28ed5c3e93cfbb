//! The OCI image layout: `oci-layout`, `index.json` and `blobs/`.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::{Map, Value};

use super::container::{Container, blob};
use super::{Found, Layer, Select, layered};
use crate::error::{Code, Error, Result};
use crate::image::json::{self, Object};
use crate::image::reference::Reference;
use crate::image::registry::manifest::{self, Descriptor, Document};
use crate::image::store::OriginKind;
use crate::image::{Digest, error};

pub(super) const INDEX: &str = "index.json";
pub(super) const MARKER: &str = "oci-layout";
/// Indexes in indexes.
const MAX_DEPTH: u32 = 4;
/// Names that an error lists.
const MAX_SHOWN: usize = 20;

/// Finds the image. Every part is checked against the digest that names it; only `index.json` has none.
pub(super) fn find(container: &Arc<Container>, select: Select<'_>) -> Result<Found> {
    let index = container.read(INDEX)?;
    let (names, index) = choose(&index, select)?;
    let mut document = manifest::parse(&index, None, select.platform)?;
    for _ in 0..MAX_DEPTH {
        let descriptor = match document {
            Document::Index(descriptor) => descriptor,
            Document::Image { config, layers } => {
                let bytes = read(container, &config)?;
                manifest::check_platform(&bytes, select.platform)?;
                let layers = layers.iter().map(|layer| Layer {
                    container: Arc::clone(container),
                    name: blob(layer.digest),
                    digest: Some(layer.digest),
                    size: Some(layer.size),
                    diff_id: None,
                });
                return layered(OriginKind::OciLayout, bytes, names, layers.collect());
            }
        };
        let bytes = read(container, &descriptor)?;
        document = manifest::parse(&bytes, Some(&descriptor.media_type), select.platform)?;
    }
    Err(error(format!("{INDEX}: has more than {MAX_DEPTH} indexes in one another")))
}

fn read(container: &Container, descriptor: &Descriptor) -> Result<Vec<u8>> {
    let bytes = container.read_checked(&blob(descriptor.digest), descriptor.digest)?;
    if bytes.len() as u64 != descriptor.size {
        let (digest, size) = (descriptor.digest, descriptor.size);
        return Err(error(format!("{digest}: has {} bytes, not {size} as its descriptor says", bytes.len())));
    }
    Ok(bytes)
}

/// The index with the entries of one name only, and the names that these have.
fn choose(index: &[u8], select: Select<'_>) -> Result<(Vec<String>, Vec<u8>)> {
    let fields = json::parse(INDEX, index)?;
    let entries = Object::new(INDEX, &fields).objects("manifests")?;
    let mut found: Vec<(Option<String>, &Value)> = Vec::new();
    let mut digests = BTreeSet::new();
    let values = fields.get("manifests").and_then(Value::as_array).into_iter().flatten();
    for (entry, value) in entries.iter().zip(values) {
        let names = names(entry)?;
        let wanted = select.name.is_none_or(|wanted| names.iter().any(|name| is_name(name, wanted)));
        let digest = Digest::parse(&entry.required("digest")?);
        if wanted {
            found.push((names.into_iter().next(), value));
            digests.insert(digest);
        }
    }
    let distinct: BTreeSet<&str> = found.iter().filter_map(|(name, _)| name.as_deref()).collect();
    let list = |names: &BTreeSet<&str>| {
        let shown: Vec<String> = names.iter().take(MAX_SHOWN).map(|name| format!("{name:?}")).collect();
        if shown.is_empty() { "none has a name".to_owned() } else { shown.join(", ") }
    };
    match select.name {
        Some(wanted) if found.is_empty() => {
            let all: Vec<String> = entries.iter().map(names).collect::<Result<Vec<_>>>()?.concat();
            let all: BTreeSet<&str> = all.iter().map(String::as_str).collect();
            let text = format!("{INDEX}: there is no image {wanted:?}; there are: {}", list(&all));
            return Err(Error::new(Code::NotFound, text));
        }
        None if distinct.len() > 1 && digests.len() > 1 => {
            return Err(Error::invalid(format!(
                "{INDEX}: there are several images, select one: {}",
                list(&distinct)
            )));
        }
        _ => {}
    }
    let names = distinct.into_iter().map(str::to_owned).collect();
    let mut seen = BTreeSet::new();
    let mut chosen: Vec<Value> = found
        .into_iter()
        .map(|(_, value)| without_names(value))
        .filter(|value| seen.insert(value.to_string()))
        .collect();
    // One entry is followed whatever its platform says or doesn't: what it leads to is checked.
    if let [Value::Object(only)] = chosen.as_mut_slice() {
        only.remove("platform");
    }
    let index = Map::from_iter([("manifests".to_owned(), Value::Array(chosen))]);
    Ok((names, Value::Object(index).to_string().into_bytes()))
}

/// An entry as it is under any of its names.
fn without_names(entry: &Value) -> Value {
    let mut entry = entry.clone();
    if let Value::Object(fields) = &mut entry {
        fields.remove("annotations");
    }
    entry
}

/// The names of an entry, the fullest first: containerd's and docker's, then that of the layout, often only a tag.
fn names(entry: &Object<'_>) -> Result<Vec<String>> {
    let Some(annotations) = entry.object("annotations")? else { return Ok(Vec::new()) };
    let known = ["io.containerd.image.name", "org.opencontainers.image.ref.name"];
    known.iter().filter_map(|name| annotations.string(name).transpose()).collect()
}

/// Whether a name is the wanted one, also where one of them leaves out what is usual.
pub(super) fn is_name(name: &str, wanted: &str) -> bool {
    let full = |name: &str| Reference::parse(name).map(|reference| reference.to_string());
    name == wanted || matches!((full(name), full(wanted)), (Ok(name), Ok(wanted)) if name == wanted)
}
