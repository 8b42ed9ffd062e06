//! What is said while an image comes in: bars on a terminal, Podman's lines otherwise; on standard error.

use std::collections::HashMap;
use std::io::IsTerminal as _;
use std::sync::{Mutex, PoisonError};

use engine::Talk;
use images::{Event, Progress};
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::global::complain;

/// Gives `act` somebody to talk to.
pub(crate) fn talking<T>(quiet: bool, act: impl FnOnce(&mut Talk<'_>) -> T) -> T {
    let voice = Voice::new(quiet);
    act(&mut Talk { warn: &mut |text| complain(text), progress: &voice })
}

/// Tells of a pull, a load or an import.
pub(crate) struct Voice {
    manner: Manner,
    state: Mutex<State>,
}

enum Manner {
    Silent,
    Lines,
    Bars(MultiProgress),
}

#[derive(Default)]
struct State {
    /// Has the line before the first blob been said?
    begun: bool,
    bars: HashMap<String, ProgressBar>,
}

impl Voice {
    pub(crate) fn new(quiet: bool) -> Self {
        let manner = match quiet {
            true => Manner::Silent,
            false if std::io::stderr().is_terminal() => {
                Manner::Bars(MultiProgress::with_draw_target(ProgressDrawTarget::stderr()))
            }
            false => Manner::Lines,
        };
        Self { manner, state: Mutex::default() }
    }

    fn line(&self, text: impl std::fmt::Display) {
        match &self.manner {
            Manner::Silent => {}
            Manner::Lines => complain(text),
            // A terminal that is gone needs no line.
            Manner::Bars(bars) => drop(bars.println(text.to_string())),
        }
    }

    /// Podman says this before the first blob; there it has a meaning.
    fn begin(&self, state: &mut State) {
        if !std::mem::replace(&mut state.begun, true) {
            self.line("Getting image source signatures");
        }
    }

    fn bar(&self, state: &mut State, digest: &str, size: Option<u64>) {
        let Manner::Bars(bars) = &self.manner else {
            return self.line(format_args!("Copying blob {digest}"));
        };
        let bar = bars.add(size.map_or_else(ProgressBar::no_length, ProgressBar::new));
        // The templates are constant: a wrong one shows in the first test run.
        let style = ProgressStyle::with_template("Copying blob {msg} [{wide_bar}] {bytes} / {total_bytes}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("=> "));
        bar.set_message(short(digest));
        state.bars.insert(digest.to_owned(), bar);
    }

    fn finish(&self, state: &mut State, digest: &str) {
        if let Some(bar) = state.bars.remove(digest) {
            let style = ProgressStyle::with_template("Copying blob {msg}");
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar.finish_with_message(format!("{} done", short(digest)));
        }
    }
}

/// Twelve digits, without the algorithm.
fn short(digest: &str) -> String {
    digest.rsplit(':').next().unwrap_or(digest).chars().take(12).collect()
}

impl Progress for Voice {
    fn event(&self, event: Event<'_>) {
        // A thread that panicked has said nothing wrong.
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            Event::Trying(name) => {
                state.begun = false;
                self.line(format_args!("Trying to pull {name}..."));
            }
            Event::LayerBegun(digest, size) => {
                self.begin(&mut state);
                self.bar(&mut state, &digest.to_string(), size);
            }
            Event::LayerRead(digest, bytes) => {
                if let Some(bar) = state.bars.get(&digest.to_string()) {
                    bar.set_position(bytes);
                }
            }
            Event::LayerDone(digest) => self.finish(&mut state, &digest.to_string()),
            Event::LayerPresent(digest) => {
                self.begin(&mut state);
                self.line(format_args!("Copying blob {digest} skipped: already exists"));
            }
            Event::Configuration(digest) => {
                self.begin(&mut state);
                self.line(format_args!("Copying config {digest}"));
            }
            Event::Recording => self.line("Writing manifest to image destination"),
        }
    }
}
