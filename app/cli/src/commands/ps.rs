//! `podwire ps`

use std::collections::BTreeMap;

use engine::{Engine, State, Summary};
use jiff::Timestamp;
use regex_lite::Regex;

use crate::ages;
use crate::filters::{self, Filters};
use crate::flags::{self, Command, signed, unsigned};
use crate::formats::Listing;
use crate::global::{Podwire, say, write};
use crate::outcome::{Failure, Outcome};
use crate::ports;
use crate::template::{Field, Value};

#[derive(clap::Args)]
pub(crate) struct Ps {
    /// Show containers that do not run too
    #[arg(short, long)]
    all: bool,
    /// Also show what other programs keep in the same storage, which in podwire's is nothing
    #[arg(long)]
    external: bool,
    /// Show what fits: ancestor=, before=, command=, exited=, health=, id=, label=, label!=, name=, network=, pod=, restart-policy=, since=, status=, until=, volume=
    #[arg(short, long, value_name = "strings")]
    filter: Vec<String>,
    /// Change the output format to JSON or a Go template
    #[arg(long, value_name = "string", default_value = "", hide_default_value = true)]
    format: String,
    /// Show the n containers created last, in any state
    #[arg(short = 'n', long, value_name = "int", value_parser = signed, default_value = "-1", hide_default_value = true)]
    last: i64,
    /// Show the container created last
    #[arg(short, long)]
    latest: bool,
    /// Show the namespaces of containers
    #[arg(long)]
    ns: bool,
    /// Show ids and commands in full
    #[arg(long, visible_alias = "notruncate")]
    no_trunc: bool,
    /// Print no headings
    #[arg(long)]
    noheading: bool,
    /// Show the pods
    #[arg(short, long)]
    pod: bool,
    /// Print ids only
    #[arg(short, long)]
    quiet: bool,
    /// Show the size of what containers have changed, and of all their files
    #[arg(short, long)]
    size: bool,
    /// By what to sort: command, created, id, image, names, runningfor, size, status
    #[arg(long, value_name = "choice", default_value = "created", value_parser = sorting)]
    sort: Sort,
    /// Look at the runtime for the state of containers, which podwire always does
    #[arg(long)]
    sync: bool,
    /// Show them again and again, every so many seconds
    #[arg(short, long, value_name = "uint", value_parser = unsigned, default_value = "0", hide_default_value = true)]
    watch: u32,
    #[arg(hide = true)]
    arguments: Vec<String>,
}

/// The filters of `ps`, and of other commands that choose among containers.
pub(crate) const KNOWN: &[&str] = &[
    "ancestor",
    "before",
    "command",
    "exited",
    "health",
    "id",
    "label",
    "label!",
    "name",
    "network",
    "pod",
    "restart-policy",
    "should-start-on-boot",
    "since",
    "status",
    "until",
    "volume",
];

const TABLE: &str = "table {{.ID}}\t{{.Image}}\t{{.Command}}\t{{.CreatedHuman}}\t{{.Status}}\t{{.Ports}}\t{{.Names}}";

impl Command for Ps {
    fn run(self, podwire: &Podwire) -> Outcome {
        flags::none(podwire, &self.arguments)?;
        if self.latest && self.last >= 0 {
            return Err(Failure::new("last and latest are mutually exclusive"));
        }
        let filters = flags::strings(&self.filter);
        if let Some(wrong) = filters.iter().find(|filter| !filter.contains('=')) {
            return Err(Failure::new(format!("invalid filter {wrong:?}")));
        }
        let filters = Filters::parse(&filters, KNOWN)?;
        if self.size && self.ns {
            return Err(Failure::new("size and namespace options conflict"));
        }
        let engine = podwire.engine()?;
        loop {
            // Read at once and written at once, so that a screen shows one moment.
            let shown = self.shown(&engine, &filters)?;
            if self.watch == 0 {
                self.print(&engine, &shown)?;
                return Ok(0);
            }
            write(CLEAR)?;
            self.print(&engine, &shown)?;
            std::thread::sleep(std::time::Duration::from_secs(self.watch.into()));
        }
    }
}

/// Clears a terminal and goes to its first place (ECMA-48: ED, CUP).
const CLEAR: &str = "\x1b[2J\x1b[1;1H";

const NAMESPACES: &str = "table {{.ID}}\t{{.Names}}\t{{.Pid}}\t{{.CGROUPNS}}\t{{.IPC}}\t{{.MNT}}\t{{.NET}}\t{{.PIDNS}}\t{{.USERNS}}\t{{.UTS}}";

const HEADINGS: &[(&str, &str)] = &[
    ("ID", "CONTAINER ID"),
    ("CreatedHuman", "CREATED"),
    ("RunningFor", "CREATED"),
    ("ImageID", "IMAGE ID"),
    ("Pid", "PID"),
    ("Pod", "POD ID"),
    ("PodName", "PODNAME"),
    ("PIDNS", "PIDNS"),
];

/// A container to show, with what is looked at only when it is asked for.
struct Shown {
    container: Summary,
    size: Option<(u64, u64)>,
}

impl Ps {
    /// Podman looks at sizes when a template asks for them, too.
    fn wants_size(&self) -> bool {
        self.size || self.sort == Sort::Size || self.format.contains(".Size")
    }

    fn shown(&self, engine: &Engine, filters: &Filters) -> Result<Vec<Shown>, Failure> {
        let containers = engine.list()?;
        let selection = Selection::read(filters, &containers)?;
        let last = if self.latest { 1 } else { self.last };
        let every_state = self.all || last >= 0 || filters.has("status") || filters.has("exited");
        let mut chosen: Vec<&Summary> =
            containers.iter().filter(|c| (every_state || c.state.is_running()) && selection.fits(c)).collect();
        chosen.sort_by_key(|c| c.created);
        if let Ok(last) = usize::try_from(last) {
            chosen.drain(..chosen.len().saturating_sub(last));
        }
        let look = |container: &Summary| {
            let size = if self.wants_size() { Some(engine.container_size(container)?) } else { None };
            Ok(Shown { container: container.clone(), size })
        };
        let mut shown = chosen.into_iter().map(look).collect::<Result<Vec<_>, Failure>>()?;
        self.sort.apply(&mut shown);
        Ok(shown)
    }

    fn print(&self, engine: &Engine, shown: &[Shown]) -> Result<(), Failure> {
        if self.quiet && self.format.is_empty() {
            let mut ids = shown.iter().map(|shown| shown.container.id);
            return ids.try_for_each(|id| if self.no_trunc { say(id) } else { say(id.short()) });
        }
        let now = Timestamp::now();
        let rows: Vec<Value> = shown
            .iter()
            .map(|shown| {
                let namespaces = if self.ns { engine.namespaces(&shown.container) } else { Vec::new() };
                row(&shown.container, self.no_trunc, now, shown.size, &namespaces)
            })
            .collect();
        let mut table = if self.ns { NAMESPACES } else { TABLE }.to_owned();
        if self.pod {
            table += "\t{{.Pod}}\t{{.PodName}}";
        }
        if self.size {
            table += "\t{{.Size}}";
        }
        Listing { name: "ps", format: &self.format, default: &table, headings: HEADINGS, header: !self.noheading }
            .print(&rows)
    }
}

/// `--sort`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sort {
    Command,
    Created,
    Id,
    Image,
    Names,
    RunningFor,
    Size,
    Status,
}

const SORTS: [(&str, Sort); 8] = [
    ("command", Sort::Command),
    ("created", Sort::Created),
    ("id", Sort::Id),
    ("image", Sort::Image),
    ("names", Sort::Names),
    ("runningfor", Sort::RunningFor),
    ("size", Sort::Size),
    ("status", Sort::Status),
];

fn sorting(text: &str) -> Result<Sort, String> {
    let found = SORTS.iter().find(|(word, _)| *word == text).map(|(_, sort)| *sort);
    let words = SORTS.map(|(word, _)| word).join(", ");
    found.ok_or_else(|| format!("{text:?} is not a valid value.  Choose from: {words:?}"))
}

impl Sort {
    /// Those alike stay in the order they were created in.
    fn apply(self, shown: &mut [Shown]) {
        match self {
            Self::Created => {}
            Self::Command => shown.sort_by(|a, b| a.container.command.cmp(&b.container.command)),
            Self::Id => shown.sort_by_key(|s| s.container.id),
            Self::Image => shown.sort_by(|a, b| a.container.image.cmp(&b.container.image)),
            Self::Names => shown.sort_by(|a, b| a.container.name.as_str().cmp(b.container.name.as_str())),
            Self::RunningFor => shown.sort_by_key(|s| s.container.started),
            Self::Size => shown.sort_by_key(|s| s.size.map(|(_, all)| all)),
            Self::Status => shown.sort_by_key(|s| s.container.state.to_string()),
        }
    }
}

/// The filters, read.
pub(crate) struct Selection<'a> {
    filters: &'a Filters,
    names: Vec<Regex>,
    exited: Vec<i32>,
    states: Vec<State>,
    before: Option<Timestamp>,
    since: Option<Timestamp>,
    until: Option<Timestamp>,
}

impl<'a> Selection<'a> {
    pub(crate) fn read(filters: &'a Filters, containers: &[Summary]) -> Result<Self, Failure> {
        let created = |name: &str| {
            let found = containers.iter().find(|c| c.name.as_str() == name || c.id.to_string().starts_with(name));
            found
                .map(|c| c.created)
                .ok_or_else(|| Failure::new(format!("no container with name or ID {name:?} found: no such container")))
        };
        let exited = |text: &String| {
            text.parse().map_err(|_| Failure::new(format!("strconv.ParseInt: parsing {text:?}: invalid syntax")))
        };
        Ok(Self {
            filters,
            names: filters.patterns("name")?,
            exited: filters.values("exited").iter().map(exited).collect::<Result<_, _>>()?,
            states: filters.values("status").iter().map(|s| s.parse()).collect::<Result<_, _>>()?,
            before: filters.one("before", created)?,
            since: filters.one("since", created)?,
            until: filters.one("until", |text| Ok(ages::parse_time(text, Timestamp::now())?))?,
        })
    }

    pub(crate) fn fits(&self, c: &Summary) -> bool {
        let id = c.id.to_string();
        let image_id = c.image_id.map_or_else(String::new, |id| id.to_string());
        filters::matches(&self.names, c.name.as_str())
            && self.filters.any("id", |prefix| id.starts_with(prefix.as_str()))
            && self.filters.labels(&c.labels)
            && (self.exited.is_empty() || c.state == State::Exited && self.exited.contains(&c.exit_code))
            && (self.states.is_empty() || self.states.contains(&c.state))
            && self.before.is_none_or(|before| c.created < before)
            && self.since.is_none_or(|since| c.created > since)
            && self.until.is_none_or(|until| c.created < until)
            && self.filters.any("restart-policy", |policy| policy.split(':').next() == Some(c.restart_policy))
            && self.filters.any("command", |wish| c.command.first() == Some(wish))
            && self.filters.any("health", |health| c.health.as_deref().unwrap_or_default() == health)
            && self
                .filters
                .any("should-start-on-boot", |wish| flags::switch(wish).is_ok_and(|wish| wish == c.starts_on_boot()))
            && self.filters.any("ancestor", |image| image_id.starts_with(image.as_str()) || is_image(&c.image, image))
            && self.filters.any("network", |n| {
                c.networks.iter().any(|(name, id)| name.as_str() == n || id.to_string().starts_with(n.as_str()))
            })
            && self.filters.any("pod", |wish| {
                c.pod.as_ref().is_some_and(|(id, name)| name == wish || id.to_string().starts_with(wish.as_str()))
            })
            && self.filters.any("volume", |v| {
                c.mounts.iter().any(|m| m.name.as_ref() == Some(v) || m.source == **v || m.target == **v)
            })
    }
}

/// The whole name, its end behind a `/`, or either without the tag.
fn is_image(full: &str, wish: &str) -> bool {
    let bare = full.rsplit_once(':').filter(|(_, tag)| !tag.contains('/')).map_or(full, |(bare, _)| bare);
    [full, bare].iter().any(|name| *name == wish || name.ends_with(&format!("/{wish}")))
}

/// What templates see of a container, and its JSON object.
fn row(
    c: &Summary,
    full: bool,
    now: Timestamp,
    size: Option<(u64, u64)>,
    namespaces: &[(&'static str, String)],
) -> Value {
    let id = if full { c.id.to_string() } else { c.id.short() };
    let joined = c.command.join(" ");
    let command = match full || joined.chars().count() <= COMMAND_MAX {
        true => joined,
        false => joined.chars().take(COMMAND_MAX).collect::<String>() + "...",
    };
    let networks: Vec<&str> = c.networks.iter().map(|(name, _)| name.as_str()).collect();
    let created = ages::ago(c.created, now);
    let pod = c.pod.as_ref().map_or_else(String::new, |(id, _)| if full { id.to_string() } else { id.short() });
    let mut fields = vec![
        Field::method("ID", id),
        Field::method("Command", command),
        Field::method("CreatedHuman", created.as_str()),
        Field::method("Created", created.as_str()),
        Field::method("RunningFor", created.as_str()),
        Field::method("CreatedAt", ages::go_time(c.created)),
        Field::method("Labels", Value::text_map(&c.labels)),
        Field::method("Mounts", c.mounts.iter().map(|m| m.target.as_str()).collect::<Vec<_>>().join(",")),
        Field::method("Names", c.name.as_str()),
        Field::method("Networks", networks.join(",")),
        Field::method("Pod", pod),
        Field::method("Ports", ports::text(&c.ports, &c.exposed)),
        Field::method("State", c.state.to_string()),
        Field::method("Status", status(c, now)),
        Field::method("Size", size.map_or_else(String::new, size_text)),
    ];
    let namespace =
        |name: &str| namespaces.iter().find(|(known, _)| *known == name).map_or("", |(_, text)| text.as_str());
    fields.extend(NAMESPACE_NAMES.iter().map(|(name, _)| Field::method(name, namespace(name))));
    fields.extend(json(c, size, namespaces));
    Value::record("containers.psReporter", fields)
}

/// What namespaces are called in a table and in JSON.
const NAMESPACE_NAMES: [(&str, &str); 7] = [
    ("CGROUPNS", "Cgroup"),
    ("IPC", "Ipc"),
    ("MNT", "Mnt"),
    ("NET", "Net"),
    ("PIDNS", "Pidns"),
    ("USERNS", "UserNS"),
    ("UTS", "Uts"),
];

/// `1.5kB (virtual 5.8MB)`
fn size_text((own, all): (u64, u64)) -> String {
    let short = |bytes| ages::human_size(bytes).replace(' ', "");
    format!("{} (virtual {})", short(own), short(all))
}

/// Podman shows so much of a command.
const COMMAND_MAX: usize = 17;

/// `Up 3 seconds`, `Exited (0) 2 minutes ago`.
fn status(c: &Summary, now: Timestamp) -> String {
    let since = |time: Option<Timestamp>| ages::human_duration(now.duration_since(time.unwrap_or(now)));
    match c.state {
        State::Running => match &c.health {
            Some(health) => format!("Up {} ({health})", since(c.started)),
            None => format!("Up {}", since(c.started)),
        },
        State::Exited => format!("Exited ({}) {} ago", c.exit_code, since(c.finished)),
        other => {
            let word = other.to_string();
            word[..1].to_uppercase() + &word[1..]
        }
    }
}

fn json(c: &Summary, size: Option<(u64, u64)>, namespaces: &[(&'static str, String)]) -> Vec<Field> {
    let namespaces = namespaces.iter().filter_map(|(name, text)| {
        let (_, key) = NAMESPACE_NAMES.iter().find(|(known, _)| known == name)?;
        Some(((*key).to_owned(), text.clone()))
    });
    let size = size.map_or(Value::Nil, |(own, all)| {
        let number = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
        Value::record(
            "define.ContainerSize",
            vec![Field::named("RootFsSize", "rootFsSize", number(all)), Field::named("RwSize", "rwSize", number(own))],
        )
    });
    let exited_at = c.finished.map_or(GO_ZERO, Timestamp::as_second);
    let ports = Value::list(ports::merge(&c.ports).iter().map(|m| {
        Value::record(
            "types.PortMapping",
            vec![
                Field::named("HostIP", "host_ip", m.host.to_string()),
                Field::named("ContainerPort", "container_port", i64::from(m.container_port)),
                Field::named("HostPort", "host_port", i64::from(m.host_port)),
                Field::named("Range", "range", i64::from(m.range)),
                Field::named("Protocol", "protocol", m.protocol.to_string()),
            ],
        )
    }));
    let exposed = Value::Map(exposed(&c.exposed).into());
    let (pod_id, pod_name) = c.pod.as_ref().map_or((String::new(), ""), |(id, name)| (id.to_string(), name.as_str()));
    vec![
        Field::same("AutoRemove", c.auto_remove),
        Field::same("Command", Value::texts(&c.command)),
        Field::same("Created", c.created.to_string()),
        Field::same("CreatedAt", ""),
        Field::same("CIDFile", c.id_file.as_str()),
        Field::same("Exited", c.state == State::Exited),
        Field::same("ExitedAt", exited_at),
        Field::same("ExitCode", i64::from(c.exit_code)),
        Field::same("ExposedPorts", if c.exposed.is_empty() { Value::Nil } else { exposed }),
        Field::same("Id", c.id.to_string()),
        Field::same("Image", c.image.as_str()),
        Field::same("ImageID", c.image_id.map_or_else(String::new, |id| id.to_string())),
        Field::same("IsInfra", c.is_infra),
        Field::same("Labels", if c.labels.is_empty() { Value::Nil } else { Value::text_map(&c.labels) }),
        Field::same("Mounts", Value::texts(c.mounts.iter().map(|m| &m.target))),
        Field::same("Names", Value::texts([c.name.as_str()])),
        Field::same("Namespaces", Value::text_map(&namespaces.collect::<BTreeMap<_, _>>())),
        Field::same("Networks", Value::texts(c.networks.iter().map(|(name, _)| name.as_str()))),
        Field::same("Pid", i64::from(c.pid.unwrap_or(0))),
        Field::same("Pod", pod_id.as_str()),
        Field::same("PodName", pod_name),
        Field::same("Ports", if c.ports.is_empty() { Value::Nil } else { ports }),
        Field::same("Restarts", i64::from(c.restarts)),
        Field::same("Size", size),
        Field::same("StartedAt", c.started.map_or(GO_ZERO, Timestamp::as_second)),
        Field::same("State", c.state.to_string()),
        Field::same("Status", ""),
    ]
}

/// Go's zero time, the first second of year 1, in seconds since 1970.
const GO_ZERO: i64 = -62_135_596_800;

/// Port to protocols, as Podman's JSON has it.
fn exposed(ports: &[(u16, u16, model::Protocol)]) -> BTreeMap<String, Value> {
    let mut map: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for &(first, count, protocol) in ports {
        for n in 0..count {
            map.entry(first.saturating_add(n).to_string()).or_default().push(protocol.to_string());
        }
    }
    map.into_iter().map(|(port, protocols)| (port, Value::texts(protocols))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn web() -> Summary {
        let time = |text: &str| text.parse::<Timestamp>().unwrap();
        Summary {
            id: "26fe94487ef7ff57a41eba5d353a1a01e4f6797c109c4f5c0d0ae1bb30b15d01".parse().unwrap(),
            name: "w1".parse().unwrap(),
            rootfs: None,
            image_id: Some("9e1aa52dea581dc7903c710f15893bad7a4854ab373f2def0bd8306c76d10566".parse().unwrap()),
            image: "quay.io/libpod/testimage:20241011".to_owned(),
            command: vec!["sleep".to_owned(), "1000".to_owned()],
            created: time("2026-11-23T18:11:11.381027044Z"),
            state: State::Running,
            pid: Some(31901),
            started: Some(time("2026-11-23T18:11:11Z")),
            finished: None,
            exit_code: 0,
            ports: vec!["8080:80".parse::<model::PortSpec>().unwrap().at(8080)],
            exposed: Vec::new(),
            networks: vec![("podman".to_owned(), model::network::DEFAULT_NETWORK_ID.parse().unwrap())],
            mounts: Vec::new(),
            labels: BTreeMap::from([("created_by".to_owned(), "test".to_owned())]),
            auto_remove: false,
            restarts: 0,
            restart_policy: "no",
            stopped_by_user: false,
            health: None,
            pod: None,
            is_infra: false,
            id_file: String::new(),
        }
    }

    fn now() -> Timestamp {
        "2026-11-23T18:11:13Z".parse().unwrap()
    }

    #[test]
    fn json_is_podmans_as_recorded() {
        let json = row(&web(), false, now(), None, &[]).to_json().to_string();
        assert_eq!(
            json,
            r#"{"AutoRemove":false,"Command":["sleep","1000"],"Created":"2026-11-23T18:11:11.381027044Z","CreatedAt":"","CIDFile":"","Exited":false,"ExitedAt":-62135596800,"ExitCode":0,"ExposedPorts":null,"Id":"26fe94487ef7ff57a41eba5d353a1a01e4f6797c109c4f5c0d0ae1bb30b15d01","Image":"quay.io/libpod/testimage:20241011","ImageID":"9e1aa52dea581dc7903c710f15893bad7a4854ab373f2def0bd8306c76d10566","IsInfra":false,"Labels":{"created_by":"test"},"Mounts":[],"Names":["w1"],"Namespaces":{},"Networks":["podman"],"Pid":31901,"Pod":"","PodName":"","Ports":[{"host_ip":"","container_port":80,"host_port":8080,"range":1,"protocol":"tcp"}],"Restarts":0,"Size":null,"StartedAt":1795457471,"State":"running","Status":""}"#
        );
    }

    #[test]
    fn status_says_how_long() {
        let mut container = web();
        assert_eq!(status(&container, now()), "Up 2 seconds");
        container.state = State::Exited;
        container.exit_code = 3;
        container.finished = Some("2026-11-23T18:06:13Z".parse().unwrap());
        assert_eq!(status(&container, now()), "Exited (3) 5 minutes ago");
        container.state = State::Created;
        assert_eq!(status(&container, now()), "Created");
    }

    #[test]
    fn filters_select_by_what_they_say() {
        let all = [web()];
        let check = |flags: &[&str], fits: bool| {
            let flags: Vec<String> = flags.iter().map(|f| (*f).to_owned()).collect();
            let filters = Filters::parse(&flags, KNOWN).unwrap();
            assert_eq!(Selection::read(&filters, &all).unwrap().fits(&all[0]), fits, "{flags:?}");
        };
        check(&["name=^w", "id=26fe"], true);
        check(&["name=x", "name=w"], true);
        check(&["name=^1"], false);
        check(&["network=podman"], true);
        check(&["network=na"], false);
        check(&["ancestor=testimage"], true);
        check(&["ancestor=libpod/testimage:20241011"], true);
        check(&["ancestor=image"], false);
        check(&["status=running", "status=exited"], true);
        check(&["status=exited"], false);
        check(&["label=created_by=test"], true);
        check(&["exited=0"], false);
        check(&["until=2026-11-23T00:00:00Z"], false);
        check(&["since=w1"], false);
    }
}
