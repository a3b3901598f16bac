//! Dockerfile text to typed instructions, as BuildKit's frontend reads it. Pure: no files, no network, no environment.
//!
//! | module | what it owns |
//! |---|---|
//! | [`syntax`] | lines, comments, directives, heredocs: text to nodes |
//! | [`instructions`] | nodes to one checked struct for each instruction |
//! | [`expand`] | quotes, escapes and variables |
//! | [`scope`] | which variables a stage sees |
//! | [`stages`] | which stage is built from which, and from what else |
//! | [`ignore`], [`glob`] | `.dockerignore`, and patterns of paths |
//! | [`lint`] | the checks of `build --check` |
//!
//! [`parse`] does the first two and cuts into stages. Variables are expanded by the caller, who alone knows the build's
//! arguments and the environment at each step. Texts of errors are BuildKit's wherever it has one. What Docker keeps in a syntax of
//! its own (`--parents`, `--exclude`, `--security`) is always there. `tests/docker.rs` compares with a real Docker.
#![warn(missing_docs)]

mod csv;
mod dockerfile;
pub mod expand;
pub mod glob;
pub mod ignore;
pub mod instructions;
pub mod lint;
mod quote;
pub mod scope;
mod source;
pub mod stages;
pub mod suggest;
pub mod syntax;

pub use dockerfile::{Dockerfile, DockerfileError, Stage, TriggerError, parse, parse_trigger};
pub use instructions::{Instruction, Step};
pub use quote::quoted;
pub use source::{Escape, Lines, Source};
