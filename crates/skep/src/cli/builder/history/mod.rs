//! `buildx history`: builds that are going on or have ended.

pub(crate) mod attachment;
mod attachments;
pub(crate) mod inspect;
pub(crate) mod logs;
pub(crate) mod ls;
mod pretty;
mod record;
pub(crate) mod rm;
