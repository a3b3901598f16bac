//! Upkeep of the data root: what Docker's API has no words for, below `/skep`.

use http::Method;
use skep_engine::model::check::{CheckReport, Finding, Outcome};
use skep_engine::model::gc::{GcImage, GcKept, GcReport, GcStep, GcTarget};
use skep_engine::model::request::PruneRequest;
use skep_wire::{CheckFinding, GcItem, PrunePreview};

use super::images::prune_filters;
use super::registry::keyring;
use crate::convert;
use crate::http::router::{Route, route};
use crate::http::{Answer, ApiError, Request};

pub(crate) fn routes() -> Vec<Route> {
    vec![
        route(Method::GET, "/skep/prune", preview),
        route(Method::GET, "/skep/gc", garbage),
        route(Method::POST, "/skep/gc", collect),
        route(Method::GET, "/skep/check", check),
        route(Method::POST, "/skep/check", repair),
    ]
}

/// What a prune of the kinds in `type` would remove, with its `filters`; `all` as in `system prune --all`.
async fn preview(request: Request) -> Result<Answer, ApiError> {
    let kinds = request.query.all("type");
    if let Some(unknown) =
        kinds.iter().find(|kind| !["container", "image", "network", "volume"].contains(&kind.as_str()))
    {
        return Err(ApiError::invalid(format!("unknown object type: {unknown}")));
    }
    let given = request.query.filters()?;
    let wanted = |kind: &str| kinds.iter().any(|wanted| wanted == kind);
    let images = wanted("image").then(|| prune_filters(given.clone())).transpose()?;
    let images = images.map(|mut filters| {
        filters.dangling = Some(!request.query.flag("all"));
        filters
    });
    let wish = PruneRequest {
        containers: wanted("container").then(|| given.clone()),
        networks: wanted("network").then(|| given.clone()),
        volumes: wanted("volume").then(|| given.clone()),
        images,
    };
    let found = request.engine.preview_prune(&wish).await?;
    Answer::json(&PrunePreview {
        space_reclaimed: found.containers.reclaimed + found.volumes.reclaimed + found.images.reclaimed,
        containers_deleted: found.containers.removed,
        networks_deleted: found.networks.removed,
        volumes_deleted: found.volumes.removed,
        images_deleted: found.images.removed.into_iter().map(convert::image::removal).collect(),
    })
}

/// What a collection of garbage would take, and why the rest stays.
async fn garbage(request: Request) -> Result<Answer, ApiError> {
    let report = request.engine.preview_garbage().await?;
    Answer::json(&gc_report(report, request.engine.config().gc.enabled))
}

/// Collects garbage now.
async fn collect(request: Request) -> Result<Answer, ApiError> {
    let report = request.engine.collect_garbage().await?;
    Answer::json(&gc_report(report, request.engine.config().gc.enabled))
}

fn gc_report(report: GcReport, enabled: bool) -> skep_wire::GcReport {
    skep_wire::GcReport {
        enabled,
        disk_size: report.before.total,
        free_before: report.before.free,
        free: report.after.free,
        low: report.low,
        high: report.high,
        steps: report.steps.into_iter().map(gc_step).collect(),
        kept: report.kept.into_iter().map(gc_kept).collect(),
        compacted: report.compacted,
    }
}

fn gc_step(step: GcStep) -> GcItem {
    let item = match step.target {
        GcTarget::Trash => GcItem { kind: "trash".to_owned(), ..GcItem::default() },
        GcTarget::Partial(digest) => GcItem { kind: "partial".to_owned(), id: digest.to_string(), ..GcItem::default() },
        GcTarget::BuildCache => GcItem { kind: "build cache".to_owned(), ..GcItem::default() },
        GcTarget::Image(image) => gc_image(*image),
    };
    GcItem { size: step.bytes, reason: step.reason, ..item }
}

fn gc_kept(kept: GcKept) -> GcItem {
    let size = kept.image.layers.iter().map(|(_, size)| size).sum();
    GcItem { size, reason: kept.reason, ..gc_image(kept.image) }
}

fn gc_image(image: GcImage) -> GcItem {
    GcItem { kind: "image".to_owned(), id: image.id.to_string(), tags: image.tags, ..GcItem::default() }
}

/// Checks the data root.
async fn check(request: Request) -> Result<Answer, ApiError> {
    Answer::json(&check_report(request.engine.check().await?))
}

/// Checks the data root and mends what it can.
async fn repair(request: Request) -> Result<Answer, ApiError> {
    let keyring = keyring(&request)?;
    Answer::json(&check_report(request.engine.repair(&keyring).await?))
}

fn check_report(report: CheckReport) -> skep_wire::CheckReport {
    let checked = report.checked;
    let counts = [
        ("Images", checked.images),
        ("Blobs", checked.blobs),
        ("Layers", checked.layers),
        ("Containers", checked.containers),
        ("Volumes", checked.volumes),
    ];
    skep_wire::CheckReport {
        clean: report.is_clean(),
        checked: counts.into_iter().map(|(kind, count)| (kind.to_owned(), count)).collect(),
        findings: report.findings.into_iter().map(check_finding).collect(),
    }
}

fn check_finding(finding: Finding) -> CheckFinding {
    let (state, remedy) = match finding.outcome {
        Outcome::Found(remedy) => ("found", remedy),
        Outcome::Mended(remedy) => ("mended", remedy),
        Outcome::Lost(remedy) => ("lost", remedy),
    };
    CheckFinding {
        kind: finding.object.kind().to_owned(),
        id: finding.object.name(),
        damage: finding.damage,
        needed_by: finding.needed_by,
        state: state.to_owned(),
        remedy,
    }
}
