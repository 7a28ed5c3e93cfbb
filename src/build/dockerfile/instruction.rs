//! One instruction, its variables still in it.

use serde_json::Value;

use super::flags::{self, Flag};
use super::lines::{Line, is_blank};
use super::refusal::{at, unsupported};
use super::words;
use crate::error::Result;

/// An instruction, and where it stands.
#[derive(Clone, Debug)]
pub(super) struct Parsed {
    pub(super) line: usize,
    pub(super) text: String,
    /// The character that escapes in it.
    pub(super) escape: char,
    pub(super) instruction: Instruction,
}

/// What follows a keyword, with its quotes and variables where docker replaces these.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Instruction {
    From(String),
    /// Names with their defaults.
    Arg(Vec<(String, Option<String>)>),
    Run {
        command: Command,
        /// What `--mount` has.
        mounts: Vec<String>,
    },
    Copy {
        is_add: bool,
        from: Option<String>,
        sources: Vec<String>,
        excludes: Vec<String>,
        destination: String,
        chown: Option<String>,
        chmod: Option<String>,
    },
    Env(Vec<(String, String)>),
    Label(Vec<(String, String)>),
    Workdir(String),
    User(String),
    Cmd(Command),
    Entrypoint(Command),
    Expose(Vec<String>),
    StopSignal(String),
    Shell(Vec<String>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Command {
    /// For the shell.
    Shell(String),
    /// A program and its arguments.
    Exec(Vec<String>),
}

/// Reads one instruction. `None` is one that has no effect, of which a warning says so.
pub(super) fn parse(line: &Line, escape: char, warnings: &mut Vec<String>) -> Result<Option<Parsed>> {
    let keyword = line.keyword.to_uppercase();
    let (flags, rest) = flags::split(&line.rest, escape);
    let mut reader = Reader { line, keyword: &keyword, flags, rest, escape, warnings };
    let Some(instruction) = reader.instruction()? else { return Ok(None) };
    let text = format!("{keyword} {}", line.rest);
    Ok(Some(Parsed { line: line.number, text, escape, instruction }))
}

struct Reader<'a> {
    line: &'a Line,
    keyword: &'a str,
    flags: Vec<Flag>,
    rest: &'a str,
    escape: char,
    warnings: &'a mut Vec<String>,
}

impl Reader<'_> {
    fn instruction(&mut self) -> Result<Option<Instruction>> {
        let instruction = match self.keyword {
            "FROM" => self.from()?,
            "ARG" => self.arg()?,
            "RUN" => self.run()?,
            "COPY" | "ADD" => self.copy()?,
            "ENV" => Instruction::Env(self.pairs()?),
            "LABEL" => Instruction::Label(self.pairs()?),
            "WORKDIR" => Instruction::Workdir(self.text()?),
            "USER" => Instruction::User(self.text()?),
            "CMD" => Instruction::Cmd(self.plain_command()?),
            "ENTRYPOINT" => Instruction::Entrypoint(self.plain_command()?),
            "EXPOSE" => {
                let text = self.text()?;
                Instruction::Expose(text.split_whitespace().map(str::to_owned).collect())
            }
            "STOPSIGNAL" => Instruction::StopSignal(self.text()?),
            "SHELL" => self.shell()?,
            "HEALTHCHECK" => return Ok(self.ignored("a sandbox's readiness is probed as its creator says")),
            "MAINTAINER" => return Ok(self.ignored("write LABEL org.opencontainers.image.authors=NAME")),
            "VOLUME" => {
                return Ok(
                    self.ignored("the directory is a part of the image, and a sandbox's own copy of it")
                );
            }
            "ONBUILD" => {
                let remedy = "a base image's are done, and none can be added: write it into the Dockerfiles that are built on this \
                              image";
                return Err(self.unsupported(&format!("isn't supported: {remedy}")));
            }
            _ => {
                let known = "FROM, RUN, COPY, ADD, ENV, ARG, WORKDIR, USER, CMD, ENTRYPOINT, EXPOSE, LABEL, SHELL \
                             and STOPSIGNAL";
                let text = format!("{:?} is no instruction: there are {known}", self.line.keyword);
                return Err(at(self.line.number, text));
            }
        };
        Ok(Some(instruction))
    }

    fn error(&self, text: &str) -> crate::error::Error {
        at(self.line.number, format!("{} {}: {text}", self.keyword, shown(&self.line.rest)))
    }

    fn unsupported(&self, text: &str) -> crate::error::Error {
        unsupported(self.line.number, format!("{} {}: {text}", self.keyword, shown(&self.line.rest)))
    }

    fn ignored(&mut self, why: &str) -> Option<Instruction> {
        self.warnings
            .push(format!("Dockerfile line {}: {} is ignored: {why}", self.line.number, self.keyword));
        None
    }

    fn without_flags(&self) -> Result<()> {
        match self.flags.first() {
            Some(flag) => Err(self.error(&format!("takes no option {}", flag.shown()))),
            None => Ok(()),
        }
    }

    /// All that follows, which must be something.
    fn text(&self) -> Result<String> {
        self.without_flags()?;
        if self.rest.is_empty() {
            return Err(self.error("must have a value"));
        }
        Ok(self.rest.to_owned())
    }

    fn from(&self) -> Result<Instruction> {
        if let Some(flag) = self.flags.first() {
            let text = match flag.name.as_str() {
                "platform" => "isn't supported: images are built for this machine's processor: remove it",
                _ => "is unknown",
            };
            return Err(self.unsupported(&format!("{} {text}", flag.shown())));
        }
        let words: Vec<&str> = self.rest.split_whitespace().collect();
        match words.as_slice() {
            [name] => Ok(Instruction::From((*name).to_owned())),
            [name, word, stage] if word.eq_ignore_ascii_case("as") => {
                let legal = stage.starts_with(|c: char| c.is_ascii_alphabetic())
                    && stage.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'));
                if !legal {
                    let rule = "must begin with a letter and have letters, digits, - _ and . only";
                    return Err(self.error(&format!("the stage's name {stage:?} {rule}")));
                }
                Ok(Instruction::From((*name).to_owned()))
            }
            _ => Err(self.error("must be FROM IMAGE or FROM IMAGE AS NAME")),
        }
    }

    fn arg(&self) -> Result<Instruction> {
        let text = self.text()?;
        let mut args = Vec::new();
        for word in words::split(&text, self.escape) {
            let (name, default) = match word.split_once('=') {
                Some((name, default)) => (name, Some(default.to_owned())),
                None => (word.as_str(), None),
            };
            if name.is_empty() {
                return Err(self.error("an argument must have a name: ARG NAME or ARG NAME=DEFAULT"));
            }
            args.push((name.to_owned(), default));
        }
        Ok(Instruction::Arg(args))
    }

    fn run(&mut self) -> Result<Instruction> {
        let mut mounts = Vec::new();
        for flag in &self.flags {
            let number = self.line.number;
            let value = flag.value(number, "RUN")?;
            match (flag.name.as_str(), value) {
                ("mount", _) => mounts.push(value.to_owned()),
                // Docker's defaults.
                ("network", "default") | ("security", "sandbox") => {}
                ("network", _) => {
                    let remedy = "what a build may reach is decided by the caller's policy: remove it";
                    return Err(unsupported(
                        number,
                        format!("RUN {}: isn't supported: {remedy}", flag.shown()),
                    ));
                }
                _ => return Err(unsupported(number, format!("RUN {}: isn't supported", flag.shown()))),
            }
        }
        let mut command = self.command()?;
        if let Some(first) = self.line.documents.first() {
            let Command::Shell(text) = &mut command else {
                return Err(self.error("the JSON form takes no here-document"));
            };
            if *text == first.word {
                if first.text.starts_with("#!") {
                    let remedy = "name the program: RUN python3 <<EOF";
                    return Err(self.unsupported(&format!(
                        "a here-document that begins with #! isn't supported: {remedy}"
                    )));
                }
                *text = first.content();
            } else {
                for document in &self.line.documents {
                    text.extend(["\n", &document.text, &document.name]);
                }
            }
        }
        Ok(Instruction::Run { command, mounts })
    }

    fn plain_command(&mut self) -> Result<Command> {
        self.without_flags()?;
        if self.rest.is_empty() {
            return Err(self.error("must have a command, or [] for none"));
        }
        self.form()
    }

    /// A command that is run, so it is not empty.
    fn command(&mut self) -> Result<Command> {
        let command = if self.rest.is_empty() { Command::Exec(Vec::new()) } else { self.form()? };
        match &command {
            Command::Exec(argv) if argv.is_empty() => {
                Err(self.error("must have a command, such as RUN apt-get update"))
            }
            _ => Ok(command),
        }
    }

    /// The JSON form, or else the shell's.
    fn form(&mut self) -> Result<Command> {
        if let Some(argv) = self.json()? {
            return Ok(Command::Exec(argv));
        }
        if self.rest.starts_with("[\"") || self.rest.starts_with("['") {
            self.warnings.push(format!(
                "Dockerfile line {}: {} begins with [ and is no JSON array of strings: it is taken for a shell's command",
                self.line.number, self.keyword
            ));
        }
        Ok(Command::Shell(self.rest.to_owned()))
    }

    /// An array of strings. `None` if it isn't JSON.
    fn json(&self) -> Result<Option<Vec<String>>> {
        if !self.rest.starts_with('[') {
            return Ok(None);
        }
        let Ok(values) = serde_json::from_str::<Vec<Value>>(self.rest) else { return Ok(None) };
        let mut strings = Vec::with_capacity(values.len());
        for value in values {
            match value {
                Value::String(text) if text.contains('\0') => {
                    return Err(self.error("contains a NUL byte, which no program can be given"));
                }
                Value::String(text) => strings.push(text),
                other => return Err(self.error(&format!("{other} must be a string, in double quotes"))),
            }
        }
        Ok(Some(strings))
    }

    fn copy(&self) -> Result<Instruction> {
        let (is_add, number) = (self.keyword == "ADD", self.line.number);
        flags::check_once(&self.flags, number, self.keyword, &["exclude"])?;
        let (mut from, mut chown, mut chmod, mut excludes) = (None, None, None, Vec::new());
        for flag in &self.flags {
            let value = || flag.value(number, self.keyword).map(str::to_owned);
            match flag.name.as_str() {
                "chown" => chown = Some(value()?),
                "chmod" => chmod = Some(value()?),
                "exclude" => excludes.push(value()?),
                "from" if !is_add => from = Some(value()?),
                // A layer of its own, which it is anyhow.
                "link" if flag.value.as_deref().is_none_or(|value| matches!(value, "true" | "false")) => {}
                name => {
                    let remedy = match name {
                        "parents" => "write a COPY for each directory",
                        "checksum" | "keep-git-dir" => "download it in a RUN",
                        "unpack" => "unpack it in a RUN",
                        _ => "there are --chown, --chmod, --exclude and COPY's --from",
                    };
                    let text = format!("{} {}: isn't supported: {remedy}", self.keyword, flag.shown());
                    return Err(unsupported(number, text));
                }
            }
        }
        if let Some(from) = from.as_deref().filter(|from| from.contains('$')) {
            return Err(
                self.error(&format!("--from={from}: variables are not replaced here, write the name"))
            );
        }
        let mut paths = match self.json()? {
            Some(paths) => paths,
            None => self.rest.split(is_blank).filter(|word| !word.is_empty()).map(str::to_owned).collect(),
        };
        let destination = paths.pop().filter(|_| !paths.is_empty());
        let Some(destination) = destination else {
            return Err(self.error("must have a source and a destination"));
        };
        for source in &paths {
            let lower = source.to_ascii_lowercase();
            let remote = ["http://", "https://", "git://", "ssh://", "git@", "ftp://"];
            if remote.iter().any(|scheme| lower.starts_with(scheme)) {
                let remedy = "download it in a RUN (with a policy that allows its host), or before the build and COPY it";
                return Err(
                    self.unsupported(&format!("{source:?} is no file of the build context: {remedy}"))
                );
            }
        }
        Ok(Instruction::Copy { is_add, from, sources: paths, excludes, destination, chown, chmod })
    }

    /// `NAME=value …`, or `NAME value` in the old form.
    fn pairs(&self) -> Result<Vec<(String, String)>> {
        let text = self.text()?;
        let words = words::split(&text, self.escape);
        if words.first().is_some_and(|word| !word.contains('=')) {
            return match text.split_once(is_blank) {
                Some((name, value)) => {
                    Ok(vec![(name.to_owned(), value.trim_start_matches(is_blank).to_owned())])
                }
                None => Err(self.error(&format!("must be {0} NAME=VALUE", self.keyword))),
            };
        }
        words
            .iter()
            .map(|word| match word.split_once('=') {
                Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
                Some(_) => Err(self.error(&format!("{word:?} has no name before the ="))),
                None => Err(self.error(&format!(
                    "{word:?} has no =: each must be NAME=VALUE, in double quotes if it has spaces"
                ))),
            })
            .collect()
    }

    fn shell(&self) -> Result<Instruction> {
        self.without_flags()?;
        match self.json()? {
            Some(argv) if !argv.is_empty() => Ok(Instruction::Shell(argv)),
            _ => Err(self.error("must be a JSON array, such as [\"/bin/bash\", \"-c\"]")),
        }
    }
}

/// The beginning of what was written, for errors.
fn shown(text: &str) -> String {
    const MOST: usize = 120;
    match text.char_indices().nth(MOST) {
        Some((at, _)) => format!("{}…", text.get(..at).unwrap_or_default()),
        None => text.to_owned(),
    }
}
