//! Walks the nodes.

use super::TemplateError;
use super::functions;
use super::parse::{Branch, Node, Operand, Pipe, Place, Template};
use super::value::Value;

/// Go shows at most so much of a node in an error.
const SHOWN: usize = 20;

pub(super) fn render(template: &Template, data: &Value, out: &mut String) -> Result<(), TemplateError> {
    let mut run = Run { template, variables: vec![("$".to_owned(), data.clone())], at: None };
    run.list(&template.nodes, data, out).map(drop)
}

struct Run<'a> {
    template: &'a Template,
    variables: Vec<(String, Value)>,
    /// The operand looked at last: errors stand there.
    at: Option<Place>,
}

/// How a list of nodes ended.
#[derive(PartialEq, Eq)]
enum Flow {
    On,
    Break,
    Continue,
}

type Result<T, E = TemplateError> = std::result::Result<T, E>;

impl Run<'_> {
    fn fail<T>(&self, message: impl std::fmt::Display) -> Result<T> {
        let Template { name, text, prefix, .. } = self.template;
        let (at, node) = self.at.as_ref().map_or((0, ""), |place| (place.at, &*place.text));
        let before = &text[..at];
        let line = 1 + before.matches('\n').count();
        let column = before.rfind('\n').map_or(prefix + at, |newline| at - newline - 1);
        let shown: String = node.chars().take(SHOWN).collect();
        let dots = if node.chars().count() > SHOWN { "..." } else { "" };
        Err(TemplateError(format!(
            "template: {name}:{line}:{column}: executing \"{name}\" at <{shown}{dots}>: {message}"
        )))
    }

    fn list(&mut self, nodes: &[Node], dot: &Value, out: &mut String) -> Result<Flow> {
        for node in nodes {
            let flow = match node {
                Node::Text(text) => {
                    out.push_str(text);
                    Flow::On
                }
                Node::Action(pipe) => {
                    let value = self.pipe(pipe, dot)?;
                    if pipe.variables.is_empty() {
                        value.print(out);
                    }
                    Flow::On
                }
                Node::If(branch) => self.scoped(|run| {
                    let value = run.pipe(&branch.pipe, dot)?;
                    run.list(if value.truth() { &branch.then } else { &branch.otherwise }, dot, out)
                })?,
                Node::With(branch) => self.scoped(|run| {
                    let value = run.pipe(&branch.pipe, dot)?;
                    match value.truth() {
                        true => run.list(&branch.then, &value, out),
                        false => run.list(&branch.otherwise, dot, out),
                    }
                })?,
                Node::Range(branch) => self.scoped(|run| run.range(branch, dot, out))?,
                Node::Break => Flow::Break,
                Node::Continue => Flow::Continue,
            };
            if flow != Flow::On {
                return Ok(flow);
            }
        }
        Ok(Flow::On)
    }

    /// Forgets the variables that `run` declares.
    fn scoped(&mut self, run: impl FnOnce(&mut Self) -> Result<Flow>) -> Result<Flow> {
        let scope = self.variables.len();
        let flow = run(self);
        self.variables.truncate(scope);
        flow
    }

    fn range(&mut self, branch: &Branch, dot: &Value, out: &mut String) -> Result<Flow> {
        let over = self.commands(&branch.pipe, dot)?;
        let items: Vec<(Value, Value)> = match &over {
            Value::Missing | Value::Nil => Vec::new(),
            Value::List(items) => (0..).map(Value::Int).zip(items.iter().cloned()).collect(),
            Value::Map(map) => map.iter().map(|(k, v)| (Value::text(k), v.clone())).collect(),
            other => {
                let mut shown = String::new();
                other.print(&mut shown);
                return self.fail(format_args!("range can't iterate over {shown}"));
            }
        };
        if items.is_empty() {
            return self.list(&branch.otherwise, dot, out);
        }
        for (key, item) in items {
            let flow = self.scoped(|run| {
                match &branch.pipe.variables[..] {
                    [] => {}
                    [one] => run.set(one, item.clone(), branch.pipe.assigns),
                    [first, second, ..] => {
                        run.set(first, key, branch.pipe.assigns);
                        run.set(second, item.clone(), branch.pipe.assigns);
                    }
                }
                run.list(&branch.then, &item, out)
            })?;
            if flow == Flow::Break {
                break;
            }
        }
        Ok(Flow::On)
    }

    fn set(&mut self, name: &str, value: Value, assigns: bool) {
        match self.variables.iter_mut().rev().find(|(known, _)| assigns && known == name) {
            Some((_, slot)) => *slot = value,
            None => self.variables.push((name.to_owned(), value)),
        }
    }

    fn pipe(&mut self, pipe: &Pipe, dot: &Value) -> Result<Value> {
        let value = self.commands(pipe, dot)?;
        for name in &pipe.variables {
            self.set(name, value.clone(), pipe.assigns);
        }
        Ok(value)
    }

    fn commands(&mut self, pipe: &Pipe, dot: &Value) -> Result<Value> {
        let mut last = None;
        for command in &pipe.commands {
            last = Some(self.command(command, dot, last)?);
        }
        Ok(last.unwrap_or(Value::Nil))
    }

    /// `piped`: the result of the command before `|`, which becomes the last argument.
    fn command(&mut self, operands: &[Operand], dot: &Value, piped: Option<Value>) -> Result<Value> {
        let Some((first, rest)) = operands.split_first() else { return Ok(Value::Nil) };
        if let Operand::Function(name, place) = first {
            let mut arguments = Vec::with_capacity(rest.len() + 1);
            for operand in rest {
                arguments.push(self.operand(operand, dot)?);
            }
            arguments.extend(piped);
            self.at = Some(place.clone());
            return functions::call(name, arguments).or_else(|message| self.fail(message));
        }
        let value = self.operand(first, dot)?;
        if !rest.is_empty() || piped.is_some() {
            return self.fail("can't give argument to non-function");
        }
        Ok(value)
    }

    fn operand(&mut self, operand: &Operand, dot: &Value) -> Result<Value> {
        match operand {
            Operand::Dot => Ok(dot.clone()),
            Operand::Nil => Ok(Value::Nil),
            Operand::Literal(value) => Ok(value.clone()),
            Operand::Field(names, place) => self.fields(dot.clone(), names, place),
            Operand::Variable(name, names, place) => {
                let value = self.variables.iter().rev().find(|(known, _)| known == name);
                let value = value.map_or(Value::Missing, |(_, value)| value.clone());
                self.fields(value, names, place)
            }
            Operand::Pipe(pipe, names, place) => {
                let value = self.pipe(pipe, dot)?;
                self.fields(value, names, place)
            }
            Operand::Function(name, place) => {
                self.at = Some(place.clone());
                functions::call(name, Vec::new()).or_else(|message| self.fail(message))
            }
        }
    }

    fn fields(&mut self, value: Value, names: &[String], place: &Place) -> Result<Value> {
        self.at = Some(place.clone());
        names.iter().try_fold(value, |value, name| value.field(name).or_else(|message| self.fail(message)))
    }
}
