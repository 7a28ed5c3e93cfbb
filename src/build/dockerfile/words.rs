//! Words, quotes and variables, as docker reads them.

use std::iter::Peekable;
use std::str::Chars;

/// The longest word after its variables were replaced. A program can't be given a longer argument (MAX_ARG_STRLEN in Linux).
pub(super) const MAX_WORD_BYTES: usize = 128 * 1024 - 1;
/// How deep `${A:-${B:-...}}` goes.
const MAX_DEPTH: u32 = 32;

/// Splits at white space outside of quotes. Quotes and escape characters stay.
pub(super) fn split(text: &str, escape: char) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), String::new(), None);
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        if quote.is_none() && character.is_whitespace() {
            if !word.is_empty() {
                words.push(std::mem::take(&mut word));
            }
            continue;
        }
        if character == escape && quote != Some('\'') {
            // One at the very end escapes nothing.
            if let Some(escaped) = characters.next() {
                word.extend([character, escaped]);
            }
            continue;
        }
        quote = match quote {
            None if matches!(character, '\'' | '"') => Some(character),
            Some(open) if open == character => None,
            quote => quote,
        };
        word.push(character);
    }
    if !word.is_empty() {
        words.push(word);
    }
    words
}

/// Takes quotes away and replaces variables.
pub(super) fn expand(
    text: &str,
    escape: char,
    value: &dyn Fn(&str) -> Option<String>,
) -> Result<String, String> {
    Expansion { left: text.chars().peekable(), escape, value, depth: 0 }.until(None)
}

struct Expansion<'a> {
    left: Peekable<Chars<'a>>,
    escape: char,
    value: &'a dyn Fn(&str) -> Option<String>,
    depth: u32,
}

impl Expansion<'_> {
    /// Reads up to a character, which is taken too, or to the end.
    fn until(&mut self, stop: Option<char>) -> Result<String, String> {
        let mut result = String::new();
        while let Some(character) = self.left.next() {
            match character {
                _ if Some(character) == stop => return Ok(result),
                '$' => result.push_str(&self.variable()?),
                '\'' => self.single_quoted(&mut result)?,
                '"' => self.double_quoted(&mut result)?,
                _ if character == self.escape => result.extend(self.left.next()),
                _ => result.push(character),
            }
            check(&result)?;
        }
        match stop {
            None => Ok(result),
            Some(_) => Err("a ${ has no }".to_owned()),
        }
    }

    fn single_quoted(&mut self, result: &mut String) -> Result<(), String> {
        for character in self.left.by_ref() {
            if character == '\'' {
                return Ok(());
            }
            result.push(character);
        }
        Err("a ' has no second one: write \\' if it is part of the text".to_owned())
    }

    fn double_quoted(&mut self, result: &mut String) -> Result<(), String> {
        while let Some(character) = self.left.next() {
            match character {
                '"' => return Ok(()),
                '$' => result.push_str(&self.variable()?),
                _ if character == self.escape => {
                    let escape = self.escape;
                    let escaped = self.left.next_if(|next| matches!(next, '"' | '$') || *next == escape);
                    // Before anything else it stands for itself.
                    result.push(escaped.unwrap_or(character));
                }
                _ => result.push(character),
            }
            check(result)?;
        }
        Err("a \" has no second one: write \\\" if it is part of the text".to_owned())
    }

    /// What follows a `$`.
    fn variable(&mut self) -> Result<String, String> {
        if self.left.next_if_eq(&'{').is_none() {
            let name = self.name();
            return Ok(if name.is_empty() {
                "$".to_owned()
            } else {
                (self.value)(&name).unwrap_or_default()
            });
        }
        let name = self.name();
        let bad =
            |what: &str| Err(format!("${{{name}{what}: must be ${{NAME}}, or with :-, -, :+, +, :? or ?"));
        if name.is_empty() {
            return bad("");
        }
        let mut empty_is_unset = false;
        let operator = match self.left.next() {
            Some('}') => return Ok((self.value)(&name).unwrap_or_default()),
            Some(':') => {
                empty_is_unset = true;
                self.left.next()
            }
            other => other,
        };
        let Some(operator) = operator else { return Err(format!("${{{name} has no }}")) };
        if !matches!(operator, '-' | '+' | '?') {
            let colon = if empty_is_unset { ":" } else { "" };
            return bad(&format!("{colon}{operator}"));
        }
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(format!("${{{name}{operator}: is nested deeper than {MAX_DEPTH}"));
        }
        let word = self.until(Some('}'))?;
        self.depth -= 1;
        let value = (self.value)(&name).filter(|value| !(empty_is_unset && value.is_empty()));
        match operator {
            '-' => Ok(value.unwrap_or(word)),
            '+' => Ok(value.map(|_| word).unwrap_or_default()),
            _ => value.ok_or_else(|| {
                let word =
                    if word.is_empty() { "must have a value: pass it as a build argument" } else { &word };
                format!("{name}: {word}")
            }),
        }
    }

    /// The name of a variable, or of one of the shell's own (`$1`, `$@`), which have no value here.
    fn name(&mut self) -> String {
        let mut name = String::new();
        match self.left.peek().copied() {
            Some(first) if first.is_ascii_digit() => {
                while let Some(digit) = self.left.next_if(char::is_ascii_digit) {
                    name.push(digit);
                }
            }
            Some('@' | '*' | '#' | '?' | '-' | '$' | '!') => name.extend(self.left.next()),
            _ => {
                while let Some(character) = self.left.next_if(|c| c.is_alphanumeric() || *c == '_') {
                    name.push(character);
                }
            }
        }
        name
    }
}

fn check(result: &str) -> Result<(), String> {
    if result.len() > MAX_WORD_BYTES {
        return Err(format!("has more than {MAX_WORD_BYTES} bytes with its variables replaced"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(name: &str) -> Option<String> {
        match name {
            "X" => Some("x y".to_owned()),
            "EMPTY" => Some(String::new()),
            "\u{e9}" => Some("accent".to_owned()),
            _ => None,
        }
    }

    fn expanded(text: &str) -> Result<String, String> {
        expand(text, '\\', &value)
    }

    #[test]
    fn variables_and_quotes_are_those_of_docker() {
        for (text, expected) in [
            ("", ""),
            ("plain", "plain"),
            ("he'll'o", "hello"),
            ("he'll\"'o", "hell\"o"),
            ("'it''s'", "its"),
            ("a\\ b", "a b"),
            ("end\\", "end"),
            ("\\$X", "$X"),
            ("'$X'", "$X"),
            ("\"$X\"", "x y"),
            ("\"\\$X\"", "$X"),
            ("\"\\a\\\"\\\\\"", "\\a\"\\"),
            ("$", "$"),
            ("a$", "a$"),
            ("$/", "$/"),
            ("$X", "x y"),
            ("$X.", "x y."),
            ("$X_", ""),
            ("$NONE!", "!"),
            ("$1a", "a"),
            ("$@a", "a"),
            ("$\u{e9}", "accent"),
            ("${X}z", "x yz"),
            ("${NONE}", ""),
            ("${NONE:-d}", "d"),
            ("${NONE-d}", "d"),
            ("${EMPTY:-d}", "d"),
            ("${EMPTY-d}", ""),
            ("${X:-d}", "x y"),
            ("${X:+d}", "d"),
            ("${EMPTY:+d}", ""),
            ("${EMPTY+d}", "d"),
            ("${NONE:+d}", ""),
            ("${NONE:-${X}}", "x y"),
            ("${NONE:-${OTHER:-\"}\"}}", "}"),
            ("${NONE:-a\\}b}", "a}b"),
            ("${NONE:-'a b'}", "a b"),
            ("${X:?}", "x y"),
            ("\u{4f60}${EMPTY}\u{597d}", "\u{4f60}\u{597d}"),
        ] {
            assert_eq!(expanded(text).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn another_escape_character_leaves_the_backslash_alone() {
        assert_eq!(expand("C:\\`$X\\", '`', &value).as_deref(), Ok("C:\\$X\\"));
        assert_eq!(split("a` b c\\ d", '`'), ["a` b", "c\\", "d"]);
    }

    #[test]
    fn what_does_not_end_or_does_not_exist_is_refused() {
        for (text, part) in [
            ("'a", "a ' has no second one"),
            ("\"a", "a \" has no second one"),
            ("${X", "${X has no }"),
            ("${X:", "${X has no }"),
            ("${X:-a", "a ${ has no }"),
            ("${}", "${: must be ${NAME}"),
            ("${:-a}", "${: must be ${NAME}"),
            ("${{X}}", "${: must be ${NAME}"),
            ("${X#a}", "${X#: must be ${NAME}"),
            ("${X:%a}", "${X:%: must be ${NAME}"),
            ("${NONE?}", "NONE: must have a value"),
            ("${EMPTY:?give one}", "EMPTY: give one"),
        ] {
            let error = expanded(text).unwrap_err();
            assert!(error.starts_with(part), "{text}: {error}");
        }
        let deep = "${N:-".repeat(10_000);
        assert!(expanded(&deep).unwrap_err().contains("deeper than 32"));
        let long = |name: &str| (name == "X").then(|| "x".repeat(MAX_WORD_BYTES / 2));
        assert!(expand("$X$X", '\\', &long).is_ok());
        assert!(expand("\"$X$X$X\"", '\\', &long).unwrap_err().contains("more than"));
    }

    #[test]
    fn words_end_at_white_space_outside_of_quotes() {
        for (text, expected) in [
            ("  a\tb  ", &["a", "b"][..]),
            ("a='b c' d", &["a='b c'", "d"]),
            ("a=\"b \\\" c\" d", &["a=\"b \\\" c\"", "d"]),
            ("a=b\\ c d\\", &["a=b\\ c", "d"]),
            ("'a\\' b", &["'a\\'", "b"]),
            ("'' x", &["''", "x"]),
        ] {
            assert_eq!(split(text, '\\'), expected, "{text}");
        }
    }
}
