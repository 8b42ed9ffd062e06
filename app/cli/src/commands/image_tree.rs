//! `podwire image tree`

use images::{Image, Images};

use crate::ages;
use crate::flags::{self, Command};
use crate::global::{Podwire, write};
use crate::outcome::{Failure, Outcome};

#[derive(clap::Args)]
pub(crate) struct ImageTree {
    /// Show the images made on top of this one
    #[arg(long)]
    whatrequires: bool,
    #[arg(hide = true)]
    arguments: Vec<String>,
}

impl Command for ImageTree {
    fn run(self, podwire: &Podwire) -> Outcome {
        flags::exactly(1, &self.arguments)?;
        let engine = podwire.engine()?;
        let images = engine.images()?;
        let image = images.find(&self.arguments[0])?;
        let all = images.list()?;
        let mut text = format!(
            "Image ID: {}\nTags:     [{}]\nSize:     {}\n",
            image.id.short(),
            image.names.join(" "),
            joined(image.size)
        );
        if image.layers.is_empty() {
            return write(&(text + "No Image Layers\n")).map(|()| 0);
        }
        text += "Image Layers\n";
        match self.whatrequires {
            true => children(&images, &all, &image, image.layers.len(), "", &mut text)?,
            false => own(&images, &all, &image, &mut text)?,
        }
        write(&text).map(|()| 0)
    }
}

/// The image's layers, lowest first, each below the one before.
fn own(images: &Images<'_>, all: &[Image], image: &Image, text: &mut String) -> Result<(), Failure> {
    let sizes = images.layer_sizes(image)?;
    let last = sizes.len() - 1;
    for (n, (id, size)) in layer_ids(image).iter().zip(sizes).enumerate() {
        let sign = if n == last { "└──" } else { "├──" };
        *text += &format!("{sign} ID: {} Size: {}{}\n", short(id), joined(size), named(&tops(all, image, n + 1)));
    }
    Ok(())
}

/// The layers on top of the first `depth` ones of `image`, in whatever image, as a tree.
fn children(
    images: &Images<'_>,
    all: &[Image],
    image: &Image,
    depth: usize,
    indent: &str,
    text: &mut String,
) -> Result<(), Failure> {
    let begins = lowest(image, depth);
    let mut next: Vec<&Image> =
        all.iter().filter(|other| other.layers.len() > depth && lowest(other, depth) == begins).collect();
    next.sort_by_key(|other| lowest(other, depth + 1).to_vec());
    next.dedup_by_key(|other| lowest(other, depth + 1).to_vec());
    for (n, other) in next.iter().enumerate() {
        let end = n + 1 == next.len();
        let (sign, more) = if end { ("└──", "    ") } else { ("├──", "│   ") };
        let size = images.layer_sizes(other)?.get(depth).copied().unwrap_or(0);
        let id = layer_ids(other).get(depth).cloned().unwrap_or_default();
        let names = named(&tops(all, other, depth + 1));
        *text += &format!("{indent}{sign} ID: {} Size: {}{names}\n", short(&id), joined(size));
        children(images, all, other, depth + 1, &format!("{indent}{more}"), text)?;
    }
    Ok(())
}

/// The first `depth` layers, lowest first.
fn lowest(image: &Image, depth: usize) -> &[std::path::PathBuf] {
    &image.layers[image.layers.len() - depth..]
}

/// Names of all images that have exactly the first `depth` layers of `image`.
fn tops(all: &[Image], image: &Image, depth: usize) -> Vec<String> {
    let same = |other: &&Image| other.layers.len() == depth && other.layers == lowest(image, depth);
    all.iter().filter(same).flat_map(|other| other.names.clone()).collect()
}

fn named(names: &[String]) -> String {
    if names.is_empty() { String::new() } else { format!(" Top Layer of: [{}]", names.join(" ")) }
}

/// Diff ids, lowest first.
fn layer_ids(image: &Image) -> Vec<String> {
    image.config.rootfs().diff_ids().clone()
}

fn short(digest: &str) -> String {
    digest.rsplit(':').next().unwrap_or(digest).chars().take(12).collect()
}

/// `10.24kB`: four digits, and no space.
fn joined(bytes: u64) -> String {
    ages::human_size_4(bytes)
}
