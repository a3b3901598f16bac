//! The same Dockerfiles as dockerd 28.5 built: what it made of each is in `docker.json`.
//!
//! Left out are vertices that show BuildKit's own ways of work: the making of inline documents and of cache directories, the export.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde_json::Value;

use super::setup;
use crate::event::BuildEvent;
use crate::image::ImageConfig;
use crate::request::BuildRequest;
use crate::solve::tests::job;

#[derive(Deserialize)]
struct File {
    images: BTreeMap<String, Value>,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    dockerfile: String,
    #[serde(default)]
    args: BTreeMap<String, String>,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    target: Option<String>,
    expected: Expected,
}

#[derive(Deserialize)]
struct Expected {
    vertices: Vec<String>,
    warnings: Vec<String>,
    /// Text, comment, and whether there is no layer.
    history: Vec<(String, String, bool)>,
    config: Value,
    author: String,
    architecture: String,
    layers: usize,
}

/// Vertices that both show.
fn is_compared(name: &str) -> bool {
    const NOT: [&str; 4] =
        ["[internal] load build definition", "[internal] preparing", "[internal] settings cache mount", "exporting"];
    !NOT.iter().any(|start| name.starts_with(start)) && !name.starts_with("LINK ") && !name.contains("] LINK ")
}

/// Equal steps are one vertex, which has the name of any of them.
fn shared(name: &str) -> &str {
    name.find("FROM ").filter(|at| *at == 0 || name[..*at].ends_with("] ")).map_or(name, |at| &name[at..])
}

#[tokio::test]
async fn the_same_as_docker() {
    let file: File = serde_json::from_str(include_str!("docker.json")).expect("the cases");
    let mut differences = Vec::new();
    for case in &file.cases {
        let mut differ = |what: &str, docker: String, ours: String| {
            if docker != ours {
                differences.push(format!("{}: {what}\n  docker: {docker}\n  ours:   {ours}\n", case.name));
            }
        };
        let setup = setup();
        let worker = &setup.bench.solver.worker;
        for (name, config) in &file.images {
            worker.images.lock().insert(format!("{name}:latest"), config.to_string());
        }
        worker.files.lock().insert("dockerfile/Dockerfile".to_owned(), case.dockerfile.clone());
        let request = BuildRequest {
            args: case.args.clone(),
            labels: case.labels.clone(),
            target: case.target.clone(),
            ..BuildRequest::default()
        };
        let (job, mut heard) = job();
        let built = setup.builder.build(&request, &job).await;
        drop(job);
        let (mut vertices, mut warnings) = (Vec::new(), Vec::new());
        while let Some(event) = heard.recv().await {
            match event {
                BuildEvent::Vertex(vertex) if !vertices.contains(&vertex.name) => vertices.push(vertex.name),
                BuildEvent::Warning(warning) => warnings.push(warning.short),
                _ => {}
            }
        }
        let built = match built {
            Ok(built) => built,
            Err(error) => {
                differ("error", "none".to_owned(), error.to_string());
                continue;
            }
        };
        let ours = ImageConfig::parse(&built.images[0].config).expect("a configuration");
        let expected = &case.expected;
        vertices.sort();
        let compared = |list: &[String]| -> BTreeSet<String> {
            list.iter().filter(|name| is_compared(name)).map(|name| shared(name).to_owned()).collect()
        };
        differ("vertices", format!("{:#?}", compared(&expected.vertices)), format!("{:#?}", compared(&vertices)));
        differ("warnings", format!("{:#?}", expected.warnings), format!("{warnings:#?}"));
        let history: Vec<_> =
            ours.history.iter().map(|step| (step.created_by.clone(), step.comment.clone(), step.empty_layer)).collect();
        differ("history", format!("{:#?}", expected.history), format!("{history:#?}"));
        let config = serde_json::to_value(&ours.config).expect("JSON");
        differ("config", expected.config.to_string(), config.to_string());
        differ("author", expected.author.clone(), ours.author.clone());
        differ("architecture", expected.architecture.clone(), ours.architecture.clone());
        differ("layers", expected.layers.to_string(), ours.rootfs.diff_ids.len().to_string());
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}
