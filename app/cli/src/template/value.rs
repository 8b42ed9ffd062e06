//! The values a template sees: Go's structs, maps, slices and scalars.

use std::collections::BTreeMap;
use std::rc::Rc;

use serde_json::Value as Json;

use crate::ages;

/// A value as Go would hold it.
#[derive(Debug, Clone)]
pub(crate) enum Value {
    /// A key that a map does not have: prints `<no value>`.
    Missing,
    /// nil
    Nil,
    /// bool
    Bool(bool),
    /// Any integer type.
    Int(i64),
    /// float64
    Float(f64),
    /// string
    Text(Rc<str>),
    /// Something with a `String()` of its own: a time, a subnet.
    Shown(Rc<Shown>),
    /// A slice.
    List(Rc<Vec<Value>>),
    /// A map; Go prints and walks maps by key.
    Map(Rc<BTreeMap<String, Value>>),
    /// A struct.
    Record(Rc<Record>),
    /// What a table's header row is rendered from: every field is its own heading.
    Headings(&'static [(&'static str, &'static str)]),
}

/// A value that prints in one way alone and in another inside a struct or slice.
#[derive(Debug)]
pub(crate) struct Shown {
    /// Printed alone.
    pub(crate) alone: String,
    /// Printed inside something else.
    pub(crate) nested: String,
    /// As JSON.
    pub(crate) json: String,
}

/// A Go struct.
#[derive(Debug)]
pub(crate) struct Record {
    /// Go's type name, for error texts.
    type_name: &'static str,
    fields: Vec<Field>,
}

/// A field or a method without arguments.
#[derive(Debug)]
pub(crate) struct Field {
    /// Its name in templates.
    name: String,
    /// Its key in JSON; `None` for methods and hidden fields.
    key: Option<String>,
    /// Left out of JSON when empty.
    omit_empty: bool,
    value: Value,
}

impl Field {
    /// A field with the same name in templates and JSON.
    pub(crate) fn same(name: &str, value: impl Into<Value>) -> Self {
        Self::named(name, name, value)
    }

    /// A field with a JSON key of its own.
    pub(crate) fn named(name: &str, key: &str, value: impl Into<Value>) -> Self {
        Self { name: name.to_owned(), key: Some(key.to_owned()), omit_empty: false, value: value.into() }
    }

    /// As [`Field::named`], left out of JSON when empty.
    pub(crate) fn optional(name: &str, key: &str, value: impl Into<Value>) -> Self {
        Self { omit_empty: true, ..Self::named(name, key, value) }
    }

    /// A method: templates see it, JSON does not.
    pub(crate) fn method(name: &str, value: impl Into<Value>) -> Self {
        Self { key: None, ..Self::named(name, name, value) }
    }
}

impl Record {
    /// A struct of Go type `type_name`. Of two fields with one name the first counts, as a method hides a field.
    pub(crate) fn new(type_name: &'static str, fields: Vec<Field>) -> Self {
        Self { type_name, fields }
    }
}

/// Go's types of the objects that `inspect` prints, by the key they stand under.
const TYPES: &[(&str, &str)] = &[
    ("", "interface {}"),
    ("State", "*define.InspectContainerState"),
    ("Config", "*define.InspectContainerConfig"),
    ("HostConfig", "*define.InspectContainerHostConfig"),
    ("NetworkSettings", "*define.InspectNetworkSettings"),
    ("Networks", "*define.InspectAdditionalNetwork"),
    ("Mounts", "define.InspectMount"),
    ("host", "*define.HostInfo"),
    ("store", "*define.StoreInfo"),
    ("version", "define.Version"),
];

/// Keys under which Podman has a `time.Time`, which prints in another way than it is written to JSON.
const TIMES: &[&str] = &["Created", "StartedAt", "FinishedAt"];

/// Keys that Podman's `inspect` leaves out of JSON when their value is empty, with Go's names for templates.
const OMITTED: &[(&str, &str)] = &[
    ("Networks", "Networks"),
    ("SecondaryIPAddresses", "SecondaryIPAddresses"),
    ("SecondaryIPv6Addresses", "SecondaryIPv6Addresses"),
    ("AdditionalMACAddresses", "AdditionalMacAddresses"),
    ("Aliases", "Aliases"),
    ("DNSNames", "DNSNames"),
    ("GwPriority", "GwPriority"),
];

fn time(text: &str) -> Value {
    match text.parse() {
        Ok(time) => Value::shown(ages::go_time(time), ages::go_time(time), text.to_owned()),
        Err(_) => Value::text(text),
    }
}

impl Value {
    /// A value from JSON. Objects are structs, but maps where their key is in `maps`.
    pub(crate) fn from_json(json: &Json, maps: &[&str]) -> Self {
        Self::from_json_under("", json, maps)
    }

    fn from_json_under(key: &str, json: &Json, maps: &[&str]) -> Self {
        match json {
            Json::Null => Self::Nil,
            Json::Bool(b) => Self::Bool(*b),
            Json::Number(n) => n.as_i64().map_or_else(|| Self::Float(n.as_f64().unwrap_or(f64::NAN)), Self::Int),
            Json::String(s) if TIMES.contains(&key) => time(s),
            Json::String(s) => Self::text(s),
            Json::Array(items) => {
                Self::List(Rc::new(items.iter().map(|v| Self::from_json_under(key, v, maps)).collect()))
            }
            Json::Object(object) if maps.contains(&key) => Self::Map(Rc::new(
                // The values of a map of structs are structs again, whatever they are called.
                object
                    .iter()
                    .map(|(k, v)| {
                        (k.clone(), Self::from_json_under(if maps.contains(&k.as_str()) { "" } else { k }, v, maps))
                    })
                    .collect(),
            )),
            Json::Object(object) => {
                let field = |(k, v): (&String, &Json)| {
                    let value = Self::from_json_under(k, v, maps);
                    match OMITTED.iter().find(|(json, _)| json == k) {
                        Some((_, name)) => Field::optional(name, k, value),
                        None => Field::same(k, value),
                    }
                };
                let fields = object.iter().map(field).collect();
                let type_name = TYPES.iter().find(|(k, _)| *k == key).map_or("struct", |(_, name)| name);
                Self::Record(Rc::new(Record::new(type_name, fields)))
            }
        }
    }

    pub(crate) fn text(text: impl AsRef<str>) -> Self {
        Self::Text(Rc::from(text.as_ref()))
    }

    pub(crate) fn list(items: impl IntoIterator<Item = Self>) -> Self {
        Self::List(Rc::new(items.into_iter().collect()))
    }

    /// A struct with one field more, that hides one of the same name.
    pub(crate) fn with(self, field: Field) -> Self {
        let Self::Record(record) = &self else { return self };
        let copy = |f: &Field| Field {
            name: f.name.clone(),
            key: f.key.clone(),
            omit_empty: f.omit_empty,
            value: f.value.clone(),
        };
        Self::record(record.type_name, std::iter::once(field).chain(record.fields.iter().map(copy)).collect())
    }

    /// Go's names for keys that JSON has in lower case: `.Host.OCIRuntime` for `host.ociRuntime`.
    pub(crate) fn capitalised(&self) -> Self {
        match self {
            Self::Record(record) => {
                let renamed = |f: &Field| Field {
                    name: capital(&f.name),
                    key: f.key.clone(),
                    omit_empty: f.omit_empty,
                    value: f.value.capitalised(),
                };
                Self::record(record.type_name, record.fields.iter().map(renamed).collect())
            }
            Self::List(items) => Self::list(items.iter().map(Self::capitalised)),
            other => other.clone(),
        }
    }

    /// A field that is known to be there, or nil.
    pub(crate) fn field_or_nil(&self, name: &str) -> Self {
        self.field(name).unwrap_or(Self::Nil)
    }

    /// A slice of strings.
    pub(crate) fn texts<T: AsRef<str>>(items: impl IntoIterator<Item = T>) -> Self {
        Self::List(Rc::new(items.into_iter().map(Self::text).collect()))
    }

    /// A map of strings.
    pub(crate) fn text_map<'a>(items: impl IntoIterator<Item = (&'a String, &'a String)>) -> Self {
        Self::Map(Rc::new(items.into_iter().map(|(k, v)| (k.clone(), Self::text(v))).collect()))
    }

    pub(crate) fn record(type_name: &'static str, fields: Vec<Field>) -> Self {
        Self::Record(Rc::new(Record::new(type_name, fields)))
    }

    pub(crate) fn shown(alone: String, nested: String, json: String) -> Self {
        Self::Shown(Rc::new(Shown { alone, nested, json }))
    }

    /// What `.name` gives: an error is the rest of the sentence "can't evaluate field …".
    pub(super) fn field(&self, name: &str) -> Result<Self, String> {
        let no = |of: &str| Err(format!("can't evaluate field {name} in type {of}"));
        match self {
            Self::Record(record) => match record.fields.iter().find(|f| f.name == name) {
                Some(field) => Ok(field.value.clone()),
                None => no(record.type_name),
            },
            Self::Map(map) => Ok(map.get(name).cloned().unwrap_or(Self::Missing)),
            Self::Headings(overrides) => Ok(Self::text(heading(name, overrides))),
            Self::Nil => Err(format!("nil pointer evaluating interface {{}}.{name}")),
            Self::Missing => no("interface {}"),
            other => no(other.type_name()),
        }
    }

    /// Go's `%T`, near enough for messages.
    pub(super) fn type_name(&self) -> &'static str {
        match self {
            Self::Missing | Self::Nil => "<nil>",
            Self::Bool(_) => "bool",
            Self::Int(_) => "int",
            Self::Float(_) => "float64",
            Self::Text(_) | Self::Headings(_) | Self::Shown(_) => "string",
            Self::List(_) => "[]interface {}",
            Self::Map(_) => "map[string]interface {}",
            Self::Record(record) => record.type_name,
        }
    }

    /// Go's truth: everything but the zero value.
    pub(super) fn truth(&self) -> bool {
        match self {
            Self::Missing | Self::Nil => false,
            Self::Bool(b) => *b,
            Self::Int(n) => *n != 0,
            Self::Float(x) => *x != 0.0,
            Self::Text(s) => !s.is_empty(),
            Self::List(items) => !items.is_empty(),
            Self::Map(map) => !map.is_empty(),
            Self::Record(_) | Self::Headings(_) => true,
            Self::Shown(shown) => !shown.alone.is_empty(),
        }
    }

    /// Printed by an action of its own.
    pub(crate) fn print(&self, out: &mut String) {
        match self {
            Self::Missing => out.push_str("<no value>"),
            Self::Shown(shown) => out.push_str(&shown.alone),
            other => other.print_nested(out),
        }
    }

    fn print_nested(&self, out: &mut String) {
        match self {
            Self::Missing | Self::Nil => out.push_str("<nil>"),
            Self::Bool(b) => out.push_str(&b.to_string()),
            Self::Int(n) => out.push_str(&n.to_string()),
            Self::Float(x) => out.push_str(&go_float(*x)),
            Self::Text(s) => out.push_str(s),
            Self::Shown(shown) => out.push_str(&shown.nested),
            Self::List(items) => print_row(out, "[", "]", items.iter().map(|v| (None, v))),
            Self::Map(map) => print_row(out, "map[", "]", map.iter().map(|(k, v)| (Some(k.as_str()), v))),
            Self::Record(record) => {
                let shown = record.fields.iter().filter(|f| f.key.is_some());
                print_row(out, "{", "}", shown.map(|f| (None, &f.value)));
            }
            Self::Headings(_) => {}
        }
    }

    /// As `encoding/json` writes it.
    pub(crate) fn to_json(&self) -> Json {
        match self {
            Self::Missing | Self::Nil => Json::Null,
            Self::Bool(b) => Json::Bool(*b),
            Self::Int(n) => (*n).into(),
            Self::Float(x) => serde_json::Number::from_f64(*x).map_or(Json::Null, Json::Number),
            Self::Text(s) => Json::String(s.to_string()),
            Self::Shown(shown) => Json::String(shown.json.clone()),
            Self::List(items) => items.iter().map(Self::to_json).collect(),
            Self::Map(map) => Json::Object(map.iter().map(|(k, v)| (k.clone(), v.to_json())).collect()),
            Self::Record(record) => {
                let kept = record.fields.iter().filter(|f| !f.omit_empty || f.value.truth());
                Json::Object(kept.filter_map(|f| Some((f.key.clone()?, f.value.to_json()))).collect())
            }
            Self::Headings(_) => Json::String(String::new()),
        }
    }
}

fn print_row<'a>(out: &mut String, open: &str, close: &str, items: impl Iterator<Item = (Option<&'a str>, &'a Value)>) {
    out.push_str(open);
    for (n, (key, value)) in items.enumerate() {
        if n > 0 {
            out.push(' ');
        }
        if let Some(key) = key {
            out.push_str(key);
            out.push(':');
        }
        value.print_nested(out);
    }
    out.push_str(close);
}

/// Go's name of a lower-case JSON key.
fn capital(key: &str) -> String {
    const OTHERS: &[(&str, &str)] = &[
        ("ociRuntime", "OCIRuntime"),
        ("cpus", "CPUs"),
        ("os", "OS"),
        ("dns", "DNS"),
        ("cgroupVersion", "CgroupsVersion"),
        ("cpuUtilization", "CPUUtilization"),
        ("idMappings", "IDMappings"),
        ("gidmap", "GIDMap"),
        ("uidmap", "UIDMap"),
        ("slirp4netns", "Slirp4NetNS"),
        ("apparmorEnabled", "AppArmorEnabled"),
        ("capabilities", "DefaultCapabilities"),
        ("seccompEnabled", "SECCOMPEnabled"),
        ("seccompProfilePath", "SECCOMPProfilePath"),
        ("selinuxEnabled", "SELinuxEnabled"),
    ];
    match OTHERS.iter().find(|(json, _)| *json == key) {
        Some((_, go)) => (*go).to_owned(),
        None => key.chars().take(1).flat_map(char::to_uppercase).chain(key.chars().skip(1)).collect(),
    }
}

/// Go's `%v` of a float64: the shortest form, with an exponent from 1e21 on.
fn go_float(x: f64) -> String {
    if x != 0.0 && x.is_finite() && (x.abs() < 1e-4 || x.abs() >= 1e21) {
        let text = format!("{x:e}");
        let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        let (sign, digits) = exponent.strip_prefix('-').map_or(('+', exponent), |d| ('-', d));
        return format!("{mantissa}e{sign}{digits:0>2}");
    }
    match x {
        x if x.is_nan() => "NaN".to_owned(),
        x if x.is_infinite() => if x > 0.0 { "+Inf" } else { "-Inf" }.to_owned(),
        x => x.to_string(),
    }
}

/// `NetworkInterface` → `NETWORK INTERFACE`, unless said otherwise.
fn heading(name: &str, overrides: &[(&str, &str)]) -> String {
    if let Some((_, text)) = overrides.iter().find(|(field, _)| *field == name) {
        return (*text).to_owned();
    }
    let mut text = String::new();
    let chars: Vec<char> = name.chars().collect();
    for (i, c) in chars.iter().enumerate() {
        let after_lower = i > 0 && chars[i - 1].is_lowercase();
        let before_lower = i > 0 && chars[i - 1].is_uppercase() && chars.get(i + 1).is_some_and(|n| n.is_lowercase());
        if c.is_uppercase() && (after_lower || before_lower) {
            text.push(' ');
        }
        text.extend(c.to_uppercase());
    }
    text
}

impl From<bool> for Value {
    fn from(b: bool) -> Self {
        Self::Bool(b)
    }
}

impl From<i64> for Value {
    fn from(n: i64) -> Self {
        Self::Int(n)
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::text(text)
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::text(text)
    }
}

impl From<&String> for Value {
    fn from(text: &String) -> Self {
        Self::text(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_print_as_in_go() {
        for (x, text) in [(1.0, "1"), (1.5, "1.5"), (1e21, "1e+21"), (0.00001, "1e-05"), (123456789.0, "123456789")] {
            assert_eq!(go_float(x), text);
        }
    }

    #[test]
    fn times_print_as_in_go_and_stay_as_they_are_in_json() {
        let json = serde_json::json!({"Created": "2026-11-23T18:10:36.35Z", "FinishedAt": "0001-01-01T00:00:00Z"});
        let value = Value::from_json(&json, &[]);
        let mut text = String::new();
        value.print(&mut text);
        assert_eq!(text, "{2026-11-23 18:10:36.35 +0000 UTC 0001-01-01 00:00:00 +0000 UTC}");
        assert_eq!(value.to_json(), json);
    }

    #[test]
    fn what_is_empty_is_left_out_of_json_where_podman_does_so_but_not_out_of_templates() {
        let json = serde_json::json!({"Networks": {}, "SecondaryIPAddresses": [], "Aliases": null, "Links": null});
        let value = Value::from_json(&json, &["Networks"]);
        assert_eq!(value.to_json(), serde_json::json!({"Links": null}));
        assert_eq!(value.field("Networks").map(|v| v.truth()), Ok(false));
    }

    #[test]
    fn headings_are_split_and_upper_cased() {
        assert_eq!(heading("NetworkInterface", &[]), "NETWORK INTERFACE");
        assert_eq!(heading("ID", &[("ID", "NETWORK ID")]), "NETWORK ID");
        assert_eq!(heading("DNSEnabled", &[]), "DNS ENABLED");
    }
}
