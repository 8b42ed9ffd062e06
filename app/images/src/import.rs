//! `import`: an image of one layer, made of a tarball.

use std::io::Read;
use std::str::FromStr;

use jiff::Timestamp;
use model::{ImageId, Invalid};
use serde_json::{Map, Value, json};

use crate::error::Result;
use crate::give::Format;
use crate::images::Images;
use crate::install::{NewImage, NewLayer, Staged};
use crate::layer::{self, Limits};
use crate::load::{document, local_name};
use crate::platform::Platform;
use crate::pull::image_id;

/// What an imported image is to be like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Import<'a> {
    /// Its name, as typed; none leaves it nameless.
    pub name: Option<&'a str>,
    /// `-c`: later ones win.
    pub changes: &'a [Change],
    /// `-m`: the comment in its history.
    pub message: Option<&'a str>,
    /// When: now.
    pub created: Timestamp,
    /// What machine it is for: this one, unless `--arch` and the like say otherwise.
    pub platform: Platform,
}

/// One line of a Dockerfile that changes how an image is run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// `CMD`
    Cmd(Vec<String>),
    /// `ENTRYPOINT`
    Entrypoint(Vec<String>),
    /// `ENV KEY=VALUE`
    Env(String, String),
    /// `EXPOSE PORT[/PROTOCOL]`
    Expose(String),
    /// `LABEL KEY=VALUE`
    Label(String, String),
    /// `STOPSIGNAL`
    StopSignal(String),
    /// `USER`
    User(String),
    /// `VOLUME`
    Volume(Vec<String>),
    /// `WORKDIR`
    Workdir(String),
}

impl FromStr for Change {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let wrong = |what: &str| Invalid(format!("invalid change {text:?} - {what}"));
        let (word, value) = text
            .split_once(' ')
            .or_else(|| text.split_once('='))
            .ok_or_else(|| wrong("must be formatted as KEY VALUE"))?;
        let word = word.trim().to_ascii_uppercase();
        let value = value.trim();
        let needed = || match value.is_empty() {
            true => Err(wrong(&format!("must provide a value to {word}"))),
            false => Ok(value.to_owned()),
        };
        let pair = || {
            let (key, value) = value.split_once('=').or_else(|| value.split_once(' ')).unwrap_or((value, ""));
            match key.is_empty() {
                true => Err(wrong(&format!("{word} must be formatted as KEY=VALUE"))),
                false => Ok((key.to_owned(), unquoted(value.trim()).to_owned())),
            }
        };
        Ok(match word.as_str() {
            "CMD" => Self::Cmd(command(&needed()?)),
            "ENTRYPOINT" => Self::Entrypoint(command(&needed()?)),
            "ENV" => pair().map(|(key, value)| Self::Env(key, value))?,
            "EXPOSE" => Self::Expose(port(value).ok_or_else(|| wrong("EXPOSE must be PORT[/PROTOCOL]"))?),
            "LABEL" => pair().map(|(key, value)| Self::Label(key, value))?,
            "STOPSIGNAL" => Self::StopSignal(needed()?),
            "USER" => Self::User(needed()?),
            "VOLUME" => Self::Volume(paths(&needed()?)),
            "WORKDIR" => Self::Workdir(needed()?),
            "ONBUILD" => return Err(wrong("ONBUILD is not supported")),
            _ => return Err(wrong(&format!("invalid instruction {word}"))),
        })
    }
}

/// A JSON array is the arguments; anything else is for a shell.
fn command(text: &str) -> Vec<String> {
    serde_json::from_str(text).unwrap_or_else(|_| vec!["/bin/sh".to_owned(), "-c".to_owned(), text.to_owned()])
}

fn paths(text: &str) -> Vec<String> {
    serde_json::from_str(text).unwrap_or_else(|_| text.split_whitespace().map(str::to_owned).collect())
}

fn port(text: &str) -> Option<String> {
    let (number, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let protocol = protocol.to_ascii_lowercase();
    let valid = |port: &str| port.parse::<u16>().is_ok_and(|port| port > 0);
    let numbers = number.split_once('-').map_or_else(|| valid(number), |(a, b)| valid(a) && valid(b));
    (numbers && matches!(protocol.as_str(), "tcp" | "udp" | "sctp")).then(|| format!("{number}/{protocol}"))
}

fn unquoted(text: &str) -> &str {
    let inner = |quote: char| text.strip_prefix(quote).and_then(|rest| rest.strip_suffix(quote));
    inner('"').or_else(|| inner('\'')).unwrap_or(text)
}

impl Images<'_> {
    /// Makes an image of the tarball in `source`, which may be compressed.
    pub fn import(&self, source: &mut (dyn Read + Send), import: &Import<'_>) -> Result<ImageId> {
        let names: Vec<String> = import.name.map(local_name).transpose()?.into_iter().collect();
        let staged = Staged::begin(self, 1)?;
        let unpacked =
            layer::unpack(source, None, staged.layer(0).1, &Limits::STRANGERS).map_err(|e| e.within("importing"))?;
        let config = configuration(import, &unpacked.diff.id).to_string().into_bytes();
        let blob = json!({
            "mediaType": "application/vnd.oci.image.layer.v1.tar",
            "digest": unpacked.diff.id,
            "size": unpacked.diff.archive,
        });
        let new = NewImage {
            id: image_id(&config),
            document: document(Format::Oci, vec![blob], config)?,
            layers: vec![NewLayer { diff_id: unpacked.diff.id.clone(), blob: None, size: None }],
            names,
            arrival: Some("import"),
        };
        self.install_staged(&new, staged, unpacked)
    }
}

fn configuration(import: &Import<'_>, diff_id: &crate::Digest) -> Value {
    let created = import.created.to_string();
    let comment = import.message.unwrap_or("imported from tarball");
    let mut image = json!({
        "created": created,
        "architecture": import.platform.architecture,
        "os": import.platform.os,
        "config": changed(import.changes),
        "rootfs": {"type": "layers", "diff_ids": [diff_id]},
        "history": [{
            "created": created,
            "created_by": format!("/bin/sh -c #(nop) ADD file:{} in /", diff_id.hex()),
            "comment": comment,
        }],
    });
    if let Some(variant) = &import.platform.variant {
        image["variant"] = json!(variant);
    }
    image
}

fn changed(changes: &[Change]) -> Value {
    let mut config = Map::new();
    apply(changes, &mut config);
    Value::Object(config)
}

/// Changes how an image is run.
pub(crate) fn apply(changes: &[Change], config: &mut Map<String, Value>) {
    for change in changes {
        match change {
            Change::Cmd(words) => drop(config.insert("Cmd".to_owned(), json!(words))),
            Change::Entrypoint(words) => drop(config.insert("Entrypoint".to_owned(), json!(words))),
            Change::Env(key, value) => {
                let list = config.entry("Env").or_insert_with(|| json!([]));
                let begins = format!("{key}=");
                if let Some(list) = list.as_array_mut() {
                    list.retain(|item| item.as_str().is_none_or(|text| !text.starts_with(&begins)));
                    list.push(json!(format!("{key}={value}")));
                }
            }
            Change::Expose(port) => config.entry("ExposedPorts").or_insert_with(|| json!({}))[port] = json!({}),
            Change::Label(key, value) => config.entry("Labels").or_insert_with(|| json!({}))[key] = json!(value),
            Change::StopSignal(signal) => drop(config.insert("StopSignal".to_owned(), json!(signal))),
            Change::User(user) => drop(config.insert("User".to_owned(), json!(user))),
            Change::Volume(paths) => {
                let volumes = config.entry("Volumes").or_insert_with(|| json!({}));
                paths.iter().for_each(|path| volumes[path] = json!({}));
            }
            Change::Workdir(path) => drop(config.insert("WorkingDir".to_owned(), json!(path))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, means: &str) {
        let said = match text.parse::<Change>() {
            Ok(change) => changed(&[change]).to_string(),
            Err(error) => error.0,
        };
        assert_eq!(said, means, "{text}");
    }

    #[test]
    fn changes_are_written_as_in_a_dockerfile() {
        check(r#"CMD ["httpd","-f"]"#, r#"{"Cmd":["httpd","-f"]}"#);
        check("cmd httpd -f", r#"{"Cmd":["/bin/sh","-c","httpd -f"]}"#);
        check("ENTRYPOINT=[\"/init\"]", r#"{"Entrypoint":["/init"]}"#);
        check("ENV A=b c", r#"{"Env":["A=b c"]}"#);
        check("ENV A b", r#"{"Env":["A=b"]}"#);
        check("EXPOSE 80", r#"{"ExposedPorts":{"80/tcp":{}}}"#);
        check("EXPOSE 80/UDP", r#"{"ExposedPorts":{"80/udp":{}}}"#);
        check("LABEL a=\"b c\"", r#"{"Labels":{"a":"b c"}}"#);
        check("USER web", r#"{"User":"web"}"#);
        check(r#"VOLUME ["/a","/b"]"#, r#"{"Volumes":{"/a":{},"/b":{}}}"#);
        check("WORKDIR /www", r#"{"WorkingDir":"/www"}"#);
        check("STOPSIGNAL SIGKILL", r#"{"StopSignal":"SIGKILL"}"#);
    }

    #[test]
    fn wrong_changes_are_refused_in_podmans_words() {
        check("FROM x", r#"invalid change "FROM x" - invalid instruction FROM"#);
        check("ENV", r#"invalid change "ENV" - must be formatted as KEY VALUE"#);
        check("USER ", r#"invalid change "USER " - must provide a value to USER"#);
        check("EXPOSE abc", r#"invalid change "EXPOSE abc" - EXPOSE must be PORT[/PROTOCOL]"#);
        check("ENV =x", r#"invalid change "ENV =x" - ENV must be formatted as KEY=VALUE"#);
        check("ONBUILD x", r#"invalid change "ONBUILD x" - ONBUILD is not supported"#);
    }

    #[test]
    fn a_later_change_of_the_same_variable_wins() {
        let changes: Vec<Change> =
            ["ENV A=1", "ENV AB=2", "ENV A=3"].iter().map(|text| text.parse().unwrap()).collect();
        assert_eq!(changed(&changes).to_string(), r#"{"Env":["AB=2","A=3"]}"#);
    }
}
