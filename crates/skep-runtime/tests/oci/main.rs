//! Containers made through runc's command line, from bundles of our own and of `runc spec`, with busybox as root file system.
//!
//! Needs root, /bin/busybox and runc. Each test has a bundle, a root directory and ids of its own, and leaves none of them.

mod bundle;
mod engines;
mod escape;
mod life;
mod setup;
