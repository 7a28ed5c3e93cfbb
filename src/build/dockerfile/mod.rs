//! Reads a Dockerfile: a subset of docker's language, with its meaning.
//!
//! One stage, whose instructions are FROM, RUN, COPY, ADD, ENV, ARG, WORKDIR, USER, CMD, ENTRYPOINT, EXPOSE, LABEL, SHELL and
//! STOPSIGNAL. What is left out is refused by name, or where it has no effect on the image it is ignored with a warning.
//! The base's own instructions for builds on it (ONBUILD) come first ([`Dockerfile::with_triggers`]).
//!
//! It is read in two steps, since variables can have values from the base image's environment: [`Dockerfile::parse`], and
//! when the base is known [`Dockerfile::resolve`].

mod flags;
mod instruction;
mod lines;
mod recipe;
mod refusal;
mod resolve;
mod words;

use std::collections::BTreeMap;

#[allow(unused_imports, reason = "for the executor of builds")]
pub(crate) use flags::is_secret_id;
use instruction::Instruction;
pub(crate) use recipe::{Base, Copy, Recipe, Run, SecretMount, Step, StepKind};
use refusal::{at, unsupported};
use resolve::Unresolved;

use crate::error::{Code, Error, Result};
use crate::image::ImageConfig;

/// How many instructions a base image may have for the builds on it: as many as a Dockerfile.
const MAX_TRIGGERS: usize = lines::MAX_INSTRUCTIONS;
/// How much of one an error shows.
const MAX_SHOWN_TRIGGER: usize = 120;

/// A Dockerfile that was read. The values of its variables are still missing.
#[derive(Clone, Debug)]
pub(crate) struct Dockerfile {
    base: Base,
    /// The line of FROM.
    base_line: usize,
    /// The names that an ARG has.
    declared: Vec<String>,
    steps: Unresolved,
}

impl Dockerfile {
    /// Reads the text of a Dockerfile. `args` are build arguments.
    pub(crate) fn parse(text: &str, args: &[(String, String)]) -> Result<Self> {
        let passed = passed(args)?;
        let (escape, lines) = lines::read(text)?;
        let mut warnings = Vec::new();
        let mut parsed = Vec::new();
        for line in &lines {
            parsed.extend(instruction::parse(line, escape, &mut warnings)?);
        }
        let mut global = platform();
        let mut left = resolve::MAX_EXPANDED_BYTES;
        let (mut base, mut base_line) = (None, 0);
        let mut declared: Vec<String> = Vec::new();
        let mut steps = Vec::new();
        for each in parsed {
            match (&each.instruction, &base) {
                (Instruction::From(name), None) => {
                    base = Some(base_image(each.line, name, escape, &global)?);
                    base_line = each.line;
                }
                (Instruction::From(_), Some(_)) => {
                    let text = format!(
                        "{}: a second stage isn't supported: build the first one as an image of its own, or copy its \
                         files from a named context (COPY --from=NAME)",
                        each.text
                    );
                    return Err(unsupported(each.line, text));
                }
                (Instruction::Arg(args), _) => {
                    declared.extend(args.iter().map(|(name, _)| name.clone()));
                    if base.is_some() {
                        steps.push(each);
                        continue;
                    }
                    for (name, default) in args {
                        let value = |name: &str| global.get(name).cloned();
                        let default = default
                            .as_ref()
                            .map(|text| words::expand(text, escape, &value))
                            .transpose()
                            .map_err(|why| at(each.line, format!("ARG {name}: {why}")))?;
                        let Some(value) = passed.get(name).cloned().or(default) else { continue };
                        let used = name.len() + value.len();
                        left = left.checked_sub(used).ok_or_else(|| resolve::too_much(each.line))?;
                        global.insert(name.clone(), value);
                        if global.len() > resolve::MAX_ARGS {
                            return Err(resolve::too_many_args(each.line));
                        }
                    }
                }
                (_, None) => {
                    let text = format!("{}: only ARG can stand before FROM", each.text);
                    return Err(at(each.line, text));
                }
                (_, Some(_)) => steps.push(each),
            }
        }
        let Some(base) = base else {
            return Err(Error::invalid(
                "the Dockerfile has no FROM: its first instruction must be FROM IMAGE",
            ));
        };
        Ok(Self { base, base_line, declared, steps: Unresolved { passed, global, parsed: steps, warnings } })
    }

    /// The same, begun with the instructions that the base image has for builds on it (ONBUILD). They count as written in the
    /// line of FROM, and have the build's arguments and contexts, but not its secrets.
    pub(crate) fn with_triggers(&self, triggers: &[String]) -> Result<Self> {
        let line = self.base_line;
        if triggers.len() > MAX_TRIGGERS {
            let text = format!(
                "FROM: the base image has {} ONBUILD instructions, limit {MAX_TRIGGERS}",
                triggers.len()
            );
            return Err(at(line, text).with_code(Code::Limit));
        }
        let mut with = self.clone();
        let mut parsed = Vec::with_capacity(triggers.len());
        for trigger in triggers {
            let named = |error: Error| {
                let shown: String = trigger.chars().take(MAX_SHOWN_TRIGGER).collect();
                error.context(format!("Dockerfile line {line}: the base image's ONBUILD {shown}"))
            };
            let (escape, mut lines) = lines::read(trigger).map_err(named)?;
            let [instruction] = &mut lines[..] else {
                return Err(named(Error::invalid("must be one instruction")));
            };
            instruction.number = line;
            let mut read =
                instruction::parse(instruction, escape, &mut with.steps.warnings).map_err(named)?;
            if let Some(read) = &mut read {
                if matches!(read.instruction, Instruction::From(_)) {
                    return Err(named(unsupported(line, "FROM can't be a trigger")));
                }
                // All mounts are of secrets, which are given to the Dockerfile's own steps.
                if matches!(&read.instruction, Instruction::Run { mounts, .. } if !mounts.is_empty()) {
                    let remedy = "write the instruction into the Dockerfile";
                    let text = format!("a base image's trigger can't have secrets of the build: {remedy}");
                    return Err(named(Error::new(Code::Unsupported, text)));
                }
                if let Instruction::Arg(args) = &read.instruction {
                    with.declared.extend(args.iter().map(|(name, _)| name.clone()));
                }
                read.text.insert_str(0, "ONBUILD ");
            }
            parsed.extend(read);
        }
        with.steps.parsed.splice(..0, parsed);
        Ok(with)
    }

    /// What it is made upon.
    pub(crate) fn base(&self) -> &Base {
        &self.base
    }

    /// The names of the contexts that it copies from, beside the main one.
    pub(crate) fn contexts(&self) -> impl Iterator<Item = &str> {
        self.steps.parsed.iter().filter_map(|parsed| match &parsed.instruction {
            Instruction::Copy { from, .. } => from.as_deref(),
            _ => None,
        })
    }

    /// Replaces the variables, now that the base image's settings are known.
    pub(crate) fn resolve(&self, base: &ImageConfig) -> Result<Recipe> {
        let mut recipe = resolve::resolve(&self.steps, base)?;
        let is_unused = |name: &&String| !self.declared.contains(name) && !resolve::is_proxy(name);
        for name in self.steps.passed.keys().filter(is_unused) {
            let text = format!("the build argument {name} is not used: the Dockerfile has no ARG {name}");
            recipe.warnings.push(text);
        }
        Ok(recipe)
    }
}

/// The build arguments, checked.
fn passed(args: &[(String, String)]) -> Result<BTreeMap<String, String>> {
    for (name, value) in args {
        if name.is_empty() || name.contains(['=', '\0']) {
            return Err(Error::invalid(format!(
                "the build argument {name:?} must have a name without = and NUL bytes"
            )));
        }
        if name.len() + value.len() > lines::MAX_LINE_BYTES || value.contains('\0') {
            let rule =
                format!("must have at most {} bytes, and no NUL byte among them", lines::MAX_LINE_BYTES);
            return Err(Error::invalid(format!("the build argument {name:?} {rule}")));
        }
    }
    let total: usize = args.iter().map(|(name, value)| name.len() + value.len()).sum();
    if total > resolve::MAX_EXPANDED_BYTES {
        let text = format!("the build arguments have {total} bytes, limit {}", resolve::MAX_EXPANDED_BYTES);
        return Err(Error::new(Code::Limit, text));
    }
    Ok(args.iter().cloned().collect())
}

/// The arguments that docker defines for every build.
fn platform() -> BTreeMap<String, String> {
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let platform = format!("linux/{architecture}");
    ["TARGET", "BUILD"]
        .iter()
        .flat_map(|of| {
            [("PLATFORM", platform.as_str()), ("OS", "linux"), ("ARCH", architecture), ("VARIANT", "")]
                .map(|(what, value)| (format!("{of}{what}"), value.to_owned()))
        })
        .collect()
}

fn base_image(line: usize, name: &str, escape: char, global: &BTreeMap<String, String>) -> Result<Base> {
    let expanded = words::expand(name, escape, &|name| global.get(name).cloned())
        .map_err(|why| at(line, format!("FROM {name}: {why}")))?;
    match expanded.as_str() {
        "" => Err(at(
            line,
            format!(
                "FROM {name}: is empty: give its variables values by ARG before FROM, or as build arguments"
            ),
        )),
        "scratch" => Ok(Base::Scratch),
        _ => Ok(Base::Image(expanded)),
    }
}

#[cfg(test)]
mod tests;
