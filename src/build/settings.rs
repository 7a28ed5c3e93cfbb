//! The configuration of an image, as the steps of a build change it.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use crate::error::{Code, Error, Result};
use crate::image::ImageConfig;

/// What the configuration says by now.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    /// As it came with the image that the build began with.
    original: String,
    changed: bool,
    env: Vec<(String, String)>,
    working_dir: String,
    user: String,
    entrypoint: Vec<String>,
    cmd: Vec<String>,
    ports: BTreeSet<String>,
    labels: BTreeMap<String, String>,
    stop_signal: Option<String>,
    shell: Vec<String>,
}

impl Settings {
    /// Those of an image.
    pub(super) fn new(config: &ImageConfig, json: &str) -> Self {
        Self {
            original: json.to_owned(),
            // Its triggers are for the build that begins with it, not for those that begin with what that makes.
            changed: !config.on_build.is_empty(),
            env: config.env.clone(),
            working_dir: config.working_dir.clone().unwrap_or_default(),
            user: config.user.clone().unwrap_or_default(),
            entrypoint: config.entrypoint.clone(),
            cmd: config.cmd.clone(),
            ports: config.exposed_ports.iter().cloned().collect(),
            labels: config.labels.clone(),
            stop_signal: config.stop_signal.clone(),
            shell: config.shell.clone(),
        }
    }

    pub(super) fn env(&self) -> &[(String, String)] {
        &self.env
    }

    pub(super) fn user(&self) -> &str {
        &self.user
    }

    /// The directory that steps work in, an absolute path.
    pub(super) fn working_dir(&self) -> &str {
        if self.working_dir.is_empty() { "/" } else { &self.working_dir }
    }

    pub(super) fn set_env(&mut self, variables: &[(String, String)]) {
        for (name, value) in variables {
            match self.env.iter_mut().find(|(other, _)| other == name) {
                Some((_, old)) => value.clone_into(old),
                None => self.env.push((name.clone(), value.clone())),
            }
        }
        self.changed = true;
    }

    /// Sets the directory, an absolute path.
    pub(super) fn set_working_dir(&mut self, path: &str) {
        path.clone_into(&mut self.working_dir);
        self.changed = true;
    }

    pub(super) fn set_user(&mut self, user: &str) {
        user.clone_into(&mut self.user);
        self.changed = true;
    }

    pub(super) fn set_cmd(&mut self, argv: &[String]) {
        self.cmd = argv.to_vec();
        self.changed = true;
    }

    /// Sets the entrypoint. A command of the image's own was for its own entrypoint, and goes.
    pub(super) fn set_entrypoint(&mut self, argv: &[String], keeps_cmd: bool) {
        self.entrypoint = argv.to_vec();
        if !keeps_cmd {
            self.cmd.clear();
        }
        self.changed = true;
    }

    /// Adds ports, each with its protocol.
    pub(super) fn expose(&mut self, ports: &[String]) {
        self.ports.extend(ports.iter().cloned());
        self.changed = true;
    }

    pub(super) fn label(&mut self, labels: &[(String, String)]) {
        self.labels.extend(labels.iter().cloned());
        self.changed = true;
    }

    pub(super) fn set_stop_signal(&mut self, signal: &str) {
        self.stop_signal = Some(signal.to_owned());
        self.changed = true;
    }

    pub(super) fn set_shell(&mut self, argv: &[String]) {
        self.shell = argv.to_vec();
        self.changed = true;
    }

    /// The configuration as an image has it. The same steps give the same text; without any it is that of the image that
    /// the build began with.
    pub(super) fn json(&self) -> Result<String> {
        if !self.changed {
            return Ok(self.original.clone());
        }
        let bad = |cause| Error::new(Code::Image, format!("image configuration: is not valid JSON: {cause}"));
        let mut root: Map<String, Value> = serde_json::from_str(&self.original).map_err(bad)?;
        let mut config = match root.remove("config") {
            Some(Value::Object(config)) => config,
            _ => Map::new(),
        };
        let object = |names: &BTreeSet<String>| -> Value {
            Value::Object(names.iter().map(|name| (name.clone(), json!({}))).collect())
        };
        let env: Vec<String> = self.env.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let fields = [
            ("Env", json!(env), self.env.is_empty()),
            ("WorkingDir", json!(self.working_dir), self.working_dir.is_empty()),
            ("User", json!(self.user), self.user.is_empty()),
            ("Entrypoint", json!(self.entrypoint), self.entrypoint.is_empty()),
            ("Cmd", json!(self.cmd), self.cmd.is_empty()),
            ("ExposedPorts", object(&self.ports), self.ports.is_empty()),
            ("Labels", json!(self.labels), self.labels.is_empty()),
            ("StopSignal", json!(self.stop_signal), self.stop_signal.is_none()),
            ("Shell", json!(self.shell), self.shell.is_empty()),
            ("OnBuild", Value::Null, true),
        ];
        for (name, value, is_empty) in fields {
            if is_empty {
                config.remove(name);
            } else {
                config.insert(name.to_owned(), value);
            }
        }
        root.insert("config".to_owned(), Value::Object(config));
        // The layers and steps of another image.
        root.remove("history");
        root.insert("rootfs".to_owned(), json!({ "type": "layers", "diff_ids": [] }));
        Ok(Value::Object(root).to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: &str = r#"{"os":"linux","history":[{}],"config":{"Env":["PATH=/bin","A=1"],"Cmd":["sh"],"User":"web",
        "WorkingDir":"/srv","ExposedPorts":{"80/tcp":{}},"Healthcheck":{"Test":["NONE"]}},
        "rootfs":{"type":"layers","diff_ids":[]}}"#;

    fn settings() -> Settings {
        Settings::new(&ImageConfig::parse(BASE.as_bytes()).unwrap(), BASE)
    }

    fn words(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    fn pair(name: &str, value: &str) -> (String, String) {
        (name.to_owned(), value.to_owned())
    }

    #[test]
    fn without_a_step_it_is_the_images_own() {
        assert_eq!(settings().json().unwrap(), BASE);
    }

    #[test]
    fn what_steps_set_is_read_back_and_the_rest_stays() {
        let mut settings = settings();
        settings.set_env(&[pair("A", "2"), pair("B", "x=y")]);
        settings.expose(&words(&["443/tcp", "53/udp"]));
        settings.label(&[pair("l", "v")]);
        settings.set_user("0");
        settings.set_stop_signal("SIGINT");
        settings.set_shell(&words(&["/bin/bash", "-c"]));
        settings.set_working_dir("/srv/app");
        let json = settings.json().unwrap();
        assert_eq!(json, settings.clone().json().unwrap());
        let config = ImageConfig::parse(json.as_bytes()).unwrap();
        assert_eq!(config.env, [pair("PATH", "/bin"), pair("A", "2"), pair("B", "x=y")]);
        assert_eq!(config.exposed_ports, ["443/tcp", "53/udp", "80/tcp"]);
        assert_eq!((config.user.as_deref(), config.working_dir.as_deref()), (Some("0"), Some("/srv/app")));
        assert_eq!((config.cmd, config.stop_signal.as_deref()), (words(&["sh"]), Some("SIGINT")));
        assert_eq!(config.shell, ["/bin/bash", "-c"]);
        assert!(json.contains("Healthcheck") && !json.contains("history"), "{json}");
    }

    #[test]
    fn the_triggers_of_the_base_are_not_the_images() {
        let base = r#"{"os":"linux","config":{"OnBuild":["RUN x"],"Cmd":["sh"]}}"#;
        let json = Settings::new(&ImageConfig::parse(base.as_bytes()).unwrap(), base).json().unwrap();
        let config = ImageConfig::parse(json.as_bytes()).unwrap();
        assert_eq!((config.on_build, config.cmd), (words(&[]), words(&["sh"])));
    }

    #[test]
    fn an_entrypoint_removes_the_images_command_and_not_the_builds() {
        let mut settings = settings();
        settings.set_entrypoint(&words(&["/entry"]), false);
        assert_eq!(settings.cmd, [""; 0]);
        settings.set_cmd(&words(&["a"]));
        settings.set_entrypoint(&words(&["/other"]), true);
        assert_eq!(settings.cmd, ["a"]);
    }
}
