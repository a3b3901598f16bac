//! Removing images: what a name removes, what stands against it, and what goes with it. Rules and texts are Docker's.
//!
//! ```text
//! by reference ─► untag ─► other references left? ── yes ─► done
//!                            └─ no ─► delete the image, unless something needs it (quietly)
//! by id ───────► one tag, one repository? ─ yes ─► untag all, delete
//!                            └─ no ─► conflict, unless forced
//! by platform ─► take the image out of what the name leads to, delete it
//! ```
//! Hard conflicts (children, a running container) can't be forced, soft ones (other references, a stopped container) can. The images
//! of the other platforms under a name go with the one that the name means, unless another name leads to them.

use std::collections::BTreeSet;

use skep_types::{Platform, Reference};

use super::catalog::is_id_prefix;
use super::draft::Draft;
use super::target::stored_form;
use super::{ImageError, Result, platform};
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
pub(super) fn remove(draft: &mut Draft, name: &str, options: &RemoveImage, needs: &Needs<'_>) -> Result<Removed> {
    let id = draft.catalog.resolve(name)?;
    let mut removal = Removing::new(draft, needs);
    (removal.force, removal.no_prune) = (options.force, options.no_prune);
    if !options.platforms.is_empty() {
        removal.remove_platforms(name, &options.platforms)?;
        return Ok(removal.removed);
    }
    if !is_id_prefix(&id, name) {
        removal.untag_by_name(&id, name)?;
        removal.untagged.remove(&id);
        if removal.draft.catalog.references_of(&id).next().is_none() {
            removal.delete(id, true)?;
        }
    } else if removal.draft.catalog.is_secondary(&id) {
        removal.remove_member(&id)?;
    } else {
        let references: Vec<Reference> = removal.draft.catalog.references_of(&id).cloned().collect();
        if is_single(&references) {
            let mut mask = removal.mask();
            mask.remove(&Obstacle::References);
            for id in removal.draft.catalog.family(&id) {
                removal.check(&id, &mask).map_err(|conflict| conflict.error)?;
            }
            removal.untag(&id, &references);
        }
        removal.delete(id, false)?;
    }
    removal.delete_nameless()?;
    Ok(removal.removed)
}

/// Removes an image that no container uses, with all its references, unless something else stands against it. Those of its other
/// platforms go with it.
pub(super) fn remove_unused(draft: &mut Draft, id: &ImageId, needs: &Needs<'_>) -> Removed {
    let mut removal = Removing::new(draft, needs);
    let references: Vec<Reference> = removal.draft.catalog.references_of(id).cloned().collect();
    removal.untag(id, &references);
    // An image that others are built from stays, without a name.
    let _ = removal.delete(*id, true).and_then(|()| removal.delete_nameless());
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
    force: bool,
    no_prune: bool,
    /// What the references that were removed led to.
    untagged: BTreeSet<ImageId>,
    removed: Removed,
}

impl<'a> Removing<'a> {
    fn new(draft: &'a mut Draft, needs: &'a Needs<'a>) -> Self {
        let (untagged, removed) = (BTreeSet::new(), Removed::default());
        Removing { draft, needs, force: false, no_prune: false, untagged, removed }
    }

    fn remove_reference(&mut self, reference: &Reference) {
        if let Some(target) = self.draft.remove_reference(reference) {
            self.untagged.extend(target.images.iter().map(|member| member.id));
            self.removed.list.push(Removal::Untagged(reference.familiar()));
        }
    }

    /// What may stand against it: everything, or only what can't be forced.
    fn mask(&self) -> BTreeSet<Obstacle> {
        let hard = [Obstacle::Children, Obstacle::Running];
        let soft = [Obstacle::References, Obstacle::Stopped];
        hard.into_iter().chain(soft.into_iter().filter(|_| !self.force)).collect()
    }

    /// Removes the reference `name`, which means `id`, and the digests of its repository if that was its last tag.
    fn untag_by_name(&mut self, id: &ImageId, name: &str) -> Result<()> {
        let target = self.draft.catalog.target_named(name)?;
        let family: BTreeSet<ImageId> = target.images.iter().map(|member| member.id).collect();
        for id in family.iter().filter(|_| !self.force) {
            let single = is_single(&self.draft.catalog.references_of(id).cloned().collect::<Vec<_>>());
            if let Some(user) = (self.needs.users)(id).first().filter(|_| single) {
                return Err(ImageError::Conflict(format!(
                    "conflict: unable to remove repository reference {name:?} (must force) - container {} is using its \
                     referenced image {}",
                    user.container.short(),
                    id.short()
                )));
            }
        }
        let reference = stored_form(&name.parse()?);
        self.untag(id, std::slice::from_ref(&reference));
        let left = family.iter().flat_map(|id| self.draft.catalog.references_of(id));
        let left: BTreeSet<Reference> =
            left.filter(|r| r.canonical_name() == reference.canonical_name()).cloned().collect();
        if reference.digest().is_none() && left.iter().all(|r| r.digest().is_some()) {
            left.iter().for_each(|digest| self.remove_reference(digest));
        }
        Ok(())
    }

    /// Removes the images for these platforms from what a name leads to.
    fn remove_platforms(&mut self, name: &str, platforms: &[Platform]) -> Result<()> {
        for wished in platforms {
            let target = self.draft.catalog.target_named(name)?;
            let of = |member| self.draft.catalog.platform_of(member);
            let found = target.images.iter().find(|m| of(m).is_some_and(|offered| platform::is_same(wished, &offered)));
            let found = found.ok_or_else(|| ImageError::other_platform(name, wished))?.id;
            let tags = self.draft.catalog.references_of(&found).filter(|reference| reference.digest().is_none());
            if tags.count() > 1 && !self.force {
                // With Docker's dash.
                let text =
                    "Content will be removed from all images referencing this variant. Use —-force to force delete.";
                return Err(ImageError::Conflict(text.to_owned()));
            }
            self.remove_member(&found)?;
        }
        Ok(())
    }

    /// Removes one image from all that names lead to; a name that leads nowhere then is gone.
    fn remove_member(&mut self, id: &ImageId) -> Result<()> {
        let mut mask = self.mask();
        mask.remove(&Obstacle::References);
        self.check(id, &mask).map_err(|conflict| conflict.error)?;
        for reference in self.draft.remove_member(id) {
            self.removed.list.push(Removal::Untagged(reference.familiar()));
            self.removed.events.push((*id, RemovalEvent::Untag));
        }
        self.delete(*id, false)
    }

    fn untag(&mut self, id: &ImageId, references: &[Reference]) {
        for reference in references {
            self.remove_reference(reference);
            self.removed.events.push((*id, RemovalEvent::Untag));
        }
    }

    /// Deletes what has lost its last name, unless something needs it.
    fn delete_nameless(&mut self) -> Result<()> {
        while let Some(id) = self.untagged.pop_first() {
            let catalog = &self.draft.catalog;
            if catalog.image(&id).is_some() && catalog.references_of(&id).next().is_none() {
                self.delete(id, true)?;
            }
        }
        Ok(())
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
                Some(parent) if !self.no_prune && self.draft.catalog.image(&parent).is_some() => id = parent,
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
    use skep_types::ContainerId;

    use super::super::catalog::Catalog;
    use super::super::catalog::tests::{catalog, id, record};
    use super::super::target::{Member, Target};
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
            &RemoveImage { force, ..RemoveImage::default() },
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
                let target = Target::of_image(id(child));
                draft.put_reference(&name.parse().expect("a name"), target, None);
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

    /// `x:1` for two platforms, `y:1` for the second of them only.
    fn several() -> Catalog {
        let mut draft = Draft::of(&Catalog::default());
        for (image, platform) in [("a1", Platform::host().to_string()), ("b1", "linux/s390x".to_owned())] {
            let mut made = record(&["aa"]);
            made.platform = platform.parse().expect("a platform");
            draft.put_image(id(image), made);
        }
        for (name, images) in [("x:1", &["a1", "b1"][..]), ("y:1", &["b1"])] {
            let images = images.iter().map(|image| Member { id: id(image), manifest: None }).collect();
            let target = Target { descriptor: None, images };
            draft.put_reference(&name.parse().expect("a name"), target, None);
        }
        draft.catalog
    }

    fn rmi_platform(catalog: &Catalog, name: &str, platform: &str, force: bool) -> Vec<String> {
        let mut draft = Draft::of(catalog);
        let platforms = vec![platform.parse().expect("a platform")];
        let options = RemoveImage { platforms, force, ..RemoveImage::default() };
        match remove(&mut draft, name, &options, &Needs { users: &|_| Vec::new(), held: &|_| false }) {
            Ok(removed) => removed.list.iter().map(line).collect(),
            Err(e) => vec![e.to_string()],
        }
    }

    #[test]
    fn platforms_go_with_the_last_name_that_leads_to_them() {
        let all = several();
        assert_eq!(rmi(&all, "x:1", false, None), strings(&["- x:1", "x a10000000000"]));
        assert_eq!(rmi(&all, "a1", false, None), strings(&["- x:1", "x a10000000000"]));
        let mut draft = Draft::of(&all);
        draft.remove_reference(&"y:1".parse().expect("a name"));
        let alone = draft.catalog;
        let both = strings(&["- x:1", "x a10000000000", "x b10000000000"]);
        assert_eq!(rmi(&alone, "x:1", false, None), both);
        assert_eq!(rmi(&alone, "a1", false, None), both);
        assert_eq!(rmi(&alone, "b1", false, None), strings(&["x b10000000000"]), "the id of one platform is that one");
    }

    #[test]
    fn one_platform_alone() {
        let all = several();
        assert!(
            rmi_platform(&all, "x:1", "linux/s390x", false)[0].starts_with("Content will be removed from all images")
        );
        assert_eq!(rmi_platform(&all, "x:1", "linux/s390x", true), strings(&["- y:1", "x b10000000000"]));
        assert_eq!(rmi_platform(&all, "x:1", &Platform::host().to_string(), false), strings(&["x a10000000000"]));
        let missing = "image with reference x:1 was found but does not provide the specified platform (linux/mips)";
        assert_eq!(rmi_platform(&all, "x:1", "linux/mips", false), strings(&[missing]));
    }
}
