//! What a step depends on, as one digest.

use sha2::{Digest as _, Sha256};

use super::dockerfile::Run;
use super::settings::Settings;
use crate::image::Digest;

/// Changes whenever the same step would make something else.
const VERSION: u32 = 1;

/// A digest of fields, each with its length.
#[derive(Clone, Debug)]
pub(super) struct Key(Sha256);

impl Key {
    /// For a step of that kind on an image.
    pub(super) fn new(kind: &str, base: Option<&str>) -> Self {
        let mut key = Self(Sha256::new());
        key.add(format!("libsbx build step, version {VERSION}")).add(kind).add(base.unwrap_or("scratch"));
        key
    }

    pub(super) fn add(&mut self, field: impl AsRef<[u8]>) -> &mut Self {
        let field = field.as_ref();
        self.0.update((field.len() as u64).to_le_bytes());
        self.0.update(field);
        self
    }

    pub(super) fn list<T: AsRef<[u8]>>(&mut self, fields: impl ExactSizeIterator<Item = T>) -> &mut Self {
        self.0.update((fields.len() as u64).to_le_bytes());
        for field in fields {
            self.add(field);
        }
        self
    }

    /// The names and values of variables.
    fn variables(&mut self, variables: &[(String, String)]) -> &mut Self {
        self.list(variables.iter().map(|(name, value)| format!("{name}={value}")))
    }

    pub(super) fn finish(self) -> Digest {
        Digest::from(<[u8; 32]>::from(self.0.finalize()))
    }
}

/// Of a program that is run: what it is, and what it finds. Not what it may reach, and no secret's value.
pub(super) fn of_run(run: &Run, settings: &Settings) -> Digest {
    let mut key = Key::new("program", None);
    key.list(run.argv.iter()).variables(&run.args).variables(settings.env());
    key.add(settings.user()).add(settings.working_dir());
    let secrets = run.secrets.iter().map(|secret| {
        format!("{}:{}:{:o}:{}:{}", secret.id, secret.target, secret.mode, secret.uid, secret.gid)
    });
    key.list(secrets);
    key.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::ImageConfig;

    fn settings(env: &[(&str, &str)], user: &str) -> Settings {
        let mut settings = Settings::new(&ImageConfig::default(), "{}");
        let env: Vec<_> = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        settings.set_env(&env);
        settings.set_user(user);
        settings
    }

    fn run(argv: &[&str]) -> Run {
        Run {
            argv: argv.iter().map(|word| (*word).to_owned()).collect(),
            args: Vec::new(),
            proxies: Vec::new(),
            secrets: Vec::new(),
        }
    }

    #[test]
    fn everything_that_a_program_finds_counts() {
        let base = of_run(&run(&["x", "y"]), &settings(&[("A", "b")], ""));
        assert_eq!(base, of_run(&run(&["x", "y"]), &settings(&[("A", "b")], "")));
        let mut with_args = run(&["x", "y"]);
        with_args.args.push(("V".to_owned(), "1".to_owned()));
        let others = [
            of_run(&run(&["xy"]), &settings(&[("A", "b")], "")),
            of_run(&run(&["x", "y"]), &settings(&[("A", "c")], "")),
            of_run(&run(&["x", "y"]), &settings(&[("A", "b")], "web")),
            of_run(&with_args, &settings(&[("A", "b")], "")),
        ];
        assert!(!others.contains(&base));
    }

    #[test]
    fn settings_of_proxies_do_not_count() {
        let mut other = run(&["x"]);
        other.proxies.push(("http_proxy".to_owned(), "http://proxy.example".to_owned()));
        let settings = settings(&[], "");
        assert_eq!(of_run(&run(&["x"]), &settings), of_run(&other, &settings));
    }
}
