//! `--format`: a table, JSON, or a Go template, as Podman prints each.

use serde::Serialize as _;

use crate::global::write;
use crate::outcome::Failure;
use crate::table;
use crate::template::{Template, TemplateError, Value};

/// Podman wraps a user's template so; the columns of errors count it.
const AROUND: usize = "{{range .}}".len();

/// How a list of things is printed.
pub(crate) struct Listing<'a> {
    /// The template's name in errors: the command's last word.
    pub(crate) name: &'a str,
    /// `--format` as typed; empty for the table.
    pub(crate) format: &'a str,
    /// The command's own table.
    pub(crate) default: &'a str,
    /// Headings that are not the field's own name.
    pub(crate) headings: &'static [(&'static str, &'static str)],
    /// Print the headings?
    pub(crate) header: bool,
}

impl Listing<'_> {
    /// `rows` are what templates see, and what `--format json` prints.
    pub(crate) fn print(&self, rows: &[Value]) -> Result<(), Failure> {
        let (text, failed) = self.text(rows);
        write(&text)?;
        failed.map_or(Ok(()), |error| Err(error.into()))
    }

    /// What is printed, and the error that stopped it.
    fn text(&self, rows: &[Value]) -> (String, Option<TemplateError>) {
        if self.format == "json" {
            let list: serde_json::Value = rows.iter().map(Value::to_json).collect();
            return (indented(&list, "  "), None);
        }
        let format = if self.format.is_empty() || self.format == "table" { self.default } else { self.format };
        let unescaped = unescape(format);
        let (table, row) = match unescaped.strip_prefix("table ") {
            // Podman takes a space between columns for a tab.
            Some(row) => (true, between_actions(row, |text| text.replace(' ', "\t"))),
            None => (false, unescaped.clone()),
        };
        let mut lines = String::new();
        let failed = self.rows(&row, table && self.header, rows, &mut lines).err();
        (if table { table::align(&lines) } else { lines }, failed)
    }

    fn rows(&self, row: &str, header: bool, rows: &[Value], lines: &mut String) -> Result<(), TemplateError> {
        let template = Template::parse(self.name, row, AROUND)?;
        if header {
            template.render(&Value::Headings(self.headings), lines)?;
            end_line(lines);
        }
        for value in rows {
            template.render(value, lines)?;
            end_line(lines);
        }
        Ok(())
    }
}

/// `inspect`: one template result per line, or a JSON array with Podman's five spaces.
pub(crate) fn inspect(name: &str, format: &str, objects: &[Value]) -> Result<(), Failure> {
    if format.is_empty() || format == "json" {
        let list: serde_json::Value = objects.iter().map(Value::to_json).collect();
        return write(&indented(&list, "     "));
    }
    let listing = Listing { name, format, default: "", headings: &[], header: true };
    listing.print(objects)
}

/// One object (`info`, `version`) by a template or as JSON.
pub(crate) fn object(name: &str, format: &str, value: &Value) -> Result<(), Failure> {
    if format == "json" {
        return write(&indented(&value.to_json(), "  "));
    }
    let mut text = String::new();
    let rendered = Template::parse(name, &unescape(format), 0).and_then(|t| t.render(value, &mut text));
    if rendered.is_ok() {
        end_line(&mut text);
    }
    write(&text)?;
    Ok(rendered?)
}

pub(crate) fn end_line(lines: &mut String) {
    if !lines.ends_with('\n') {
        lines.push('\n');
    }
}

/// In a shell's single quotes `\t` arrives as two characters.
pub(crate) fn unescape(format: &str) -> String {
    between_actions(format, |text| text.replace("\\t", "\t").replace("\\n", "\n"))
}

/// Changes what stands outside of `{{…}}`.
fn between_actions(format: &str, change: impl Fn(&str) -> String) -> String {
    let mut changed = String::new();
    let mut rest = format;
    while let Some(start) = rest.find("{{") {
        let end = rest[start..].find("}}").map_or(rest.len(), |length| start + length + 2);
        changed += &change(&rest[..start]);
        changed += &rest[start..end];
        rest = &rest[end..];
    }
    changed + &change(rest)
}

/// JSON with `indent` per level, and a line end.
pub(crate) fn indented(json: &serde_json::Value, indent: &str) -> String {
    let mut bytes = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(indent.as_bytes());
    let mut serializer = serde_json::Serializer::with_formatter(&mut bytes, formatter);
    // A Value into a Vec: neither can fail.
    let written = json.serialize(&mut serializer);
    debug_assert!(written.is_ok());
    bytes.push(b'\n');
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::template::Field;

    fn listing(format: &str) -> (String, Option<TemplateError>) {
        let row = |name: &str, driver: &str| {
            Value::record(
                "network.ListPrintReports",
                vec![Field::named("Name", "name", name), Field::named("Driver", "driver", driver)],
            )
        };
        let listing =
            Listing { name: "ls", format, default: "table {{.Name}}\t{{.Driver}}", headings: &[], header: true };
        listing.text(&[row("na", "bridge"), row("podman", "bridge")])
    }

    #[test]
    fn the_table_the_template_and_json_are_podmans() {
        assert_eq!(listing("").0, "NAME        DRIVER\nna          bridge\npodman      bridge\n");
        assert_eq!(
            listing(r"table {{.Driver}}\t{{.Name}}").0,
            "DRIVER      NAME\nbridge      na\nbridge      podman\n"
        );
        assert_eq!(
            listing("table {{.Driver}} {{ .Name }}").0,
            "DRIVER      NAME\nbridge      na\nbridge      podman\n"
        );
        assert_eq!(listing(r#"{{"\n"}}{{.Name}}\t"#).0, "\nna\t\n\npodman\t\n");
        assert_eq!(listing(r"{{.Name}}\t{{.Driver}}").0, "na\tbridge\npodman\tbridge\n");
        assert_eq!(
            listing("{{json .}}").0,
            "{\"name\":\"na\",\"driver\":\"bridge\"}\n{\"name\":\"podman\",\"driver\":\"bridge\"}\n"
        );
        assert!(listing("json").0.starts_with("[\n  {\n    \"name\": \"na\",\n"));
    }

    #[test]
    fn what_came_before_an_error_is_printed() {
        let (text, error) = listing("{{.Name}} {{.Nope}}");
        assert_eq!(text, "na ");
        assert_eq!(
            error.unwrap().0,
            "template: ls:1:23: executing \"ls\" at <.Nope>: can't evaluate field Nope in type network.ListPrintReports"
        );
    }

    #[test]
    fn inspect_is_indented_by_five() {
        let json = serde_json::json!([{"name": "na", "containers": {}}]);
        assert_eq!(
            indented(&json, "     "),
            "[\n     {\n          \"name\": \"na\",\n          \"containers\": {}\n     }\n]\n"
        );
        assert_eq!(indented(&serde_json::json!([]), "     "), "[]\n");
    }
}
