//! Images against a real registry (Debian's docker-registry) and archives of real tools (skopeo).
//!
//! Each test has a data root of its own. The last word of most of them is what is left on disk.

mod archives;
mod evil;
mod import;
mod make;
mod pull;
mod registry;
mod removal;
mod world;
