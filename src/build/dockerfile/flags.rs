//! The options of an instruction: `--chown=…`, `--mount=type=secret,…`.

use std::collections::BTreeSet;

use super::recipe::SecretMount;
use super::refusal::{at, unsupported};
use crate::error::Result;

/// An option as written, without its dashes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Flag {
    pub(super) name: String,
    pub(super) value: Option<String>,
}

impl Flag {
    /// For errors: `--name=value`.
    pub(super) fn shown(&self) -> String {
        match &self.value {
            Some(value) => format!("--{}={value}", self.name),
            None => format!("--{}", self.name),
        }
    }

    /// The value, which has to be there.
    pub(super) fn value(&self, line: usize, keyword: &str) -> Result<&str> {
        match self.value.as_deref() {
            Some(value) if !value.is_empty() => Ok(value),
            _ => Err(at(line, format!("{keyword} --{}: must have a value: --{0}=VALUE", self.name))),
        }
    }
}

/// Splits the options off what follows a keyword.
pub(super) fn split(rest: &str, escape: char) -> (Vec<Flag>, &str) {
    let (mut flags, mut left) = (Vec::new(), rest);
    loop {
        left = left.trim_start();
        if !left.starts_with("--") {
            return (flags, left);
        }
        let (word, behind) = first_word(left, escape);
        left = behind;
        if word == "--" {
            return (flags, left.trim_start());
        }
        let flag = word.strip_prefix("--").unwrap_or_default();
        flags.push(match flag.split_once('=') {
            Some((name, value)) => Flag { name: name.to_owned(), value: Some(value.to_owned()) },
            None => Flag { name: flag.to_owned(), value: None },
        });
    }
}

/// The first word without its quotes and escape characters, and what follows it.
fn first_word(text: &str, escape: char) -> (String, &str) {
    let (mut word, mut quote) = (String::new(), None);
    let mut characters = text.char_indices();
    while let Some((index, character)) = characters.next() {
        match quote {
            None if character.is_whitespace() => return (word, text.get(index..).unwrap_or_default()),
            None if matches!(character, '\'' | '"') => quote = Some(character),
            Some(open) if open == character => quote = None,
            Some('\'') => word.push(character),
            _ if character == escape => word.extend(characters.next().map(|(_, next)| next)),
            _ => word.push(character),
        }
    }
    (word, "")
}

/// Fails for an option that is there twice, but one of those that may be.
pub(super) fn check_once(flags: &[Flag], line: usize, keyword: &str, several: &[&str]) -> Result<()> {
    let mut seen = BTreeSet::new();
    for flag in flags {
        if !seen.insert(flag.name.as_str()) && !several.contains(&flag.name.as_str()) {
            return Err(at(line, format!("{keyword} {}: --{} is there twice", flag.shown(), flag.name)));
        }
    }
    Ok(())
}

/// `--mount=type=secret,id=…`: the only kind of mount there is. Variables were replaced.
pub(super) fn secret(value: &str, line: usize) -> Result<SecretMount> {
    let refuse = |what: String| at(line, format!("RUN --mount={value}: {what}"));
    let (mut kind, mut id, mut target) = ("bind", None, None);
    let (mut required, mut mode, mut uid, mut gid) = (false, 0o400, 0, 0);
    let mut others = Vec::new();
    for field in value.split(',') {
        let (name, text) = match field.split_once('=') {
            Some((name, text)) => (name, Some(text)),
            None => (field, None),
        };
        let number = |radix, what: &str| {
            u32::from_str_radix(text.unwrap_or_default(), radix)
                .map_err(|_| refuse(format!("{name} must be {what} number")))
        };
        match name.to_ascii_lowercase().as_str() {
            "type" => kind = text.unwrap_or_default(),
            "id" | "source" | "src" => id = text,
            "target" | "dst" | "destination" => target = text,
            "required" => {
                required = match text {
                    None | Some("true" | "1") => true,
                    Some("false" | "0") => false,
                    Some(_) => return Err(refuse("required must be true or false".to_owned())),
                };
            }
            "mode" => mode = number(8, "an octal")?,
            "uid" => uid = number(10, "a decimal")?,
            "gid" => gid = number(10, "a decimal")?,
            _ => others.push(field),
        }
    }
    if kind != "secret" {
        let remedy = match kind {
            "bind" => "COPY the files",
            "cache" => "leave it out: a step that is unchanged is not run again",
            "ssh" => "pass the key as a secret",
            _ => "leave it out",
        };
        let text = format!("RUN --mount={value}: type={kind} isn't supported, type=secret is: {remedy}");
        return Err(unsupported(line, text));
    }
    if let Some(other) = others.first() {
        let text = format!(
            "RUN --mount={value}: {other:?} isn't supported: a secret takes id, target, required, mode, uid and gid"
        );
        return Err(unsupported(line, text));
    }
    if mode > 0o7777 {
        return Err(refuse("mode must be 7777 at most".to_owned()));
    }
    let id = id
        .or_else(|| target.and_then(|target| target.rsplit('/').next()))
        .ok_or_else(|| refuse("must have an id: type=secret,id=NAME".to_owned()))?;
    if !is_secret_id(id) {
        let rule = "must have 1 to 128 of A-Z a-z 0-9 . _ - and not begin with a dot";
        return Err(refuse(format!("the id {id:?} {rule}")));
    }
    let target = target.map_or_else(|| format!("/run/secrets/{id}"), str::to_owned);
    if !target.starts_with('/') {
        return Err(refuse(format!("the target {target:?} must be an absolute path")));
    }
    Ok(SecretMount { id: id.to_owned(), target, required, mode, uid, gid })
}

/// Whether a secret can have this name: it is also the name of a file.
pub(crate) fn is_secret_id(id: &str) -> bool {
    let plain = id.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'));
    plain && (1..=128).contains(&id.len()) && !id.starts_with('.')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flags(text: &str) -> (Vec<String>, &str) {
        let (flags, rest) = split(text, '\\');
        (flags.iter().map(Flag::shown).collect(), rest)
    }

    #[test]
    fn options_stand_before_everything_else() {
        assert_eq!(flags("--a=b --c  d --e"), (vec!["--a=b".to_owned(), "--c".to_owned()], "d --e"));
        assert_eq!(flags("d --e"), (vec![], "d --e"));
        assert_eq!(flags("--a=\"b c\" '--d=e' f"), (vec!["--a=b c".to_owned()], "'--d=e' f"));
        assert_eq!(flags("--a=b\\ c -- --d"), (vec!["--a=b c".to_owned()], "--d"));
        assert_eq!(flags("--a"), (vec!["--a".to_owned()], ""));
    }

    #[test]
    fn a_secret_has_dockers_defaults() {
        let plain = secret("type=secret,id=token", 1).unwrap();
        let expected = SecretMount {
            id: "token".to_owned(),
            target: "/run/secrets/token".to_owned(),
            required: false,
            mode: 0o400,
            uid: 0,
            gid: 0,
        };
        assert_eq!(plain, expected);
        let full = "type=secret,source=token,dst=/root/.netrc,required,mode=0440,uid=7,gid=8";
        let expected = SecretMount {
            target: "/root/.netrc".to_owned(),
            required: true,
            mode: 0o440,
            uid: 7,
            gid: 8,
            ..expected
        };
        assert_eq!(secret(full, 1).unwrap(), expected);
        assert_eq!(secret("type=secret,target=/a/b", 1).unwrap().id, "b");
    }

    #[test]
    fn a_mount_that_is_not_supported_says_what_to_do() {
        for (value, text) in [
            ("type=cache,target=/root/.cache", "type=cache isn't supported, type=secret is: leave it out"),
            ("target=/x", "type=bind isn't supported, type=secret is: COPY the files"),
            ("type=secret", "must have an id"),
            ("type=secret,id=../x", "the id \"../x\" must have 1 to 128"),
            ("type=secret,id=x,target=y", "the target \"y\" must be an absolute path"),
            ("type=secret,id=x,mode=9", "mode must be an octal number"),
            ("type=secret,id=x,mode=17777", "mode must be 7777 at most"),
            ("type=secret,id=x,required=maybe", "required must be true or false"),
            ("type=secret,id=x,env=X", "\"env=X\" isn't supported"),
        ] {
            let error = secret(value, 7).unwrap_err();
            assert!(
                error.message().starts_with(&format!("Dockerfile line 7: RUN --mount={value}: ")),
                "{error}"
            );
            assert!(error.message().contains(text), "{error}");
        }
    }
}
