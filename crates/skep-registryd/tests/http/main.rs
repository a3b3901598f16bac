//! A registry in this process, spoken to in raw HTTP: what the distribution specification demands, check by check.

mod auth;
mod cache;
mod client;
mod collect;
mod discovery;
mod management;
mod manifests;
mod page;
mod pull;
mod push;
mod reload;
mod serving;
mod uploads;
