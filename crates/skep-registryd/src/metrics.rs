//! Numbers about the registry, in the text form of OpenMetrics. Labels are words of this program, never names from outside.

use std::sync::atomic::AtomicI64;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

use crate::collect::Report;

/// What tells requests apart.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    endpoint: &'static str,
    method: &'static str,
    status: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct EndpointLabels {
    endpoint: &'static str,
}

/// All numbers.
pub(crate) struct Metrics {
    registry: Registry,
    requests: Family<RequestLabels, Counter>,
    durations: Family<EndpointLabels, Histogram>,
    pub(crate) running: Gauge<i64, AtomicI64>,
    pub(crate) sent: Counter,
    pub(crate) received: Counter,
    collections: Counter,
    reclaimed: Counter,
    missing: Gauge<i64, AtomicI64>,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let histogram: fn() -> Histogram = || Histogram::new(exponential_buckets(0.001, 4.0, 10));
        let mut metrics = Metrics {
            registry: Registry::with_prefix("skep_registry"),
            requests: Family::default(),
            durations: Family::new_with_constructor(histogram),
            running: Gauge::default(),
            sent: Counter::default(),
            received: Counter::default(),
            collections: Counter::default(),
            reclaimed: Counter::default(),
            missing: Gauge::default(),
        };
        let registry = &mut metrics.registry;
        registry.register("requests", "Requests answered", metrics.requests.clone());
        registry.register("request_duration_seconds", "Time to the head of an answer", metrics.durations.clone());
        registry.register("requests_running", "Requests without an answer yet", metrics.running.clone());
        registry.register("blob_sent_bytes", "Bytes of blobs sent", metrics.sent.clone());
        registry.register("blob_received_bytes", "Bytes of blobs received", metrics.received.clone());
        registry.register("collections", "Garbage collections", metrics.collections.clone());
        registry.register("collection_reclaimed_bytes", "Space that garbage took", metrics.reclaimed.clone());
        registry.register("content_missing", "Contents gone from the storage", metrics.missing.clone());
        metrics
    }

    /// A request was answered.
    pub(crate) fn answered(&self, endpoint: &'static str, method: &http::Method, status: u16, took: Duration) {
        let method = match method.as_str() {
            "GET" => "GET",
            "HEAD" => "HEAD",
            "POST" => "POST",
            "PUT" => "PUT",
            "PATCH" => "PATCH",
            "DELETE" => "DELETE",
            _ => "other",
        };
        self.requests.get_or_create(&RequestLabels { endpoint, method, status }).inc();
        self.durations.get_or_create(&EndpointLabels { endpoint }).observe(took.as_secs_f64());
    }

    /// Garbage was collected.
    pub(crate) fn collected(&self, report: &Report) {
        self.collections.inc();
        self.reclaimed.inc_by(report.bytes);
        self.missing.set(i64::try_from(report.missing.len()).unwrap_or(i64::MAX));
    }

    /// All of them as text.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        if let Err(error) = prometheus_client::encoding::text::encode(&mut text, &self.registry) {
            tracing::error!(%error, "writing metrics");
        }
        text
    }
}
