//! `buildx history`: builds that are going on or have ended.

pub(crate) mod logs;
pub(crate) mod ls;
mod record;
pub(crate) mod rm;
