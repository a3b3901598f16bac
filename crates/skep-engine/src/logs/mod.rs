//! Reading a container's log back: the files that the shim writes in Docker's json-file format, rotated as
//! `NAME`, `NAME.1`, `NAME.2`, … from the newest to the oldest.

mod follow;
mod line;
mod tail;

pub(crate) use follow::open;
