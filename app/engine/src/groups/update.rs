//! Changes of a container's limits, while it runs or not.

use linux::cgroups::Trees;
use model::ContainerId;

use super::{apply, check_parent, file, of, remember, wanted};
use crate::config::{Groups, Limits, Restart, Ulimit};
use crate::engine::{Engine, load, save};
use crate::error::{Error, Kind, Result};
use crate::events;
use crate::record::{ContainerRecord, State};
use crate::spec::set_env;

/// `podwire update`: what is absent stays as it is.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Update {
    /// `--memory` and the like.
    pub limits: Limits,
    /// `--restart`
    pub restart: Option<Restart>,
    /// `--env`: of what is started from then on.
    pub env: Vec<(String, String)>,
    /// `--unsetenv`
    pub unset_env: Vec<String>,
    /// `--ulimit`: from the next start on.
    pub ulimits: Vec<Ulimit>,
}

impl Engine {
    /// Changes a container's limits, policy and environment: at once, and when it is started again. On failure nothing
    /// has changed. Sentences about limits that cannot be held here.
    pub fn update(&mut self, name: &str, update: &Update) -> Result<(ContainerId, Vec<String>)> {
        let id = self.find(name)?;
        self.wait_settled(&id)?;
        let record = self.record(&id)?;
        let limits = record.settings.limits.updated(&update.limits);
        check(&limits)?;
        check_parent(&limits)?;
        let runs = record.state == State::Running && update.limits != Limits::default();
        let warnings = if runs { self.set_limits(&record, &limits)? } else { Vec::new() };
        let saved = self.store.write(|tx| {
            let Some(mut record) = load(tx, &id)? else {
                return Err(Error::new(Kind::NotFound, format!("container {id} was removed meanwhile")));
            };
            change(&mut record, update);
            save(tx, &record)?;
            Ok(tx.event_add(&events::of_container(&record, "update"))?)
        });
        if saved.is_err() && runs {
            // What holds is what the record says.
            self.set_limits(&record, &record.settings.limits)?;
        }
        saved.map(|()| (id, warnings))
    }

    /// The limits of a container that runs, as they are to be; or as they were, when one of them cannot be set.
    fn set_limits(&self, record: &ContainerRecord, limits: &Limits) -> Result<Vec<String>> {
        if limits.groups == Groups::Disabled {
            return Err(Error::usage(format!(
                "cannot update the limits of container {}: it has no control group (--cgroups=disabled)",
                record.name
            )));
        }
        let places = self.places(&record.id);
        let none = || {
            let text = "podwire could make no control group for it here, which is what holds limits";
            Error::usage(format!("cannot update the limits of container {}: {text}", record.name))
        };
        let mut group = of(&places).filter(|group| !group.is_nothing()).ok_or_else(none)?;
        let trees = Trees::find().map_err(|e| Error::at("cannot look for control groups", e))?;
        let wanted = wanted(limits.controllers(), &trees);
        if wanted.iter().any(|name| group.controller(name).is_none()) {
            let name = format!("podwire-{}", record.id);
            let more = match record.pod().filter(|_| limits.parent.is_none()).and_then(|pod| self.pod_group(pod)) {
                Some(pod) => pod.child(&name, &wanted),
                None => trees.group(&name, limits.parent.as_deref(), &wanted),
            };
            let before = group.clone();
            let extended = group.extend(more, &wanted);
            if group != before {
                remember(&group, &file(&places))?;
            }
            extended.map_err(|e| Error::at("cannot give the container more controllers", e))?;
        }
        // A new group has no limit; this one may have.
        let lifted = match limits.pids {
            Some(..=0) if group.has("pids", "pids.max") => group.write("pids", "pids.max", "max"),
            _ => Ok(()),
        };
        let applied = lifted.map_err(|e| Error::at("cannot set --pids-limit", e)).and_then(|()| apply(&group, limits));
        match applied {
            Ok(warnings) => Ok(warnings),
            Err(error) => {
                if let Err(undo) = apply(&group, &record.settings.limits) {
                    tracing::warn!("cannot set the limits of {} as they were: {undo}", record.id);
                }
                // Nothing was to be started.
                Err(Error::usage(error.message))
            }
        }
    }
}

/// Can all this be held together?
fn check(limits: &Limits) -> Result<()> {
    match (limits.memory, limits.memory_swap) {
        (Some(memory), Some(swap)) if swap > 0 && u64::try_from(swap).is_ok_and(|swap| swap < memory) => {
            Err(Error::usage("minimum memoryswap limit should be larger than memory limit"))
        }
        (None, Some(swap)) if swap > 0 => Err(Error::usage("--memory-swap needs --memory: it is the sum of both")),
        _ => Ok(()),
    }
}

fn change(record: &mut ContainerRecord, update: &Update) {
    let settings = &mut record.settings;
    settings.limits = settings.limits.updated(&update.limits);
    if let Some(restart) = update.restart {
        settings.care.restart = restart;
        settings.care.restart_given = true;
    }
    for (name, value) in &update.env {
        set_env(&mut settings.env, name, value);
    }
    settings.env.retain(|set| !update.unset_env.iter().any(|name| set.split('=').next() == Some(name)));
    for limit in &update.ulimits {
        settings.inside.ulimits.retain(|there| there.name != limit.name);
        settings.inside.ulimits.push(limit.clone());
    }
}
