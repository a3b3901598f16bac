//! Questions about a Dockerfile: `docker build --check`, `--call=outline`, `--call=targets`.

use std::collections::{BTreeMap, HashMap};

use serde::Serialize;
use serde::de::DeserializeOwned;
use skep_build::builder::Subject;
use skep_build::{BuildError, BuildRequest, Job};
use skep_buildkit::answers::{Checks, Outline, Question, Targets, VERSION};
use skep_types::ErrorKind;

use super::BuildKit;

/// What a result without files says.
type Metadata = HashMap<String, Vec<u8>>;

impl BuildKit {
    /// The answer to a question, as metadata of a result without files.
    pub(super) async fn answer(&self, question: &str, request: BuildRequest, job: Job) -> Result<Metadata, BuildError> {
        let ask = |subject| self.builder.describe(request, job, subject);
        match question {
            "lint" => {
                let checks: Checks = read(&ask(Subject::Checks).await?)?;
                let named = |file: &str| file.to_owned();
                let text = checks.text(named) + &checks.failure(named).unwrap_or_default();
                metadata(&checks, text, checks.found())
            }
            "outline" => {
                let outline: Outline = read(&ask(Subject::Outline).await?)?;
                metadata(&outline, outline.text(), false)
            }
            "targets" => {
                let targets: Targets = read(&ask(Subject::Targets).await?)?;
                metadata(&targets, targets.text(), false)
            }
            "subrequests.describe" => metadata(&all(), Question::table(&all()), false),
            other => Err(BuildError::new(ErrorKind::NotImplemented, format!("unsupported request frontend.{other}"))),
        }
    }
}

fn broken(error: &serde_json::Error) -> BuildError {
    BuildError::new(ErrorKind::System, error.to_string())
}

fn read<T: DeserializeOwned>(answer: &[u8]) -> Result<T, BuildError> {
    serde_json::from_slice(answer).map_err(|error| broken(&error))
}

fn metadata(answer: &impl Serialize, text: String, bad: bool) -> Result<Metadata, BuildError> {
    let json = serde_json::to_vec_pretty(answer).map_err(|error| broken(&error))?;
    let code = if bad { "1" } else { "0" };
    let all: [(&str, Vec<u8>); 4] = [
        ("result.json", json),
        ("result.txt", text.into_bytes()),
        ("result.statuscode", code.into()),
        ("version", VERSION.into()),
    ];
    Ok(all.map(|(name, value)| (name.to_owned(), value)).into())
}

/// What can be asked.
fn all() -> Vec<Question> {
    let all = [
        ("outline", "List all parameters current build target supports"),
        ("targets", "List all targets current build supports"),
        ("lint", "Lint a Dockerfile"),
        ("subrequests.describe", "List available subrequest types"),
    ];
    let question = |(name, description): (&str, &str)| Question {
        name: format!("frontend.{name}"),
        version: VERSION.to_owned(),
        r#type: "rpc".to_owned(),
        description: description.to_owned(),
        metadata: ["result.json", "result.txt"].map(|file| BTreeMap::from([("name".into(), file.into())])).into(),
    };
    all.map(question).into()
}
