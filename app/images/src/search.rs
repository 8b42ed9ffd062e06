//! `search`: what registries have.
//!
//! ```text
//!   TERM ──> each search registry, or the one that TERM begins with
//!              GET /v1/search?q=TERM&n=LIMIT   (Docker Hub, Quay)  ──no──>  GET /v2/_catalog, names that contain TERM
//! ```

use serde::Deserialize;
use ureq::http::{StatusCode, header};

use crate::access::Access;
use crate::error::{ImageError, Result};
use crate::images::Images;
use crate::reference::{Name, Reference};
use crate::registries::Registries;
use crate::registry::{Client, SMALL, authorized, refusal};

/// How many are shown when nothing else is said.
const LIMIT: usize = 25;

/// Docker Hub's search is at a host of its own.
const HUB: (&str, &str) = ("docker.io", "index.docker.io");

/// An image that a registry has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hit {
    /// The registry.
    pub index: String,
    /// Its full name.
    pub name: String,
    /// What its owner says of it; in one line.
    pub description: String,
    /// How many users like it.
    pub stars: u64,
    /// Is it kept by the registry itself?
    pub official: bool,
    /// Is it built by the registry?
    pub automated: bool,
}

/// How to search.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Search {
    /// How to get at the registries.
    pub access: Access,
    /// At most so many of each registry; 25 when not said, or 0.
    pub limit: Option<usize>,
}

impl Images<'_> {
    /// What registries have for `term`, perhaps with a registry in front. An error only when none of them answers.
    pub fn search(&self, term: &str, search: &Search) -> Result<Vec<Hit>> {
        let registries = Registries::read(&self.machine)?;
        let (places, term) = match term.split_once('/') {
            Some((registry, rest)) if registry.contains(['.', ':']) || registry == "localhost" => {
                (vec![registry.to_owned()], rest)
            }
            _ => (registries.search().to_vec(), term),
        };
        let mut hits = Vec::new();
        let mut failures = Vec::new();
        for registry in &places {
            match self.search_at(registry, term, search, &registries) {
                Ok(found) => hits.extend(found),
                Err(error) => failures.push(error),
            }
        }
        match failures.len() == places.len() && !places.is_empty() {
            true => Err(failures.remove(0)),
            false => {
                failures.iter().for_each(|error| tracing::warn!("{error}"));
                Ok(hits)
            }
        }
    }

    /// The tags of a repository.
    pub fn list_tags(&self, name: &str, search: &Search) -> Result<(String, Vec<String>)> {
        let invalid = |e: model::Invalid| ImageError::Invalid(e.0);
        let text = name.strip_prefix("docker://").unwrap_or(name);
        let reference: Reference = match text.parse().map_err(invalid)? {
            Name::Full(reference) => reference,
            Name::Short(short) => {
                let all = Registries::read(&self.machine)?.pull_candidates(&short)?;
                all.into_iter().next().ok_or_else(|| ImageError::Invalid(format!("{name:?} is nowhere")))?
            }
        };
        let mut tags = self.tags(&reference, &search.access)?;
        tags.truncate(search.limit.filter(|limit| *limit > 0).unwrap_or(usize::MAX));
        Ok((reference.name(), tags))
    }

    fn search_at(&self, registry: &str, term: &str, search: &Search, registries: &Registries) -> Result<Vec<Hit>> {
        let what = format!("searching in registry {registry}");
        let place = if registry == HUB.0 { HUB.1 } else { registry };
        let credentials = search.access.credentials_for(&self.machine, registry)?;
        let insecure = registries.is_insecure(registry);
        let client = Client::visit(place, insecure, credentials, &search.access, &self.machine);
        let client = client.map_err(|e| e.within(&what))?;
        let limit = search.limit.filter(|limit| *limit > 0).unwrap_or(LIMIT);
        let mut hits = match ask(&client, registry, term, limit).map_err(|e| e.within(&what))? {
            Some(hits) => hits,
            None => {
                let all = client.catalog().map_err(|e| e.within(&what))?;
                let fitting = all.into_iter().filter(|name| name.contains(term));
                fitting.map(|name| Hit::bare(registry, &name)).collect()
            }
        };
        hits.truncate(limit);
        Ok(hits)
    }
}

impl Hit {
    fn bare(registry: &str, name: &str) -> Self {
        Self {
            index: registry.to_owned(),
            name: format!("{registry}/{}", line(name)),
            description: String::new(),
            stars: 0,
            official: false,
            automated: false,
        }
    }
}

#[derive(Deserialize)]
struct Answer {
    results: Vec<Found>,
}

#[derive(Deserialize)]
struct Found {
    name: String,
    #[serde(default)]
    description: Option<String>,
    #[serde(default)]
    star_count: u64,
    #[serde(default)]
    is_official: bool,
    #[serde(default)]
    is_automated: bool,
}

/// What the registry's search finds; nothing when it has no search.
fn ask(client: &Client, registry: &str, term: &str, limit: usize) -> Result<Option<Vec<Hit>>> {
    let url = format!("{}/v1/search", client.origin());
    let response = client.ask(&|right| {
        let request = client.agent().get(&url).query("q", term).query("n", limit.to_string());
        authorized(request.header(header::ACCEPT, "application/json"), right).call()
    })?;
    match response.status() {
        StatusCode::OK => {}
        StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED => return Ok(None),
        _ => return Err(refusal(response, "not found")),
    }
    Ok(hits_in(&client.all(response.into_body(), SMALL)?, registry))
}

/// What a registry's search has answered; nothing when it is a web page instead.
pub(crate) fn hits_in(answer: &[u8], registry: &str) -> Option<Vec<Hit>> {
    let answer = serde_json::from_slice::<Answer>(answer).ok()?;
    let hit = |found: Found| {
        let official = found.is_official && registry == HUB.0 && !found.name.contains('/');
        let name = if official { format!("library/{}", found.name) } else { found.name };
        Hit {
            description: line(&found.description.unwrap_or_default()),
            stars: found.star_count,
            official: found.is_official,
            automated: found.is_automated,
            ..Hit::bare(registry, &name)
        }
    };
    Some(answer.results.into_iter().map(hit).collect())
}

/// Text of strangers for a terminal: one line without control characters.
fn line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_strangers_write_is_one_line() {
        assert_eq!(line("a\nb\u{1b}[31m"), "a b [31m");
    }
}
