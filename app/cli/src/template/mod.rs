//! Go's `text/template`, as much of it as `--format` needs, over our own [`Value`].
//!
//! ```text
//!   "{{.Names}}\t{{.ID}}" ──parse──> [Node] ──render(Value)──> text, or Podman's error text
//! ```
//!
//! **How it works.** `parse` cuts the text into nodes (text, action, if, range, with), `run` walks them. Values
//! print as Go prints them: `map[a:b]`, `[a b]`, `<nil>`, `<no value>`.
//!
//! **Invariants.** Never panics, whatever the text (a property test says so); nesting is bounded by [`MAX_DEPTH`].
//!
//! **Limits.** No `define`, `template`, `block`: each is refused by name. No complex numbers.
//!
//! The crate `gtmpl` was looked at and left: its values are its own, maps and nil print in another way, and its
//! errors carry neither column nor field.

mod functions;
mod parse;
mod run;
mod value;

pub(crate) use parse::Template;
pub(crate) use value::{Field, Value};

/// How deep blocks and parentheses may nest: far more than anybody writes, far less than the stack holds.
const MAX_DEPTH: usize = 64;

/// Why a template could not be parsed or run, in Go's words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct TemplateError(pub(crate) String);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn sample() -> Value {
        Value::from_json(
            &json!({
                "Id": "0123456789ab",
                "Name": "web",
                "Names": ["web", "www"],
                "State": {"Status": "running", "Pid": 42, "OOMKilled": false},
                "NetworkSettings": {
                    "IPAddress": "10.88.0.2",
                    "Networks": {"b": {"IPAddress": "10.89.0.2"}, "a": {"IPAddress": "10.88.0.2"}}
                },
                "Config": {"Labels": {"a": "1", "b": "2"}, "Cmd": null},
                "Subnets": [{"Subnet": "10.88.0.0/16"}, {"Subnet": "fd00::/64"}],
                "Size": 1.5
            }),
            &["Labels", "Networks"],
        )
    }

    fn render(text: &str) -> String {
        let mut out = String::new();
        match Template::parse("inspect", text, 0).and_then(|t| t.render(&sample(), &mut out)) {
            Ok(()) => out,
            Err(error) => format!("{out}!{error}"),
        }
    }

    fn check(text: &str, gives: &str) {
        assert_eq!(render(text), gives, "{text}");
    }

    #[test]
    fn fields_print_as_go_prints_them() {
        check("{{.Name}}", "web");
        check("{{.NetworkSettings.IPAddress}} x", "10.88.0.2 x");
        check("{{.Names}}", "[web www]");
        check("{{.Config.Labels}}", "map[a:1 b:2]");
        check("{{.State}}", "{running 42 false}");
        check("{{.Config.Cmd}}", "<nil>");
        check("{{.Size}}", "1.5");
        check("{{.State.OOMKilled}}", "false");
    }

    #[test]
    fn what_users_write_works() {
        check("{{json .Names}}", r#"["web","www"]"#);
        check(
            "{{range $k,$v := .NetworkSettings.Networks}}{{$k}}={{$v.IPAddress}};{{end}}",
            "a=10.88.0.2;b=10.89.0.2;",
        );
        check("{{range .Subnets}}{{.Subnet}} {{end}}", "10.88.0.0/16 fd00::/64 ");
        check("{{if eq .State.Status \"running\"}}up{{else}}down{{end}}", "up");
        check("{{if ne .State.Status `running`}}a{{else if gt .State.Pid 41}}b{{else}}c{{end}}", "b");
        check("{{index .Config.Labels \"a\"}}{{index .Config.Labels \"zz\"}}|{{index .Names 1}}", "1|www");
        check(
            "{{.Name | upper}} {{len .Names}} {{printf \"%s:%d %5s|%-5s|%q %v %T\" .Name 3 \"a\" \"b\" \"c\" .Names 1}}",
            "WEB 2 web:3     a|b    |\"c\" [web www] int",
        );
        check("{{println .Name}}", "web\n");
        check("{{join .Names \",\"}} {{.Names | json}}", r#"web,www ["web","www"]"#);
        check("{{with .Config.Labels}}{{.a}}{{end}}{{with .Config.Cmd}}x{{else}}none{{end}}", "1none");
        check("a {{- /* comment */ -}} b{{- .Name -}} c", "abwebc");
        check("{{$x := 1}}{{$x = 2}}{{$x}}{{(index .Subnets 0).Subnet}}", "210.88.0.0/16");
        check("{{range .Names}}{{if eq . \"www\"}}{{break}}{{end}}{{.}}{{else}}empty{{end}}", "web");
        check("{{range $i, $n := .Names}}{{$i}}{{$n}}{{$.Name}} {{end}}", "0webweb 1wwwweb ");
        check("{{and .Name .Size}} {{or .Config.Cmd \"d\"}} {{not .Name}}", "1.5 d false");
        check("{{slice .Name 0 2}}{{title \"x y\"}}{{split \"a,b\" \",\"}}", "weX Y[a b]");
        check("{{.Config.Labels.nope}}", "<no value>");
        check("{{json .}}", &serde_json::to_string(&sample().to_json()).unwrap());
    }

    #[test]
    fn errors_carry_gos_words_and_column() {
        check(
            "{{.Nope}}",
            "!template: inspect:1:2: executing \"inspect\" at <.Nope>: can't evaluate field Nope in type interface {}",
        );
        check(
            "ab {{.Config.Domainname}}",
            "ab !template: inspect:1:12: executing \"inspect\" at <.Config.Domainname>: can't evaluate field Domainname in type *define.InspectContainerConfig",
        );
        check("{{.Name", "!template: inspect:1: unclosed action");
        check("{{nope .Name}}", "!template: inspect:1: function \"nope\" not defined");
        check("{{if .Name}}", "!template: inspect:1: unexpected EOF");
        check("{{end}}", "!template: inspect:1: unexpected {{end}}");
        check(
            "{{range .Size}}x{{end}}",
            "!template: inspect:1:8: executing \"inspect\" at <.Size>: range can't iterate over 1.5",
        );
        check("{{$x}}", "!template: inspect:1: undefined variable \"$x\"");
        check("{{template \"x\"}}", "!template: inspect:1: {{template}} is not supported");
    }

    #[test]
    fn the_column_counts_the_range_that_podman_puts_around() {
        let error = Template::parse("ls", "{{.Nope}}", "{{range .}}".len())
            .unwrap()
            .render(&Value::record("network.ListPrintReports", vec![]), &mut String::new())
            .unwrap_err();
        assert_eq!(
            error.0,
            "template: ls:1:13: executing \"ls\" at <.Nope>: can't evaluate field Nope in type network.ListPrintReports"
        );
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "(\\{\\{|\\}\\}|[a-z.$|()\"'` -]|range|if|end|else|with|\\.Names|\\.State|index|printf|%[a-z0-9-]{0,3}|[0-9]{1,20}|:=|,|é|\\n|slice|json|len|eq|pad|\\{\\{if \\.Name\\}\\}|\\{\\{end\\}\\}|\\{\\{\\(){0,24}") {
            render(&text);
        }
    }
}
