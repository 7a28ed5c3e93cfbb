//! Manifests: OCI's and docker's, of one image or of one for each platform.

use std::fmt;

use crate::error::{Code, Error, Result};
use crate::image::json::{self, Object};
use crate::image::{Digest, error};

/// The media types that a registry is asked for.
pub(super) const ACCEPT: &str = "application/vnd.oci.image.index.v1+json, \
     application/vnd.docker.distribution.manifest.list.v2+json, \
     application/vnd.oci.image.manifest.v1+json, \
     application/vnd.docker.distribution.manifest.v2+json";

const MAX_LAYERS: usize = 127;

/// The largest image that is fetched, compressed.
const MAX_BYTES: u64 = 1 << 40;

/// A blob of a registry: what it is, its digest and its size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Descriptor {
    pub(crate) media_type: String,
    pub(crate) digest: Digest,
    pub(crate) size: u64,
}

/// An image of one platform: its configuration and its layers, the lowest first.
#[derive(Clone, Debug)]
pub(crate) struct Manifest {
    /// The digest of the manifest itself.
    pub(crate) digest: Digest,
    pub(crate) config: Descriptor,
    /// The configuration, whose digest and size are as in its descriptor.
    pub(crate) config_bytes: Vec<u8>,
    pub(crate) layers: Vec<Descriptor>,
}

/// What an image runs on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Platform {
    os: String,
    architecture: String,
    variant: Option<String>,
}

impl Platform {
    /// This machine's.
    pub(crate) fn host() -> Self {
        // The names of Go, which images use.
        let (architecture, variant) = match std::env::consts::ARCH {
            "x86_64" => ("amd64", None),
            "aarch64" => ("arm64", None),
            "x86" => ("386", None),
            "arm" => ("arm", Some("v7".to_owned())),
            "powerpc64" if cfg!(target_endian = "little") => ("ppc64le", None),
            "loongarch64" => ("loong64", None),
            other => (other, None),
        };
        Self { os: "linux".to_owned(), architecture: architecture.to_owned(), variant }
    }

    /// The operating system's name.
    pub(crate) fn os(&self) -> &str {
        &self.os
    }

    /// The processor's name.
    pub(crate) fn architecture(&self) -> &str {
        &self.architecture
    }

    /// Reads `os/architecture` or `os/architecture/variant`.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let is_word = |word: &&str| {
            let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
            (1..=32).contains(&word.len()) && word.bytes().all(legal)
        };
        let parts: Vec<&str> = text.split('/').collect();
        let rule = "must be os/architecture or os/architecture/variant, as linux/arm64";
        let wrong = || Error::invalid(format!("platform {}: {rule}", crate::image::reference::shown(text)));
        if !parts.iter().all(is_word) {
            return Err(wrong());
        }
        let (os, architecture, variant) = match parts.as_slice() {
            [os, architecture] => (os, architecture, None),
            [os, architecture, variant] => (os, architecture, Some(variant)),
            _ => return Err(wrong()),
        };
        let architecture = match architecture.to_ascii_lowercase().as_str() {
            "x86_64" | "x86-64" => "amd64".to_owned(),
            "aarch64" => "arm64".to_owned(),
            other => other.to_owned(),
        };
        let variant = variant.map(|variant| variant.to_ascii_lowercase());
        Ok(Self { os: os.to_ascii_lowercase(), architecture, variant }.normal())
    }

    /// The default variant of arm64 is written or not.
    fn normal(mut self) -> Self {
        if self.architecture == "arm64" && self.variant.as_deref() == Some("v8") {
            self.variant = None;
        }
        self
    }

    /// How well an image of `other` suits, the least the best; `None` if it doesn't.
    fn rank(&self, other: &Self) -> Option<u32> {
        if (&self.os, &self.architecture) != (&other.os, &other.architecture) {
            return None;
        }
        match (&self.variant, &other.variant) {
            (own, other) if own == other => Some(0),
            (_, None) => Some(1),
            // A processor runs the older variants of its architecture; v9 and v10 aren't compared by their text.
            (Some(own), Some(other)) => {
                let (own, other) = (number(own)?, number(other)?);
                own.checked_sub(other).map(|distance| distance.saturating_add(2))
            }
            (None, Some(other)) if self.architecture == "arm" => {
                // Without a variant, v7 is meant, as docker does.
                7_u32.checked_sub(number(other)?).map(|distance| distance.saturating_add(2))
            }
            (None, Some(_)) => None,
        }
    }
}

fn number(variant: &str) -> Option<u32> {
    variant.strip_prefix('v')?.parse().ok()
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        match &self.variant {
            Some(variant) => write!(f, "/{variant}"),
            None => Ok(()),
        }
    }
}

/// What a manifest says.
#[derive(Debug)]
pub(crate) enum Document {
    /// Another manifest for each platform; this is the wanted one's.
    Index(Descriptor),
    /// One image.
    Image { config: Descriptor, layers: Vec<Descriptor> },
}

/// Reads a manifest. `served` is the media type by which the server calls it.
pub(crate) fn parse(bytes: &[u8], served: Option<&str>, platform: &Platform) -> Result<Document> {
    let fields = json::parse("manifest", bytes)?;
    let manifest = Object::new("manifest", &fields);
    let own = manifest.string("mediaType")?;
    let served = served.map(|served| served.split(';').next().unwrap_or_default().trim());
    let kind = kind(own.as_deref(), served)?;
    let has = |field: &str| fields.get(field).is_some_and(|value| !value.is_null());
    // What two readers could take for two things is refused (CVE-2021-41190).
    if has("manifests") && (has("layers") || has("config")) {
        return Err(error("manifest: has manifests and layers, so that it is ambiguous"));
    }
    match kind {
        Kind::Index => index(&manifest, platform).map(Document::Index),
        Kind::Image => image(&manifest),
        Kind::Unsaid if has("manifests") => index(&manifest, platform).map(Document::Index),
        Kind::Unsaid if has("layers") => image(&manifest),
        Kind::Unsaid if has("fsLayers") || has("signatures") => Err(schema1()),
        Kind::Unsaid => Err(error("manifest: has neither manifests nor layers")),
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Index,
    Image,
    /// No media type says it.
    Unsaid,
}

fn kind(own: Option<&str>, served: Option<&str>) -> Result<Kind> {
    let (own, served) = (kind_of(own)?, kind_of(served)?);
    match (own, served) {
        (Kind::Unsaid, kind) | (kind, Kind::Unsaid) => Ok(kind),
        (own, served) if own == served => Ok(own),
        _ => Err(error("manifest: the registry and the manifest itself give it two media types")),
    }
}

fn kind_of(media_type: Option<&str>) -> Result<Kind> {
    match media_type {
        Some(
            "application/vnd.oci.image.index.v1+json"
            | "application/vnd.docker.distribution.manifest.list.v2+json",
        ) => Ok(Kind::Index),
        Some(
            "application/vnd.oci.image.manifest.v1+json"
            | "application/vnd.docker.distribution.manifest.v2+json",
        ) => Ok(Kind::Image),
        Some(
            "application/vnd.docker.distribution.manifest.v1+json"
            | "application/vnd.docker.distribution.manifest.v1+prettyjws",
        ) => Err(schema1()),
        _ => Ok(Kind::Unsaid),
    }
}

fn schema1() -> Error {
    let text = "manifest: the image has docker's manifest of 2014 (schema 1), which is not supported: push it again with \
                a current docker, skopeo or crane";
    Error::new(Code::Unsupported, text)
}

/// The manifest of the platform that suits best; of several that suit alike the first, as docker does.
fn index(manifest: &Object<'_>, platform: &Platform) -> Result<Descriptor> {
    let mut best: Option<(u32, &Object<'_>)> = None;
    let mut others = Vec::new();
    let entries = manifest.objects("manifests")?;
    for entry in &entries {
        let Some(found) = entry.object("platform")? else { continue };
        let (Some(os), Some(architecture)) = (found.string("os")?, found.string("architecture")?) else {
            continue;
        };
        let found = Platform { os, architecture, variant: found.string("variant")? }.normal();
        match platform.rank(&found) {
            Some(rank) if best.is_none_or(|(least, _)| rank < least) => best = Some((rank, entry)),
            Some(_) => {}
            None => others.push(found),
        }
    }
    match best {
        Some((_, entry)) => descriptor(entry),
        // An index of one image without a platform, as some builders write it.
        None => match entries.as_slice() {
            [only] if only.object("platform")?.is_none() => descriptor(only),
            _ => Err(Error::new(Code::NotFound, no_platform(platform, &others))),
        },
    }
}

fn no_platform(platform: &Platform, others: &[Platform]) -> String {
    const MAX_SHOWN: usize = 20;
    // Attestations are of no platform.
    let known = others.iter().filter(|other| other.os != "unknown").take(MAX_SHOWN);
    let known: Vec<String> = known.map(|other| crate::image::reference::shown(&other.to_string())).collect();
    let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
    format!("there is no image for {platform}; there are: {known}")
}

fn image(manifest: &Object<'_>) -> Result<Document> {
    let config = manifest.object("config")?.ok_or_else(|| error("manifest: config: is missing"))?;
    let config = descriptor(&config)?;
    let is_config = matches!(
        config.media_type.as_str(),
        "application/vnd.oci.image.config.v1+json" | "application/vnd.docker.container.image.v1+json"
    );
    if !is_config {
        let media_type = crate::image::reference::shown(&config.media_type);
        return Err(error(format!("manifest: this is no image to run: its configuration is {media_type}")));
    }
    if config.size > json::MAX_JSON_BYTES as u64 {
        let (size, limit) = (config.size, json::MAX_JSON_BYTES);
        return Err(Error::new(
            Code::Limit,
            format!("manifest: config: has {size} bytes; the limit is {limit}"),
        ));
    }
    let entries = manifest.objects("layers")?;
    if entries.len() > MAX_LAYERS {
        let text = format!("manifest: has {} layers; the limit is {MAX_LAYERS}", entries.len());
        return Err(Error::new(Code::Limit, text));
    }
    let layers = entries.iter().map(layer).collect::<Result<Vec<_>>>()?;
    let bytes = layers.iter().try_fold(0_u64, |sum, layer| sum.checked_add(layer.size));
    if bytes.is_none_or(|bytes| bytes > MAX_BYTES) {
        return Err(Error::new(
            Code::Limit,
            format!("manifest: the layers have more than {MAX_BYTES} bytes"),
        ));
    }
    Ok(Document::Image { config, layers })
}

fn layer(entry: &Object<'_>) -> Result<Descriptor> {
    let layer = descriptor(entry)?;
    let is_foreign = layer.media_type.starts_with("application/vnd.oci.image.layer.nondistributable.")
        || layer.media_type.starts_with("application/vnd.docker.image.rootfs.foreign.");
    if is_foreign || !entry.strings("urls")?.is_empty() {
        let text = "is kept outside of the registry (a foreign layer, as of Windows), which is not supported";
        return Err(Error::new(Code::Unsupported, format!("{}: {text}", entry.name())));
    }
    match layer.media_type.as_str() {
        "application/vnd.oci.image.layer.v1.tar"
        | "application/vnd.oci.image.layer.v1.tar+gzip"
        | "application/vnd.oci.image.layer.v1.tar+zstd"
        | "application/vnd.docker.image.rootfs.diff.tar"
        | "application/vnd.docker.image.rootfs.diff.tar.gzip"
        | "application/vnd.docker.image.rootfs.diff.tar.zstd" => Ok(layer),
        other => {
            let other = crate::image::reference::shown(other);
            Err(error(format!("{}: is {other}, not files that are plain, gzip or zstd", entry.name())))
        }
    }
}

fn descriptor(entry: &Object<'_>) -> Result<Descriptor> {
    let digest = entry.required("digest")?;
    let digest = Digest::parse(&digest).ok_or_else(|| {
        let digest = crate::image::reference::shown(&digest);
        error(format!("{}: digest {digest}: must be sha256: and 64 digits 0-9 a-f", entry.name()))
    })?;
    Ok(Descriptor {
        media_type: entry.string("mediaType")?.unwrap_or_default(),
        digest,
        size: entry.number("size")?,
    })
}

/// Refuses a configuration of another platform, where a registry has but one image under a name.
pub(crate) fn check_platform(config: &[u8], platform: &Platform) -> Result<()> {
    let fields = json::parse("configuration", config)?;
    let config = Object::new("configuration", &fields);
    let (Some(os), Some(architecture)) = (config.string("os")?, config.string("architecture")?) else {
        return Ok(());
    };
    let found = Platform { os, architecture, variant: config.string("variant")? }.normal();
    if platform.rank(&found).is_none() {
        return Err(Error::new(Code::NotFound, no_platform(platform, &[found])));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    const INDEX: &str = "application/vnd.oci.image.index.v1+json";
    const IMAGE: &str = "application/vnd.docker.distribution.manifest.v2+json";

    fn read(json: &str, served: Option<&str>) -> Result<Document> {
        parse(json.as_bytes(), served, &Platform::parse("linux/amd64").unwrap())
    }

    fn refused(json: &str, served: Option<&str>) -> Error {
        read(json, served).unwrap_err()
    }

    fn with_layers(layers: &str) -> String {
        let config = "application/vnd.docker.container.image.v1+json";
        format!(r#"{{"config":{{"mediaType":"{config}","digest":"{A}","size":2}},"layers":[{layers}]}}"#)
    }

    fn layer_of(media_type: &str, more: &str) -> String {
        format!(r#"{{"mediaType":"{media_type}","digest":"{A}","size":2{more}}}"#)
    }

    /// Which entry of an index is taken; the entries' sizes are their numbers.
    fn chosen(wanted: &str, entries: &[&str]) -> Result<u64> {
        let entry = |(number, platform): (usize, &&str)| {
            let parts: Vec<&str> = platform.split('/').collect();
            let variant =
                parts.get(2).map(|variant| format!(r#","variant":"{variant}""#)).unwrap_or_default();
            let platform = format!(r#"{{"os":"{}","architecture":"{}"{variant}}}"#, parts[0], parts[1]);
            format!(r#"{{"digest":"{A}","size":{number},"platform":{platform}}}"#)
        };
        let entries: Vec<String> = entries.iter().enumerate().map(entry).collect();
        let json = format!(r#"{{"manifests":[{}]}}"#, entries.join(","));
        match parse(json.as_bytes(), Some(INDEX), &Platform::parse(wanted).unwrap())? {
            Document::Index(descriptor) => Ok(descriptor.size),
            Document::Image { .. } => panic!("an index was read as an image"),
        }
    }

    #[test]
    fn the_platform_that_suits_best_is_taken() {
        let all = [
            "unknown/unknown",
            "windows/amd64",
            "linux/arm/v5",
            "linux/arm/v7",
            "linux/arm64/v8",
            "linux/amd64",
        ];
        assert_eq!(chosen("linux/amd64", &all).unwrap(), 5);
        assert_eq!(chosen("linux/x86_64", &all).unwrap(), 5);
        assert_eq!(chosen("linux/arm64", &all).unwrap(), 4);
        assert_eq!(chosen("linux/aarch64/v8", &all).unwrap(), 4);
        assert_eq!(chosen("linux/arm/v7", &all).unwrap(), 3);
        assert_eq!(chosen("linux/arm", &all).unwrap(), 3);
        assert_eq!(chosen("linux/arm/v6", &all).unwrap(), 2);
        assert_eq!(chosen("linux/amd64", &["linux/amd64/v3", "linux/amd64", "linux/amd64"]).unwrap(), 1);
        assert_eq!(
            chosen("linux/amd64/v3", &["linux/amd64", "linux/amd64/v2", "linux/amd64/v4"]).unwrap(),
            0
        );
        let error = chosen("linux/riscv64", &all).unwrap_err();
        assert_eq!(error.code(), Code::NotFound);
        let known = r#""windows/amd64", "linux/arm/v5", "linux/arm/v7", "linux/arm64", "linux/amd64""#;
        assert_eq!(error.message(), format!("there is no image for linux/riscv64; there are: {known}"));
        assert!(chosen("linux/amd64", &[]).is_err());
        let bare = format!(r#"{{"manifests":[{{"digest":"{A}","size":7}}]}}"#);
        assert!(matches!(read(&bare, None), Ok(Document::Index(found)) if found.size == 7));
    }

    #[test]
    fn platforms_are_read_and_refused() {
        assert_eq!(Platform::parse("LINUX/ARM64/V8").unwrap().to_string(), "linux/arm64");
        assert_eq!(Platform::parse("linux/arm/v7").unwrap().to_string(), "linux/arm/v7");
        assert!(Platform::host().to_string().starts_with("linux/"));
        for bad in ["", "linux", "linux/", "/amd64", "a/b/c/d", "linux/amd 64", "linux/\u{e4}"] {
            assert_eq!(Platform::parse(bad).unwrap_err().code(), Code::Invalid, "{bad}");
        }
    }

    #[test]
    fn the_media_type_may_be_said_once_or_twice_but_not_in_two_ways() {
        let gzip = layer_of("application/vnd.docker.image.rootfs.diff.tar.gzip", "");
        for served in [
            None,
            Some(IMAGE),
            Some("application/vnd.docker.distribution.manifest.v2+json; charset=utf-8"),
            Some("text/plain"),
        ] {
            let document = read(&with_layers(&gzip), served).unwrap();
            assert!(matches!(document, Document::Image { layers, .. } if layers.len() == 1));
        }
        assert!(
            refused(&with_layers(&gzip), Some(INDEX)).message().contains("manifests")
                || read(&with_layers(&gzip), Some(INDEX)).is_err()
        );
        let both = with_layers(&gzip).replacen('{', r#"{"manifests":[],"#, 1);
        assert!(refused(&both, Some(IMAGE)).message().contains("ambiguous"));
        let other = with_layers(&gzip).replacen('{', &format!(r#"{{"mediaType":"{INDEX}","#), 1);
        assert!(refused(&other, Some(IMAGE)).message().contains("two media types"));
    }

    #[test]
    fn what_is_no_image_that_can_be_run_says_so() {
        let old = refused(r#"{"schemaVersion":1,"fsLayers":[],"history":[]}"#, None);
        assert!(old.code() == Code::Unsupported && old.message().contains("schema 1"), "{old}");
        let old = refused("{}", Some("application/vnd.docker.distribution.manifest.v1+prettyjws"));
        assert_eq!(old.code(), Code::Unsupported);
        for (layer, part) in [
            (layer_of("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", ""), "foreign layer"),
            (layer_of("application/vnd.oci.image.layer.nondistributable.v1.tar+zstd", ""), "foreign layer"),
            (
                layer_of("application/vnd.oci.image.layer.v1.tar", r#","urls":["https://a.example/"]"#),
                "foreign layer",
            ),
            (layer_of("application/vnd.cncf.helm.chart.content.v1.tar+gzip", ""), "not files that are plain"),
            (layer_of("application/vnd.oci.image.layer.v1.tar+encrypted", ""), "not files that are plain"),
            (
                r#"{"mediaType":"application/vnd.oci.image.layer.v1.tar","size":2}"#.to_owned(),
                "digest: is missing",
            ),
            (
                layer_of("application/vnd.oci.image.layer.v1.tar", "").replace("sha256", "sha512"),
                "must be sha256",
            ),
            (layer_of("application/vnd.oci.image.layer.v1.tar", "").replace(":2", ":-1"), "a whole number"),
            (
                layer_of("application/vnd.oci.image.layer.v1.tar", "").replace(":2", ":18446744073709551615"),
                "more than",
            ),
            ("3".to_owned(), "must be an object"),
        ] {
            let error = refused(&with_layers(&layer), Some(IMAGE));
            assert!(error.message().contains(part), "{layer}: {error}");
        }
        let many = vec![layer_of("application/vnd.oci.image.layer.v1.tar+zstd", ""); 128].join(",");
        assert_eq!(refused(&with_layers(&many), None).code(), Code::Limit);
        let artifact =
            with_layers("").replace("application/vnd.docker.container.image.v1+json", "application/vnd.x");
        assert!(refused(&artifact, None).message().contains("no image to run"));
        let large = with_layers("").replace(":2}", ":4194305}");
        assert_eq!(refused(&large, None).code(), Code::Limit);
        for json in ["", "[]", "{}", "{\"layers\":[]}", "{\"manifests\":3}", "{\"layers\":{}}"] {
            assert!(read(json, None).is_err(), "{json}");
        }
    }

    #[test]
    fn a_configuration_of_another_platform_is_refused() {
        let platform = Platform::parse("linux/amd64").unwrap();
        let check = |json: &str| check_platform(json.as_bytes(), &platform);
        assert!(check(r#"{"os":"linux","architecture":"amd64"}"#).is_ok());
        assert!(check("{}").is_ok());
        let error = check(r#"{"os":"linux","architecture":"arm64","variant":"v8"}"#).unwrap_err();
        assert_eq!(error.message(), "there is no image for linux/amd64; there are: \"linux/arm64\"");
        assert!(check("[]").is_err());
    }
}
