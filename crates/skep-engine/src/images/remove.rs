//! Removing images: what a name removes, what stands against it, and what goes with it. Rules and texts are Docker's.
//!
//! ```text
//! by reference ─► untag ─► other references left? ── yes ─► done
//!                            └─ no ─► delete the image, unless something needs it (quietly)
//! by id ───────► one tag, one repository? ─ yes ─► untag all, delete
//!                            └─ no ─► conflict, unless forced
//! ```
//! Hard conflicts (children, a running container) can't be forced, soft ones (other references, a stopped container) can.

use std::collections::BTreeSet;

use skep_types::Reference;

use super::catalog::{Catalog, Draft, is_id_prefix};
use super::{ImageError, Result};
use crate::model::image::{ImageId, ImageUser, Removal, RemoveImage};

/// Who needs an image.
pub(super) type Users<'a> = &'a (dyn Fn(&ImageId) -> Vec<ImageUser> + Sync);

/// What needs images.
pub(super) struct Needs<'a> {
    /// Containers.
    pub(super) users: Users<'a>,
    /// Whether a container is being made from it.
    pub(super) held: &'a (dyn Fn(&ImageId) -> bool + Sync),
}

/// What was removed from a draft.
#[derive(Debug, Default)]
pub(super) struct Removed {
    /// References and images, in order. Layers are not in here.
    pub(super) list: Vec<Removal>,
    /// The events to send: the image, and whether it is gone.
    pub(super) events: Vec<(ImageId, RemovalEvent)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RemovalEvent {
    Untag,
    Delete,
}

/// Removes what `name` means.
pub(super) fn remove(draft: &mut Draft, name: &str, options: RemoveImage, needs: &Needs<'_>) -> Result<Removed> {
    let id = draft.catalog.resolve(name)?;
    let mut removal = Removing { draft, needs, options, removed: Removed::default() };
    let references: Vec<Reference> = removal.draft.catalog.references_of(&id).cloned().collect();
    let mut quiet = false;
    if is_id_prefix(&id, name) {
        if is_single(&references) {
            let mut mask = removal.mask();
            mask.remove(&Obstacle::References);
            removal.check(&id, &mask).map_err(|conflict| conflict.error)?;
            removal.untag(&id, &references);
        }
    } else {
        if !removal.untag_by_name(&id, name, &references)? {
            return Ok(removal.removed);
        }
        quiet = true;
    }
    removal.delete(id, quiet)?;
    Ok(removal.removed)
}

/// Removes an image that no container uses, with all its references, unless something else stands against it.
pub(super) fn remove_unused(draft: &mut Draft, id: &ImageId, needs: &Needs<'_>) -> Removed {
    let mut removal = Removing { draft, needs, options: RemoveImage::default(), removed: Removed::default() };
    let references: Vec<Reference> = removal.draft.catalog.references_of(id).cloned().collect();
    removal.untag(id, &references);
    // An image that others are built from stays, without a name.
    let _ = removal.delete(*id, true);
    removal.removed
}

/// The kinds of things that can stand against a removal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Obstacle {
    Children,
    Running,
    References,
    Stopped,
}

struct Conflict {
    error: ImageError,
    /// A container needs the image.
    used: bool,
}

struct Removing<'a> {
    draft: &'a mut Draft,
    needs: &'a Needs<'a>,
    options: RemoveImage,
    removed: Removed,
}

impl Removing<'_> {
    /// What may stand against it: everything, or only what can't be forced.
    fn mask(&self) -> BTreeSet<Obstacle> {
        let hard = [Obstacle::Children, Obstacle::Running];
        let soft = [Obstacle::References, Obstacle::Stopped];
        hard.into_iter().chain(soft.into_iter().filter(|_| !self.options.force)).collect()
    }

    /// Removes the reference `name`, and the digests of its repository if that was its last tag. Returns whether no reference
    /// to the image is left.
    fn untag_by_name(&mut self, id: &ImageId, name: &str, references: &[Reference]) -> Result<bool> {
        let users = if self.options.force { Vec::new() } else { (self.needs.users)(id) };
        if let Some(user) = users.first().filter(|_| is_single(references)) {
            return Err(ImageError::Conflict(format!(
                "conflict: unable to remove repository reference {name:?} (must force) - container {} is using its \
                 referenced image {}",
                user.container.short(),
                id.short()
            )));
        }
        let reference = super::catalog::stored_form(&name.parse()?);
        self.untag(id, std::slice::from_ref(&reference));
        let rest = |catalog: &Catalog| catalog.references_of(id).cloned().collect::<Vec<Reference>>();
        let mut left = rest(&self.draft.catalog);
        let same = |r: &Reference| r.canonical_name() == reference.canonical_name();
        if reference.digest().is_none() && !left.iter().any(|r| same(r) && r.digest().is_none()) {
            let digests: Vec<Reference> = left.iter().filter(|r| same(r)).cloned().collect();
            for digest in &digests {
                self.draft.remove_reference(digest);
                self.removed.list.push(Removal::Untagged(digest.familiar()));
            }
            left = rest(&self.draft.catalog);
        }
        Ok(left.is_empty())
    }

    fn untag(&mut self, id: &ImageId, references: &[Reference]) {
        for reference in references {
            self.draft.remove_reference(reference);
            self.removed.list.push(Removal::Untagged(reference.familiar()));
            self.removed.events.push((*id, RemovalEvent::Untag));
        }
    }

    /// Deletes an image and then those of its ancestors that nothing needs. `quiet`: an image that is still needed just
    /// stays.
    fn delete(&mut self, id: ImageId, quiet: bool) -> Result<()> {
        let mut mask = self.mask();
        let (mut id, mut quiet) = (id, quiet);
        loop {
            if let Err(conflict) = self.check(&id, &mask) {
                return if quiet && (!self.is_dangling(&id) || conflict.used) { Ok(()) } else { Err(conflict.error) };
            }
            let references: Vec<Reference> = self.draft.catalog.references_of(&id).cloned().collect();
            self.untag(&id, &references);
            let used = (self.needs.held)(&id) || !(self.needs.users)(&id).is_empty();
            let Some(record) = self.draft.remove_image(&id, used) else { return Ok(()) };
            self.removed.list.push(Removal::Deleted(id));
            self.removed.events.push((id, RemovalEvent::Delete));
            match record.parent {
                Some(parent) if !self.options.no_prune && self.draft.catalog.image(&parent).is_some() => id = parent,
                _ => return Ok(()),
            }
            mask = [Obstacle::Children, Obstacle::Running, Obstacle::References, Obstacle::Stopped].into();
            quiet = true;
        }
    }

    fn is_dangling(&self, id: &ImageId) -> bool {
        self.draft.catalog.references_of(id).next().is_none() && !self.draft.catalog.has_children(id)
    }

    fn check(&self, id: &ImageId, mask: &BTreeSet<Obstacle>) -> Result<(), Conflict> {
        for obstacle in mask {
            let user = |running: bool| (self.needs.users)(id).into_iter().find(|user| user.running == running);
            let (how, used, what) = match obstacle {
                Obstacle::Children if self.draft.catalog.has_children(id) => {
                    ("cannot be forced", false, "image has dependent child images".to_owned())
                }
                Obstacle::Running => match user(true) {
                    Some(user) => {
                        let container = user.container.short();
                        ("cannot be forced", true, format!("image is being used by running container {container}"))
                    }
                    None => continue,
                },
                Obstacle::References if self.draft.catalog.references_of(id).next().is_some() => {
                    ("must be forced", false, "image is referenced in multiple repositories".to_owned())
                }
                Obstacle::Stopped => match user(false) {
                    Some(user) => {
                        let container = user.container.short();
                        ("must be forced", true, format!("image is being used by stopped container {container}"))
                    }
                    None => continue,
                },
                Obstacle::Children | Obstacle::References => continue,
            };
            let text = format!("conflict: unable to delete {} ({how}) - {what}", id.short());
            return Err(Conflict { error: ImageError::Conflict(text), used });
        }
        Ok(())
    }
}

/// Whether all references are of one repository, with at most one tag. No reference at all is not single.
fn is_single(references: &[Reference]) -> bool {
    let tags = references.iter().filter(|r| r.digest().is_none()).count();
    let repositories: BTreeSet<String> = references.iter().map(Reference::canonical_name).collect();
    tags <= 1 && repositories.len() == 1
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;
    use skep_types::ContainerId;

    use super::super::catalog::tests::{catalog, id, record};
    use super::*;

    const D: &str = "sha256:7777777777777777777777777777777777777777777777777777777777777777";

    fn container(running: bool) -> ImageUser {
        ImageUser { container: ContainerId::from_bytes([0xcc; 32]), running }
    }

    /// The lines of `docker rmi`, or its error.
    fn rmi(catalog: &Catalog, name: &str, force: bool, user: Option<ImageUser>) -> Vec<String> {
        let mut draft = Draft::of(catalog);
        let users = |_: &ImageId| user.into_iter().collect::<Vec<_>>();
        match remove(
            &mut draft,
            name,
            RemoveImage { force, no_prune: false },
            &Needs { users: &users, held: &|_| false },
        ) {
            Ok(removed) => removed.list.iter().map(line).collect(),
            Err(e) => vec![e.to_string()],
        }
    }

    fn line(removal: &Removal) -> String {
        match removal {
            Removal::Untagged(name) => format!("- {name}"),
            Removal::Deleted(digest) => format!("x {}", digest.short()),
        }
    }

    fn strings(list: &[&str]) -> Vec<String> {
        list.iter().map(|s| (*s).to_owned()).collect()
    }

    #[test]
    fn by_name() {
        let pinned = format!("x@{D}");
        let one = catalog(&[("aa", &["x:1", &pinned])]);
        assert_eq!(rmi(&one, "x:1", false, None), strings(&["- x:1", &format!("- {pinned}"), "x aa0000000000"]));
        let two = catalog(&[("aa", &["x:1", "x:2", &pinned])]);
        assert_eq!(rmi(&two, "x:1", false, None), strings(&["- x:1"]));
        let other = catalog(&[("aa", &["x:1", "y:1"])]);
        assert_eq!(rmi(&other, "x:1", false, None), strings(&["- x:1"]));
        assert_eq!(rmi(&other, "x:1", false, Some(container(true))), strings(&["- x:1"]));
    }

    #[test]
    fn by_name_with_a_container() {
        let one = catalog(&[("aa", &["x:1"])]);
        let conflict = "conflict: unable to remove repository reference \"x:1\" (must force) - container cccccccccccc is \
                        using its referenced image aa0000000000";
        assert_eq!(rmi(&one, "x:1", false, Some(container(false))), strings(&[conflict]));
        assert_eq!(rmi(&one, "x:1", true, Some(container(true))), strings(&["- x:1"]), "the image stays, untagged");
        assert_eq!(rmi(&one, "x:1", true, Some(container(false))), strings(&["- x:1", "x aa0000000000"]));
    }

    #[test]
    fn by_id() {
        let one = catalog(&[("aa", &["x:1"])]);
        assert_eq!(rmi(&one, "aa", false, None), strings(&["- x:1", "x aa0000000000"]));
        let hard = "conflict: unable to delete aa0000000000 (cannot be forced) - image is being used by running container \
                    cccccccccccc";
        for force in [false, true] {
            assert_eq!(rmi(&one, "aa", force, Some(container(true))), strings(&[hard]));
        }
        let soft = "conflict: unable to delete aa0000000000 (must be forced) - image is being used by stopped container \
                    cccccccccccc";
        assert_eq!(rmi(&one, "aa", false, Some(container(false))), strings(&[soft]));
        assert_eq!(rmi(&one, "aa", true, Some(container(false))), strings(&["- x:1", "x aa0000000000"]));

        let two = catalog(&[("aa", &["x:1", "y:1"])]);
        let many =
            "conflict: unable to delete aa0000000000 (must be forced) - image is referenced in multiple repositories";
        assert_eq!(rmi(&two, "aa", false, None), strings(&[many]));
        assert_eq!(rmi(&two, "aa", true, None), strings(&["- x:1", "- y:1", "x aa0000000000"]));
        let none = catalog(&[("aa", &[])]);
        assert_eq!(rmi(&none, "aa", false, None), strings(&["x aa0000000000"]));
    }

    #[test]
    fn parents_that_nothing_needs_go_too() {
        let mut draft = Draft::of(&catalog(&[("a1", &["base"]), ("a2", &[])]));
        for (child, parent, name) in [("a3", "a2", None), ("a4", "a3", Some("app"))] {
            let mut image = record(&["aa"]);
            image.parent = Some(id(parent));
            draft.put_image(id(child), image);
            if let Some(name) = name {
                draft.put_reference(&name.parse().expect("a name"), id(child), DateTime::UNIX_EPOCH);
            }
        }
        let all = draft.catalog;
        assert_eq!(
            rmi(&all, "app", false, None),
            strings(&["- app:latest", "x a40000000000", "x a30000000000", "x a20000000000"])
        );
        assert_eq!(
            rmi(&all, "a3", true, None),
            strings(&["conflict: unable to delete a30000000000 (cannot be forced) - image has dependent child images"])
        );
    }
}
