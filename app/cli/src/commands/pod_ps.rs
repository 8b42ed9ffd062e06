//! `podwire pod ps`

use engine::pods::{PodMember, PodSummary};
use jiff::Timestamp;
use model::ContainerId;
use regex_lite::Regex;

use crate::ages;
use crate::filters::{self, Filters, is_invalid};
use crate::flags::{self, Command};
use crate::formats::Listing;
use crate::global::{Podwire, say};
use crate::outcome::{Failure, Outcome};
use crate::template::{Field, Value};

#[derive(clap::Args)]
pub(crate) struct PodPs {
    /// Show the containers' ids
    #[arg(long)]
    ctr_ids: bool,
    /// Show the containers' names
    #[arg(long)]
    ctr_names: bool,
    /// Show what the containers do
    #[arg(long)]
    ctr_status: bool,
    /// Show what fits: ctr-ids=, ctr-names=, ctr-number=, ctr-status=, id=, label=, label!=, name=, network=, status=, until=
    #[arg(short, long, value_name = "strings")]
    filter: Vec<String>,
    /// Change the output format to JSON or a Go template
    #[arg(long, value_name = "string", default_value = "", hide_default_value = true)]
    format: String,
    /// Show the pod created last
    #[arg(short, long)]
    latest: bool,
    /// Show ids in full
    #[arg(long, visible_alias = "notruncate")]
    no_trunc: bool,
    /// Print no headings
    #[arg(long)]
    noheading: bool,
    /// Show control groups and namespaces
    #[arg(long)]
    ns: bool,
    /// Print ids only
    #[arg(short, long)]
    quiet: bool,
    /// Sort by created, id, name, number or status
    #[arg(long, value_name = "string", default_value = "created")]
    sort: String,
    #[arg(hide = true)]
    arguments: Vec<String>,
}

const KNOWN: &[&str] = &[
    "ctr-ids",
    "ctr-names",
    "ctr-number",
    "ctr-status",
    "id",
    "label",
    "label!",
    "name",
    "network",
    "status",
    "until",
];

const STATUSES: &[&str] = &["created", "degraded", "dead", "error", "exited", "paused", "running", "stopped"];

impl Command for PodPs {
    fn run(self, podwire: &Podwire) -> Outcome {
        flags::none(podwire, &self.arguments)?;
        let filters = filters(&self.filter)?;
        let selection = Selection::read(&filters)?;
        let mut pods = podwire.engine()?.pods()?;
        if self.latest {
            pods.drain(..pods.len().saturating_sub(1));
        }
        pods.retain(|pod| selection.fits(pod));
        sort(&mut pods, &self.sort)?;
        if self.quiet && self.format.is_empty() {
            pods.iter().try_for_each(|pod| say(pod.id))?;
            return Ok(0);
        }
        let now = Timestamp::now();
        let rows: Vec<Value> = pods.iter().map(|pod| row(pod, self.no_trunc, now)).collect();
        Listing {
            name: "list",
            format: &self.format,
            default: &self.table(),
            headings: &[
                ("Id", "POD ID"),
                ("ID", "POD ID"),
                ("InfraID", "INFRA ID"),
                ("InfraId", "INFRA ID"),
                ("NumberOfContainers", "# OF CONTAINERS"),
                ("ContainerIds", "IDS"),
                ("ContainerNames", "NAMES"),
                ("ContainerStatuses", "STATUS"),
                ("Namespace", "NAMESPACES"),
            ],
            header: !self.noheading,
        }
        .print(&rows)?;
        Ok(0)
    }
}

impl PodPs {
    fn table(&self) -> String {
        let mut columns = vec!["Id", "Name", "Status", "Created", "InfraID"];
        let asked = [
            (self.ctr_ids, "ContainerIds"),
            (self.ctr_names, "ContainerNames"),
            (self.ctr_status, "ContainerStatuses"),
        ];
        columns.extend(asked.iter().filter(|(asked, _)| *asked).map(|(_, column)| *column));
        if self.ns {
            columns.extend(["Cgroup", "Namespace"]);
        }
        if !asked.iter().any(|(asked, _)| *asked) {
            columns.push("NumberOfContainers");
        }
        let cells: Vec<String> = columns.iter().map(|column| format!("{{{{.{column}}}}}")).collect();
        format!("table {}", cells.join("\t"))
    }
}

/// The youngest first, unless asked otherwise.
fn sort(pods: &mut [PodSummary], by: &str) -> Result<(), Failure> {
    match by {
        "created" => pods.reverse(),
        "id" => pods.sort_by_key(|pod| pod.id),
        "name" | "names" => pods.sort_by(|a, b| a.name.cmp(&b.name)),
        "number" => pods.sort_by_key(|pod| pod.containers.len()),
        "status" => pods.sort_by_key(|pod| pod.status),
        _ => return Err(Failure::new("invalid option for --sort, options are: id, names, or number")),
    }
    Ok(())
}

/// Those that are known.
pub(super) fn filters(texts: &[String]) -> Result<Filters, Failure> {
    let filters = flags::strings(texts);
    let key = |filter: &String| filter.split('=').next().unwrap_or_default().to_owned();
    match filters.iter().map(key).find(|key| !KNOWN.contains(&key.as_str())) {
        Some(wrong) => Err(Failure::new(is_invalid(&wrong))),
        None => Filters::parse(&filters, KNOWN),
    }
}

/// The filters, read.
pub(super) struct Selection<'a> {
    filters: &'a Filters,
    names: Vec<Regex>,
    container_names: Vec<Regex>,
    numbers: Vec<usize>,
    until: Option<Timestamp>,
}

impl<'a> Selection<'a> {
    pub(super) fn read(filters: &'a Filters) -> Result<Self, Failure> {
        for (key, what, known) in [("status", "pod", STATUSES), ("ctr-status", "container", CONTAINER_STATES)] {
            if let Some(wrong) = filters.values(key).iter().find(|word| !known.contains(&word.as_str())) {
                return Err(Failure::new(format!("{wrong} is not a valid {what} status")));
            }
        }
        let number = |text: &String| {
            text.parse().map_err(|_| Failure::new(format!("strconv.Atoi: parsing {text:?}: invalid syntax")))
        };
        Ok(Self {
            filters,
            names: filters.patterns("name")?,
            container_names: filters.patterns("ctr-names")?,
            numbers: filters.values("ctr-number").iter().map(number).collect::<Result<_, _>>()?,
            until: filters.one("until", |text| Ok(ages::parse_time(text, Timestamp::now())?))?,
        })
    }

    pub(super) fn fits(&self, pod: &PodSummary) -> bool {
        let id = pod.id.to_string();
        let any = |key, right: &dyn Fn(&PodMember, &str) -> bool| {
            self.filters.any(key, |value| pod.containers.iter().any(|member| right(member, value)))
        };
        filters::matches(&self.names, &pod.name)
            && self.filters.any("id", |prefix| id.starts_with(prefix.as_str()))
            && self.filters.labels(&pod.labels)
            && self.filters.any("status", |word| pod.status.eq_ignore_ascii_case(word))
            && self.filters.any("network", |name| pod.networks.contains(name))
            && any("ctr-ids", &|member, prefix| member.id.to_string().starts_with(prefix))
            && any("ctr-status", &|member, word| member.state.to_string() == word)
            && (self.container_names.is_empty()
                || pod.containers.iter().any(|member| filters::matches(&self.container_names, &member.name)))
            && (self.numbers.is_empty() || self.numbers.contains(&pod.containers.len()))
            && self.until.is_none_or(|until| pod.created < until)
    }
}

const CONTAINER_STATES: &[&str] = &["created", "initialized", "running", "stopping", "paused", "exited", "unknown"];

/// What templates see of a pod, and its JSON object.
fn row(pod: &PodSummary, full: bool, now: Timestamp) -> Value {
    let short = |id: &ContainerId| if full { id.to_string() } else { id.short() };
    let list = |cell: &dyn Fn(&PodMember) -> String| pod.containers.iter().map(cell).collect::<Vec<_>>().join(",");
    let id = if full { pod.id.to_string() } else { pod.id.short() };
    let infra = pod.infra.as_ref().map_or_else(String::new, short);
    let labels = Value::text_map(&pod.labels);
    let mut fields = vec![
        Field::method("ID", id.as_str()),
        Field::method("Id", id.as_str()),
        Field::method("Created", ages::ago(pod.created, now)),
        Field::method("InfraID", infra.as_str()),
        Field::method("InfraId", infra.as_str()),
        Field::method("NumberOfContainers", Value::Int(pod.containers.len().try_into().unwrap_or(i64::MAX))),
        Field::method("ContainerIds", list(&|member| short(&member.id))),
        Field::method("ContainerNames", list(&|member| member.name.clone())),
        Field::method("ContainerStatuses", list(&|member| member.state.to_string())),
        Field::method("Networks", pod.networks.join(",")),
        Field::method("Labels", labels.clone()),
    ];
    fields.extend(json(pod, labels));
    Value::record("pods.ListPodReporter", fields)
}

fn json(pod: &PodSummary, labels: Value) -> Vec<Field> {
    let member = |member: &PodMember| {
        Value::record(
            "types.ListPodContainer",
            vec![
                Field::same("Id", member.id.to_string()),
                Field::same("Names", member.name.as_str()),
                Field::same("Status", member.state.to_string()),
                Field::same("RestartCount", Value::Int(0)),
            ],
        )
    };
    vec![
        Field::same("Cgroup", ""),
        Field::same("Containers", Value::list(pod.containers.iter().map(member))),
        Field::same("Created", pod.created.to_string()),
        Field::same("Id", pod.id.to_string()),
        Field::same("InfraId", pod.infra.map_or_else(String::new, |id| id.to_string())),
        Field::same("Name", pod.name.as_str()),
        Field::same("Namespace", ""),
        Field::same("Networks", Value::texts(&pod.networks)),
        Field::same("Status", pod.status),
        Field::same("Labels", labels),
    ]
}
