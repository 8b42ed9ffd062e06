//! One mapping of a document, and where it is.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::{Refused, Result};

/// Fields that are taken out one by one.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    /// `spec.containers[0]`
    path: String,
    fields: Map<String, Value>,
}

impl Node {
    pub(crate) fn of(path: String, value: Value) -> Result<Self> {
        match value {
            Value::Object(fields) => Ok(Self { path, fields }),
            other => {
                let place = if path.is_empty() { "the document" } else { &path };
                Err(Refused(format!("{place} must be a mapping, not {}", shown(&other))))
            }
        }
    }

    /// Where a field is.
    pub(crate) fn at(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    /// Absent and `null` are the same.
    fn take(&mut self, key: &str) -> Option<Value> {
        self.fields.shift_remove(key).filter(|value| !value.is_null())
    }

    fn wrong<T>(&self, key: &str, expected: &str, found: &Value) -> Result<T> {
        Err(Refused(format!("{} must be {expected}, not {}", self.at(key), shown(found))))
    }

    pub(crate) fn text(&mut self, key: &str) -> Result<Option<String>> {
        match self.take(key) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => self.wrong(key, "a text (in quotes where it looks like something else)", &other),
        }
    }

    pub(crate) fn needed_text(&mut self, key: &str) -> Result<String> {
        self.text(key)?.ok_or_else(|| Refused(format!("{} is missing", self.at(key))))
    }

    pub(crate) fn flag(&mut self, key: &str) -> Result<bool> {
        Ok(self.flag_if_said(key)?.unwrap_or(false))
    }

    /// Where saying nothing is no `false`.
    pub(crate) fn flag_if_said(&mut self, key: &str) -> Result<Option<bool>> {
        match self.take(key) {
            None => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(flag)),
            Some(other) => self.wrong(key, "true or false", &other),
        }
    }

    pub(crate) fn number<T: TryFrom<i64>>(&mut self, key: &str) -> Result<Option<T>> {
        let Some(value) = self.take(key) else { return Ok(None) };
        match value.as_i64().and_then(|number| T::try_from(number).ok()) {
            Some(number) => Ok(Some(number)),
            None => self.wrong(key, "a number in its range", &value),
        }
    }

    /// A text or a number, as a text.
    pub(crate) fn scalar(&mut self, key: &str) -> Result<Option<String>> {
        match self.take(key) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(Value::Number(number)) => Ok(Some(number.to_string())),
            Some(other) => self.wrong(key, "a text or a number", &other),
        }
    }

    /// A list of numbers.
    pub(crate) fn numbers(&mut self, key: &str) -> Result<Vec<u32>> {
        let number = |item: &Value| item.as_u64().and_then(|number| u32::try_from(number).ok());
        match self.take(key) {
            None => Ok(Vec::new()),
            Some(Value::Array(items)) => match items.iter().map(number).collect() {
                Some(numbers) => Ok(numbers),
                None => self.wrong(key, "a list of numbers", &Value::Array(items)),
            },
            Some(other) => self.wrong(key, "a list of numbers", &other),
        }
    }

    pub(crate) fn texts(&mut self, key: &str) -> Result<Option<Vec<String>>> {
        let items = match self.take(key) {
            None => return Ok(None),
            Some(Value::Array(items)) => items,
            Some(other) => return self.wrong(key, "a list", &other),
        };
        let text = |item| match item {
            Value::String(text) => Ok(text),
            other => self.wrong(key, "a list of texts (in quotes where they look like something else)", &other),
        };
        items.into_iter().map(text).collect::<Result<_>>().map(Some)
    }

    pub(crate) fn text_map(&mut self, key: &str) -> Result<BTreeMap<String, String>> {
        let Some(mut node) = self.node(key)? else { return Ok(BTreeMap::new()) };
        let keys: Vec<String> = node.fields.keys().cloned().collect();
        let pair = |key: String| Ok(node.text(&key)?.map(|value| (key, value)));
        keys.into_iter().map(pair).filter_map(Result::transpose).collect()
    }

    pub(crate) fn node(&mut self, key: &str) -> Result<Option<Self>> {
        let path = self.at(key);
        self.take(key).map(|value| Self::of(path, value)).transpose()
    }

    pub(crate) fn needed_node(&mut self, key: &str) -> Result<Self> {
        self.node(key)?.ok_or_else(|| Refused(format!("{} is missing", self.at(key))))
    }

    pub(crate) fn nodes(&mut self, key: &str) -> Result<Vec<Self>> {
        let path = self.at(key);
        match self.take(key) {
            None => Ok(Vec::new()),
            Some(Value::Array(items)) => {
                items.into_iter().enumerate().map(|(n, item)| Self::of(format!("{path}[{n}]"), item)).collect()
            }
            Some(other) => self.wrong(key, "a list", &other),
        }
    }

    /// These say nothing that one machine could honour, or nothing that differs from what it does.
    pub(crate) fn pass_over(&mut self, keys: &[&str]) {
        keys.iter().for_each(|key| drop(self.take(key)));
    }

    /// Refuses the field if it is there; an empty one asks for nothing.
    pub(crate) fn refuse(&mut self, key: &str, why: &str) -> Result<()> {
        let asks = |value: &Value| match value {
            Value::Array(items) => !items.is_empty(),
            Value::Object(fields) => !fields.is_empty(),
            Value::Bool(flag) => *flag,
            _ => true,
        };
        match self.take(key) {
            Some(value) if asks(&value) => Err(Refused(format!("{} {why}", self.at(key)))),
            _ => Ok(()),
        }
    }

    /// What was not taken is not known.
    pub(crate) fn finish(self) -> Result<()> {
        match self.fields.iter().find(|(_, value)| !value.is_null()) {
            None => Ok(()),
            Some((key, _)) => Err(Refused(format!("{} is not supported by podwire, or misspelt", self.at(key)))),
        }
    }
}

fn shown(value: &Value) -> String {
    match value {
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "a mapping".to_owned(),
        Value::String(text) => format!("the text {text:?}"),
        other => other.to_string(),
    }
}
