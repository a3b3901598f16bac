//! Dockerfiles to images with a worker that only pretends. What is expected is what dockerd 28.5 gave for the same files.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::builder::{Builder, Built, Subject};
use crate::error::BuildError;
use crate::event::BuildEvent;
use crate::image::ImageConfig;
use crate::request::{BuildRequest, NamedContext, NoCache};
use crate::solve::tests::{Bench, bench, job};

#[path = "classic_tests.rs"]
mod classic_tests;
#[path = "docker_tests.rs"]
mod docker_tests;

/// A builder, and what it works with.
pub(super) struct Setup {
    pub(super) bench: Bench,
    pub(super) builder: Builder<crate::solve::tests::Pretender>,
}

pub(super) fn setup() -> Setup {
    let (bench, builder) = builder();
    Setup { bench, builder }
}

/// A builder with the images `base` and `base-onbuild`.
fn builder() -> (Bench, Builder<crate::solve::tests::Pretender>) {
    let bench = bench();
    let image = |more: &str| {
        let layer = format!("sha256:{}", "b".repeat(64));
        format!(
            r#"{{"architecture":"amd64","os":"linux","config":{{"Env":["PATH=/bin"],"Cmd":["sh"]{more}}},
            "rootfs":{{"type":"layers","diff_ids":["{layer}"]}},
            "history":[{{"created":"2020-01-01T00:00:00Z","comment":"Imported from -"}}]}}"#
        )
    };
    let mut images = bench.solver.worker.images.lock();
    images.insert("base:latest".to_owned(), image(r#","Labels":{"l":"base"}"#));
    images.insert("base-onbuild:latest".to_owned(), image(r#","OnBuild":["RUN echo onbuild"]"#));
    drop(images);
    *bench.solver.worker.here.lock() = true;
    let builder = Builder { solver: Arc::clone(&bench.solver) };
    (bench, builder)
}

struct Outcome {
    result: Result<Built, BuildError>,
    /// Names of vertices in the order in which they were announced, without those that load something.
    vertices: Vec<String>,
    calls: Vec<String>,
}

async fn build_with(text: &str, change: impl FnOnce(&mut BuildRequest)) -> Outcome {
    let (bench, builder) = builder();
    bench.solver.worker.files.lock().insert("dockerfile/Dockerfile".to_owned(), text.to_owned());
    let mut request = BuildRequest::default();
    change(&mut request);
    let (job, mut heard) = job();
    let result = builder.build(&request, &job).await;
    drop(job);
    let mut vertices: Vec<String> = Vec::new();
    while let Some(event) = heard.recv().await {
        if let BuildEvent::Vertex(vertex) = event
            && !vertices.contains(&vertex.name)
        {
            vertices.push(vertex.name);
        }
    }
    let calls = bench.solver.worker.done.lock().clone();
    Outcome { result, vertices, calls }
}

async fn build(text: &str) -> Outcome {
    build_with(text, |_| {}).await
}

impl Outcome {
    fn config(&self) -> ImageConfig {
        match &self.result {
            Ok(built) => ImageConfig::parse(&built.images[0].config).expect("a configuration"),
            Err(error) => panic!("{error}"),
        }
    }

    /// Texts of the history, an asterisk before those that have a layer.
    fn history(&self) -> Vec<String> {
        let text = |step: &crate::image::History| match step.empty_layer {
            true => step.created_by.clone(),
            false => format!("*{}", step.created_by),
        };
        self.config().history.iter().skip(1).map(text).collect()
    }

    fn settings(&self) -> Value {
        serde_json::to_value(self.config().config).expect("JSON")
    }

    fn error(&self) -> String {
        match &self.result {
            Ok(_) => "no error".to_owned(),
            Err(error) => error.to_string(),
        }
    }

    fn steps(&self) -> Vec<&str> {
        self.vertices.iter().map(String::as_str).filter(|name| !name.starts_with("[internal]")).collect()
    }
}

#[tokio::test]
async fn settings_and_their_history() {
    let outcome = build(
        r#"FROM base
MAINTAINER me
LABEL a=b "c d"='e f'
ENV A=1 B="two words"
ENV C three four
EXPOSE 80 53/udp 90-92
VOLUME ["/v", "/w x"]
USER 5:6
WORKDIR /app
WORKDIR sub
CMD echo $A
ENTRYPOINT ["x"]
CMD ["a", "b\"c"]
HEALTHCHECK --interval=5s --retries=3 CMD echo ok
STOPSIGNAL SIGTERM
SHELL ["/bin/sh", "-ec"]
CMD run this
ONBUILD RUN echo hi
"#,
    )
    .await;
    assert_eq!(
        outcome.history(),
        [
            "MAINTAINER me",
            "LABEL a=b c d=e f",
            "ENV A=1 B=two words",
            "ENV C=three four",
            "EXPOSE [53/udp 80/tcp 90/tcp 91/tcp 92/tcp]",
            "VOLUME [/v /w x]",
            "USER 5:6",
            "*WORKDIR /app",
            "*WORKDIR /app/sub",
            r#"CMD ["/bin/sh" "-c" "echo $A"]"#,
            r#"ENTRYPOINT ["x"]"#,
            r#"CMD ["a" "b\"c"]"#,
            r#"HEALTHCHECK &{["CMD-SHELL" "echo ok"] "5s" "0s" "0s" "0s" '\x03'}"#,
            "STOPSIGNAL SIGTERM",
            "SHELL [/bin/sh -ec]",
            r#"CMD ["/bin/sh" "-ec" "run this"]"#,
        ]
    );
    assert_eq!(
        outcome.settings(),
        json!({"User":"5:6","ExposedPorts":{"53/udp":{},"80/tcp":{},"90/tcp":{},"91/tcp":{},"92/tcp":{}},
            "Env":["PATH=/bin","A=1","B=two words","C=three four"],"Entrypoint":["x"],
            "Cmd":["/bin/sh","-ec","run this"],"Volumes":{"/v":{},"/w x":{}},"WorkingDir":"/app/sub",
            "Labels":{"a":"b","c d":"e f","l":"base"},"StopSignal":"SIGTERM","ArgsEscaped":true,
            "Healthcheck":{"Test":["CMD-SHELL","echo ok"],"Interval":5_000_000_000_i64,"Retries":3},
            "OnBuild":["RUN echo hi"],"Shell":["/bin/sh","-ec"]})
    );
    let config = outcome.config();
    assert_eq!(config.author, "me");
    assert_eq!(config.rootfs.diff_ids.len(), 3);
    assert!(
        config.history.iter().skip(1).all(|step| step.comment == "buildkit.dockerfile.v0" && step.created.is_some())
    );
    assert_eq!(config.created, config.history.last().and_then(|step| step.created));
    assert_eq!(
        outcome.vertices,
        [
            "[internal] load build definition from Dockerfile",
            "[internal] load .dockerignore",
            "[internal] load metadata for docker.io/library/base:latest",
            "[1/3] FROM docker.io/library/base:latest",
            "[2/3] WORKDIR /app",
            "[3/3] WORKDIR sub",
        ]
    );
}

#[tokio::test]
async fn arguments_and_stages() {
    let text = r#"ARG G=global
FROM base AS one
ARG G
ARG L=local
ARG N
RUN echo $G $L
ENV L=env
RUN echo $L
FROM one
ARG TARGETARCH
COPY file /x
RUN ["echo", "exec"]
ADD --chown=1:2 --chmod=0644 file dir /y/
"#;
    let outcome = build_with(text, |request| {
        request.args.insert("G".to_owned(), "given".to_owned());
        request.args.insert("HTTP_PROXY".to_owned(), "http://proxy".to_owned());
    })
    .await;
    assert_eq!(
        outcome.history(),
        [
            "ARG G=given",
            "ARG L=local",
            "ARG N",
            "*RUN |3 G=given L=local N= /bin/sh -c echo $G $L # buildkit",
            "ENV L=env",
            "*RUN |3 G=given L=env N= /bin/sh -c echo $L # buildkit",
            "ARG TARGETARCH=amd64",
            "*COPY file /x # buildkit",
            "*RUN |4 G=given L=env N= TARGETARCH=amd64 echo exec # buildkit",
            "*ADD --chown=1:2 --chmod=0644 file dir /y/ # buildkit",
        ]
    );
    let mut steps = outcome.steps();
    steps.sort_unstable();
    assert_eq!(
        steps,
        [
            "[one 1/3] FROM docker.io/library/base:latest",
            "[one 2/3] RUN echo given local",
            "[one 3/3] RUN echo env",
            "[stage-1 1/3] COPY file /x",
            "[stage-1 2/3] RUN [\"echo\", \"exec\"]",
            "[stage-1 3/3] ADD --chown=1:2 --chmod=0644 file dir /y/",
        ]
    );
    assert_eq!(outcome.settings()["Env"], json!(["PATH=/bin", "L=env"]));
}

#[tokio::test]
async fn documents_and_mounts() {
    let outcome = build(
        "FROM base
RUN <<EOF
echo one
echo two
EOF
RUN <<EOF
#!/bin/sh
echo script
EOF
RUN cat <<EOF > /x && true
text
EOF
COPY <<A <<\"B\" /dir/
a $X
A
b $X
B
RUN --mount=type=cache,target=/c --mount=type=bind,target=/ctx ls /ctx
",
    )
    .await;
    assert_eq!(
        outcome.history(),
        [
            "*RUN /bin/sh -c echo one\necho two\n # buildkit",
            "*RUN /bin/sh -c /dev/pipes/EOF # buildkit",
            "*RUN /bin/sh -c cat <<EOF > /x && true\ntext\nEOF # buildkit",
            "*COPY <<A <<B /dir/ # buildkit",
            "*RUN /bin/sh -c ls /ctx # buildkit",
        ]
    );
    assert!(outcome.vertices.contains(&"[stage-0 2/6] RUN <<EOF (echo one...)".to_owned()), "{:?}", outcome.vertices);
    assert!(outcome.vertices.contains(&"[stage-0 5/6] COPY <<A <<B /dir/".to_owned()), "{:?}", outcome.vertices);
}

#[tokio::test]
async fn triggers_fire_and_are_not_inherited() {
    let outcome = build("FROM base-onbuild AS b\nONBUILD COPY file /f\nFROM b\nCMD []\n").await;
    assert_eq!(outcome.history(), ["*RUN /bin/sh -c echo onbuild # buildkit", "*COPY file /f # buildkit", "CMD []"]);
    assert_eq!(outcome.settings(), json!({"Env":["PATH=/bin"],"ArgsEscaped":true}));
    let mut steps = outcome.steps();
    steps.sort_unstable();
    assert_eq!(
        steps,
        [
            "[b 1/1] FROM docker.io/library/base-onbuild:latest",
            "[b 2/2] ONBUILD RUN echo onbuild",
            "[stage-1 1/1] ONBUILD COPY file /f",
        ]
    );
}

#[tokio::test]
async fn nothing_to_begin_with() {
    let outcome = build_with("FROM scratch\nCOPY --link file /\nWORKDIR /\n", |request| {
        request.labels.insert("z".to_owned(), "1".to_owned());
    })
    .await;
    let config = outcome.config();
    let texts: Vec<&str> = config.history.iter().map(|step| step.created_by.as_str()).collect();
    assert_eq!(texts, ["COPY file / # buildkit", "WORKDIR /"]);
    assert_eq!(
        outcome.settings(),
        json!({"Env":["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],"WorkingDir":"/","Labels":{"z":"1"}})
    );
    assert_eq!(outcome.steps(), ["[1/2] COPY --link file /"]);
}

#[tokio::test]
async fn an_entrypoint_takes_the_inherited_command_away() {
    let outcome = build("FROM base\nCOPY --from=base-onbuild /etc/passwd /p\nENTRYPOINT echo\n").await;
    assert_eq!(outcome.history(), ["*COPY /etc/passwd /p # buildkit", r#"ENTRYPOINT ["/bin/sh" "-c" "echo"]"#]);
    let expected = json!({"Env":["PATH=/bin"],"Entrypoint":["/bin/sh","-c","echo"],"Labels":{"l":"base"}});
    assert_eq!(outcome.settings(), expected);
    assert!(outcome.steps().contains(&"FROM docker.io/library/base-onbuild:latest"), "{:?}", outcome.steps());
    assert_eq!(outcome.calls.iter().filter(|call| call.starts_with("resolve")).count(), 2);
}

#[tokio::test]
async fn stages_that_nobody_needs_are_not_looked_at() {
    let outcome = build("FROM nosuch AS x\nRUN a\nFROM base AS y\nRUN b\nFROM y\n").await;
    assert_eq!(outcome.history(), ["*RUN /bin/sh -c b # buildkit"]);
    let outcome =
        build_with("FROM base AS x\nRUN a\nFROM nosuch\n", |request| request.target = Some("x".to_owned())).await;
    assert_eq!(outcome.history(), ["*RUN /bin/sh -c a # buildkit"]);
}

#[tokio::test]
async fn only_what_is_used_of_the_context_is_sent() {
    let (bench, builder) = builder();
    let text = "FROM base\nCOPY a/b c* /x/\nRUN --mount=target=/m,source=d true\n";
    bench.solver.worker.files.lock().insert("dockerfile/Dockerfile".to_owned(), text.to_owned());
    bench.solver.worker.files.lock().insert("context/.dockerignore".to_owned(), "# no\n*.o\n!x.o\n".to_owned());
    let (job, _heard) = job();
    builder.build(&BuildRequest::default(), &job).await.expect("built");
    let sources = bench.solver.worker.sources.lock().clone();
    let context = sources.iter().find(|source| source.follow.contains(&"a/b".to_owned())).expect("the context");
    assert_eq!(context.follow, ["a/b", "c*", "d"]);
    assert_eq!(context.exclude, ["*.o", "!x.o"]);
}

#[tokio::test]
async fn named_contexts_replace_images_and_stages() {
    let outcome =
        build_with("FROM nosuch AS x\nRUN a\nFROM other\nCOPY --from=x /a /b\nCOPY --from=dir /c /d\n", |request| {
            let image = || NamedContext::Image("base".parse().expect("a name"));
            request.contexts.insert("x".to_owned(), image());
            request.contexts.insert("other".to_owned(), image());
            request.contexts.insert("dir".to_owned(), NamedContext::Local("client-dir".to_owned()));
        })
        .await;
    assert_eq!(outcome.history(), ["*COPY /a /b # buildkit", "*COPY /c /d # buildkit"]);
    assert!(outcome.calls.contains(&"local client-dir".to_owned()), "{:?}", outcome.calls);
    assert_eq!(outcome.calls.iter().filter(|call| call.starts_with("run")).count(), 0);
}

#[tokio::test]
async fn steps_of_a_stage_run_again() {
    let (bench, builder) = builder();
    let text = "FROM base AS a\nRUN one\nFROM base AS b\nRUN two\nCOPY --from=a /x /y\n";
    bench.solver.worker.files.lock().insert("dockerfile/Dockerfile".to_owned(), text.to_owned());
    let (job, _heard) = job();
    let mut request = BuildRequest::default();
    builder.build(&request, &job).await.expect("built");
    request.no_cache = NoCache::Stages(vec!["a".to_owned()]);
    builder.build(&request, &job).await.expect("built");
    assert_eq!(bench.solver.worker.count("run /bin/sh -c one"), 2);
    assert_eq!(bench.solver.worker.count("run /bin/sh -c two"), 1);
    assert_eq!(bench.solver.worker.count("files"), 1, "the contents are the same");
}

#[tokio::test]
async fn a_cached_build_is_the_same_image() {
    let (bench, builder) = builder();
    bench
        .solver
        .worker
        .files
        .lock()
        .insert("dockerfile/Dockerfile".to_owned(), "FROM base\nRUN a\nENV b=c\n".to_owned());
    let (job, _heard) = job();
    let first = builder.build(&BuildRequest::default(), &job).await.expect("built");
    let second = builder.build(&BuildRequest::default(), &job).await.expect("built");
    assert_eq!(first.images[0].config, second.images[0].config);
}

#[tokio::test]
async fn several_platforms_share_what_they_can() {
    let text = "FROM --platform=$BUILDPLATFORM base AS tool\nRUN make\nFROM base\nARG TARGETARCH\nCOPY --from=tool /x /y\nRUN use $TARGETARCH\n";
    let outcome = build_with(text, |request| {
        request.platforms = ["linux/amd64", "linux/arm64"].map(|text| text.parse().expect("a platform")).to_vec();
    })
    .await;
    let built = outcome.result.as_ref().expect("built");
    assert_eq!(
        built.images.iter().map(|image| image.platform.to_string()).collect::<Vec<_>>(),
        ["linux/amd64", "linux/arm64"]
    );
    assert_eq!(ImageConfig::parse(&built.images[1].config).expect("a configuration").architecture, "arm64");
    assert_eq!(outcome.calls.iter().filter(|call| call.starts_with("run /bin/sh -c make")).count(), 1);
    assert_eq!(outcome.calls.iter().filter(|call| call.starts_with("run /bin/sh -c use")).count(), 2);
    assert!(
        outcome.vertices.iter().any(|name| name == "[linux/arm64 stage-1 3/3] RUN use arm64"),
        "{:?}",
        outcome.vertices
    );
}

#[tokio::test]
async fn a_time_for_everything() {
    let time = chrono::DateTime::from_timestamp(1000, 0).expect("a time");
    let outcome = build_with("FROM base\nRUN a\nENV b=c\n", |request| request.source_date_epoch = Some(time)).await;
    let config = outcome.config();
    assert_eq!(config.created, Some(time.into()));
    assert!(config.history.iter().skip(1).all(|step| step.created == Some(time.into())));
}

#[tokio::test]
async fn squashed_layers_are_one() {
    let outcome = build_with("FROM base\nRUN a\nRUN b\nRUN c\n", |request| request.squash = true).await;
    let config = outcome.config();
    assert_eq!(config.rootfs.diff_ids.len(), 2);
    assert_eq!(config.history.iter().filter(|step| !step.empty_layer).count(), 2);
}

#[tokio::test]
async fn errors_say_what_and_where() {
    let cases = [
        ("FROM base\nFOO x\n", "dockerfile parse error on line 2: unknown instruction: FOO", 2),
        ("FROM $X\n", "base name ($X) should not be blank", 1),
        ("FROM base\nCOPY --from=7 a b\n", "invalid stage index 7", 2),
        (
            "FROM base AS a\nCOPY --from=b x y\nFROM base AS b\nCOPY --from=a x y\n",
            "circular dependency detected on stage: a",
            4,
        ),
        ("FROM base\nCOPY https://example.com/x /\n", "source can't be a URL for COPY", 2),
        (
            "FROM base\nCOPY --chmod=99 a b\n",
            "invalid chmod parameter: '99'. it should be octal string and between 0 and 07777",
            2,
        ),
        ("FROM base\nEXPOSE x\n", "invalid containerPort: x", 2),
        ("FROM base\nADD --checksum=sha256:00 a b\n", "checksum requires HTTP(S) or Git sources", 2),
        ("FROM base\nRUN --mount=target=/ true\n", "invalid mount target \"/\"", 2),
        ("FROM base\nRUN --network=host true\n", "failed to load LLB: network.host is not allowed", 2),
        (
            "FROM --platform=a/b/c/d base\n",
            "failed to parse platform a/b/c/d: \"a/b/c/d\": cannot parse platform specifier: invalid argument",
            1,
        ),
        ("FROM base\nSTOPSIGNAL nosuch\n", "invalid signal: nosuch", 2),
        (
            "FROM nosuch\n",
            "nosuch: failed to resolve source metadata for docker.io/library/nosuch:latest: no such image",
            1,
        ),
        ("FROM BASE:x:y\n", "failed to parse stage name \"BASE:x:y\": invalid reference format", 1),
    ];
    for (text, expected, line) in cases {
        let outcome = build(text).await;
        let error = outcome.result.as_ref().err().unwrap_or_else(|| panic!("{text}: built"));
        assert!(outcome.error().starts_with(expected), "{text}: {}", outcome.error());
        let lines = error.location.as_ref().map(|location| *location.lines.start());
        assert_eq!(lines, Some(line), "{text}");
    }
    assert_eq!(build("").await.error(), "the Dockerfile cannot be empty");
    let outcome = build_with("FROM base AS x\n", |request| request.target = Some("y".to_owned())).await;
    assert_eq!(outcome.error(), "target stage \"y\" could not be found (did you mean x?)");
    let outcome = build("# syntax=example.com/other/frontend\nFROM base\n").await;
    assert!(outcome.error().contains("example.com/other/frontend"), "{}", outcome.error());
    assert!(build("# syntax=docker/dockerfile:1.7-labs\nFROM base\n").await.result.is_ok());
    let outcome = build_with("", |request| {
        request.dockerfile =
            crate::request::Dockerfile::Local { name: "dockerfile".to_owned(), path: "a/None".to_owned() };
    })
    .await;
    assert_eq!(outcome.error(), "failed to read dockerfile: open None: no such file or directory");
}

#[tokio::test]
async fn provenance_says_what_was_built_from_what_and_no_secret() {
    let text = "FROM base\nARG TOKEN\nRUN --mount=type=secret,id=key true\nADD https://me:hunter2@example.com/file /\n";
    let with = |attributes: &[(&str, &str)]| {
        let attributes: Vec<(String, String)> =
            attributes.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        build_with(text, move |request| {
            request.args.insert("TOKEN".to_owned(), "value".to_owned());
            request.attestations.insert("provenance".to_owned(), attributes.into_iter().collect());
        })
    };
    let predicate = |outcome: &Outcome| -> (String, Value) {
        let built = outcome.result.as_ref().expect("built");
        let attestation = &built.images[0].attestations[0];
        let text = String::from_utf8_lossy(&attestation.predicate);
        assert!(!text.contains("hunter2"), "{text}");
        (attestation.predicate_type.clone(), serde_json::from_slice(&attestation.predicate).expect("JSON"))
    };
    let (kind, min) = predicate(&with(&[("mode", "min")]).await);
    assert_eq!(kind, "https://slsa.dev/provenance/v0.2");
    assert_eq!(min["buildType"], "https://mobyproject.org/buildkit@v1");
    assert_eq!(min["materials"][0]["uri"], "pkg:docker/base@latest?platform=linux%2Famd64");
    assert_eq!(min["materials"][1]["uri"], "https://example.com/file");
    let parameters = &min["invocation"]["parameters"];
    assert_eq!(parameters["frontend"], "dockerfile.v0");
    assert_eq!(parameters["args"], json!({}));
    assert_eq!(parameters["locals"], json!([{"name": "context"}, {"name": "dockerfile"}]));
    assert_eq!(parameters["secrets"], json!([{"id": "key", "optional": true}]));
    assert!(min.get("buildConfig").is_none());

    let (_, max) = predicate(&with(&[("mode", "max")]).await);
    assert_eq!(max["invocation"]["parameters"]["args"], json!({"build-arg:TOKEN": "value"}));
    assert!(max["buildConfig"]["llbDefinition"].as_array().is_some_and(|steps| steps.len() >= 3));
    let (kind, one) = predicate(&with(&[("version", "v1")]).await);
    assert_eq!(kind, "https://slsa.dev/provenance/v1");
    assert_eq!(one["buildDefinition"]["externalParameters"]["configSource"]["entryPoint"], "Dockerfile");
    let none = with(&[("disabled", "true")]).await;
    assert!(none.result.as_ref().expect("built").images[0].attestations.is_empty());
}

#[tokio::test]
async fn warnings_are_told_and_can_be_errors() {
    let told = |text: &'static str| async move {
        let (bench, builder) = builder();
        bench.solver.worker.files.lock().insert("dockerfile/Dockerfile".to_owned(), text.to_owned());
        bench.solver.worker.files.lock().insert("context/.dockerignore".to_owned(), "ignored\n".to_owned());
        let (job, mut heard) = job();
        let result = builder.build(&BuildRequest::default(), &job).await.map(drop);
        drop(job);
        let mut warnings = Vec::new();
        while let Some(event) = heard.recv().await {
            if let BuildEvent::Warning(warning) = event {
                warnings.push(warning.short);
            }
        }
        (result, warnings)
    };
    let (result, warnings) = told("# check=experimental=all\nFROM base\nMAINTAINER me\nCOPY ignored /\n").await;
    assert!(result.is_ok());
    assert_eq!(
        warnings[0],
        "MaintainerDeprecated: Maintainer instruction is deprecated in favor of using label (line 3)"
    );
    assert!(warnings[1].starts_with("CopyIgnoredFile: "), "{warnings:?}");
    let (result, _) = told("# check=error=true\nFROM base\nMAINTAINER me\n").await;
    assert_eq!(result.expect_err("refused").to_string(), "lint violation found for rules: MaintainerDeprecated");
}

#[tokio::test]
async fn what_can_be_said_without_building() {
    let (bench, builder) = builder();
    let text = "# A what it is\nARG A=1\n# one the first\nFROM base AS one\nARG B\nRUN --mount=type=secret,id=k,required --mount=type=cache,target=/c true\nFROM one\nMAINTAINER me\n";
    bench.solver.worker.files.lock().insert("dockerfile/Dockerfile".to_owned(), text.to_owned());
    let request = BuildRequest::default();
    let (job, _heard) = job();
    let say = |subject| {
        let (builder, request, job) = (&builder, &request, &job);
        async move {
            let bytes = builder.describe(request, job, subject).await.expect("said");
            serde_json::from_slice::<Value>(&bytes).expect("JSON")
        }
    };
    let targets = say(Subject::Targets).await;
    assert_eq!(targets["targets"][0]["name"], "one");
    assert_eq!(targets["targets"][0]["description"], "the first");
    assert_eq!(targets["targets"][1]["default"], true);
    assert_eq!(targets["targets"][1]["base"], "one");
    let outline = say(Subject::Outline).await;
    assert_eq!(outline["args"][0]["name"], "A");
    assert_eq!(outline["args"][0]["value"], "1");
    assert_eq!(outline["args"][0]["description"], "what it is");
    assert_eq!(outline["args"][1]["name"], "B");
    assert_eq!(outline["secrets"][0]["name"], "k");
    assert_eq!(outline["secrets"][0]["required"], true);
    assert_eq!(outline["cache"][0]["ID"], "/c");
    let checks = say(Subject::Checks).await;
    assert_eq!(checks["warnings"][0]["ruleName"], "MaintainerDeprecated");
    assert_eq!(checks["warnings"][0]["location"]["ranges"][0]["start"]["line"], 8);
    assert_eq!(bench.solver.worker.count("run"), 0, "nothing is built");
    bench.solver.worker.files.lock().insert("dockerfile/Dockerfile".to_owned(), "FROM base\nEXPOSE x\n".to_owned());
    let checks = say(Subject::Checks).await;
    assert_eq!(checks["buildError"]["location"]["ranges"][0]["start"]["line"], 2);
}

#[tokio::test]
async fn a_cache_travels_with_the_image() {
    let text = "FROM base\nRUN one\nENV a=b\nRUN two\n";
    let outcome = build_with(text, |request| {
        request.args.insert("BUILDKIT_INLINE_CACHE".to_owned(), "1".to_owned());
    })
    .await;
    let config = String::from_utf8(outcome.result.as_ref().expect("built").images[0].config.clone()).expect("text");
    assert!(config.contains("moby.buildkit.cache.v0"));

    // Another engine, which has nothing but the image's name.
    let (bench, builder) = builder();
    let worker = &bench.solver.worker;
    worker.images.lock().insert("registry.example.com/cached:latest".to_owned(), config);
    worker.files.lock().insert("dockerfile/Dockerfile".to_owned(), format!("{text}RUN three\n"));
    *worker.here.lock() = false;
    let cache = |name: &str| crate::request::CacheRef {
        kind: "registry".to_owned(),
        attributes: [("ref".to_owned(), name.to_owned())].into(),
    };
    let request = BuildRequest {
        cache_from: vec![cache("registry.example.com/none"), cache("registry.example.com/cached")],
        ..BuildRequest::default()
    };
    let (job, _heard) = job();
    let built = builder.build(&request, &job).await.expect("built");
    assert_eq!(built.images[0].diff_ids.len(), 4);
    assert_eq!(worker.count("run"), 1, "{:?}", worker.done.lock());
    assert_eq!(worker.count("fetch registry.example.com/cached"), 1);
    assert_eq!(worker.count("fetch base"), 0);

    // What came with it is kept.
    let request = BuildRequest::default();
    builder.build(&request, &job).await.expect("built");
    assert_eq!(worker.count("run"), 1);
}

#[tokio::test]
async fn a_file_that_is_ignored_is_said_to_be() {
    let (bench, builder) = builder();
    bench
        .solver
        .worker
        .files
        .lock()
        .insert("dockerfile/Dockerfile".to_owned(), "FROM base\nCOPY missing.o /\n".to_owned());
    bench.solver.worker.files.lock().insert("context/.dockerignore".to_owned(), "*.o\n".to_owned());
    let (job, _heard) = job();
    let error = builder.build(&BuildRequest::default(), &job).await.expect_err("fails").to_string();
    assert!(error.ends_with("\"/missing.o\": not found (missing.o is excluded by .dockerignore)"), "{error}");
}

#[tokio::test]
async fn what_steers_the_build_by_arguments() {
    let text = "FROM base\nRUN --mount=type=cache,target=/c true\n";
    let outcome = build_with(text, |request| {
        request.args.insert("SOURCE_DATE_EPOCH".to_owned(), "1000".to_owned());
    })
    .await;
    assert_eq!(outcome.config().created.map(|time| time.timestamp()), Some(1000));
    let outcome = build_with(text, |request| {
        request.args.insert("SOURCE_DATE_EPOCH".to_owned(), "soon".to_owned());
    })
    .await;
    assert_eq!(outcome.error(), "invalid SOURCE_DATE_EPOCH: soon");
    let refused = build("FROM base\nRUN --device=vendor/class=x true\n").await;
    assert!(refused.error().ends_with("device vendor/class=x is not allowed"));
}

#[tokio::test]
async fn an_archive_as_context_is_unpacked_and_keeps_its_owners() {
    let (bench, builder) = builder();
    let mut archive = vec!["\0".repeat(257)];
    archive.push("ustar".to_owned());
    let files = &bench.solver.worker.files;
    files.lock().insert("http://example.com/x.tar/context".to_owned(), archive.concat());
    files.lock().insert("dockerfile/Dockerfile".to_owned(), "FROM base\nCOPY a /\n".to_owned());
    let context = crate::request::Context::Http("http://example.com/x.tar".to_owned());
    let request = BuildRequest { context: context.clone(), ..BuildRequest::default() };
    let (job, _heard) = job();
    builder.build(&request, &job).await.expect("built");
    let unpacked = bench.solver.worker.files_made.lock().clone();
    assert!(unpacked[0].contains("unpack: Archives"), "{unpacked:?}");
    assert!(unpacked[1].contains("owner: Keep"), "{unpacked:?}");

    // What is no archive is the Dockerfile itself.
    files.lock().insert("http://example.com/x.tar/context".to_owned(), "FROM base\nENV from=web\n".to_owned());
    let dockerfile = crate::request::Dockerfile::InContext("Dockerfile".to_owned());
    let request = BuildRequest { context, dockerfile, ..BuildRequest::default() };
    let built = builder.build(&request, &job).await.expect("built");
    let config = ImageConfig::parse(&built.images[0].config).expect("a configuration");
    assert!(config.config.env.contains(&"from=web".to_owned()));
}

#[tokio::test]
async fn many_steps_are_no_matter() {
    let mut text = String::from("FROM base\n");
    (0..3000).for_each(|number| text.push_str(&format!("RUN {number}\n")));
    let outcome = build(&text).await;
    assert_eq!(outcome.config().rootfs.diff_ids.len(), 3001);
    let stages: String = (0..1001).map(|_| "FROM base\n").collect();
    assert_eq!(build(&stages).await.error(), "1001 stages, more than 1000");
}
