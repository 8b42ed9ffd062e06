//! containers.conf(5): what users and administrators have set for all containers.
//!
//! ```text
//!   /usr/share/containers/containers.conf ─ /etc/containers/containers.conf ─ its .d/*.conf ─ the user's, and its .d
//!        or only $CONTAINERS_CONF, then $CONTAINERS_CONF_OVERRIDE ──merged──> flags put before those that were typed
//! ```
//!
//! A setting is the default of a flag, so it is parsed and checked where the flag is. Keys that podwire has no flag for
//! are left alone, as Podman leaves those it does not know.

use std::path::{Path, PathBuf};

use engine::SubnetPool;
use model::Subnet;
use toml::{Table, Value};

use crate::outcome::{Failure, plain};

/// What is set about the networks of containers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct NetworkDefaults {
    /// `netns`: `--network`, where that is not typed.
    pub(crate) mode: Option<String>,
    /// `default_network`, when it is not Podman's.
    pub(crate) name: Option<String>,
    /// `default_rootless_network_cmd`
    pub(crate) rootless: Option<String>,
    /// `pasta_options`
    pub(crate) pasta: Vec<String>,
    /// `network_cmd_options`
    pub(crate) slirp4netns: Vec<String>,
    /// `base_hosts_file`
    pub(crate) base_hosts: Option<String>,
    /// `host_containers_internal_ip`
    pub(crate) host_internal: Option<String>,
}

/// The files together.
#[derive(Debug, Default)]
pub(crate) struct Conf(Table);

impl Conf {
    pub(crate) fn read() -> Result<Self, Failure> {
        let mut conf = Self::default();
        let set = |name: &str| match name {
            "HOME" => engine::rootless::home(),
            name => std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from),
        };
        for path in paths(&set) {
            match std::fs::read_to_string(&path) {
                Ok(text) => conf.add(&text).map_err(|why| Failure::new(format!("{}: {why}", path.display())))?,
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
                Err(e) => return Err(Failure::new(format!("open {}: {}", path.display(), plain(&e)))),
            }
        }
        Ok(conf)
    }

    /// A later file's settings take the place of earlier ones, table by table.
    pub(crate) fn add(&mut self, text: &str) -> Result<(), String> {
        let table: Table = text.parse().map_err(|e: toml::de::Error| e.message().to_owned())?;
        merge(&mut self.0, table);
        Ok(())
    }

    fn get(&self, table: &str, key: &str) -> Option<&Value> {
        self.0.get(table)?.as_table()?.get(key)
    }

    fn list(&self, table: &str, key: &str) -> Vec<String> {
        let values = self.get(table, key).and_then(Value::as_array);
        values.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
    }

    /// `NAME=VALUE` that containers have where neither the image nor the user says otherwise.
    pub(crate) fn env(&self) -> Vec<String> {
        self.list("containers", "env")
    }

    /// Instead of Podman's default ones.
    pub(crate) fn capabilities(&self) -> Option<Vec<String>> {
        self.get("containers", "default_capabilities").map(|_| self.list("containers", "default_capabilities"))
    }

    /// The OCI runtime that is set, or the `typed` one: a path, where a table names some for it.
    pub(crate) fn runtime(&self, typed: Option<&str>) -> Option<String> {
        let name = typed.or_else(|| self.text("engine", "runtime"))?;
        let paths = self.get("engine", "runtimes").and_then(|all| all.get(name)).and_then(Value::as_array);
        let there = paths.into_iter().flatten().filter_map(Value::as_str).find(|path| Path::new(path).is_file());
        Some(there.unwrap_or(name).to_owned())
    }

    /// A text that is not empty.
    fn text(&self, table: &str, key: &str) -> Option<&str> {
        self.get(table, key)?.as_str().filter(|text| !text.is_empty())
    }

    /// `userns`
    pub(crate) fn userns(&self) -> Option<String> {
        self.text("containers", "userns").map(str::to_owned)
    }

    /// `NAME=VALUE` for podwire itself: proxies, mostly.
    pub(crate) fn own_env(&self) -> Vec<(String, String)> {
        let pairs = self.list("engine", "env").into_iter();
        pairs.filter_map(|text| text.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()))).collect()
    }

    /// `network_config_dir`
    pub(crate) fn network_config_dir(&self) -> Option<PathBuf> {
        self.text("network", "network_config_dir").map(PathBuf::from)
    }

    /// `default_subnet`
    pub(crate) fn default_subnet(&self) -> Result<Option<Subnet>, Failure> {
        let read = |text: &str| {
            let subnet = text.parse().ok().filter(Subnet::is_ipv4);
            subnet.ok_or_else(|| wrong("default_subnet", format!("{text:?} is no IPv4 subnet, such as 10.88.0.0/16")))
        };
        self.text("network", "default_subnet").map(read).transpose()
    }

    /// `default_subnet_pools`
    pub(crate) fn subnet_pools(&self) -> Result<Option<Vec<SubnetPool>>, Failure> {
        let Some(pools) = self.get("network", "default_subnet_pools").and_then(Value::as_array) else {
            return Ok(None);
        };
        let read = |pool: &Value| {
            let base = pool.get("base").and_then(Value::as_str).and_then(|text| text.parse().ok());
            let size = pool.get("size").and_then(Value::as_integer).and_then(|size| u8::try_from(size).ok());
            let pool = base.zip(size).and_then(|(base, size)| SubnetPool::new(base, size));
            pool.ok_or_else(|| {
                let text = "each is an IPv4 range and the length of its pieces: {base = \"10.89.0.0/16\", size = 24}";
                wrong("default_subnet_pools", text)
            })
        };
        pools.iter().map(read).collect::<Result<_, _>>().map(Some)
    }

    /// What is set about the networks of containers.
    pub(crate) fn network(&self) -> NetworkDefaults {
        let text = |table: &str, key: &str| self.text(table, key).map(str::to_owned);
        NetworkDefaults {
            mode: text("containers", "netns"),
            name: text("network", "default_network").filter(|name| name != model::network::DEFAULT_NETWORK),
            rootless: text("network", "default_rootless_network_cmd"),
            pasta: self.list("network", "pasta_options"),
            slirp4netns: self.list("engine", "network_cmd_options"),
            base_hosts: text("containers", "base_hosts_file"),
            host_internal: text("containers", "host_containers_internal_ip"),
        }
    }

    /// The flags of a command that these settings stand for, but for lists that `typed` gives anew.
    pub(crate) fn flags(&self, command: &str, typed: &[String]) -> Vec<String> {
        match command {
            "run" | "create" => [self.of_containers(typed), self.of_command(command)].concat(),
            _ => self.of_command(command),
        }
    }

    fn of_command(&self, command: &str) -> Vec<String> {
        let of_it = OF_COMMANDS.iter().filter(|(commands, ..)| commands.contains(&command));
        of_it.filter_map(|(_, key, flag)| Some(format!("--{flag}={}", self.scalar(key)?))).collect()
    }

    /// `KEY` of `[containers]`, or `TABLE.KEY`.
    fn scalar(&self, key: &str) -> Option<String> {
        let (table, key) = key.split_once('.').unwrap_or(("containers", key));
        match self.get(table, key)? {
            Value::String(text) if !text.is_empty() => Some(text.clone()),
            Value::Integer(number) => Some(number.to_string()),
            Value::Boolean(on) => Some(on.to_string()),
            _ => None,
        }
    }

    fn of_containers(&self, typed: &[String]) -> Vec<String> {
        let mut flags = Vec::new();
        for (key, flag) in SCALARS {
            let Some(text) = self.scalar(key) else { continue };
            // Set for Podman, which has it; the container's log is as good in our own file.
            if *flag == "log-driver" && text == "journald" {
                continue;
            }
            flags.push(format!("--{flag}={text}"));
        }
        if let Some(size) = self.get("containers", "log_size_max").and_then(Value::as_integer).filter(|size| *size > 0)
        {
            flags.push(format!("--log-opt=max-size={size}"));
        }
        if let Some(tag) = self.text("containers", "log_tag") {
            flags.push(format!("--log-opt=tag={tag}"));
        }
        if let Some(profile) = self.text("containers", "seccomp_profile")
            && !typed.iter().any(|arg| arg.contains("seccomp="))
        {
            flags.push(format!("--security-opt=seccomp={profile}"));
        }
        for (key, flag) in LISTS {
            let values = self.list("containers", key).into_iter();
            // The engine's own default too, which knows where it cannot be.
            let values = values.filter(|value| !value.starts_with("net.ipv4.ping_group_range="));
            flags.extend(values.map(|value| format!("--{flag}={value}")));
        }
        for (key, flag) in REPLACED {
            let is_typed = |arg: &String| *arg == format!("--{flag}") || arg.starts_with(&format!("--{flag}="));
            if !typed.iter().any(is_typed) {
                flags.extend(self.list("containers", key).into_iter().map(|value| format!("--{flag}={value}")));
            }
        }
        flags
    }
}

/// Settings with one value, of `[containers]` where no table is named, and their flags.
const SCALARS: &[(&str, &str)] = &[
    ("cgroupns", "cgroupns"),
    ("cgroups", "cgroups"),
    ("engine.pull_policy", "pull"),
    ("engine.stop_timeout", "stop-timeout"),
    ("env_host", "env-host"),
    ("http_proxy", "http-proxy"),
    ("init", "init"),
    ("init_path", "init-path"),
    ("ipcns", "ipc"),
    ("log_driver", "log-driver"),
    ("no_hosts", "no-hosts"),
    ("oom_score_adj", "oom-score-adj"),
    ("pidns", "pid"),
    ("pids_limit", "pids-limit"),
    ("privileged", "privileged"),
    ("read_only", "read-only"),
    ("shm_size", "shm-size"),
    ("tz", "tz"),
    ("umask", "umask"),
    ("utsns", "uts"),
];

/// Settings with one value that are flags of some commands.
const OF_COMMANDS: &[(&[&str], &str, &str)] = &[
    (&["run", "start", "attach"], "engine.detach_keys", "detach-keys"),
    (&["push"], "engine.compression_format", "compression-format"),
    (&["save"], "engine.multi_image_archive", "multi-image-archive"),
];

fn wrong(key: &str, what: impl std::fmt::Display) -> Failure {
    Failure::new(format!("containers.conf: {key}: {what}"))
}

/// Settings that are there beside what is typed; of two for one name the typed one counts.
const LISTS: &[(&str, &str)] = &[
    ("annotations", "annotation"),
    ("default_sysctls", "sysctl"),
    ("default_ulimits", "ulimit"),
    ("devices", "device"),
    ("mounts", "mount"),
    ("volumes", "volume"),
];

/// Settings that are not there when others are typed.
const REPLACED: &[(&str, &str)] =
    &[("dns_options", "dns-option"), ("dns_searches", "dns-search"), ("dns_servers", "dns")];

/// An array whose last element is `{append=true}` is added to the earlier one.
fn merge(into: &mut Table, from: Table) {
    for (key, value) in from {
        match (into.get_mut(&key), value) {
            (Some(Value::Table(earlier)), Value::Table(later)) => merge(earlier, later),
            (earlier, Value::Array(mut later)) => {
                let says = |value: &Value| value.get("append").and_then(Value::as_bool);
                let append = later.last().and_then(says);
                if append.is_some() {
                    later.pop();
                }
                match earlier {
                    Some(Value::Array(earlier)) if append == Some(true) => earlier.extend(later),
                    _ => drop(into.insert(key, Value::Array(later))),
                }
            }
            (_, value) => drop(into.insert(key, value)),
        }
    }
}

fn paths(set: &dyn Fn(&str) -> Option<PathBuf>) -> Vec<PathBuf> {
    let mut all = match set("CONTAINERS_CONF") {
        Some(only) => vec![only],
        None => {
            let mut all = vec![PathBuf::from("/usr/share/containers/containers.conf")];
            let own = set("XDG_CONFIG_HOME").or_else(|| set("HOME").map(|home| home.join(".config")));
            let own = own.filter(|_| !is_root());
            for base in std::iter::once(PathBuf::from("/etc")).chain(own) {
                let file = base.join("containers/containers.conf");
                all.push(file.clone());
                all.extend(drop_ins(&file.with_extension("conf.d")));
            }
            all
        }
    };
    all.extend(set("CONTAINERS_CONF_OVERRIDE"));
    all
}

/// Our effective user, as the kernel says in /proc.
fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt as _;
    std::fs::metadata("/proc/self").is_ok_and(|meta| meta.uid() == 0)
}

/// By name.
fn drop_ins(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let mut files: Vec<PathBuf> =
        entries.map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|end| end == "conf")).collect();
    files.sort();
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conf(texts: &[&str]) -> Conf {
        let mut conf = Conf::default();
        texts.iter().for_each(|text| conf.add(text).unwrap());
        conf
    }

    #[test]
    fn settings_are_flags_and_unknown_keys_are_left_alone() {
        let conf = conf(&[
            "[containers]\npids_limit = 100\ninit = true\ntz = \"local\"\nnew_key = 7\nvolumes = [\"/a:/b\"]\nlog_size_max = 5\n[other]\nx = 1\n",
        ]);
        assert_eq!(
            conf.flags("create", &[]),
            ["--init=true", "--pids-limit=100", "--tz=local", "--log-opt=max-size=5", "--volume=/a:/b"]
        );
    }

    #[test]
    fn servers_that_are_typed_take_the_place_of_those_that_are_set() {
        let conf = conf(&["[containers]\ndns_servers = [\"1.1.1.1\", \"2.2.2.2\"]\n"]);
        assert_eq!(conf.flags("create", &["img".to_owned()]), ["--dns=1.1.1.1", "--dns=2.2.2.2"]);
        assert!(conf.flags("run", &["--dns=9.9.9.9".to_owned()]).is_empty());
    }

    #[test]
    fn each_command_has_its_own_settings() {
        let conf =
            conf(&["[engine]\ndetach_keys = \"ctrl-x\"\ncompression_format = \"zstd\"\n[containers]\ntz = \"UTC\"\n"]);
        assert_eq!(conf.flags("push", &[]), ["--compression-format=zstd"]);
        assert_eq!(conf.flags("attach", &[]), ["--detach-keys=ctrl-x"]);
        assert_eq!(conf.flags("run", &[]), ["--tz=UTC", "--detach-keys=ctrl-x"]);
        assert!(conf.flags("ps", &[]).is_empty());
    }

    #[test]
    fn subnets_are_read_and_what_is_none_is_told() {
        let read = |text: &str| conf(&[&format!("[network]\n{text}\n")]);
        assert_eq!(read("default_subnet = \"10.99.0.0/16\"").default_subnet().unwrap(), "10.99.0.0/16".parse().ok());
        assert!(read("default_subnet = \"fd00::/64\"").default_subnet().is_err());
        let pools = read("default_subnet_pools = [{\"base\" = \"172.20.0.0/16\", \"size\" = 24}]").subnet_pools();
        assert_eq!(pools.unwrap().unwrap().len(), 1);
        for wrong in
            ["[{base = \"172.20.0.0/16\"}]", "[{base = \"x\", size = 24}]", "[{base = \"10.0.0.0/16\", size = 8}]"]
        {
            let failure = read(&format!("default_subnet_pools = {wrong}")).subnet_pools().unwrap_err();
            assert!(failure.message.contains("size = 24"), "{}", failure.message);
        }
        assert_eq!(read("").subnet_pools().unwrap(), None);
    }

    #[test]
    fn a_runtime_is_a_path_where_a_table_names_one_that_is_there() {
        let conf = conf(&["[engine]\nruntime = \"mine\"\n[engine.runtimes]\nmine = [\"/nonexistent\", \"/bin/sh\"]\n"]);
        assert_eq!(conf.runtime(None).as_deref(), Some("/bin/sh"));
        assert_eq!(conf.runtime(Some("mine")).as_deref(), Some("/bin/sh"));
        assert_eq!(conf.runtime(Some("runc")).as_deref(), Some("runc"));
    }

    #[test]
    fn later_files_win_and_append_where_they_say_so() {
        let first = "[containers]\nenv = [\"A=1\"]\numask = \"0077\"\n[engine]\nstop_timeout = 5\n";
        let conf = conf(&[first, "[containers]\nenv = [\"B=2\", {append = true}]\numask = \"0022\"\n"]);
        assert_eq!(conf.env(), ["A=1", "B=2"]);
        assert_eq!(conf.flags("create", &[]), ["--stop-timeout=5", "--umask=0022"]);
        assert!(Conf::default().add("[containers\n").is_err());
    }

    #[test]
    fn one_file_that_is_named_is_read_instead_of_all() {
        let set = |name: &str| match name {
            "CONTAINERS_CONF" => Some(PathBuf::from("/x")),
            "CONTAINERS_CONF_OVERRIDE" => Some(PathBuf::from("/y")),
            _ => None,
        };
        assert_eq!(paths(&set), [PathBuf::from("/x"), PathBuf::from("/y")]);
        assert_eq!(paths(&|_| None)[0], Path::new("/usr/share/containers/containers.conf"));
    }
}
