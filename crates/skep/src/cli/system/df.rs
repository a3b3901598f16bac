//! `system df`.

use serde_json::{Value, json};
use skep_client::Method;
use skep_wire::{ContainerSummary, DiskUsage, GcItem, GcReport, ImageSummary, Volume};

use crate::cli::command::runner;
use crate::cli::flags::{FlagSet, flags};
use crate::cli::volume::ls::row as volume_row;
use crate::cli::{Args, Cli, Command, Completion, Failure, Outcome};
use crate::ui;
use crate::ui::human;
use crate::ui::listing::{self, Columns};
use crate::ui::template::{Format, Purpose};

flags! {
    pub(crate) struct UsageFlags {
        format: String => "format", "Format output: 'table', 'table TEMPLATE', 'json' or a Go template";
        verbose: bool => "verbose" 'v', "Show detailed information on space usage";
    }
}

pub(crate) const COMMAND: Command = Command {
    paths: &["system df"],
    usage: "[OPTIONS]",
    about: "Show disk usage",
    args: Args::None,
    completion: Completion::Nothing,
    flags: UsageFlags::specs,
    run: runner!(UsageFlags, run),
};

const SUMMARY: Columns = Columns {
    type_name: "*formatter.diskUsageContext",
    titles: &[
        ("Type", "TYPE"),
        ("TotalCount", "TOTAL"),
        ("Active", "ACTIVE"),
        ("Size", "SIZE"),
        ("Reclaimable", "RECLAIMABLE"),
    ],
    default_table: "{{.Type}}\t{{.TotalCount}}\t{{.Active}}\t{{.Size}}\t{{.Reclaimable}}",
};

const IMAGES: Columns = Columns {
    type_name: "*formatter.imageContext",
    titles: &[
        ("Repository", "REPOSITORY"),
        ("Tag", "TAG"),
        ("ID", "IMAGE ID"),
        ("CreatedSince", "CREATED"),
        ("Size", "SIZE"),
        ("SharedSize", "SHARED SIZE"),
        ("UniqueSize", "UNIQUE SIZE"),
        ("Containers", "CONTAINERS"),
    ],
    default_table: "{{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}\t{{.SharedSize}}\t{{.UniqueSize}}\t{{.Containers}}",
};

const CONTAINERS: Columns = Columns {
    type_name: "*formatter.ContainerContext",
    titles: &[
        ("ID", "CONTAINER ID"),
        ("Image", "IMAGE"),
        ("Command", "COMMAND"),
        ("LocalVolumes", "LOCAL VOLUMES"),
        ("Size", "SIZE"),
        ("RunningFor", "CREATED"),
        ("Status", "STATUS"),
        ("Names", "NAMES"),
    ],
    default_table: "{{.ID}}\t{{.Image}}\t{{.Command}}\t{{.LocalVolumes}}\t{{.Size}}\t{{.RunningFor}}\t{{.Status}}\t{{.Names}}",
};

const VOLUMES: Columns = Columns {
    type_name: "*formatter.volumeContext",
    titles: &[("Name", "VOLUME NAME"), ("Links", "LINKS"), ("Size", "SIZE")],
    default_table: "{{.Name}}\t{{.Links}}\t{{.Size}}",
};

const BUILD_CACHE: Columns = Columns {
    type_name: "*formatter.buildCacheContext",
    titles: &[
        ("ID", "CACHE ID"),
        ("CacheType", "CACHE TYPE"),
        ("Size", "SIZE"),
        ("CreatedSince", "CREATED"),
        ("LastUsedSince", "LAST USED"),
        ("UsageCount", "USAGE"),
        ("Shared", "SHARED"),
    ],
    default_table: "{{.ID}}\t{{.CacheType}}\t{{.Size}}\t{{.CreatedSince}}\t{{.LastUsedSince}}\t{{.UsageCount}}\t{{.Shared}}",
};

const LEFT_OVER: Columns = Columns {
    type_name: "*formatter.leftOverContext",
    titles: &[("Kind", "KIND"), ("ID", "ID"), ("Size", "SIZE"), ("Reason", "REASON")],
    default_table: "{{.Kind}}\t{{.ID}}\t{{.Size}}\t{{.Reason}}",
};

async fn run(cli: &Cli, flags: UsageFlags, _: Vec<String>) -> Outcome {
    let usage: DiskUsage = cli.client().await?.request(Method::GET, "/system/df").send().await?.json().await?;
    let shown = match (flags.verbose, flags.format.as_str()) {
        (false, format) => listing::render(&SUMMARY, format, &summary(&usage))?,
        (true, "" | "table") => details(&usage)? + &left_over(&garbage(cli).await?)?,
        (true, format) => {
            let all = json!({
                "BuildCache": build_cache(&usage),
                "Containers": containers(&usage),
                "Images": images(&usage),
                "Volumes": volumes(&usage),
            });
            match format {
                "json" | "{{json .}}" => format!("{all}\n"),
                template => {
                    let format = Format::parse(template, Purpose::Data)?;
                    format!("{}\n", format.render(&all, "*formatter.diskUsageContext")?)
                }
            }
        }
    };
    ui::print(&shown);
    Ok(())
}

/// What would be collected; nothing of an engine that doesn't say.
async fn garbage(cli: &Cli) -> Result<GcReport, Failure> {
    match cli.client().await?.request(Method::GET, "/skep/gc").send().await {
        Ok(answer) => Ok(answer.json().await?),
        Err(error) if error.is_not_found() => Ok(GcReport::default()),
        Err(error) => Err(error.into()),
    }
}

/// What is neither image nor container: downloads that were cut short, and what was removed and not yet deleted. If there is none, the
/// output is Docker's.
fn left_over(report: &GcReport) -> Result<String, String> {
    let steps = report.steps.iter().filter(|step| step.kind != "image");
    let row = |step: &GcItem| {
        let size = i64::try_from(step.size).unwrap_or(i64::MAX);
        json!({"Kind": step.kind, "ID": human::short_id(&step.id), "Size": human::size(size), "Reason": step.reason})
    };
    let rows: Vec<Value> = steps.map(row).collect();
    if rows.is_empty() {
        return Ok(String::new());
    }
    Ok(format!("\nLeft-over space usage:\n\n{}", listing::render(&LEFT_OVER, "", &rows)?))
}

fn summary(usage: &DiskUsage) -> Vec<Value> {
    let images = usage.images.as_deref().unwrap_or_default();
    let used: i64 = images.iter().filter(|image| image.containers != 0).filter_map(unique_size).sum();
    let active_images = images.iter().filter(|image| image.containers > 0).count();

    let containers = usage.containers.as_deref().unwrap_or_default();
    let (active, stopped): (Vec<_>, Vec<_>) = containers.iter().partition(|container| is_active(container));
    let size_of = |containers: &[&ContainerSummary]| containers.iter().map(|container| container.size_rw).sum::<i64>();

    let volumes = usage.volumes.as_deref().unwrap_or_default();
    let counted =
        |volume: &Volume| volume.usage_data.as_ref().map_or((0, 0), |usage| (usage.ref_count, usage.size.max(0)));
    let active_volumes = volumes.iter().filter(|volume| counted(volume).0 > 0).count();
    let volume_size: i64 = volumes.iter().map(|volume| counted(volume).1).sum();
    let unused: i64 = volumes.iter().map(counted).filter(|(links, _)| *links == 0).map(|(_, size)| size).sum();

    vec![
        line("Images", images.len(), active_images, usage.layers_size, usage.layers_size - used),
        line("Containers", containers.len(), active.len(), size_of(&active) + size_of(&stopped), size_of(&stopped)),
        line("Local Volumes", volumes.len(), active_volumes, volume_size, unused),
        build_cache_line(usage),
    ]
}

/// Counted without what images have too, and without percents.
fn build_cache_line(usage: &DiskUsage) -> Value {
    let caches = usage.build_cache.as_deref().unwrap_or_default();
    let size_of = |used_only: bool| -> i64 {
        caches.iter().filter(|cache| !cache.shared && (cache.in_use || !used_only)).map(|cache| cache.size).sum()
    };
    let active = caches.iter().filter(|cache| cache.in_use).count();
    json!({
        "Active": active.to_string(),
        "Reclaimable": human::fine_size(size_of(false) - size_of(true)),
        "Size": human::fine_size(size_of(false)),
        "TotalCount": caches.len().to_string(),
        "Type": "Build Cache",
    })
}

fn line(kind: &str, total: usize, active: usize, size: i64, reclaimable: i64) -> Value {
    let mut free = human::fine_size(reclaimable);
    if size > 0 {
        free = format!("{free} ({}%)", reclaimable.saturating_mul(100) / size);
    }
    json!({
        "Active": active.to_string(),
        "Reclaimable": free,
        "Size": human::fine_size(size),
        "TotalCount": total.to_string(),
        "Type": kind,
    })
}

fn is_active(container: &ContainerSummary) -> bool {
    ["running", "paused", "restarting"].iter().any(|state| container.state.contains(state))
}

/// Bytes that go when the image goes; None where nobody counted.
fn unique_size(image: &ImageSummary) -> Option<i64> {
    (image.size != -1 && image.shared_size != -1).then_some(image.size - image.shared_size)
}

fn details(usage: &DiskUsage) -> Result<String, String> {
    Ok(format!(
        "Images space usage:\n\n{}\nContainers space usage:\n\n{}\nLocal Volumes space usage:\n\n{}\nBuild cache usage: {}\n\n{}",
        listing::render(&IMAGES, "", &images(usage))?,
        listing::render(&CONTAINERS, "", &containers(usage))?,
        listing::render(&VOLUMES, "", &volumes(usage))?,
        build_cache_line(usage)["Size"].as_str().unwrap_or_default(),
        listing::render(&BUILD_CACHE, "", &build_cache(usage))?,
    ))
}

/// A row for each name of each image.
fn images(usage: &DiskUsage) -> Vec<Value> {
    let mut rows = Vec::new();
    for image in usage.images.iter().flatten() {
        let unknown_or = |bytes: Option<i64>| bytes.map_or_else(|| "N/A".to_owned(), human::fine_size);
        let untagged = ["<none>:<none>".to_owned()];
        let names = if image.repo_tags.is_empty() { &untagged[..] } else { &image.repo_tags };
        for name in names {
            let (repository, tag) = name.rsplit_once(':').unwrap_or((name, "<none>"));
            rows.push(json!({
                "Containers": if image.containers < 0 { "N/A".to_owned() } else { image.containers.to_string() },
                "CreatedSince": human::ago(image.created),
                "ID": human::short_id(&image.id),
                "Repository": repository,
                "SharedSize": unknown_or((image.shared_size != -1).then_some(image.shared_size)),
                "Size": human::size(image.size),
                "Tag": tag,
                "UniqueSize": unknown_or(unique_size(image)),
            }));
        }
    }
    rows
}

fn containers(usage: &DiskUsage) -> Vec<Value> {
    const COMMAND_WIDTH: usize = 20;
    usage
        .containers
        .iter()
        .flatten()
        .map(|container| {
            let names: Vec<&str> = container.names.iter().map(|name| name.trim_start_matches('/')).collect();
            let local = container.mounts.iter().filter(|mount| mount.driver == "local").count();
            json!({
                "Command": format!("\"{}\"", human::ellipsis(&container.command, COMMAND_WIDTH)),
                "ID": human::short_id(&container.id),
                "Image": container.image,
                "LocalVolumes": local.to_string(),
                "Names": names.join(","),
                "RunningFor": human::ago(container.created),
                "Size": human::size(container.size_rw),
                "Status": container.status,
            })
        })
        .collect()
}

/// The longest unused first.
fn build_cache(usage: &DiskUsage) -> Vec<Value> {
    let mut caches: Vec<_> = usage.build_cache.iter().flatten().collect();
    caches.sort_by_key(|cache| (cache.last_used_at, cache.id.clone()));
    let ago = |time: skep_wire::Timestamp| time.time().map_or_else(String::new, |time| human::ago(time.timestamp()));
    caches
        .into_iter()
        .map(|cache| {
            json!({
                "CacheType": cache.kind,
                "CreatedSince": ago(cache.created_at),
                "Description": cache.description,
                "ID": format!("{}{}", human::short_id(&cache.id), if cache.in_use { "*" } else { "" }),
                "InUse": cache.in_use.to_string(),
                "LastUsedSince": cache.last_used_at.map_or_else(String::new, ago),
                "Parent": cache.parents.join(", "),
                "Shared": cache.shared.to_string(),
                "Size": human::size(cache.size),
                "UsageCount": cache.usage_count.to_string(),
            })
        })
        .collect()
}

fn volumes(usage: &DiskUsage) -> Vec<Value> {
    usage.volumes.iter().flatten().map(volume_row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn left_overs_are_shown_if_there_are_any() {
        let item = |kind: &str, size| GcItem { kind: kind.to_owned(), size, ..GcItem::default() };
        let report = |steps| GcReport { steps, ..GcReport::default() };
        assert_eq!(left_over(&report(vec![item("image", 5)])), Ok(String::new()));
        let shown = left_over(&report(vec![item("trash", 1500), item("image", 5)])).expect("a table");
        assert!(shown.starts_with("\nLeft-over space usage:\n\nKIND ") && shown.contains("1.5kB"), "{shown}");
        assert_eq!(shown.lines().count(), 5, "{shown}");
    }
    use skep_wire::VolumeUsage;

    #[test]
    fn unused_space_is_reclaimable() {
        let image = |containers, size| ImageSummary { containers, size, ..ImageSummary::default() };
        let container =
            |state: &str, size_rw| ContainerSummary { state: state.into(), size_rw, ..ContainerSummary::default() };
        let volume =
            |ref_count, size| Volume { usage_data: Some(VolumeUsage { ref_count, size }), ..Volume::default() };
        let usage = DiskUsage {
            layers_size: 4000,
            images: Some(vec![image(1, 3000), image(0, 1000)]),
            containers: Some(vec![container("running", 500), container("exited", 1500)]),
            volumes: Some(vec![volume(1, 100), volume(0, 300), volume(0, -1)]),
            ..DiskUsage::default()
        };
        insta::assert_snapshot!(listing::render(&SUMMARY, "", &summary(&usage)).expect("good"), @r"
        TYPE            TOTAL     ACTIVE    SIZE      RECLAIMABLE
        Images          2         1         4kB       1kB (25%)
        Containers      2         1         2kB       1.5kB (75%)
        Local Volumes   3         1         400B      300B (75%)
        Build Cache     0         0         0B        0B
        ");
    }
}
