//! `build`: an image from a Dockerfile.
//!
//! The command speaks BuildKit's protocol, as buildx does: it opens a session in which the engine asks for directories, secrets and
//! credentials, asks for the build, and shows what it hears of it.
//!
//! | module | what it owns |
//! |---|---|
//! | [`request`], [`attributes`], [`output`], [`secret`], [`context`] | what the words of the command line mean |
//! | [`session`] | the connections |
//! | [`updates`], [`result`], [`call`], [`failed`] | what comes back |
//! | [`shell`] | a shell where a step failed |

mod attributes;
mod call;
pub(crate) mod command;
mod context;
mod failed;
mod layout;
mod newfile;
mod output;
mod request;
mod result;
mod secret;
pub(crate) mod session;
mod shell;
pub(crate) mod updates;
