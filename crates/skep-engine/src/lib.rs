//! The engine: images, containers, exec, volumes, networks and events. The only writer of engine state; knows nothing of HTTP.

pub mod engine;
pub mod images;
pub mod model;
pub mod shim;
