//! `.dockerignore`, or a list of patterns in its place: what of a context is not copied.
//!
//! The rules are docker's: the last pattern that is about a path, or about a directory above it, decides; with `!` before it
//! the path is copied all the same.

use super::glob::Pattern;
use crate::error::{Code, Error, Result};

pub(super) const FILE_NAME: &str = ".dockerignore";
/// The longest file, and the longest patterns of a list, together.
pub(super) const MAX_BYTES: u64 = 1024 * 1024;
pub(super) const MAX_PATTERNS: usize = 10_000;

/// The patterns of a file, of a list, or of an instruction.
#[derive(Clone, Debug, Default)]
pub(super) struct Ignore {
    rules: Vec<Rule>,
}

#[derive(Clone, Debug)]
struct Rule {
    pattern: Pattern,
    /// What it stands for, if it has no wildcard.
    literal: Option<String>,
    /// With a `!`: what it is about is copied.
    keeps: bool,
}

/// Which rules are about a directory; they are about everything in it, too.
#[derive(Clone, Debug, Default)]
pub(super) struct Above {
    matched: Vec<bool>,
}

impl Ignore {
    /// Reads a file's text.
    pub(super) fn parse(text: &str) -> Result<Self> {
        let mut ignore = Self::default();
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        for (index, line) in text.lines().enumerate() {
            if !line.starts_with('#') {
                ignore.add(line).map_err(|error| error.context(format!("{FILE_NAME} line {}", index + 1)))?;
            }
        }
        Ok(ignore)
    }

    /// Reads a list, in which each text is a pattern, also one that begins with a `#`.
    pub(super) fn of_list<T: AsRef<str>>(patterns: &[T]) -> Result<Self> {
        let mut ignore = Self::default();
        let mut bytes = 0;
        for pattern in patterns.iter().map(AsRef::as_ref) {
            bytes += pattern.len() as u64;
            if bytes > MAX_BYTES {
                let text = format!("the patterns have more than {MAX_BYTES} bytes together");
                return Err(Error::new(Code::Limit, text));
            }
            // A whole file would be one pattern, about nothing.
            if pattern.contains('\n') {
                let text =
                    format!("the pattern {pattern:?} has a line feed: each pattern must stand by itself");
                return Err(Error::invalid(text));
            }
            ignore.add(pattern)?;
        }
        Ok(ignore)
    }

    /// Adds a pattern behind the others.
    pub(super) fn add(&mut self, text: &str) -> Result<()> {
        let text = text.trim();
        let (keeps, pattern) = match text.strip_prefix('!') {
            Some(pattern) => (true, pattern.trim()),
            None => (false, text),
        };
        let pattern = clean(pattern);
        match (pattern.as_str(), keeps) {
            ("", false) => return Ok(()),
            ("", true) => return Err(Error::invalid("\"!\": must have a pattern behind the !")),
            // The whole context, which docker does not leave out.
            (".", _) => return Ok(()),
            _ => {}
        }
        let read = Pattern::path(&pattern).map_err(|why| {
            Error::invalid(format!("the pattern {text:?} {why}: see docker's .dockerignore"))
        })?;
        if self.rules.len() == MAX_PATTERNS {
            return Err(Error::new(
                Code::Limit,
                format!("{text:?}: there are more than {MAX_PATTERNS} patterns"),
            ));
        }
        self.rules.push(Rule { literal: read.literal(), pattern: read, keeps });
        Ok(())
    }

    /// Whether a path in the context is left out, and what its entries have to know of it.
    pub(super) fn ignores(&self, path: &str, above: &Above) -> (bool, Above) {
        let mut left_out = false;
        let mut matched = vec![false; self.rules.len()];
        for (index, (rule, mark)) in self.rules.iter().zip(&mut matched).enumerate() {
            let mut is_about = above.matched.get(index).copied().unwrap_or_default();
            if !is_about {
                // It would change nothing.
                if rule.keeps != left_out {
                    continue;
                }
                is_about = match &rule.literal {
                    Some(literal) => literal == path,
                    None => rule.pattern.matches(path),
                };
            }
            *mark = is_about;
            if is_about {
                left_out = !rule.keeps;
            }
        }
        (left_out, Above { matched })
    }

    /// Whether a path is left out, by itself or with a directory above it.
    pub(super) fn ignores_path(&self, path: &str) -> (bool, Above) {
        let mut state = (false, Above::default());
        let ends = path.match_indices('/').map(|(at, _)| at).chain([path.len()]);
        for end in ends {
            if let Some(part) = path.get(..end).filter(|part| !part.is_empty()) {
                state = self.ignores(part, &state.1);
            }
        }
        state
    }

    /// Whether something in a directory that is left out may be copied all the same.
    pub(super) fn may_keep(&self) -> bool {
        self.rules.iter().any(|rule| rule.keeps)
    }
}

/// The pattern without `.`, `..` and doubled slashes, and without one at the beginning.
fn clean(pattern: &str) -> String {
    if pattern.is_empty() {
        return String::new();
    }
    let mut names: Vec<&str> = Vec::new();
    for name in pattern.split('/') {
        match name {
            "" | "." => {}
            ".." if names.last().is_some_and(|last| *last != "..") => drop(names.pop()),
            ".." if pattern.starts_with('/') => {}
            name => names.push(name),
        }
    }
    if names.is_empty() { ".".to_owned() } else { names.join("/") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ignored(text: &str, path: &str) -> bool {
        Ignore::parse(text).unwrap().ignores_path(path).0
    }

    #[test]
    fn paths_are_left_out_as_docker_does() {
        for (text, path, expected) in [
            ("", "a", false),
            ("a", "a", true),
            ("a", "a/b", true),
            ("a", "b/a", false),
            ("/a", "a", true),
            ("./a/", "a", true),
            ("  a  ", "a", true),
            ("# a\n#b", "#b", false),
            (" #b", "#b", true),
            ("\u{feff}a", "a", true),
            ("a\r\nb\r\n", "b", true),
            ("*/temp*", "x/temporary.txt", true),
            ("*/temp*", "x/y/temporary.txt", false),
            ("*/temp*", "temporary", false),
            ("*/*/temp*", "x/y/temp", true),
            ("temp?", "tempa", true),
            ("temp?", "temp", false),
            ("**/*.go", "a/b/c.go", true),
            ("**", "a", true),
            ("*.md\n!README.md", "README.md", false),
            ("*.md\n!README.md", "OTHER.md", true),
            ("*.md\n!README*.md\nREADME-secret.md", "README-secret.md", true),
            ("*.md\nREADME-secret.md\n!README*.md", "README-secret.md", false),
            ("!a\n*", "a", true),
            ("*\n!a", "a/b", false),
            ("a\n!a/b", "a/b/c", false),
            ("a\n!a/b", "a/c", true),
            ("a/**\n!a/b", "a/b", false),
            ("docs\n!docs/README.md", "docs/README.md", false),
            ("! a\na", "a", true),
            ("a/../b", "b", true),
            ("../a", "a", false),
            ("/../a", "a", true),
            (".", "a", false),
            ("a[0-9]", "a5", true),
            ("a\\*", "a*", true),
            ("a\\*", "ab", false),
        ] {
            assert_eq!(ignored(text, path), expected, "{text:?} {path:?}");
        }
    }

    #[test]
    fn a_bad_pattern_is_named_with_its_line() {
        for (text, line) in
            [("a\n!", ".dockerignore line 2: \"!\""), ("\n\n[", ".dockerignore line 3: the pattern \"[\"")]
        {
            let error = Ignore::parse(text).unwrap_err();
            assert!(error.message().starts_with(line), "{error}");
        }
        let many = "a\n".repeat(MAX_PATTERNS + 1);
        assert_eq!(Ignore::parse(&many).unwrap_err().code(), Code::Limit);
    }

    #[test]
    fn a_list_has_a_pattern_in_each_text() {
        let list = Ignore::of_list(&["#a", " *.key ", "", "!keep.key"]).unwrap();
        for (path, expected) in [("#a", true), ("x.key", true), ("keep.key", false), ("x", false)] {
            assert_eq!(list.ignores_path(path).0, expected, "{path}");
        }
        assert!(!Ignore::of_list::<&str>(&[]).unwrap().ignores_path("a").0);
        for (bad, text) in
            [("a[", "the pattern \"a[\""), ("a\nb", "\"a\\nb\" has a line feed"), ("!", "\"!\"")]
        {
            let error = Ignore::of_list(&["fine", bad]).unwrap_err();
            assert!(error.code() == Code::Invalid && error.message().contains(text), "{error}");
        }
        let long = "x".repeat(1024);
        Ignore::of_list(&vec![long.as_str(); 1024]).unwrap();
        for list in [vec![long.as_str(); 1025], vec!["a"; MAX_PATTERNS + 1]] {
            assert_eq!(Ignore::of_list(&list).unwrap_err().code(), Code::Limit);
        }
    }

    #[test]
    fn the_dockerfile_itself_can_be_left_out() {
        assert!(ignored("Dockerfile\n.dockerignore", "Dockerfile"));
        assert!(ignored("Dockerfile\n.dockerignore", ".dockerignore"));
    }
}
