//! The classic builder's stream and history, as dockerd 28.5 gave them for the same files.

use super::{Setup, setup};
use crate::event::{BuildEvent, Classic};
use crate::image::ImageConfig;
use crate::request::BuildRequest;
use crate::solve::tests::job;

struct Outcome {
    result: Result<crate::builder::Built, crate::error::BuildError>,
    told: Vec<String>,
}

async fn build(setup: &Setup, text: &str, change: impl FnOnce(&mut BuildRequest)) -> Outcome {
    setup.bench.solver.worker.files.lock().insert("dockerfile/Dockerfile".to_owned(), text.to_owned());
    let mut request = BuildRequest { classic: true, ..BuildRequest::default() };
    change(&mut request);
    let (job, mut heard) = job();
    let result = setup.builder.build(&request, &job).await;
    drop(job);
    let mut told = Vec::new();
    while let Some(event) = heard.recv().await {
        if let BuildEvent::Classic(classic) = event {
            told.push(match classic {
                Classic::Step { number, total, text } => format!("{number}/{total} {text}"),
                Classic::Triggers { count } => format!("triggers {count}"),
                Classic::Cached => "cached".to_owned(),
                Classic::Running { .. } => "running".to_owned(),
                Classic::Removed { .. } => "removed".to_owned(),
                Classic::Image { id } => if id.is_some() { "image" } else { "none" }.to_owned(),
                Classic::Unconsumed { names } => format!("unconsumed {}", names.join(" ")),
            });
        }
    }
    if let Ok(built) = &result {
        let stored = &setup.bench.solver.worker.stored;
        stored.lock().extend(built.images[0].intermediate.iter().map(|image| image.id));
    }
    Outcome { result, told }
}

impl Outcome {
    fn config(&self) -> ImageConfig {
        match &self.result {
            Ok(built) => ImageConfig::parse(&built.images[0].config).expect("a configuration"),
            Err(error) => panic!("{error}"),
        }
    }

    fn history(&self) -> Vec<String> {
        let config = self.config();
        let text = |step: &crate::image::History| match step.empty_layer {
            true => step.created_by.clone(),
            false => format!("*{}", step.created_by),
        };
        config.history.iter().skip(1).map(text).collect()
    }
}

#[tokio::test]
async fn settings() {
    let setup = setup();
    let text = "FROM base\nENV C three four\nEXPOSE 80 53/udp 90-92\nWORKDIR /app\nWORKDIR sub\nENTRYPOINT [\"x\"]\nHEALTHCHECK --interval=5s --retries=3 CMD echo ok\nSHELL [\"/bin/sh\", \"-ec\"]\nCMD run this\nONBUILD RUN echo hi\n";
    let outcome = build(&setup, text, |request| drop(request.labels.insert("q".to_owned(), "r".to_owned()))).await;
    assert_eq!(
        outcome.history(),
        [
            "/bin/sh -c #(nop)  ENV C=three four",
            "/bin/sh -c #(nop)  EXPOSE 53/udp 80 90-92",
            "*/bin/sh -c #(nop) WORKDIR /app",
            "*/bin/sh -c #(nop) WORKDIR /app/sub",
            r#"/bin/sh -c #(nop)  ENTRYPOINT ["x"]"#,
            "/bin/sh -c #(nop)  HEALTHCHECK &{[CMD-SHELL echo ok] 5s 0s 0s 0s 3}",
            "/bin/sh -ec #(nop)  SHELL [/bin/sh -ec]",
            r#"/bin/sh -ec #(nop)  CMD ["/bin/sh" "-ec" "run this"]"#,
            "/bin/sh -ec #(nop)  ONBUILD RUN echo hi",
            "/bin/sh -c #(nop)  LABEL q=r",
        ]
    );
    assert_eq!(outcome.told[..6], ["1/11 FROM base", "image", "2/11 ENV C three four", "running", "removed", "image"]);
    assert_eq!(outcome.told[outcome.told.len() - 4], "11/11 LABEL q=r");
    let built = outcome.result.as_ref().expect("built");
    let image = &built.images[0];
    assert_eq!(image.intermediate.len(), 10);
    assert_eq!(image.intermediate.last().map(|last| last.config.clone()), Some(image.config.clone()));
    assert_eq!(image.intermediate[1].parent, Some(image.intermediate[0].id));
    assert!(outcome.config().history.iter().skip(1).all(|step| step.comment.is_empty()));
}

#[tokio::test]
async fn arguments_copies_and_stages() {
    let setup = setup();
    let text = "ARG G=global\nFROM base AS one\nARG G\nARG L=local\nARG N\nRUN echo $G $L\nENV L=env\nRUN echo $L > /f\nFROM one\nARG TARGETARCH\nCOPY file /x\nRUN [\"echo\", \"exec\"]\nADD --chown=1:2 file dir /y/\n";
    let change = |request: &mut BuildRequest| {
        request.args.insert("G".to_owned(), "given".to_owned());
        request.args.insert("HTTP_PROXY".to_owned(), "http://proxy".to_owned());
        request.args.insert("B".to_owned(), String::new());
        request.args.insert("A".to_owned(), String::new());
    };
    let outcome = build(&setup, text, change).await;
    let history = outcome.history();
    let hash = |text: &String| {
        text.split(' ').map(|word| word.split(':').next().unwrap_or_default().to_owned()).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(
        history[..6],
        [
            "/bin/sh -c #(nop)  ARG G",
            "/bin/sh -c #(nop)  ARG L=local",
            "/bin/sh -c #(nop)  ARG N",
            "*|2 G=given L=local /bin/sh -c echo $G $L",
            "/bin/sh -c #(nop)  ENV L=env",
            "*|1 G=given /bin/sh -c echo $L > /f",
        ]
    );
    assert_eq!(hash(&history[7]), "*/bin/sh -c #(nop) COPY dir in /x ");
    assert_eq!(hash(&history[9]), "*/bin/sh -c #(nop) ADD --chown=1 multi in /y/ ");
    assert_eq!(outcome.told[..3], ["1/13 ARG G=global", "2/13 FROM base AS one", "image"]);
    let at = outcome.told.iter().position(|told| told == "11/13 COPY file /x").expect("the copy");
    assert_eq!(outcome.told[at + 1..at + 3], ["image", "12/13 RUN [\"echo\", \"exec\"]"]);
    assert_eq!(outcome.told.last().map(String::as_str), Some("unconsumed A B"));

    let again = build(&setup, text, change).await;
    assert_eq!(again.told.iter().filter(|told| *told == "cached").count(), 10);
    assert!(!again.told.contains(&"running".to_owned()));
    assert_eq!(again.config(), outcome.config());
    let anew = build(&setup, text, |request| request.no_cache = crate::request::NoCache::All).await;
    assert!(!anew.told.contains(&"cached".to_owned()));
}

#[tokio::test]
async fn triggers_have_no_number() {
    let setup = setup();
    let outcome = build(&setup, "FROM base-onbuild\nCOPY file /f\n", |_| {}).await;
    let expected = ["1/2 FROM base-onbuild", "triggers 1", "running", "removed", "image", "2/2 COPY file /f", "image"];
    assert_eq!(outcome.told, expected);
    assert_eq!(outcome.history()[0], "*/bin/sh -c echo onbuild");
}

#[tokio::test]
async fn what_changes_nothing_makes_no_layer() {
    let setup = setup();
    let outcome = build(&setup, "FROM base\nRUN nothing\nRUN [\"b\"]\n", |_| {}).await;
    assert_eq!(outcome.history(), ["/bin/sh -c nothing", "*b"]);
    assert_eq!(outcome.config().rootfs.diff_ids.len(), 2);
    let outcome = build(&setup, "FROM scratch\nCOPY a /\n", |_| {}).await;
    assert_eq!(outcome.told[..2], ["1/2 FROM scratch", "none"]);
}

#[tokio::test]
async fn errors_are_the_classic_ones() {
    let setup = setup();
    let failed = build(&setup, "FROM base\nRUN [\"false\"]\n", |_| {}).await;
    let error = failed.result.expect_err("fails");
    assert_eq!(error.to_string(), "The command 'false' returned a non-zero code: 1");
    assert_eq!(failed.told, ["1/2 FROM base", "image", "2/2 RUN [\"false\"]", "running"]);
    let failed = build(&setup, "FROM base\nCOPY missing /x\n", |_| {}).await;
    let text =
        "COPY failed: file not found in build context or excluded by .dockerignore: stat missing: file does not exist";
    assert_eq!(failed.result.expect_err("fails").to_string(), text);
}
