//! From text to nodes.

use std::rc::Rc;

use super::value::Value;
use super::{MAX_DEPTH, TemplateError, functions, run};

/// A parsed template.
#[derive(Debug)]
pub(crate) struct Template {
    pub(super) name: String,
    pub(super) text: String,
    /// Columns in errors count from here: Podman puts `{{range .}}` around a user's text.
    pub(super) prefix: usize,
    pub(super) nodes: Vec<Node>,
}

#[derive(Debug)]
pub(super) enum Node {
    Text(String),
    Action(Pipe),
    If(Branch),
    Range(Branch),
    With(Branch),
    Break,
    Continue,
}

#[derive(Debug)]
pub(super) struct Branch {
    pub(super) pipe: Pipe,
    pub(super) then: Vec<Node>,
    pub(super) otherwise: Vec<Node>,
}

#[derive(Debug)]
pub(super) struct Pipe {
    /// `$a, $b :=`
    pub(super) variables: Vec<String>,
    /// `=` instead of `:=`
    pub(super) assigns: bool,
    pub(super) commands: Vec<Vec<Operand>>,
}

/// Where an operand stands and how it reads, for error texts.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub(super) at: usize,
    pub(super) text: Rc<str>,
}

#[derive(Debug)]
pub(super) enum Operand {
    Dot,
    Nil,
    Literal(Value),
    Field(Vec<String>, Place),
    Variable(String, Vec<String>, Place),
    Function(String, Place),
    Pipe(Box<Pipe>, Vec<String>, Place),
}

impl Template {
    /// Parses `text`; `prefix` is the length of what Podman would put before it.
    pub(crate) fn parse(name: &str, text: &str, prefix: usize) -> Result<Self, TemplateError> {
        let mut parser = Parser { name, text, at: 0, depth: 0, variables: vec!["$".to_owned()], loops: 0 };
        let (nodes, end) = parser.list()?;
        match end {
            Until::Text => Ok(Self { name: name.to_owned(), text: text.to_owned(), prefix, nodes }),
            Until::End => parser.fail("unexpected {{end}}"),
            Until::Else => parser.fail("unexpected {{else}}"),
        }
    }

    /// Appends what the template makes of `data`; on an error `out` holds what came before it.
    pub(crate) fn render(&self, data: &Value, out: &mut String) -> Result<(), TemplateError> {
        run::render(self, data, out)
    }
}

/// What ended a list of nodes.
#[derive(PartialEq, Eq)]
enum Until {
    Text,
    End,
    /// The parser stands behind the word `else`, inside the action.
    Else,
}

struct Parser<'a> {
    name: &'a str,
    text: &'a str,
    at: usize,
    depth: usize,
    variables: Vec<String>,
    loops: usize,
}

type Result<T, E = TemplateError> = std::result::Result<T, E>;

impl Parser<'_> {
    fn fail<T>(&self, message: impl std::fmt::Display) -> Result<T> {
        let line = 1 + self.text.as_bytes()[..self.at].iter().filter(|b| **b == b'\n').count();
        Err(TemplateError(format!("template: {}:{line}: {message}", self.name)))
    }

    fn rest(&self) -> &str {
        &self.text[self.at..]
    }

    fn eat(&mut self, token: &str) -> bool {
        let found = self.rest().starts_with(token);
        if found {
            self.at += token.len();
        }
        found
    }

    fn deeper<T>(&mut self, parse: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        if self.depth >= MAX_DEPTH {
            return self.fail(format_args!("nested more than {MAX_DEPTH} deep"));
        }
        self.depth += 1;
        let parsed = parse(self);
        self.depth -= 1;
        parsed
    }

    /// Nodes up to `{{end}}`, `{{else` or the end of the text.
    fn list(&mut self) -> Result<(Vec<Node>, Until)> {
        let mut nodes = Vec::new();
        loop {
            self.literal_text(&mut nodes);
            if self.rest().is_empty() {
                return Ok((nodes, Until::Text));
            }
            self.at += 2;
            self.eat_left_trim();
            if self.rest().starts_with("/*") {
                self.comment()?;
                continue;
            }
            self.spaces();
            match self.keyword() {
                Some("end") => {
                    self.close("end")?;
                    return Ok((nodes, Until::End));
                }
                Some("else") => return Ok((nodes, Until::Else)),
                Some(word) => {
                    let node = self.deeper(|parser| parser.block(word))?;
                    nodes.push(node);
                }
                None => {
                    let pipe = self.pipe("command")?;
                    self.close("command")?;
                    nodes.push(Node::Action(pipe));
                }
            }
        }
    }

    /// Text up to the next `{{`, trimmed where a marker says so.
    fn literal_text(&mut self, nodes: &mut Vec<Node>) {
        let trim_left = self.text[..self.at].ends_with("-}}");
        let length = self.rest().find("{{").unwrap_or(self.rest().len());
        let mut text = &self.text[self.at..self.at + length];
        self.at += length;
        if trim_left {
            text = text.trim_start_matches(SPACES);
        }
        if self.rest().starts_with("{{-") && self.rest()[3..].starts_with(SPACES) {
            text = text.trim_end_matches(SPACES);
        }
        if !text.is_empty() {
            nodes.push(Node::Text(text.to_owned()));
        }
    }

    fn eat_left_trim(&mut self) {
        if self.rest().starts_with('-') && self.rest()[1..].starts_with(SPACES) {
            self.at += 2;
        }
    }

    fn comment(&mut self) -> Result<()> {
        let Some(end) = self.rest().find("*/") else { return self.fail("unclosed comment") };
        self.at += end + 2;
        if self.eat("}}") {
            return Ok(());
        }
        if self.rest().starts_with(SPACES) && self.rest()[1..].starts_with("-}}") {
            self.at += 4;
            return Ok(());
        }
        self.fail("comment ends before closing delimiter")
    }

    fn spaces(&mut self) -> bool {
        let length = self.rest().len() - self.rest().trim_start_matches(SPACES).len();
        // The space of ` -}}` belongs to the end of the action.
        self.at += length;
        length > 0
    }

    fn at_close(&self) -> bool {
        self.rest().starts_with("}}") || (self.rest().starts_with("-}}") && self.text[..self.at].ends_with(SPACES))
    }

    fn close(&mut self, context: &str) -> Result<()> {
        self.spaces();
        if !self.at_close() {
            return match self.rest().chars().next() {
                None => self.fail("unclosed action"),
                Some(c) => self.fail(format_args!("unexpected {c:?} in {context}")),
            };
        }
        self.eat("-");
        self.at += 2;
        Ok(())
    }

    /// A word that begins a block, if the action begins with one.
    fn keyword(&mut self) -> Option<&'static str> {
        const WORDS: &[&str] =
            &["if", "range", "with", "end", "else", "break", "continue", "define", "template", "block"];
        let word = self.word();
        let found = WORDS.iter().find(|k| **k == word)?;
        self.at += found.len();
        Some(found)
    }

    /// The letters, digits and `_` that come next.
    fn word(&self) -> &str {
        let rest = self.rest();
        let length = rest.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(rest.len());
        &rest[..length]
    }

    fn block(&mut self, word: &'static str) -> Result<Node> {
        match word {
            "if" => Ok(Node::If(self.branch(word)?)),
            "with" => Ok(Node::With(self.branch(word)?)),
            "range" => Ok(Node::Range(self.branch(word)?)),
            "break" | "continue" => {
                if self.loops == 0 {
                    return self.fail(format_args!("{{{{{word}}}}} outside {{{{range}}}}"));
                }
                self.close(word)?;
                Ok(if word == "break" { Node::Break } else { Node::Continue })
            }
            _ => self.fail(format_args!("{{{{{word}}}}} is not supported")),
        }
    }

    /// From behind `if`, `with` or `range` to behind its `{{end}}`.
    fn branch(&mut self, word: &'static str) -> Result<Branch> {
        let scope = self.variables.len();
        let pipe = self.pipe(word)?;
        self.close(word)?;
        self.loops += usize::from(word == "range");
        let (then, end) = self.list()?;
        self.loops -= usize::from(word == "range");
        let otherwise = match end {
            Until::Text => return self.fail("unexpected EOF"),
            Until::End => Vec::new(),
            Until::Else => self.otherwise(word)?,
        };
        self.variables.truncate(scope);
        Ok(Branch { pipe, then, otherwise })
    }

    fn otherwise(&mut self, word: &'static str) -> Result<Vec<Node>> {
        self.spaces();
        // `{{else if …}}` and `{{else with …}}` share the one `{{end}}`.
        if word != "range" && self.word() == word {
            self.at += word.len();
            let nested = self.deeper(|parser| parser.block(word))?;
            return Ok(vec![nested]);
        }
        self.close("else")?;
        match self.list()? {
            (nodes, Until::End) => Ok(nodes),
            (_, Until::Else) => self.fail("expected end; found {{else}}"),
            (_, Until::Text) => self.fail("unexpected EOF"),
        }
    }

    fn pipe(&mut self, context: &str) -> Result<Pipe> {
        let (variables, assigns) = self.declaration(context)?;
        let mut commands = Vec::new();
        loop {
            let command = self.command()?;
            if command.is_empty() {
                return self.empty_command(context, !commands.is_empty());
            }
            commands.push(command);
            if !self.eat("|") {
                break;
            }
        }
        if !assigns {
            self.variables.extend(variables.iter().cloned());
        }
        Ok(Pipe { variables, assigns, commands })
    }

    fn empty_command<T>(&self, context: &str, after_bar: bool) -> Result<T> {
        match self.rest().chars().next() {
            None => self.fail("unclosed action"),
            Some(_) if self.at_close() && !after_bar => self.fail(format_args!("missing value for {context}")),
            Some(c) => self.fail(format_args!("unexpected {c:?} in {context}")),
        }
    }

    /// `$x :=`, `$x =` or `$k, $v :=`; none of them leaves the parser where it was.
    fn declaration(&mut self, context: &str) -> Result<(Vec<String>, bool)> {
        let start = self.at;
        let mut names = Vec::new();
        loop {
            self.spaces();
            if !self.rest().starts_with('$') {
                break;
            }
            self.at += 1;
            let name = format!("${}", self.word());
            self.at += name.len() - 1;
            names.push(name);
            self.spaces();
            if self.eat(":=") {
                return Ok((names, false));
            }
            if self.rest().starts_with('=') {
                self.at += 1;
                for name in &names {
                    self.known(name)?;
                }
                return Ok((names, true));
            }
            if context != "range" || names.len() > 1 || !self.eat(",") {
                break;
            }
        }
        self.at = start;
        Ok((Vec::new(), false))
    }

    fn known(&self, variable: &str) -> Result<()> {
        if self.variables.iter().any(|v| v == variable) {
            return Ok(());
        }
        self.fail(format_args!("undefined variable {variable:?}"))
    }

    /// Operands up to `|`, `)` or the end of the action.
    fn command(&mut self) -> Result<Vec<Operand>> {
        let mut operands: Vec<Operand> = Vec::new();
        loop {
            let spaced = self.spaces();
            if self.at_close() || self.rest().starts_with(['|', ')']) || self.rest().is_empty() {
                return Ok(operands);
            }
            if !operands.is_empty() && !spaced {
                let c = self.rest().chars().next().unwrap_or(' ');
                return self.fail(format_args!("unexpected {c:?} in operand"));
            }
            let operand = self.operand()?;
            operands.push(operand);
        }
    }

    fn operand(&mut self) -> Result<Operand> {
        let start = self.at;
        let first = self.rest().chars().next().unwrap_or(' ');
        match first {
            '.' if !self.rest()[1..].starts_with(|c: char| c.is_ascii_digit()) => {
                let (names, at) = self.fields();
                if names.is_empty() {
                    self.at += 1;
                    return Ok(Operand::Dot);
                }
                Ok(Operand::Field(names, self.place(at, start)))
            }
            '$' => {
                self.at += 1;
                let name = format!("${}", self.word());
                self.at += name.len() - 1;
                self.known(&name)?;
                let (names, at) = self.fields();
                Ok(Operand::Variable(name, names, self.place(at, start)))
            }
            '(' => self.parenthesis(start),
            '"' | '`' | '\'' => self.quoted(first),
            '0'..='9' | '+' | '-' | '.' => self.number(),
            c if c.is_alphabetic() || c == '_' => self.name(start),
            c => self.fail(format_args!("unexpected {c:?} in command")),
        }
    }

    fn place(&self, at: usize, start: usize) -> Place {
        Place { at, text: Rc::from(&self.text[start..self.at]) }
    }

    /// `.A.B`, and where the last but the first of them begins (Go counts a chain from its second field).
    fn fields(&mut self) -> (Vec<String>, usize) {
        let mut names = Vec::new();
        let mut at = self.at;
        while self.rest().starts_with('.') {
            let here = self.at;
            self.at += 1;
            let name = self.word().to_owned();
            if name.is_empty() {
                self.at = here;
                break;
            }
            self.at += name.len();
            if names.len() < 2 {
                at = here;
            }
            names.push(name);
        }
        (names, at)
    }

    fn parenthesis(&mut self, start: usize) -> Result<Operand> {
        self.at += 1;
        let pipe = self.deeper(|parser| parser.pipe("parenthesized pipeline"))?;
        if !self.eat(")") {
            return self.fail("unclosed left paren");
        }
        let (names, at) = self.fields();
        Ok(Operand::Pipe(Box::new(pipe), names, self.place(at, start)))
    }

    fn quoted(&mut self, quote: char) -> Result<Operand> {
        self.at += 1;
        let mut text = String::new();
        loop {
            let Some(c) = self.rest().chars().next() else {
                return self.fail(if quote == '`' {
                    "unterminated raw quoted string"
                } else {
                    "unterminated quoted string"
                });
            };
            self.at += c.len_utf8();
            match c {
                c if c == quote => break,
                '\n' if quote != '`' => return self.fail("unterminated quoted string"),
                '\\' if quote != '`' => text.push(self.escape()?),
                c => text.push(c),
            }
        }
        if quote != '\'' {
            return Ok(Operand::Literal(Value::text(text)));
        }
        match text.chars().collect::<Vec<_>>()[..] {
            [c] => Ok(Operand::Literal(Value::Int(i64::from(u32::from(c))))),
            _ => self.fail(format_args!("malformed character constant: '{text}'")),
        }
    }

    /// What stands behind a backslash.
    fn escape(&mut self) -> Result<char> {
        let Some(c) = self.rest().chars().next() else { return self.fail("unterminated quoted string") };
        self.at += c.len_utf8();
        let digits = match c {
            'n' => return Ok('\n'),
            't' => return Ok('\t'),
            'r' => return Ok('\r'),
            '\\' | '"' | '\'' => return Ok(c),
            'x' => 2,
            'u' => 4,
            'U' => 8,
            _ => return self.fail(format_args!("invalid escape \\{c}")),
        };
        let code = self.rest().get(..digits).and_then(|hex| u32::from_str_radix(hex, 16).ok());
        match code.and_then(char::from_u32) {
            Some(c) => {
                self.at += digits;
                Ok(c)
            }
            None => self.fail(format_args!("invalid escape \\{c}")),
        }
    }

    fn number(&mut self) -> Result<Operand> {
        let signed = usize::from(self.rest().starts_with(['+', '-']));
        let rest = &self.rest()[signed..];
        let length = rest.find(|c: char| !(c.is_alphanumeric() || matches!(c, '.' | '_'))).unwrap_or(rest.len());
        let text = self.rest()[..signed + length].to_owned();
        let plain = text.replace('_', "");
        let value = match plain.strip_prefix("0x").map(|hex| i64::from_str_radix(hex, 16)) {
            Some(hex) => hex.ok().map(Value::Int),
            None => plain.parse().ok().map(Value::Int),
        };
        let float = || plain.parse().ok().filter(|x: &f64| x.is_finite()).map(Value::Float);
        match value.or_else(float) {
            Some(value) => {
                self.at += text.len();
                Ok(Operand::Literal(value))
            }
            None => self.fail(format_args!("bad number syntax: {text:?}")),
        }
    }

    fn name(&mut self, start: usize) -> Result<Operand> {
        let word = self.word().to_owned();
        self.at += word.len();
        match word.as_str() {
            "true" => Ok(Operand::Literal(Value::Bool(true))),
            "false" => Ok(Operand::Literal(Value::Bool(false))),
            "nil" => Ok(Operand::Nil),
            name if functions::exists(name) => Ok(Operand::Function(word, self.place(start, start))),
            name => self.fail(format_args!("function {name:?} not defined")),
        }
    }
}

/// Go's spaces in actions and for trim markers.
const SPACES: [char; 4] = [' ', '\t', '\r', '\n'];
