//! Replaces variables, and everything that is relative to an earlier instruction.

use std::collections::BTreeMap;

use super::instruction::{Command, Instruction, Parsed};
use super::recipe::{Copy, Recipe, Run, Step, StepKind};
use super::refusal::{at, unsupported};
use super::{flags, words};
use crate::error::{Code, Error, Result};
use crate::image::ImageConfig;

/// The bytes of everything that variables are replaced in, together.
pub(super) const MAX_EXPANDED_BYTES: usize = 8 * 1024 * 1024;
/// The arguments in scope at once.
pub(super) const MAX_ARGS: usize = 1024;
/// The ports of one EXPOSE.
const MAX_PORTS: usize = 4096;
/// What docker searches for programs in, where an image doesn't say.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Build arguments that need no ARG.
pub(super) fn is_proxy(name: &str) -> bool {
    let names = ["HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY"];
    names.iter().any(|each| *each == name || each.to_ascii_lowercase() == name)
}

/// What was read, and what variables are replaced by.
#[derive(Clone, Debug)]
pub(super) struct Unresolved {
    /// The build arguments that are passed, the last of a name.
    pub(super) passed: BTreeMap<String, String>,
    /// What ARG sets before FROM.
    pub(super) global: BTreeMap<String, String>,
    pub(super) parsed: Vec<Parsed>,
    pub(super) warnings: Vec<String>,
}

pub(super) fn resolve(file: &Unresolved, base: &ImageConfig) -> Result<Recipe> {
    let mut env: BTreeMap<String, String> = base.env.iter().cloned().collect();
    env.entry("PATH".to_owned()).or_insert_with(|| DEFAULT_PATH.to_owned());
    let mut state = State {
        file,
        env,
        args: Vec::new(),
        shell: match base.shell.as_slice() {
            [] => vec!["/bin/sh".to_owned(), "-c".to_owned()],
            shell => shell.to_vec(),
        },
        workdir: clean(base.working_dir.as_deref().unwrap_or("/")),
        has_cmd: false,
        left: MAX_EXPANDED_BYTES,
    };
    let mut steps = Vec::new();
    for parsed in &file.parsed {
        let Some(kind) = state.step(parsed)? else { continue };
        state.left = state.left.checked_sub(parsed.text.len()).ok_or_else(|| too_much(parsed.line))?;
        steps.push(Step { line: parsed.line, text: parsed.text.clone(), kind });
    }
    Ok(Recipe { steps, warnings: file.warnings.clone() })
}

pub(super) fn too_much(line: usize) -> Error {
    let text = format!("the Dockerfile has more than {MAX_EXPANDED_BYTES} bytes with its variables replaced");
    at(line, text).with_code(Code::Limit)
}

pub(super) fn too_many_args(line: usize) -> Error {
    at(line, format!("ARG: more than {MAX_ARGS} arguments")).with_code(Code::Limit)
}

struct State<'a> {
    file: &'a Unresolved,
    env: BTreeMap<String, String>,
    /// The build arguments in scope that have a value.
    args: Vec<(String, String)>,
    shell: Vec<String>,
    workdir: String,
    has_cmd: bool,
    /// How many bytes may still be made.
    left: usize,
}

impl State<'_> {
    /// What an instruction does. `None` if it only changes how others are read.
    fn step(&mut self, parsed: &Parsed) -> Result<Option<StepKind>> {
        Ok(Some(match &parsed.instruction {
            Instruction::From(_) => return Ok(None),
            Instruction::Arg(args) => {
                self.declare(parsed, args)?;
                return Ok(None);
            }
            Instruction::Shell(shell) => {
                self.shell.clone_from(shell);
                StepKind::Shell(shell.clone())
            }
            Instruction::Run { command, mounts } => self.run(parsed, command, mounts)?,
            Instruction::Copy { .. } => self.copy(parsed)?,
            Instruction::Env(pairs) => {
                let pairs = self.pairs(parsed, pairs)?;
                self.env.extend(pairs.iter().cloned());
                StepKind::Env(pairs)
            }
            Instruction::Label(pairs) => StepKind::Label(self.pairs(parsed, pairs)?),
            Instruction::Workdir(path) => {
                let path = self.value(parsed, path)?;
                self.workdir = self.absolute(&path);
                self.charge(parsed, self.workdir.len())?;
                StepKind::Workdir(self.workdir.clone())
            }
            Instruction::User(user) => StepKind::User(self.value(parsed, user)?),
            Instruction::Cmd(command) => {
                self.has_cmd = true;
                StepKind::Cmd(self.argv(parsed, command)?)
            }
            Instruction::Entrypoint(command) => {
                StepKind::Entrypoint { argv: self.argv(parsed, command)?, keeps_cmd: self.has_cmd }
            }
            Instruction::Expose(words) => StepKind::Expose(self.ports(parsed, words)?),
            Instruction::StopSignal(signal) => {
                let signal = self.value(parsed, signal)?;
                let is_name = signal.strip_prefix("SIG").unwrap_or(&signal).bytes().all(|byte| {
                    byte.is_ascii_uppercase() || byte.is_ascii_digit() || matches!(byte, b'+' | b'-')
                });
                let is_signal = match signal.parse::<u8>() {
                    Ok(number) => (1..=64).contains(&number),
                    Err(_) => is_name && !signal.bytes().all(|byte| byte.is_ascii_digit()),
                };
                if !is_signal {
                    let text = format!("{}: must be a signal such as SIGTERM, or its number", parsed.text);
                    return Err(at(parsed.line, text));
                }
                StepKind::StopSignal(signal)
            }
        }))
    }

    /// Counts what was made.
    fn charge(&mut self, parsed: &Parsed, bytes: usize) -> Result<()> {
        self.left = self.left.checked_sub(bytes).ok_or_else(|| too_much(parsed.line))?;
        Ok(())
    }

    fn expand(&mut self, parsed: &Parsed, text: &str) -> Result<String> {
        let value = |name: &str| {
            let arg = || self.args.iter().find(|(arg, _)| arg == name).map(|(_, value)| value);
            self.env.get(name).or_else(arg).cloned()
        };
        let expanded = words::expand(text, parsed.escape, &value)
            .map_err(|why| at(parsed.line, format!("{}: {why}", parsed.text)))?;
        self.charge(parsed, expanded.len())?;
        Ok(expanded)
    }

    /// What must not be empty.
    fn value(&mut self, parsed: &Parsed, text: &str) -> Result<String> {
        let value = self.expand(parsed, text)?;
        if value.trim().is_empty() {
            let text = format!("{}: is empty: its variables have no values", parsed.text);
            return Err(at(parsed.line, text));
        }
        Ok(value)
    }

    fn pairs(&mut self, parsed: &Parsed, pairs: &[(String, String)]) -> Result<Vec<(String, String)>> {
        let mut expanded = Vec::with_capacity(pairs.len());
        for (name, value) in pairs {
            let name = self.value(parsed, name)?;
            if name.contains('=') {
                let text = format!("{}: the name {name:?} must have no =", parsed.text);
                return Err(at(parsed.line, text));
            }
            expanded.push((name, self.expand(parsed, value)?));
        }
        Ok(expanded)
    }

    fn declare(&mut self, parsed: &Parsed, args: &[(String, Option<String>)]) -> Result<()> {
        for (name, default) in args {
            let name = self.value(parsed, name)?;
            let default = default.as_ref().map(|text| self.expand(parsed, text)).transpose()?;
            let (passed, global) = (self.file.passed.get(&name), self.file.global.get(&name));
            // A default is counted as it is made.
            let copied = if default.is_some() { passed } else { passed.or(global) };
            self.charge(parsed, copied.map_or(0, String::len))?;
            let Some(value) = copied.cloned().or(default) else { continue };
            self.args.retain(|(arg, _)| *arg != name);
            if self.args.len() >= MAX_ARGS {
                return Err(too_many_args(parsed.line));
            }
            self.args.push((name, value));
        }
        Ok(())
    }

    fn argv(&mut self, parsed: &Parsed, command: &Command) -> Result<Vec<String>> {
        let argv = match command {
            Command::Exec(argv) => argv.clone(),
            Command::Shell(text) => self.shell.iter().chain([text]).cloned().collect(),
        };
        self.charge(parsed, argv.iter().map(|word| size_of::<String>() + word.len()).sum())?;
        Ok(argv)
    }

    fn run(&mut self, parsed: &Parsed, command: &Command, mounts: &[String]) -> Result<StepKind> {
        let argv = self.argv(parsed, command)?;
        let mut secrets = Vec::new();
        for mount in mounts {
            let mount = self.expand(parsed, mount)?;
            secrets.push(flags::secret(&mount, parsed.line)?);
        }
        let args: Vec<(String, String)> =
            self.args.iter().filter(|(name, _)| !self.env.contains_key(name)).cloned().collect();
        let is_set = |name: &str| self.env.contains_key(name) || args.iter().any(|(arg, _)| arg == name);
        let passed = self.file.passed.iter();
        let proxies: Vec<(String, String)> = passed
            .filter(|(name, _)| is_proxy(name) && !is_set(name))
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect();
        let bytes = args.iter().chain(&proxies).map(|(name, value)| name.len() + value.len()).sum();
        self.charge(parsed, bytes)?;
        Ok(StepKind::Run(Run { argv, args, proxies, secrets }))
    }

    fn copy(&mut self, parsed: &Parsed) -> Result<StepKind> {
        let Instruction::Copy { is_add, from, sources, excludes, destination, chown, chmod } =
            &parsed.instruction
        else {
            debug_assert!(false, "only called for COPY and ADD");
            return Err(Error::new(Code::Internal, "not a COPY"));
        };
        let mut all = |texts: &[String]| -> Result<Vec<String>> {
            texts.iter().map(|text| self.value(parsed, text)).collect()
        };
        let (sources, excludes) = (all(sources)?, all(excludes)?);
        let written = self.value(parsed, destination)?;
        let is_directory = written.ends_with('/') || written == "." || written.ends_with("/.");
        let mut destination = self.absolute(&written);
        self.charge(parsed, destination.len())?;
        if is_directory && destination != "/" {
            destination.push('/');
        }
        if sources.len() > 1 && !is_directory {
            let text = format!("{}: has several sources, so the destination must end with a /", parsed.text);
            return Err(at(parsed.line, text));
        }
        let chown = chown.as_ref().map(|text| self.value(parsed, text)).transpose()?;
        let chmod = match chmod {
            None => None,
            Some(text) => Some(mode(parsed, &self.value(parsed, text)?)?),
        };
        let (context, is_add) = (from.clone(), *is_add);
        Ok(StepKind::Copy(Copy { context, sources, excludes, destination, chown, chmod, is_add }))
    }

    fn ports(&mut self, parsed: &Parsed, words: &[String]) -> Result<Vec<String>> {
        let mut ports = Vec::new();
        for word in words {
            let expanded = self.value(parsed, word)?;
            for port in expanded.split_whitespace() {
                expose(port, &mut ports).map_err(|why| {
                    at(parsed.line, format!("EXPOSE {port}: {why}, such as 8080, 53/udp or 8000-8010"))
                })?;
            }
        }
        self.charge(parsed, ports.iter().map(String::len).sum())?;
        Ok(ports)
    }

    fn absolute(&self, path: &str) -> String {
        match path.starts_with('/') {
            true => clean(path),
            false => clean(&format!("{}/{path}", self.workdir)),
        }
    }
}

fn mode(parsed: &Parsed, text: &str) -> Result<u32> {
    match u32::from_str_radix(text, 8) {
        Ok(mode) if mode <= 0o7777 && !text.starts_with('+') => Ok(mode),
        _ => {
            let rule = "must be an octal number such as 0755; letters such as u+x aren't supported";
            Err(unsupported(parsed.line, format!("{}: --chmod={text}: {rule}", parsed.text)))
        }
    }
}

fn expose(text: &str, ports: &mut Vec<String>) -> Result<(), String> {
    let (range, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let protocol = protocol.to_ascii_lowercase();
    if !matches!(protocol.as_str(), "tcp" | "udp" | "sctp") {
        return Err("the protocol must be tcp, udp or sctp".to_owned());
    }
    let (first, last) = range.split_once('-').unwrap_or((range, range));
    let port = |text: &str| text.parse::<u16>().ok().filter(|port| *port > 0 && !text.starts_with('+'));
    let (Some(first), Some(last)) = (port(first), port(last)) else {
        return Err("must be a port from 1 to 65535, or a range of them".to_owned());
    };
    if first > last {
        return Err("the range must go upwards".to_owned());
    }
    for port in first..=last {
        if ports.len() == MAX_PORTS {
            return Err(format!("more than {MAX_PORTS} ports"));
        }
        ports.push(format!("{port}/{protocol}"));
    }
    Ok(())
}

/// An absolute path without `.`, `..` and doubled slashes.
pub(super) fn clean(path: &str) -> String {
    let mut names: Vec<&str> = Vec::new();
    for name in path.split('/') {
        match name {
            "" | "." => {}
            ".." => drop(names.pop()),
            name => names.push(name),
        }
    }
    format!("/{}", names.join("/"))
}
