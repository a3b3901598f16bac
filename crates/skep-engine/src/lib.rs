//! The engine: images, containers, exec, volumes, networks and events. The only writer of engine state; knows nothing of HTTP.
//!
//! [`Engine`] is the door. Each container has one owner task (`containers::task`) that alone changes it; `ps` and `inspect`
//! read what that task published last and never wait for it.

pub mod config;
pub mod engine;
pub mod images;
pub mod model;
pub mod shim;

pub mod build;
mod cdi;
mod containers;
mod error;
mod events;
mod gc;
mod logs;
mod networks;
mod random;
mod storage;
mod userns;
mod volumes;

pub use skep_fs::apply::Limits;

pub use config::{AddressPool, BridgeSettings, EngineConfig, Entitlements, HostFirewall, IdMapping, IdMaps};
pub use engine::Engine;
pub use error::{Error, StartFailure};
pub use skep_registry::Proxies;

/// What operations of the engine return.
pub type Result<T, E = Error> = std::result::Result<T, E>;
