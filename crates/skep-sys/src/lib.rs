//! The only crate of skep with `unsafe` code: system calls that rustix does not wrap, behind functions that are safe to
//! call. Descriptors come in borrowed and go out owned, always close-on-exec; every wrapper names its call in its error.
#![warn(missing_docs)]
#![allow(unsafe_code, reason = "this crate exists to hold it")]

pub mod bpf;
pub mod event;
pub mod inherited;
pub mod mount;
pub mod netns;
pub mod ns;
pub mod overlay;
pub mod process;
pub mod pty;
pub mod seccomp;
pub mod socket;
pub mod xattr;
