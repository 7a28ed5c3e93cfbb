//! Reading other people's JSON: bounded, and with errors that name the field.

use serde_json::{Map, Value};

use super::error;
use crate::error::Result;

/// The longest manifest, index or configuration that is read.
pub(crate) const MAX_JSON_BYTES: usize = 4 * 1024 * 1024;

/// The most commas and opening brackets in it: a value takes up to a hundred times the memory of its text.
const MAX_JSON_VALUES: usize = 100_000;

/// Parses a JSON object. `name` is what errors call it.
pub(crate) fn parse(name: &str, bytes: &[u8]) -> Result<Map<String, Value>> {
    match value(name, bytes)? {
        Value::Object(fields) => Ok(fields),
        other => Err(error(format!("{name}: is {}, must be an object", kind(&other)))),
    }
}

/// Parses any JSON value.
pub(crate) fn value(name: &str, bytes: &[u8]) -> Result<Value> {
    if bytes.len() > MAX_JSON_BYTES {
        return Err(error(format!("{name}: has {} bytes; the limit is {MAX_JSON_BYTES}", bytes.len())));
    }
    // Those within strings count as well, which no real document comes near.
    let values = bytes.iter().filter(|byte| matches!(byte, b',' | b'{' | b'[')).count();
    if values > MAX_JSON_VALUES {
        return Err(error(format!("{name}: has about {values} values; the limit is {MAX_JSON_VALUES}")));
    }
    serde_json::from_slice(bytes).map_err(|cause| error(format!("{name}: is not valid JSON: {cause}")))
}

/// An object within a document, with its name for errors. `null` is the same as a field that isn't there.
#[derive(Clone, Debug)]
pub(crate) struct Object<'a> {
    name: String,
    fields: &'a Map<String, Value>,
}

impl<'a> Object<'a> {
    pub(crate) fn new(name: impl Into<String>, fields: &'a Map<String, Value>) -> Self {
        Self { name: name.into(), fields }
    }

    /// The object's name.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The names of its fields, in their order.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &'a str> {
        self.fields.keys().map(String::as_str)
    }

    fn get(&self, field: &str) -> Option<&'a Value> {
        self.fields.get(field).filter(|value| !value.is_null())
    }

    fn wrong<T>(&self, field: &str, found: &Value, must: &str) -> Result<T> {
        Err(error(format!("{}: {field}: is {}, must be {must}", self.name, kind(found))))
    }

    /// An object.
    pub(crate) fn object(&self, field: &str) -> Result<Option<Object<'a>>> {
        match self.get(field) {
            None => Ok(None),
            Some(Value::Object(fields)) => Ok(Some(Object::new(format!("{}: {field}", self.name), fields))),
            Some(other) => self.wrong(field, other, "an object"),
        }
    }

    /// An array of objects. Empty if it isn't there.
    pub(crate) fn objects(&self, field: &str) -> Result<Vec<Object<'a>>> {
        let values = match self.get(field) {
            None => return Ok(Vec::new()),
            Some(Value::Array(values)) => values,
            Some(other) => return self.wrong(field, other, "an array of objects"),
        };
        let object = |(number, value): (usize, &'a Value)| match value {
            Value::Object(fields) => Ok(Object::new(format!("{}: {field}[{number}]", self.name), fields)),
            other => self.wrong(&format!("{field}[{number}]"), other, "an object"),
        };
        values.iter().enumerate().map(object).collect()
    }

    /// A string. `None` if it isn't there or empty.
    pub(crate) fn string(&self, field: &str) -> Result<Option<String>> {
        match self.get(field) {
            None => Ok(None),
            Some(Value::String(text)) => {
                self.without_nul(field, text)?;
                Ok(Some(text.clone()).filter(|text| !text.is_empty()))
            }
            Some(other) => self.wrong(field, other, "a string"),
        }
    }

    /// A string that has to be there.
    pub(crate) fn required(&self, field: &str) -> Result<String> {
        self.string(field)?.ok_or_else(|| error(format!("{}: {field}: is missing", self.name)))
    }

    /// A number from 0 on that has to be there.
    pub(crate) fn number(&self, field: &str) -> Result<u64> {
        match self.get(field) {
            Some(value) => match value.as_u64() {
                Some(number) => Ok(number),
                None => self.wrong(field, value, "a whole number from 0 on"),
            },
            None => Err(error(format!("{}: {field}: is missing", self.name))),
        }
    }

    /// An array of strings. Empty if it isn't there.
    pub(crate) fn strings(&self, field: &str) -> Result<Vec<String>> {
        let values = match self.get(field) {
            None => return Ok(Vec::new()),
            Some(Value::Array(values)) => values,
            Some(other) => return self.wrong(field, other, "an array of strings"),
        };
        let string = |(number, value): (usize, &Value)| {
            let place = format!("{field}[{number}]");
            match value {
                Value::String(text) => self.without_nul(&place, text).map(|()| text.clone()),
                other => self.wrong(&place, other, "a string"),
            }
        };
        values.iter().enumerate().map(string).collect()
    }

    /// An array of strings, or one string that stands for an array of one (as docker reads commands).
    pub(crate) fn command(&self, field: &str) -> Result<Vec<String>> {
        match self.get(field) {
            Some(Value::String(_)) => Ok(self.string(field)?.into_iter().collect()),
            _ => self.strings(field),
        }
    }

    /// Every field as a string.
    pub(crate) fn texts(&self) -> Result<Vec<(String, String)>> {
        let text = |name: &str| match self.get(name) {
            None => Ok((name.to_owned(), String::new())),
            Some(Value::String(text)) => Ok((name.to_owned(), text.clone())),
            Some(other) => self.wrong(name, other, "a string"),
        };
        self.keys().map(text).collect()
    }

    fn without_nul(&self, field: &str, text: &str) -> Result<()> {
        if text.contains('\0') {
            return Err(error(format!("{}: {field}: {text:?} must not contain a NUL byte", self.name)));
        }
        Ok(())
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure<T: std::fmt::Debug>(json: &str, read: impl Fn(&Object<'_>) -> Result<T>) -> String {
        let fields = parse("thing", json.as_bytes()).unwrap();
        read(&Object::new("thing", &fields)).unwrap_err().message().to_owned()
    }

    #[test]
    fn a_wrong_type_is_an_error_that_names_the_field() {
        assert_eq!(failure(r#"{"a":1}"#, |o| o.string("a")), "thing: a: is a number, must be a string");
        assert_eq!(failure(r#"{"a":[1]}"#, |o| o.strings("a")), "thing: a[0]: is a number, must be a string");
        assert_eq!(
            failure(r#"{"a":{}}"#, |o| o.command("a")),
            "thing: a: is an object, must be an array of strings"
        );
        assert_eq!(
            failure(r#"{"a":[]}"#, |o| o.object("a").map(|_| ())),
            "thing: a: is an array, must be an object"
        );
        assert_eq!(
            failure(r#"{"a":[[]]}"#, |o| o.objects("a").map(|_| ())),
            "thing: a[0]: is an array, must be an object"
        );
        assert_eq!(
            failure(r#"{"a":-1}"#, |o| o.number("a")),
            "thing: a: is a number, must be a whole number from 0 on"
        );
        assert_eq!(failure(r"{}", |o| o.number("a")), "thing: a: is missing");
        assert_eq!(failure(r#"{"a":""}"#, |o| o.required("a")), "thing: a: is missing");
        assert_eq!(
            failure(r#"{"a":"\u0000"}"#, |o| o.string("a")),
            r#"thing: a: "\0" must not contain a NUL byte"#
        );
        assert_eq!(
            failure(r#"{"a":{"b":[]}}"#, |o| o.object("a")?.unwrap().texts()),
            "thing: a: b: is an array, must be a string"
        );
    }

    #[test]
    fn null_is_nothing() {
        let fields = parse("thing", br#"{"a":null}"#).unwrap();
        let object = Object::new("thing", &fields);
        assert_eq!(object.string("a").unwrap(), None);
        assert_eq!(object.strings("a").unwrap(), [""; 0]);
        assert_eq!(object.command("a").unwrap(), [""; 0]);
        assert!(object.object("a").unwrap().is_none() && object.objects("a").unwrap().is_empty());
    }

    #[test]
    fn what_is_not_an_object_too_long_or_too_deep_is_refused() {
        assert_eq!(parse("thing", b"[]").unwrap_err().message(), "thing: is an array, must be an object");
        for bad in [&b"{"[..], b"\xff", b"{\"a\":\"\xff\"}", &[b'['; 100_000]] {
            let error = parse("thing", bad).unwrap_err();
            assert!(error.message().starts_with("thing: is not valid JSON: "), "{error}");
        }
        let many = format!("{{\"a\":[{}{{}}]}}", "{},".repeat(MAX_JSON_VALUES / 2));
        let error = parse("thing", many.as_bytes()).unwrap_err();
        assert_eq!(error.message(), "thing: has about 100003 values; the limit is 100000");
        let enough = format!("{{\"a\":[{}{{}}]}}", "{},".repeat(MAX_JSON_VALUES / 2 - 2));
        assert!(parse("thing", enough.as_bytes()).is_ok());
        let long = vec![b' '; MAX_JSON_BYTES + 1];
        assert!(parse("thing", &long).unwrap_err().message().contains("the limit is 4194304"));
    }
}
