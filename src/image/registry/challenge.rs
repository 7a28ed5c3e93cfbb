//! `WWW-Authenticate`: how a registry wants a client to log in (RFC 9110, 11.6.1).

/// A scheme and its parameters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Challenge {
    /// In lower case.
    pub(super) scheme: String,
    parameters: Vec<(String, String)>,
}

impl Challenge {
    /// A parameter by its name, in lower case.
    pub(super) fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str())
    }
}

/// The challenges of a header's value. What can't be understood is left out.
pub(super) fn parse(value: &str) -> Vec<Challenge> {
    let mut challenges: Vec<Challenge> = Vec::new();
    let mut rest = value;
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        let end = rest.find([' ', '\t', ',', '=', '"']).unwrap_or(rest.len());
        let (word, behind) = rest.split_at(end);
        if word.is_empty() {
            // Something that no word begins with.
            let Some((_, behind)) = rest.char_indices().nth(1).map(|(at, _)| rest.split_at(at)) else {
                return challenges;
            };
            rest = behind;
            continue;
        }
        let behind_space = behind.trim_start_matches([' ', '\t']);
        let Some(value) = behind_space.strip_prefix('=') else {
            challenges.push(Challenge { scheme: word.to_ascii_lowercase(), parameters: Vec::new() });
            rest = behind;
            continue;
        };
        let (value, behind) = parameter_value(value.trim_start_matches([' ', '\t']));
        if let Some(challenge) = challenges.last_mut() {
            challenge.parameters.push((word.to_ascii_lowercase(), value));
        }
        rest = behind;
    }
}

/// A quoted string or a token, and what is behind it.
fn parameter_value(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let (value, rest) = text.split_at(text.find([' ', '\t', ',']).unwrap_or(text.len()));
        return (value.to_owned(), rest);
    };
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return (value, quoted.get(at.saturating_add(1)..).unwrap_or_default()),
            '\\' => value.extend(characters.next().map(|(_, escaped)| escaped)),
            other => value.push(other),
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bearer_and_basic_as_registries_write_them() {
        let hub = "Bearer realm=\"https://auth.docker.io/token\",service=\"registry.docker.io\",scope=\"repository:library/x:pull\"";
        let challenges = parse(hub);
        assert_eq!(challenges.len(), 1);
        assert_eq!(challenges[0].scheme, "bearer");
        assert_eq!(challenges[0].parameter("realm"), Some("https://auth.docker.io/token"));
        assert_eq!(challenges[0].parameter("service"), Some("registry.docker.io"));
        assert_eq!(challenges[0].parameter("scope"), Some("repository:library/x:pull"));
        assert_eq!(challenges[0].parameter("error"), None);
        let both = parse("BASIC Realm = \"a, \\\"b\\\"\" , Bearer realm=https://c ,service=d, Negotiate");
        let schemes: Vec<_> = both.iter().map(|challenge| challenge.scheme.as_str()).collect();
        assert_eq!(schemes, ["basic", "bearer", "negotiate"]);
        assert_eq!(both[0].parameter("realm"), Some("a, \"b\""));
        assert_eq!(both[1].parameter("service"), Some("d"));
    }

    #[test]
    fn rubbish_is_no_challenge() {
        for text in ["", ",", "=", "a=b", "\"", "realm=\"x", "é=\"", "= = =", "\"\"\"\""] {
            assert!(parse(text).iter().all(|challenge| challenge.parameter("realm").is_none()), "{text:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_ends(text in "\\PC{0,200}") {
            parse(&text);
        }
    }
}
