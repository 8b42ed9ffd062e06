//! The functions a template can call: Go's own and those Podman adds.

use std::cmp::Ordering;
use std::ops::RangeInclusive;

use super::value::Value;

type Arguments<'a> = &'a [Value];

/// Its name, how many arguments it takes, what it does.
type Function = (&'static str, RangeInclusive<usize>, fn(Arguments) -> Result<Value, String>);

/// One line per function.
const FUNCTIONS: &[Function] = &[
    ("and", 1..=MANY, |a| Ok(a.iter().find(|v| !v.truth()).unwrap_or(&a[a.len() - 1]).clone())),
    ("or", 1..=MANY, |a| Ok(a.iter().find(|v| v.truth()).unwrap_or(&a[a.len() - 1]).clone())),
    ("not", 1..=1, |a| Ok(Value::Bool(!a[0].truth()))),
    ("len", 1..=1, |a| length(&a[0])),
    ("index", 1..=MANY, |a| a[1..].iter().try_fold(a[0].clone(), |value, key| index(&value, key))),
    ("slice", 1..=3, slice),
    ("print", 0..=MANY, |a| Ok(Value::text(print(a)))),
    ("println", 0..=MANY, |a| Ok(Value::text(println(a)))),
    ("printf", 1..=MANY, |a| printf(&text(&a[0])?, &a[1..]).map(Value::text)),
    ("eq", 2..=MANY, |a| a[1..].iter().try_fold(false, |yes, b| Ok(yes | equal(&a[0], b)?)).map(Value::Bool)),
    ("ne", 2..=2, |a| Ok(Value::Bool(!equal(&a[0], &a[1])?))),
    ("lt", 2..=2, |a| Ok(Value::Bool(order(&a[0], &a[1])?.is_lt()))),
    ("le", 2..=2, |a| Ok(Value::Bool(order(&a[0], &a[1])?.is_le()))),
    ("gt", 2..=2, |a| Ok(Value::Bool(order(&a[0], &a[1])?.is_gt()))),
    ("ge", 2..=2, |a| Ok(Value::Bool(order(&a[0], &a[1])?.is_ge()))),
    ("json", 1..=1, |a| Ok(Value::text(a[0].to_json().to_string()))),
    ("join", 2..=2, join),
    ("split", 2..=2, |a| Ok(Value::texts(text(&a[0])?.split(&text(&a[1])?)))),
    ("lower", 1..=1, |a| Ok(Value::text(text(&a[0])?.to_lowercase()))),
    ("upper", 1..=1, |a| Ok(Value::text(text(&a[0])?.to_uppercase()))),
    ("title", 1..=1, |a| Ok(Value::text(title(&text(&a[0])?)))),
    ("pad", 3..=3, pad),
    ("truncate", 2..=2, |a| Ok(Value::text(text(&a[0])?.chars().take(count(&a[1])?).collect::<String>()))),
];

const MANY: usize = usize::MAX;

/// No padding is wider: a width from a template must not fill the memory.
const WIDEST: usize = 4096;

pub(super) fn exists(name: &str) -> bool {
    FUNCTIONS.iter().any(|(known, ..)| *known == name)
}

/// An error is what Go prints behind the place.
pub(super) fn call(name: &str, arguments: Vec<Value>) -> Result<Value, String> {
    let Some((_, arity, function)) = FUNCTIONS.iter().find(|(known, ..)| *known == name) else {
        return Err(format!("{name:?} is not a defined function"));
    };
    let (got, least, most) = (arguments.len(), *arity.start(), *arity.end());
    if !arity.contains(&got) {
        let want = match most {
            MANY => format!("at least {least}"),
            most if most == least => least.to_string(),
            most => format!("{least} to {most}"),
        };
        return Err(format!("wrong number of args for {name}: want {want} got {got}"));
    }
    function(&arguments).map_err(|message| match name {
        "index" | "slice" | "len" | "eq" | "ne" | "lt" | "le" | "gt" | "ge" => {
            format!("error calling {name}: {message}")
        }
        _ => message,
    })
}

fn text(value: &Value) -> Result<String, String> {
    match value {
        Value::Text(text) => Ok(text.to_string()),
        Value::Shown(shown) => Ok(shown.alone.clone()),
        other => Err(format!("wrong type for value; expected string; got {}", other.type_name())),
    }
}

/// A length or position that is not negative.
fn count(value: &Value) -> Result<usize, String> {
    match value {
        Value::Int(n) => usize::try_from(*n).map_err(|_| format!("index out of range: {n}")),
        other => Err(format!("cannot index slice/array with type {}", other.type_name())),
    }
}

fn length(value: &Value) -> Result<Value, String> {
    let length = match value {
        Value::Text(text) => text.len(),
        Value::List(items) => items.len(),
        Value::Map(map) => map.len(),
        // What is null in JSON is a slice or a map of Podman's, but for a few pointers.
        Value::Nil => 0,
        Value::Missing => return Err("len of nil pointer".to_owned()),
        other => return Err(format!("len of type {}", other.type_name())),
    };
    Ok(Value::Int(length as i64))
}

fn index(value: &Value, key: &Value) -> Result<Value, String> {
    match value {
        // The maps that Podman shows hold strings: a key that is not there gives the empty string.
        Value::Map(map) => Ok(map.get(&text(key)?).cloned().unwrap_or_else(|| Value::text(""))),
        Value::List(items) => {
            let n = count(key)?;
            items.get(n).cloned().ok_or_else(|| format!("index out of range: {n}"))
        }
        Value::Text(text) => {
            let n = count(key)?;
            text.as_bytes().get(n).map(|b| Value::Int((*b).into())).ok_or_else(|| format!("index out of range: {n}"))
        }
        Value::Nil | Value::Missing => Err("index of untyped nil".to_owned()),
        other => Err(format!("can't index item of type {}", other.type_name())),
    }
}

fn slice(a: Arguments) -> Result<Value, String> {
    let length = match length(&a[0])? {
        Value::Int(n) => n as usize,
        _ => 0,
    };
    let from = a.get(1).map_or(Ok(0), count)?;
    let to = a.get(2).map_or(Ok(length), count)?;
    if to > length || from > to {
        return Err(format!("invalid slice index: {from} > {to}"));
    }
    match &a[0] {
        Value::Text(text) => {
            text.get(from..to).map(Value::text).ok_or_else(|| "slice cuts a character in two".to_owned())
        }
        Value::List(items) => Ok(Value::List(items[from..to].to_vec().into())),
        other => Err(format!("can't slice item of type {}", other.type_name())),
    }
}

fn shown(value: &Value) -> String {
    let mut out = String::new();
    match value {
        Value::Missing => out.push_str("<nil>"),
        value => value.print(&mut out),
    }
    out
}

/// Go's `Sprint`: a space between two operands of which none is a string.
fn print(a: Arguments) -> String {
    let mut out = String::new();
    for (i, value) in a.iter().enumerate() {
        if i > 0 && !matches!(value, Value::Text(_)) && !matches!(a[i - 1], Value::Text(_)) {
            out.push(' ');
        }
        out.push_str(&shown(value));
    }
    out
}

fn println(a: Arguments) -> String {
    a.iter().map(shown).collect::<Vec<_>>().join(" ") + "\n"
}

fn equal(a: &Value, b: &Value) -> Result<bool, String> {
    match (a, b) {
        (Value::Nil | Value::Missing, Value::Nil | Value::Missing) => Ok(true),
        (Value::Nil | Value::Missing, _) | (_, Value::Nil | Value::Missing) => Ok(false),
        (Value::Bool(a), Value::Bool(b)) => Ok(a == b),
        _ => Ok(order(a, b)?.is_eq()),
    }
}

fn order(a: &Value, b: &Value) -> Result<Ordering, String> {
    match (a, b) {
        (Value::Int(a), Value::Int(b)) => Ok(a.cmp(b)),
        (Value::Float(a), Value::Float(b)) => Ok(a.total_cmp(b)),
        (Value::Text(_) | Value::Shown(_), Value::Text(_) | Value::Shown(_)) => Ok(text(a)?.cmp(&text(b)?)),
        (Value::Int(_) | Value::Float(_) | Value::Text(_) | Value::Shown(_) | Value::Bool(_), _)
            if !matches!(b, Value::List(_) | Value::Map(_) | Value::Record(_)) =>
        {
            Err("incompatible types for comparison".to_owned())
        }
        _ => Err("invalid type for comparison".to_owned()),
    }
}

fn join(a: Arguments) -> Result<Value, String> {
    let separator = text(&a[1])?;
    match &a[0] {
        Value::List(items) => Ok(Value::text(items.iter().map(shown).collect::<Vec<_>>().join(&separator))),
        Value::Nil => Ok(Value::text("")),
        other => Err(format!("wrong type for value; expected []string; got {}", other.type_name())),
    }
}

fn title(words: &str) -> String {
    let mut out = String::new();
    let mut before = ' ';
    for c in words.chars() {
        match before.is_alphanumeric() {
            true => out.push(c),
            false => out.extend(c.to_uppercase()),
        }
        before = c;
    }
    out
}

/// `pad TEXT BEFORE AFTER`: spaces around a text that is not empty.
fn pad(a: Arguments) -> Result<Value, String> {
    let inside = text(&a[0])?;
    if inside.is_empty() {
        return Ok(Value::text(inside));
    }
    let spaces = |n: &Value| Ok::<_, String>(" ".repeat(count(n)?.min(WIDEST)));
    Ok(Value::text(format!("{}{inside}{}", spaces(&a[1])?, spaces(&a[2])?)))
}

/// `%[flags][width][.precision]verb`
#[derive(Default)]
struct Verb {
    left: bool,
    zero: bool,
    plus: bool,
    width: usize,
    precision: Option<usize>,
}

/// Go's `Sprintf` for the verbs `v s d q t f e g x X c T %`.
fn printf(format: &str, arguments: &[Value]) -> Result<String, String> {
    let mut out = String::new();
    let mut chars = format.chars().peekable();
    let mut left = arguments.iter();
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let verb = Verb::read(&mut chars);
        match chars.next() {
            None => out.push_str("%!(NOVERB)"),
            Some('%') => out.push('%'),
            Some(letter) => match left.next() {
                None => out.push_str(&format!("%!{letter}(MISSING)")),
                Some(value) => out.push_str(&verb.padded(letter, verb.formatted(letter, value))),
            },
        }
    }
    let extra: Vec<String> = left.map(|v| format!("{}={}", v.type_name(), shown(v))).collect();
    if !extra.is_empty() {
        out.push_str(&format!("%!(EXTRA {})", extra.join(", ")));
    }
    Ok(out)
}

type Chars<'a> = std::iter::Peekable<std::str::Chars<'a>>;

/// A width or precision, as far as it makes sense.
fn number(chars: &mut Chars<'_>) -> usize {
    let mut n = 0_usize;
    while let Some(digit) = chars.next_if(char::is_ascii_digit).and_then(|d| d.to_digit(10)) {
        n = n.saturating_mul(10).saturating_add(digit as usize);
    }
    n.min(WIDEST)
}

impl Verb {
    /// What stands between `%` and the letter.
    fn read(chars: &mut Chars<'_>) -> Self {
        let mut verb = Self::default();
        while let Some(flag) = chars.next_if(|c| matches!(c, '-' | '0' | '+' | ' ' | '#')) {
            verb.left |= flag == '-';
            verb.zero |= flag == '0';
            verb.plus |= flag == '+';
        }
        verb.width = number(chars);
        verb.precision = chars.next_if_eq(&'.').map(|_| number(chars));
        verb
    }

    fn formatted(&self, letter: char, value: &Value) -> String {
        match (letter, value) {
            ('v', value) => shown(value),
            ('T', value) => value.type_name().to_owned(),
            ('s', Value::Int(_) | Value::Float(_) | Value::Bool(_) | Value::Nil) | ('d', Value::Text(_)) => {
                format!("%!{letter}({}={})", value.type_name(), shown(value))
            }
            ('s', value) => self.cut(shown(value)),
            ('q', Value::Text(text)) => format!("{text:?}"),
            ('d', Value::Int(n)) if self.plus => format!("{n:+}"),
            ('d', value) => shown(value),
            ('t', Value::Bool(b)) => b.to_string(),
            ('f', Value::Float(x)) => format!("{x:.*}", self.precision.unwrap_or(6)),
            ('e' | 'g', Value::Float(_)) => shown(value),
            ('x', Value::Int(n)) => format!("{n:x}"),
            ('X', Value::Int(n)) => format!("{n:X}"),
            ('x', Value::Text(text)) => text.bytes().map(|b| format!("{b:02x}")).collect(),
            ('c', Value::Int(n)) => {
                u32::try_from(*n).ok().and_then(char::from_u32).unwrap_or(char::REPLACEMENT_CHARACTER).to_string()
            }
            _ => format!("%!{letter}({}={})", value.type_name(), shown(value)),
        }
    }

    fn cut(&self, text: String) -> String {
        self.precision.map_or(text.clone(), |n| text.chars().take(n).collect())
    }

    fn padded(&self, letter: char, text: String) -> String {
        let missing = self.width.saturating_sub(text.chars().count());
        if self.left {
            return text + &" ".repeat(missing);
        }
        if !(self.zero && matches!(letter, 'd' | 'f' | 'x' | 'X')) {
            return " ".repeat(missing) + &text;
        }
        let (sign, digits) = text.split_at(usize::from(text.starts_with(['-', '+'])));
        format!("{sign}{}{digits}", "0".repeat(missing))
    }
}
