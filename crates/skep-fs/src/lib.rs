//! Files handled by descriptors: atomic replacement, walks that can't leave a root, and tar archives in both
//! directions.
//!
//! | module | what it owns |
//! |---|---|
//! | [`atomic`] | replacing a file so that a crash leaves the old or the new one |
//! | [`rooted`] | [`Root`]: a directory below which every path is resolved by the kernel (`openat2`) |
//! | [`decode`] | gzip, zstd and plain streams, told apart by their first bytes |
//! | [`encode`] | the same compressions in the other direction, on several threads |
//! | [`retime`] | an archive whose files are no younger than a moment |
//! | [`tar`] | the tar format itself: reading entries, writing entries |
//! | [`apply`] | an archive put into a directory: layers (overlayfs whiteouts) and plain trees (`cp`, `import`) |
//! | [`split`] | what is left of a layer's archive when file contents are taken out, and the archive made from it again |
//! | [`pack`] | a directory tree as an archive (`export`, `cp`), and an overlay upper directory as a layer |
//! | [`seal`] | an overlay upper directory as a layer where it is, without copying it |
//! | [`changes`] | what a container changed (`diff`) |
//! | [`tree`] | trees of files as such: removal, disk usage |
//!
//! Nothing here joins path strings and opens the result: archives and containers are hostile, and between a check of a
//! string and its use the file system can change. Names go to the kernel one component below an open directory, or
//! whole with `RESOLVE_IN_ROOT`. The crate knows nothing of images, digests' meaning or the layout of the data root.
#![warn(missing_docs)]

pub mod apply;
pub mod atomic;
pub mod changes;
pub mod decode;
pub mod encode;
pub mod owners;
pub mod pack;
pub mod retime;
pub mod rooted;
pub mod seal;
pub mod split;
pub mod tar;
pub mod tree;

pub use rooted::Root;
