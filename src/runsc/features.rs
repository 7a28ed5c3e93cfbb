//! The features of a runsc, by its own list of flags, and those that the library needs.
//!
//! Versions are not trusted: builds from the Go module print none, distributions print their own.

use std::collections::BTreeMap;

use crate::error::{Code, Error, Result};

/// The flags of a runsc, with their explanations (which name the values).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Features {
    global: BTreeMap<String, String>,
    run: BTreeMap<String, String>,
}

/// A flag that every sandbox needs.
struct Required {
    flag: &'static str,
    /// Its purpose, for a text after "needed to".
    purpose: &'static str,
    /// The oldest release that has it.
    since: &'static str,
}

impl Required {
    fn missing(&self) -> Error {
        let Self { flag, purpose, since } = self;
        let text =
            format!("too old: it has no --{flag}, needed to {purpose}; the oldest that has it is {since}");
        Error::new(Code::RunscUnusable, text)
    }
}

const EVERY: &str = "any release of 2023 or later";

const GLOBAL: &[Required] = &[
    Required { flag: "root", purpose: "keep its state private", since: EVERY },
    Required { flag: "log", purpose: "tell its errors from the program's output", since: EVERY },
    Required { flag: "log-format", purpose: "tell its errors from the program's output", since: EVERY },
    Required { flag: "network", purpose: "choose the network", since: EVERY },
    Required { flag: "ignore-cgroups", purpose: "run without root", since: EVERY },
    Required { flag: "overlay2", purpose: "keep writes in memory", since: "release-20230130.0" },
    Required {
        flag: "directfs",
        purpose: "run in a user namespace with one id",
        since: "release-20230306.0",
    },
];

const RUN: &[Required] = &[Required { flag: "bundle", purpose: "say what to run", since: EVERY }];

/// Since Linux 6.11 every network namespace shows the file by which older releases recognise the host's own,
/// so they refuse `--network=sandbox` everywhere (gVisor issue 10704). No flag shows that this is fixed; this one came
/// soon after.
const MENDED_FOR_6_11: Required = Required {
    flag: "host-settings",
    purpose: "network a sandbox on Linux 6.11 or newer (gVisor issue 10704)",
    since: "any of November 2024 or later",
};

/// What an image as the root needs: EROFS mounts in a sandbox that has no gofer. No flag shows them; this one came with the
/// release that mended them.
const IMAGES: Required = Required {
    flag: "gofer-network-namespace",
    purpose: "start a sandbox on an image",
    since: "release-20260727.0",
};

impl Features {
    /// Reads the output of `runsc flags` and `runsc help run`. `None` when it isn't runsc's.
    pub(super) fn parse(flags: &str, help_run: &str) -> Option<Self> {
        let features = Self { global: parse_flags(flags), run: parse_flags(help_run) };
        // Any Go program lists flags like this; only runsc has these.
        let known = ["root", "network", "platform"].iter().all(|name| features.global.contains_key(*name));
        known.then_some(features)
    }

    /// Whether the flag may be given before the command.
    pub(super) fn has(&self, flag: &str) -> bool {
        self.global.contains_key(flag)
    }

    /// Whether the flag's explanation names the value.
    pub(super) fn has_value(&self, flag: &str, value: &str) -> bool {
        self.global.get(flag).is_some_and(|text| text.contains(value))
    }

    /// Reports the first needed flag that is missing. `kernel` is (major, minor).
    pub(super) fn check(&self, kernel: (u32, u32)) -> Result<()> {
        let global = GLOBAL.iter().find(|needed| !self.global.contains_key(needed.flag));
        let run = || RUN.iter().find(|needed| !self.run.contains_key(needed.flag));
        let network = || {
            let needed = &MENDED_FOR_6_11;
            (kernel >= (6, 11) && !self.has(needed.flag)).then_some(needed)
        };
        match global.or_else(run).or_else(network) {
            None => Ok(()),
            Some(needed) => Err(needed.missing()),
        }
    }

    /// Reports a flag that only images need, if it is missing.
    pub(super) fn check_images(&self) -> Result<()> {
        if self.has(IMAGES.flag) { Ok(()) } else { Err(IMAGES.missing()) }
    }
}

/// Go's flag package prints `  -name type`, then the explanation, indented by four spaces and a tab.
fn parse_flags(text: &str) -> BTreeMap<String, String> {
    let mut flags = BTreeMap::new();
    let mut last: Option<(String, String)> = None;
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("  -") {
            flags.extend(last.take());
            let name = rest.split([' ', '\t']).next().unwrap_or_default();
            last = Some((name.to_owned(), rest.to_owned()));
        } else if let Some((_, explanation)) = &mut last {
            explanation.push('\n');
            explanation.push_str(line);
        }
    }
    flags.extend(last);
    flags
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runsc::fake;

    fn without(flag: &str) -> Features {
        let mut features = Features::parse(fake::FLAGS, fake::HELP_RUN).unwrap();
        features.global.remove(flag);
        features.run.remove(flag);
        features
    }

    #[test]
    fn a_complete_one_passes() {
        let features = Features::parse(fake::FLAGS, fake::HELP_RUN).unwrap();
        features.check((6, 18)).unwrap();
        assert!(features.has("overlay2") && !features.has("bundle"));
        assert!(features.has_value("overlay2", "'memory'"));
    }

    #[test]
    fn each_missing_flag_is_named_with_the_release_that_has_it() {
        for needed in GLOBAL.iter().chain(RUN) {
            let error = without(needed.flag).check((6, 1)).unwrap_err();
            assert_eq!(error.code(), Code::RunscUnusable);
            assert!(error.message().contains(&format!("--{}", needed.flag)), "{error}");
            assert!(error.message().contains(needed.since), "{error}");
        }
    }

    #[test]
    fn the_network_guard_matters_from_linux_6_11_on() {
        without("host-settings").check((6, 10)).unwrap();
        let error = without("host-settings").check((6, 11)).unwrap_err();
        assert!(error.message().contains("10704"), "{error}");
        assert!(without("host-settings").check((7, 0)).is_err());
    }

    #[test]
    fn only_images_need_what_images_need() {
        let features = Features::parse(fake::FLAGS, fake::HELP_RUN).unwrap();
        features.check_images().unwrap();
        without(IMAGES.flag).check((6, 18)).unwrap();
        let error = without(IMAGES.flag).check_images().unwrap_err();
        assert_eq!(error.code(), Code::RunscUnusable);
        assert!(error.message().contains("image") && error.message().contains(IMAGES.since), "{error}");
    }

    #[test]
    fn another_program_is_not_taken_for_runsc() {
        assert_eq!(Features::parse("", ""), None);
        assert_eq!(Features::parse("  -root string\n    \tsomething\n", fake::HELP_RUN), None);
        assert_eq!(Features::parse("hello\n", "hello\n"), None);
    }
}
