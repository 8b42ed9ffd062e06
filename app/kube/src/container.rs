//! One container of a pod.

use std::collections::BTreeMap;

use engine::config::{
    Care, ContainerConfig, Inside, NetworkConfig, PodChoice, PortText, PullPolicy, Restart, Seccomp, SecurityConfig,
    Space, UsersWish,
};

use crate::node::Node;
use crate::pod::refused;
use crate::probe::{self, PortNames};
use crate::volume::Volumes;
use crate::{Around, ConfigMaps, Keyed, Refused, Result};

/// What the containers of a pod have in common.
pub(crate) struct Setting<'a> {
    pub(crate) pod: &'a str,
    pub(crate) labels: &'a BTreeMap<String, String>,
    pub(crate) annotations: &'a BTreeMap<String, String>,
    pub(crate) maps: &'a ConfigMaps,
    pub(crate) volumes: &'a Volumes,
    pub(crate) around: &'a Around,
    /// The pod's, for those that say nothing else.
    pub(crate) context: Context,
    /// Whose System V IPC and `/dev/shm` they have.
    pub(crate) ipc: Space,
    /// Seconds.
    pub(crate) stop_timeout: Option<u32>,
    pub(crate) restart: Restart,
}

/// The pod's `securityContext`.
#[derive(Debug, Default)]
pub(crate) struct Context {
    pub(crate) user: Option<String>,
    pub(crate) groups: Vec<String>,
    pub(crate) sysctls: BTreeMap<String, String>,
    pub(crate) seccomp: Option<Seccomp>,
}

impl Setting<'_> {
    /// The container, and the ports that the pod publishes for it.
    pub(crate) fn container(&self, mut node: Node, is_host: bool) -> Result<(ContainerConfig, Vec<PortText>)> {
        let name = node.needed_text("name")?;
        let image = node.needed_text("image")?;
        let env = self.environment(&mut node)?;
        let expand = |texts: Option<Vec<String>>| texts.map(|texts| texts.iter().map(|t| expand(t, &env)).collect());
        let entrypoint: Option<Vec<String>> = expand(node.texts("command")?);
        let command: Vec<String> = expand(node.texts("args")?).unwrap_or_default();
        let (mut security, user, seccomp) = security(&mut node)?;
        security.seccomp = seccomp.or_else(|| self.context.seccomp.clone()).unwrap_or_default();
        if security.seccomp == Seccomp::Unconfined {
            security.options.push("seccomp=unconfined".to_owned());
        }
        let (ports, port_names) = self.ports(&mut node, is_host)?;
        let care = Care {
            restart: self.restart,
            health: probe::health(&mut node, &port_names, self.restart)?,
            log: self.around.log.clone(),
            ..Care::default()
        };
        let (volumes, devices) = self.volumes.mounted(&mut node, &self.around.volumes)?;
        let inside =
            Inside { ipc: self.ipc.clone(), devices, groups: self.context.groups.clone(), ..Inside::default() };
        let mut annotations = self.annotations.clone();
        annotations.extend(self.around.annotations.clone());
        let config = ContainerConfig {
            name: Some(format!("{}-{name}", self.pod).parse().map_err(refused)?),
            image,
            rootfs: None,
            command,
            entrypoint,
            default_env: Vec::new(),
            unset_env: engine::config::UnsetEnv::default(),
            volumes_from: Vec::new(),
            limits: probe::limits(&mut node)?,
            inside,
            care,
            platform: None,
            env: env.into_iter().map(|(name, value)| (name, Some(value))).collect(),
            volumes,
            workdir: node.text("workingDir")?,
            user: user.or_else(|| self.context.user.clone()),
            hostname: None,
            tty: node.flag("tty")?,
            interactive: node.flag("stdin")?,
            pod: Some(PodChoice::Join(self.pod.to_owned())),
            remove: false,
            replace: false,
            id_file: None,
            pid_file: None,
            labels: self.labels.clone(),
            annotations,
            stop_signal: None,
            stop_timeout: self.stop_timeout,
            users: UsersWish::Host,
            security,
            network: NetworkConfig::default(),
            tmpfs: Vec::new(),
            pull: pull(node.text("imagePullPolicy")?)?,
            tls_verify: self.around.tls_verify,
            create_command: self.around.create_command.clone(),
        };
        for key in ["lifecycle", "volumeDevices", "stdinOnce", "restartPolicy", "resizePolicy"] {
            node.refuse(key, "is not supported by podwire yet")?;
        }
        node.pass_over(&["terminationMessagePath", "terminationMessagePolicy"]);
        node.finish()?;
        Ok((config, ports))
    }

    /// `hostPort`s; with `--publish-all` all. And those that have names.
    fn ports(&self, node: &mut Node, is_host: bool) -> Result<(Vec<PortText>, PortNames)> {
        let (mut ports, mut names) = (Vec::new(), PortNames::new());
        for mut port in node.nodes("ports")? {
            let place = port.at("containerPort");
            let inside: u16 = port.number("containerPort")?.ok_or_else(|| Refused(format!("{place} is missing")))?;
            let outside: Option<u16> = port.number("hostPort")?.filter(|port| *port != 0);
            let address = port.text("hostIP")?.unwrap_or_default();
            let protocol = port.text("protocol")?.unwrap_or_else(|| "TCP".to_owned());
            names.extend(port.text("name")?.map(|name| (name, inside)));
            port.finish()?;
            if is_host {
                if let Some(outside) = outside.filter(|outside| *outside != inside) {
                    let text =
                        format!("{place}: on the host's network hostPort ({outside}) must be the same ({inside})");
                    return Err(Refused(text));
                }
                continue;
            }
            let Some(outside) = outside.or(self.around.publish_all.then_some(inside)) else { continue };
            let address = match address.as_str() {
                "" => String::new(),
                ip if ip.contains(':') => format!("[{ip}]:"),
                ip => format!("{ip}:"),
            };
            let text = format!("{address}{outside}:{inside}/{}", protocol.to_ascii_lowercase());
            ports.push(text.parse().map_err(refused)?);
        }
        Ok((ports, names))
    }

    /// `envFrom`, then `env`, whose values may name earlier ones.
    fn environment(&self, node: &mut Node) -> Result<Vec<(String, String)>> {
        let mut env: Vec<(String, String)> = Vec::new();
        for mut from in node.nodes("envFrom")? {
            let prefix = from.text("prefix")?.unwrap_or_default();
            let (kind, mut map) = match from.node("secretRef")? {
                Some(secret) => (Keyed::Secret, secret),
                None => (Keyed::Map, from.needed_node("configMapRef")?),
            };
            let (name, optional) = (map.needed_text("name")?, map.flag("optional")?);
            map.finish()?;
            from.finish()?;
            match self.maps.get(kind, &name) {
                Some(values) => {
                    values.iter().for_each(|(key, value)| set(&mut env, format!("{prefix}{key}"), value.clone()))
                }
                None if optional => {}
                None => return Err(no_map(kind, &name)),
            }
        }
        for mut variable in node.nodes("env")? {
            let name = variable.needed_text("name")?;
            let value = match (variable.text("value")?, variable.node("valueFrom")?) {
                (Some(value), None) => Some(expand(&value, &env)),
                (None, Some(from)) => self.value_from(from)?,
                (None, None) => Some(String::new()),
                (Some(_), Some(_)) => {
                    return Err(Refused(format!("{} has a value and a valueFrom: one of them", variable.at(&name))));
                }
            };
            variable.finish()?;
            if let Some(value) = value {
                set(&mut env, name, value);
            }
        }
        Ok(env)
    }

    fn value_from(&self, mut from: Node) -> Result<Option<String>> {
        for key in ["resourceFieldRef", "fileKeyRef"] {
            from.refuse(key, "is not supported by podwire yet")?;
        }
        let keyed = match (from.node("configMapKeyRef")?, from.node("secretKeyRef")?) {
            (Some(_), Some(_)) => return Err(Refused(format!("{} names two sources", from.at("valueFrom")))),
            (Some(map), None) => Some((Keyed::Map, map)),
            (None, secret) => secret.map(|secret| (Keyed::Secret, secret)),
        };
        let value = match (keyed, from.node("fieldRef")?) {
            (Some((kind, mut map)), None) => {
                let (name, key) = (map.needed_text("name")?, map.needed_text("key")?);
                let optional = map.flag("optional")?;
                map.finish()?;
                match self.maps.get(kind, &name).map(|values| values.get(&key)) {
                    Some(Some(value)) => Some(value.clone()),
                    _ if optional => None,
                    Some(None) => return Err(Refused(format!("{} {name} has no key {key}", kind.word()))),
                    None => return Err(no_map(kind, &name)),
                }
            }
            (None, Some(mut field)) => {
                let place = field.at("fieldPath");
                let path = field.needed_text("fieldPath")?;
                field.pass_over(&["apiVersion"]);
                field.finish()?;
                Some(self.field(&path).ok_or_else(|| {
                    let known =
                        "metadata.name, metadata.namespace, metadata.labels['KEY'] and metadata.annotations['KEY']";
                    Refused(format!("{place}: {path} is not supported by podwire yet: {known} are"))
                })?)
            }
            _ => return Err(Refused(format!("{} names no source", from.at("valueFrom")))),
        };
        from.finish()?;
        Ok(value)
    }

    fn field(&self, path: &str) -> Option<String> {
        let keyed = |prefix: &str, map: &BTreeMap<String, String>| {
            let key = path.strip_prefix(prefix)?.strip_prefix("['")?.strip_suffix("']")?;
            Some(map.get(key).cloned().unwrap_or_default())
        };
        match path {
            "metadata.name" => Some(self.pod.to_owned()),
            "metadata.namespace" => Some("default".to_owned()),
            _ => keyed("metadata.labels", self.labels).or_else(|| keyed("metadata.annotations", self.annotations)),
        }
    }
}

pub(crate) fn no_map(kind: Keyed, name: &str) -> Refused {
    let rest = if kind == Keyed::Map { ", and in none of --configmap" } else { "" };
    Refused(format!("{} {name} is in no document of the file{rest}", kind.word()))
}

fn set(env: &mut Vec<(String, String)>, name: String, value: String) {
    match env.iter_mut().find(|(set, _)| *set == name) {
        Some((_, old)) => *old = value,
        None => env.push((name, value)),
    }
}

/// `$(NAME)` is a variable's value where there is one; `$$(NAME)` is `$(NAME)`.
fn expand(text: &str, env: &[(String, String)]) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out += &rest[..at];
        let tail = &rest[at + 1..];
        let named = tail.strip_prefix('(').and_then(|tail| tail.split_once(')'));
        rest = match (tail.starts_with('$'), named) {
            (true, _) => {
                out.push('$');
                &tail[1..]
            }
            (false, Some((name, after))) => {
                match env.iter().find(|(set, _)| set == name) {
                    Some((_, value)) => out += value,
                    None => out += &format!("$({name})"),
                }
                after
            }
            (false, None) => {
                out.push('$');
                tail
            }
        };
    }
    out + rest
}

/// `runAsUser`, `runAsGroup`
pub(crate) fn user(context: &mut Node) -> Result<Option<String>> {
    let (user, group) = (context.number::<u32>("runAsUser")?, context.number::<u32>("runAsGroup")?);
    match (user, group) {
        (user, Some(group)) => Ok(Some(format!("{}:{group}", user.unwrap_or(0)))),
        (user, None) => Ok(user.map(|user| user.to_string())),
    }
}

/// `seccompProfile`: a file of a profile would be one of a cluster's node.
pub(crate) fn seccomp(context: &mut Node) -> Result<Option<Seccomp>> {
    let Some(mut profile) = context.node("seccompProfile")? else { return Ok(None) };
    let place = profile.at("type");
    let seccomp = match profile.needed_text("type")?.as_str() {
        "RuntimeDefault" => Seccomp::Default,
        "Unconfined" => Seccomp::Unconfined,
        other => return Err(Refused(format!("{place} {other} is not supported by podwire yet"))),
    };
    profile.finish()?;
    Ok(Some(seccomp))
}

fn security(node: &mut Node) -> Result<(SecurityConfig, Option<String>, Option<Seccomp>)> {
    let Some(mut context) = node.node("securityContext")? else { return Ok((SecurityConfig::default(), None, None)) };
    let mut security = SecurityConfig {
        privileged: context.flag("privileged")?,
        read_only: context.flag("readOnlyRootFilesystem")?,
        ..SecurityConfig::default()
    };
    if let Some(mut capabilities) = context.node("capabilities")? {
        security.cap_add = capabilities.texts("add")?.unwrap_or_default();
        security.cap_drop = capabilities.texts("drop")?.unwrap_or_default();
        capabilities.finish()?;
    }
    let (user, seccomp) = (user(&mut context)?, seccomp(&mut context)?);
    if context.flag_if_said("allowPrivilegeEscalation")? == Some(false) {
        security.no_new_privileges = true;
        security.options.push("no-new-privileges".to_owned());
    }
    for key in ["procMount", "seLinuxOptions", "appArmorProfile", "windowsOptions"] {
        context.refuse(key, "is not supported by podwire yet")?;
    }
    context.pass_over(&["runAsNonRoot"]);
    context.finish()?;
    Ok((security, user, seccomp))
}

fn pull(policy: Option<String>) -> Result<PullPolicy> {
    match policy.as_deref() {
        None | Some("IfNotPresent") => Ok(PullPolicy::Missing),
        Some("Always") => Ok(PullPolicy::Always),
        Some("Never") => Ok(PullPolicy::Never),
        Some(other) => {
            Err(Refused(format!("imagePullPolicy {other} is not known: Always, IfNotPresent and Never are")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::expand;

    #[test]
    fn variables_are_expanded_as_kubernetes_does_it() {
        let env = [("A".to_owned(), "1".to_owned()), ("B".to_owned(), "$(A)".to_owned())];
        let check = |text: &str, gives: &str| assert_eq!(expand(text, &env), gives, "{text}");
        check("x$(A)y$(A)", "x1y1");
        check("$(B)", "$(A)");
        check("$$(A) $$$(A)", "$(A) $1");
        check("$(NOPE) $A $", "$(NOPE) $A $");
        check("$(A", "$(A");
    }
}
