//! The configuration of an image: what its maker says about running it.

use std::collections::BTreeMap;

use serde_json::Map;

use super::json::{self, Object};
use super::{Digest, error};
use crate::error::Result;

/// The configuration of an image, as OCI and docker define it.
///
/// A sandbox's own settings win over it. The ports are only a hint: none is opened because of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ImageConfig {
    /// The program and its first arguments.
    pub entrypoint: Vec<String>,
    /// The arguments after the entrypoint, or the command where there is no entrypoint.
    pub cmd: Vec<String>,
    /// The environment, in the image's order.
    pub env: Vec<(String, String)>,
    /// The directory that programs start in.
    pub working_dir: Option<String>,
    /// The user that programs run as: `name`, `uid`, `name:group` or `uid:gid`. Root if there is none.
    pub user: Option<String>,
    /// The ports that the image's servers listen on, such as `80/tcp`.
    pub exposed_ports: Vec<String>,
    /// The labels.
    pub labels: BTreeMap<String, String>,
    /// The signal that asks the image's program to end, such as `SIGQUIT`.
    pub stop_signal: Option<String>,
    /// The processor that the programs are for, in Go's words (`amd64`). Empty if the image doesn't say.
    pub architecture: String,
    /// The operating system that the programs are for (`linux`). Empty if the image doesn't say.
    pub os: String,
    /// The processor's variant, such as `v8`.
    pub variant: Option<String>,
    /// What builds run commands with, where a Dockerfile doesn't say. Empty if the image doesn't either.
    pub(crate) shell: Vec<String>,
    /// The instructions that a build on the image begins with.
    pub(crate) on_build: Vec<String>,
    /// Why those can't be read, which only a build need know.
    pub(crate) on_build_error: Option<String>,
    /// The digests of the uncompressed layers, the oldest first.
    pub(crate) diff_ids: Vec<Digest>,
}

impl ImageConfig {
    /// Reads the JSON of an image's configuration. Unknown fields are ignored.
    pub(crate) fn parse(json: &[u8]) -> Result<Self> {
        let fields = json::parse("image configuration", json)?;
        let root = Object::new("image configuration", &fields);
        let none = Map::new();
        let config = root.object("config")?.unwrap_or(Object::new("image configuration: config", &none));
        let rootfs = root.object("rootfs")?.unwrap_or(Object::new("image configuration: rootfs", &none));
        let labels = config.object("Labels")?.map(|labels| labels.texts()).transpose()?;
        let ports = config.object("ExposedPorts")?;
        let (on_build, on_build_error) = match config.strings("OnBuild") {
            Ok(instructions) => (instructions, None),
            Err(error) => (Vec::new(), Some(error.message().to_owned())),
        };
        Ok(Self {
            entrypoint: config.command("Entrypoint")?,
            cmd: config.command("Cmd")?,
            env: config.strings("Env")?.iter().map(|entry| variable(entry)).collect::<Result<_>>()?,
            working_dir: config.string("WorkingDir")?,
            user: config.string("User")?,
            exposed_ports: ports.iter().flat_map(Object::keys).map(str::to_owned).collect(),
            labels: labels.into_iter().flatten().collect(),
            stop_signal: config.string("StopSignal")?,
            shell: config.strings("Shell")?,
            on_build,
            on_build_error,
            architecture: root.string("architecture")?.unwrap_or_default(),
            os: root.string("os")?.unwrap_or_default(),
            variant: root.string("variant")?,
            diff_ids: rootfs.strings("diff_ids")?.iter().map(|id| diff_id(id)).collect::<Result<_>>()?,
        })
    }

    /// The command that runs, by docker's rules: a command replaces the image's `Cmd` and is appended to the entrypoint;
    /// an entrypoint replaces the image's and clears its `Cmd`; an empty entrypoint removes the image's and keeps its
    /// `Cmd`, unless there is a command. Empty if neither side names a program.
    pub fn command(&self, entrypoint: Option<&[String]>, command: &[String]) -> Vec<String> {
        let keeps_cmd = command.is_empty() && entrypoint.is_none_or(<[String]>::is_empty);
        let arguments = if keeps_cmd { &self.cmd } else { command };
        entrypoint.unwrap_or(&self.entrypoint).iter().chain(arguments).cloned().collect()
    }
}

/// Splits `NAME=value`. One without a name or a value part fails in docker, too, when a container starts.
fn variable(entry: &str) -> Result<(String, String)> {
    match entry.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err(error(format!("image configuration: config: Env: {entry:?} must be NAME=value"))),
    }
}

fn diff_id(text: &str) -> Result<Digest> {
    Digest::parse(text).ok_or_else(|| {
        error(format!(
            "image configuration: rootfs: diff_ids: {text:?} must be sha256: and 64 hexadecimal digits"
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strings(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }

    const DOCKERS: &str = r#"{
        "architecture": "arm64", "os": "linux", "variant": "v8", "created": "2026-01-01T00:00:00Z",
        "history": [{"created_by": "x"}],
        "rootfs": {"type": "layers", "diff_ids": [
            "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"]},
        "config": {
            "Entrypoint": ["/entry", "-x"], "Cmd": "serve", "Env": ["PATH=/bin", "A=b=c", "EMPTY="],
            "WorkingDir": "/srv", "User": "app:app", "ExposedPorts": {"80/tcp": {}, "53/udp": {}},
            "Labels": {"a": "b", "none": null}, "StopSignal": "SIGQUIT", "Volumes": {"/data": {}}, "OnBuild": null
        }
    }"#;

    #[test]
    fn a_configuration_as_docker_writes_it_is_read() {
        let config = ImageConfig::parse(DOCKERS.as_bytes()).unwrap();
        assert_eq!(config.entrypoint, ["/entry", "-x"]);
        assert_eq!(config.cmd, ["serve"]);
        let env = [("PATH", "/bin"), ("A", "b=c"), ("EMPTY", "")];
        assert_eq!(config.env, env.map(|(name, value)| (name.to_owned(), value.to_owned())));
        assert_eq!(config.working_dir.as_deref(), Some("/srv"));
        assert_eq!(config.user.as_deref(), Some("app:app"));
        assert_eq!(config.exposed_ports, ["53/udp", "80/tcp"]);
        assert_eq!(config.labels.get("a").map(String::as_str), Some("b"));
        assert_eq!(config.stop_signal.as_deref(), Some("SIGQUIT"));
        assert_eq!((&config.os[..], &config.architecture[..]), ("linux", "arm64"));
        assert_eq!(config.variant.as_deref(), Some("v8"));
        assert_eq!(config.diff_ids, [Digest::of(b"")]);
    }

    #[test]
    fn what_is_not_said_is_empty() {
        for json in
            ["{}", r#"{"config":null}"#, r#"{"config":{"Cmd":null,"Env":null,"User":"","Labels":null}}"#]
        {
            assert_eq!(ImageConfig::parse(json.as_bytes()).unwrap(), ImageConfig::default(), "{json}");
        }
    }

    #[test]
    fn a_bad_value_is_an_error_that_names_it() {
        for (json, text) in [
            (r#"{"config":{"Env":["A"]}}"#, r#"config: Env: "A" must be NAME=value"#),
            (r#"{"config":{"Env":["=b"]}}"#, r#"config: Env: "=b" must be NAME=value"#),
            (r#"{"config":{"Cmd":{"a":1}}}"#, "config: Cmd: is an object, must be an array of strings"),
            (r#"{"config":{"ExposedPorts":["80"]}}"#, "config: ExposedPorts: is an array, must be an object"),
            (r#"{"os":1}"#, "os: is a number, must be a string"),
            (r#"{"rootfs":{"diff_ids":["sha512:00"]}}"#, "must be sha256: and 64 hexadecimal digits"),
        ] {
            let error = ImageConfig::parse(json.as_bytes()).unwrap_err();
            assert!(error.message().ends_with(text), "{error}");
        }
    }

    #[test]
    fn triggers_that_cannot_be_read_are_an_error_of_builds_only() {
        let config =
            ImageConfig::parse(br#"{"os":"linux","config":{"OnBuild":{"a":1},"Cmd":["sh"]}}"#).unwrap();
        assert_eq!((&config.cmd[..], &config.on_build[..]), (&strings(&["sh"])[..], &[][..]));
        let why = config.on_build_error.unwrap();
        assert!(why.ends_with("config: OnBuild: is an object, must be an array of strings"), "{why}");
    }

    #[test]
    fn command_and_entrypoint_go_together_as_in_docker() {
        let image = |entrypoint: &[&str], cmd: &[&str]| ImageConfig {
            entrypoint: strings(entrypoint),
            cmd: strings(cmd),
            ..ImageConfig::default()
        };
        let both = image(&["/entry"], &["serve"]);
        let only_cmd = image(&[], &["sh"]);
        for (config, entrypoint, command, expected) in [
            (&both, None, &[][..], &["/entry", "serve"][..]),
            (&both, None, &["test"], &["/entry", "test"]),
            (&both, Some(&["/other"][..]), &[], &["/other"]),
            (&both, Some(&["/other"]), &["test"], &["/other", "test"]),
            (&both, Some(&[]), &[], &["serve"]),
            (&both, Some(&[]), &["test"], &["test"]),
            (&only_cmd, None, &[], &["sh"]),
            (&only_cmd, None, &["ls"], &["ls"]),
            (&only_cmd, Some(&["/other"]), &[], &["/other"]),
            (&image(&[], &[]), None, &[], &[]),
        ] {
            let entrypoint = entrypoint.map(strings);
            let command = config.command(entrypoint.as_deref(), &strings(command));
            assert_eq!(command, strings(expected), "{entrypoint:?}");
        }
    }
}
