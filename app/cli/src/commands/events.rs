//! `podwire events`

use std::io;

use engine::{Event, EventSpan};
use jiff::Timestamp;

use crate::ages;
use crate::filters::{Filters, is_invalid};
use crate::flags::{self, Command, switch};
use crate::formats;
use crate::global::{Podwire, say, write};
use crate::outcome::{Failure, Outcome};
use crate::template::{Field, Template, Value};

#[derive(clap::Args)]
pub(crate) struct Events {
    /// Tell what fits: container=, event=, image=, label=, network=, type=, volume=
    #[arg(short, long, value_name = "stringArray")]
    filter: Vec<String>,
    /// Change the output format to JSON or a Go template
    #[arg(long, value_name = "string", default_value = "", hide_default_value = true)]
    format: String,
    /// Show ids in full (default true)
    #[arg(long, visible_alias = "notruncate", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = switch)]
    no_trunc: Option<bool>,
    /// From this time on: a time, or a duration back from now
    #[arg(long, value_name = "string")]
    since: Option<String>,
    /// Wait for what happens (default true); false: tell what is remembered and end
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = switch)]
    stream: Option<bool>,
    /// Up to this time: a time, or a duration back from now
    #[arg(long, value_name = "string")]
    until: Option<String>,
    #[arg(hide = true)]
    arguments: Vec<String>,
}

const KNOWN: &[&str] = &["container", "event", "status", "image", "label", "network", "type", "volume"];

impl Command for Events {
    fn run(self, podwire: &Podwire) -> Outcome {
        flags::none(podwire, &self.arguments)?;
        let filters = filters(&self.filter)?;
        let printer = Printer::new(&self.format, self.no_trunc.unwrap_or(true))?;
        let now = Timestamp::now();
        let time = |text: Option<&String>| text.map(|text| ages::parse_time(text, now)).transpose();
        let span = EventSpan {
            since: time(self.since.as_ref())?,
            until: time(self.until.as_ref())?,
            follow: self.stream.unwrap_or(true),
        };
        let mut failed = None;
        let told = podwire.engine()?.events(&span, &mut |event| {
            let told = if fits(&filters, event) { printer.print(event) } else { Ok(()) };
            told.map_err(|failure| {
                failed = Some(failure);
                io::ErrorKind::Other.into()
            })
        });
        match failed {
            Some(failure) => Err(failure),
            None => Ok(told.map(|()| 0)?),
        }
    }
}

fn filters(flags: &[String]) -> Result<Filters, Failure> {
    Filters::parse_refusing(flags, KNOWN, is_invalid)
}

fn fits(filters: &Filters, event: &Event) -> bool {
    let none = std::collections::BTreeMap::new();
    let is = |kind: &str| event.kind == kind;
    let named = |wish: &String| event.name == *wish || (!wish.is_empty() && event.id.starts_with(wish.as_str()));
    let image = if is("image") { &event.name } else { &event.image };
    filters.any("type", |wish| is(wish))
        && filters.any("event", |wish| event.status == *wish)
        && filters.any("status", |wish| event.status == *wish)
        && filters.any("container", |wish| (is("container") || event.is_attachment()) && named(wish))
        && filters.any("image", |wish| {
            let bare = image.rsplit('/').next().unwrap_or(image);
            let without_tag = |text: &str| text.split(':').next() == Some(wish.as_str());
            !image.is_empty() && (image == wish || bare == wish || without_tag(bare) || without_tag(image))
                || (is("image") && named(wish))
        })
        && filters.any("network", |wish| is("network") && (event.network == *wish || named(wish)))
        && filters.any("volume", |wish| is("volume") && event.name == *wish)
        && filters.labels(event.attributes.as_ref().filter(|_| is("container")).unwrap_or(&none))
}

/// How events are printed, one a line.
struct Printer {
    form: Form,
    full: bool,
}

enum Form {
    Line,
    Json,
    Template(Template),
}

impl Printer {
    fn new(format: &str, full: bool) -> Result<Self, Failure> {
        let form = match format {
            "" => Form::Line,
            "json" => Form::Json,
            text => Form::Template(Template::parse("events", &formats::unescape(text), 0)?),
        };
        Ok(Self { form, full })
    }

    fn print(&self, event: &Event) -> Result<(), Failure> {
        match &self.form {
            Form::Line => say(line(event, self.full)),
            Form::Json => say(fields(event).to_json()),
            Form::Template(template) => {
                let mut text = String::new();
                template.render(&fields(event), &mut text)?;
                formats::end_line(&mut text);
                write(&text)
            }
        }
    }
}

/// Podman's line.
fn line(event: &Event, full: bool) -> String {
    let id = if full { &event.id[..] } else { event.id.get(..12).unwrap_or(&event.id) };
    let Event { kind, status, name, image, network, .. } = event;
    let head = format!("{} {kind} {status}", ages::go_time(time(event)));
    let attributes = event.attributes.iter().flatten();
    match kind.as_str() {
        "container" => {
            let labels: String = attributes.map(|(key, value)| format!(", {key}={value}")).collect();
            let health = event.health.iter().map(|health| format!(", health_status={health}")).collect::<String>();
            format!("{head} {id} (image={image}, name={name}{health}{labels})")
        }
        "network" if event.is_attachment() => format!("{head} {id} (container={id}, name={network})"),
        "network" => {
            let driver = attributes.map(|(_, value)| value.as_str()).next().unwrap_or_default();
            format!("{head} {id} (name={network}, type={driver})")
        }
        "image" => format!("{head} {id} {name}"),
        _ => format!("{head} {name}"),
    }
}

/// What templates see and JSON has, in Podman's order.
fn fields(event: &Event) -> Value {
    let at = time(event);
    let code = event.exit_code.map_or(Value::Nil, |code| Value::Int(code.into()));
    let attributes = event.attributes.as_ref().map_or(Value::Nil, Value::text_map);
    // In Podman a pointer: an exit code of 0 is not left out.
    let code = match event.exit_code {
        Some(_) => Field::named("ContainerExitCode", "ContainerExitCode", code),
        None => Field::optional("ContainerExitCode", "ContainerExitCode", code),
    };
    let nanoseconds = Value::Int(event.time);
    Value::record(
        "events.Event",
        vec![
            code,
            Field::optional("ID", "ID", &event.id),
            Field::optional("Image", "Image", &event.image),
            Field::optional("Name", "Name", &event.name),
            Field::optional("Network", "network", &event.network),
            Field::same("Status", &event.status),
            Field::named("Time", "time", at.as_second()),
            Field::named("TimeNano", "timeNano", nanoseconds),
            Field::same("Type", &event.kind),
            Field::same("Attributes", attributes),
            Field::optional("HealthStatus", "health_status", event.health.as_deref().unwrap_or_default()),
        ],
    )
}

fn time(event: &Event) -> Timestamp {
    Timestamp::from_nanosecond(event.time.into()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn died() -> Event {
        Event {
            time: 1_795_457_609_136_229_379,
            id: "5307effd9ec36c21525b6eee558194ced8ce1cc57908fc1a50d00713a849fe18".to_owned(),
            name: "dk".to_owned(),
            image: "quay.io/libpod/testimage:20241011".to_owned(),
            exit_code: Some(0),
            attributes: Some(BTreeMap::from([("created_by".to_owned(), "test".to_owned())])),
            ..Event::of("container", "died")
        }
    }

    fn on_network(status: &str, attributes: Option<(&str, &str)>) -> Event {
        Event {
            name: if attributes.is_none() { "evc".to_owned() } else { String::new() },
            network: "ev1".to_owned(),
            attributes: attributes.map(|(key, value)| BTreeMap::from([(key.to_owned(), value.to_owned())])),
            exit_code: None,
            image: String::new(),
            kind: "network".to_owned(),
            status: status.to_owned(),
            ..died()
        }
    }

    const ID: &str = "5307effd9ec36c21525b6eee558194ced8ce1cc57908fc1a50d00713a849fe18";
    const HEAD: &str = "2026-11-23 18:13:29.136229379 +0000 UTC";

    #[test]
    fn lines_are_podmans() {
        let check = |event: &Event, full: bool, rest: &str| assert_eq!(line(event, full), format!("{HEAD} {rest}"));
        let image = "image=quay.io/libpod/testimage:20241011";
        check(&died(), true, &format!("container died {ID} ({image}, name=dk, created_by=test)"));
        check(&died(), false, &format!("container died 5307effd9ec3 ({image}, name=dk, created_by=test)"));
        let driver = Some(("driver", "bridge"));
        check(&on_network("create", driver), true, &format!("network create {ID} (name=ev1, type=bridge)"));
        check(&on_network("connect", None), true, &format!("network connect {ID} (container={ID}, name=ev1)"));
        let pulled = Event { time: died().time, ..Event::image("pull", ID, "quay.io/libpod/testimage:20241011") };
        check(&pulled, true, &format!("image pull {ID} quay.io/libpod/testimage:20241011"));
        let volume = Event { time: died().time, ..Event::volume("create", "v1") };
        check(&volume, true, "volume create v1");
    }

    #[test]
    fn json_is_podmans_as_recorded() {
        let check = |event: &Event, json: String| assert_eq!(fields(event).to_json().to_string(), json);
        check(
            &on_network("create", Some(("driver", "bridge"))),
            format!(
                r#"{{"ID":"{ID}","network":"ev1","Status":"create","time":1795457609,"timeNano":1795457609136229379,"Type":"network","Attributes":{{"driver":"bridge"}}}}"#
            ),
        );
        check(
            &on_network("connect", None),
            format!(
                r#"{{"ID":"{ID}","Name":"evc","network":"ev1","Status":"connect","time":1795457609,"timeNano":1795457609136229379,"Type":"network","Attributes":null}}"#
            ),
        );
        check(
            &died(),
            format!(
                r#"{{"ContainerExitCode":0,"ID":"{ID}","Image":"quay.io/libpod/testimage:20241011","Name":"dk","Status":"died","time":1795457609,"timeNano":1795457609136229379,"Type":"container","Attributes":{{"created_by":"test"}}}}"#
            ),
        );
    }

    #[test]
    fn filters_select_by_what_they_say() {
        let check = |flags: &[&str], event: &Event, wanted: bool| {
            let flags: Vec<String> = flags.iter().map(|flag| (*flag).to_owned()).collect();
            assert_eq!(fits(&filters(&flags).unwrap(), event), wanted, "{flags:?}");
        };
        check(&[], &died(), true);
        check(&["type=container", "event=died", "event=start"], &died(), true);
        check(&["type=network"], &died(), false);
        check(&["container=dk"], &died(), true);
        check(&["container=5307"], &died(), true);
        check(&["container=other"], &died(), false);
        check(&["container=evc"], &on_network("connect", None), true);
        check(&["network=ev1"], &on_network("connect", None), true);
        check(&["network=other"], &on_network("connect", None), false);
        check(&["network=ev1"], &died(), false);
        check(&["image=testimage"], &died(), true);
        check(&["image=quay.io/libpod/testimage"], &died(), true);
        check(&["image=image"], &died(), false);
        check(&["label=created_by=test"], &died(), true);
        check(&["label=created_by=you"], &died(), false);
        check(&["volume=v1"], &Event::volume("create", "v1"), true);
        check(&["volume=v1"], &died(), false);
    }

    #[test]
    fn unknown_filters_are_refused_in_podmans_words() {
        let refused = |flag: &str| filters(&[flag.to_owned()]).unwrap_err().message;
        assert_eq!(refused("foo=bar"), "foo is an invalid filter");
        assert_eq!(refused("x"), "filter input must be in the form of filter=value: x is invalid");
    }
}
