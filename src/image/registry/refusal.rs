//! A registry's refusals in words.

use std::time::Duration;

use super::failure::Failure;
use super::patience::Patience;
use super::response::Response;
use crate::error::{Code, Error};
use crate::image::error;

/// The longest answer whose message is read.
const MAX_BODY: usize = 16 * 1024;

/// The longest part of a registry's message that is shown.
const MAX_SHOWN: usize = 300;

/// The failure that a status other than success means. `asked` is the server and what it was asked for.
pub(super) fn failure(response: Response, asked: &str, patience: &Patience<'_>) -> Failure {
    let status = response.status;
    let after = response
        .headers
        .get("retry-after")
        .and_then(|text| text.trim().parse().ok())
        .map(Duration::from_secs);
    // The message only helps: a failure to read it is not worth more than the status.
    let body = response.body(MAX_BODY, "the answer", patience).map(|body| message(&body)).unwrap_or_default();
    let message = if body.is_empty() { String::new() } else { format!(": {body}") };
    let with =
        |code: Code, what: &str| Error::new(code, format!("{asked}: {what} (status {status}){message}"));
    match status {
        401 | 403 => Failure::Final(error(format!("{asked}: access denied (status {status}){message}"))),
        404 => Failure::Final(with(Code::NotFound, "not found")),
        429 => Failure::Passing {
            error: error(format!("{asked}: too many requests (status 429){message}")),
            after,
        },
        408 | 425 | 500 | 502..=504 => Failure::Passing {
            error: error(format!("{asked}: the server fails (status {status}){message}")),
            after,
        },
        _ => Failure::Final(error(format!("{asked}: refused (status {status}){message}"))),
    }
}

/// The messages of the registry's JSON: `{"errors": [{"code", "message"}]}`. Another text is not shown: it may be a page.
fn message(body: &[u8]) -> String {
    let Ok(value) = serde_json::from_slice::<serde_json::Value>(body) else { return String::new() };
    let errors = value.get("errors").and_then(serde_json::Value::as_array);
    let texts = errors.into_iter().flatten().filter_map(|error| {
        let text = |field: &str| error.get(field).and_then(serde_json::Value::as_str);
        text("message").filter(|text| !text.is_empty()).or_else(|| text("code"))
    });
    let text = texts.collect::<Vec<_>>().join("; ");
    let visible = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    visible.take(MAX_SHOWN).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_of_one_line_and_bounded() {
        let json = r#"{"errors":[{"code":"DENIED","message":"no\n\u001b[31mred"},{"code":"OTHER"}]}"#;
        assert_eq!(message(json.as_bytes()), "no  [31mred; OTHER");
        let long = format!(r#"{{"errors":[{{"message":"{}"}}]}}"#, "x".repeat(5000));
        assert_eq!(message(long.as_bytes()).len(), MAX_SHOWN);
        for other in ["<html>", "[]", "{}", "{\"errors\":3}", "{\"errors\":[3]}"] {
            assert_eq!(message(other.as_bytes()), "");
        }
    }
}
