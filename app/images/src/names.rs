//! `tag` and `untag`.

use crate::error::{ImageError, Result};
use crate::images::Images;
use crate::reference::Name;

impl Images<'_> {
    /// Gives an image more names; a short one is `localhost/NAME`. A name that another image had is its from now on.
    pub fn tag(&self, image: &str, names: &[String]) -> Result<()> {
        let full = names.iter().map(|name| tag_name(name)).collect::<Result<Vec<String>>>()?;
        self.store.write(|tx| {
            let id = self.resolve(tx, image)?.image;
            let mut document = self.document(tx, &id)?;
            for name in &full {
                tx.name_set(name, &id)?;
                document.called(name);
                tx.event_add(&store::Event::image("tag", &id.to_string(), name))?;
            }
            let layers = tx.image_layers(&id)?;
            Ok(tx.image_put(&id, &document, &layers)?)
        })
    }

    /// Takes names away from an image, all of them when none is given. The image stays.
    pub fn untag(&self, image: &str, names: &[String]) -> Result<()> {
        self.store.write(|tx| {
            let id = self.resolve(tx, image)?.image;
            let known = tx.names_of(&id)?;
            let mut going = if names.is_empty() { known.clone() } else { Vec::new() };
            for text in names {
                let name: Name = text.parse().map_err(|e: model::Invalid| ImageError::Invalid(e.0))?;
                let mut candidates = self.candidates(&name)?.into_iter().map(|reference| reference.to_string());
                let fallback = name.local().map_err(|e| ImageError::Invalid(e.0))?;
                match candidates.find(|candidate| known.contains(candidate)) {
                    Some(name) => going.push(name),
                    None => return Err(ImageError::Invalid(format!("{fallback}: tag not known"))),
                }
            }
            for name in &going {
                tx.name_remove(name)?;
                tx.event_add(&store::Event::image("untag", &id.to_string(), name))?;
            }
            Ok(())
        })
    }
}

fn tag_name(text: &str) -> Result<String> {
    let name: Name = text.parse().map_err(|e: model::Invalid| ImageError::Invalid(e.0))?;
    let full = name.local().map_err(|e| ImageError::Invalid(e.0))?;
    match full.tag() {
        Some(_) => Ok(full.to_string()),
        None => Err(ImageError::Invalid(format!("{text:?} has a digest: a tag must not have one"))),
    }
}
