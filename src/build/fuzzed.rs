use super::dockerfile::{Dockerfile, Recipe};
use super::ignore::Ignore;
use crate::image::ImageConfig;

/// What a Dockerfile's text means, with a build argument and a base image that has an environment.
pub(crate) fn recipe(text: &str) -> Option<Recipe> {
    let argument = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let file = Dockerfile::parse(text, &[argument("A", "argument"), argument("http_proxy", "p")]).ok()?;
    let base = ImageConfig { env: vec![argument("B", "base")], ..ImageConfig::default() };
    file.resolve(&base).ok()
}

/// Whether a path is left out of a context, if the patterns can be read.
pub(crate) fn ignored(patterns: &str, path: &str) -> Option<bool> {
    Ignore::parse(patterns).ok().map(|ignore| ignore.ignores_path(path).0)
}
