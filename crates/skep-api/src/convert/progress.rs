//! Progress of pulls and loads, in Docker's words and drawings.

use skep_engine::model::image::{
    ImportProgress, LayerState, LoadProgress, Loaded, PullProgress, PushProgress, PushState,
};
use skep_types::format_decimal;
use skep_wire::{Progress, ProgressDetail, PushResult};

pub(crate) fn pull(message: PullProgress) -> Progress {
    match message {
        PullProgress::Started { tag, repository } => Progress::status(tag, format!("Pulling from {repository}")),
        PullProgress::Layer { id, state } => layer(id, state),
        PullProgress::Digest(digest) => Progress::status("", format!("Digest: {digest}")),
        PullProgress::Downloaded(name) => Progress::status("", format!("Status: Downloaded newer image for {name}")),
        PullProgress::UpToDate(name) => Progress::status("", format!("Status: Image is up to date for {name}")),
        PullProgress::Notice(text) => Progress::status("", text),
    }
}

fn layer(id: String, state: LayerState) -> Progress {
    let plain = |status: &str| Progress {
        // dockerd sends an empty detail with every layer's line, and docker-py relies on it.
        progress_detail: Some(ProgressDetail::default()),
        ..Progress::status(id.clone(), status)
    };
    match state {
        LayerState::Pulling => plain("Pulling fs layer"),
        LayerState::Waiting => plain("Waiting"),
        LayerState::Downloading { current, total } => measured(&id, "Downloading", current, total),
        LayerState::Retrying(seconds) => plain(&format!("Retrying in {seconds} {}", plural(seconds, "second"))),
        LayerState::Verifying => plain("Verifying Checksum"),
        LayerState::Downloaded => plain("Download complete"),
        LayerState::Extracting { current, total } => measured(&id, "Extracting", current, total),
        LayerState::Complete => plain("Pull complete"),
        LayerState::Exists => plain("Already exists"),
    }
}

pub(crate) fn push(message: PushProgress) -> Progress {
    match message {
        PushProgress::Started { repository } => {
            Progress::status("", format!("The push refers to repository [{repository}]"))
        }
        PushProgress::Layer { id, state } => pushed_layer(id, state),
        PushProgress::OnlyOne { index, selected } => aux(serde_json::json!({
            "manifestPushedInsteadOfIndex": true,
            "originalIndex": index,
            "selectedManifest": selected,
        })),
        PushProgress::Notice(text) => Progress::status("", text),
        PushProgress::Pushed { tag, digest, size } => {
            Progress::status("", format!("{tag}: digest: {digest} size: {size}"))
        }
        PushProgress::Result { tag, digest, size } => {
            let result = PushResult { tag, digest: digest.to_string(), size: size.try_into().unwrap_or(i64::MAX) };
            aux(serde_json::to_value(result).unwrap_or_default())
        }
    }
}

fn aux(value: serde_json::Value) -> Progress {
    Progress { progress_detail: Some(ProgressDetail::default()), aux: Some(value), ..Progress::default() }
}

fn pushed_layer(id: String, state: PushState) -> Progress {
    let plain = |status: &str| Progress {
        progress_detail: Some(ProgressDetail::default()),
        ..Progress::status(id.clone(), status)
    };
    match state {
        PushState::Preparing => plain("Preparing"),
        PushState::Waiting => plain("Waiting"),
        PushState::Pushing { current, total } => measured(&id, "Pushing", current, total),
        PushState::Retrying(seconds) => plain(&format!("Retrying in {seconds} {}", plural(seconds, "second"))),
        PushState::Exists => plain("Layer already exists"),
        PushState::Mounted(from) => plain(&format!("Mounted from {from}")),
        PushState::Pushed => plain("Pushed"),
    }
}

pub(crate) fn load(message: LoadProgress) -> Progress {
    match message {
        LoadProgress::Layer { id, current, total } => measured(&id, "Loading layer", current, total),
        LoadProgress::Renamed { tag, old } => {
            stream(format!("The image {tag} already exists, renaming the old one with ID {old} to empty string\n"))
        }
        LoadProgress::Loaded(image) => loaded(&image),
    }
}

pub(crate) fn import(message: ImportProgress) -> Progress {
    match message {
        ImportProgress::Downloading(url) => Progress::status("", format!("Downloading from {url}")),
        ImportProgress::Reading { current, total } => measured("", "Importing", current, total),
    }
}

/// The line that names a loaded image.
pub(crate) fn loaded(image: &Loaded) -> Progress {
    stream(match &image.tag {
        Some(tag) => format!("Loaded image: {tag}\n"),
        None => format!("Loaded image ID: {}\n", image.id),
    })
}

fn stream(text: String) -> Progress {
    Progress { stream: text, ..Progress::default() }
}

fn plural(count: u64, word: &str) -> String {
    if count == 1 { word.to_owned() } else { format!("{word}s") }
}

fn measured(id: &str, status: &str, current: u64, total: u64) -> Progress {
    let bytes = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
    Progress {
        progress_detail: Some(ProgressDetail {
            current: bytes(current),
            total: bytes(total),
            ..ProgressDetail::default()
        }),
        progress: drawing(current, total),
        ..Progress::status(id, status)
    }
}

/// `[=====>        ]  1.5MB/4.2MB`, fifty letters wide.
fn drawing(current: u64, total: u64) -> String {
    if current == 0 && total == 0 {
        return String::new();
    }
    if total == 0 {
        return format!("{:>8}", format_decimal(current));
    }
    let done = usize::try_from(u128::from(current) * 50 / u128::from(total)).unwrap_or(50).min(50);
    let bar = format!("[{}>{}]", "=".repeat(done), " ".repeat(50 - done));
    if current > total {
        return format!("{bar} {:>8}", format_decimal(current));
    }
    format!("{bar} {:>8}/{}", format_decimal(current), format_decimal(total))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_are_dockers() {
        assert_eq!(drawing(0, 0), "");
        assert_eq!(drawing(1500, 0), "   1.5kB");
        assert_eq!(drawing(50, 100), format!("[{}>{}]      50B/100B", "=".repeat(25), " ".repeat(25)));
        assert_eq!(drawing(100, 100), format!("[{}>]     100B/100B", "=".repeat(50)));
        assert_eq!(drawing(101, 100), format!("[{}>]     101B", "=".repeat(50)));
    }

    #[test]
    fn lines_of_a_push_are_dockers() {
        let text = format!("sha256:{}", "a".repeat(64));
        let digest: skep_types::Digest = text.parse().expect("a digest");
        let pushed = PushProgress::Pushed { tag: "1".into(), digest, size: 5 };
        let result = PushProgress::Result { tag: "1".into(), digest, size: 5 };
        let layer = PushProgress::Layer { id: "c0ffee".into(), state: PushState::Mounted("library/x".into()) };
        let lines: Vec<String> =
            [PushProgress::Started { repository: "docker.io/library/x".into() }, layer, pushed, result]
                .into_iter()
                .map(push)
                .map(|line| serde_json::to_string(&line).expect("json"))
                .collect();
        assert_eq!(
            lines,
            [
                r#"{"status":"The push refers to repository [docker.io/library/x]"}"#.to_owned(),
                r#"{"status":"Mounted from library/x","progressDetail":{},"id":"c0ffee"}"#.to_owned(),
                format!(r#"{{"status":"1: digest: {digest} size: 5"}}"#),
                format!(r#"{{"progressDetail":{{}},"aux":{{"Digest":"{digest}","Size":5,"Tag":"1"}}}}"#),
            ]
        );
    }

    #[test]
    fn lines_are_dockers() {
        let json = |message| serde_json::to_string(&pull(message)).expect("json");
        let started = PullProgress::Started { tag: "1.36".into(), repository: "library/busybox".into() };
        assert_eq!(json(started), r#"{"status":"Pulling from library/busybox","id":"1.36"}"#);
        let layer = PullProgress::Layer { id: "c0ffee".into(), state: LayerState::Pulling };
        assert_eq!(json(layer), r#"{"status":"Pulling fs layer","progressDetail":{},"id":"c0ffee"}"#);
        let done = PullProgress::Downloaded("busybox:1.36".into());
        assert_eq!(json(done), r#"{"status":"Status: Downloaded newer image for busybox:1.36"}"#);
    }
}
