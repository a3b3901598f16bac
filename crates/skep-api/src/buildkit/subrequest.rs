//! Questions about a Dockerfile: `docker build --check`, `--call=outline`, `--call=targets`.

use std::collections::HashMap;

use serde_json::{Value, json};
use skep_build::builder::Subject;
use skep_build::{BuildError, BuildRequest, Job};
use skep_types::ErrorKind;

use super::BuildKit;

/// The version of all answers; clients read JSON of it themselves.
const VERSION: &str = "1.0.0";

impl BuildKit {
    /// The answer to a question, as metadata of a result without files.
    pub(super) async fn answer(
        &self,
        question: &str,
        request: BuildRequest,
        job: Job,
    ) -> Result<HashMap<String, Vec<u8>>, BuildError> {
        let subject = match question {
            "lint" => Subject::Checks,
            "outline" => Subject::Outline,
            "targets" => Subject::Targets,
            "subrequests.describe" => return Ok(metadata(all().to_string().into_bytes())),
            other => {
                return Err(BuildError::new(
                    ErrorKind::NotImplemented,
                    format!("unsupported request frontend.{other}"),
                ));
            }
        };
        let answer = self.builder.describe(request, job, subject).await?;
        let status = if subject == Subject::Checks { is_bad(&answer) } else { false };
        let mut metadata = metadata(answer);
        metadata.insert("result.statuscode".to_owned(), if status { b"1" } else { b"0" }.to_vec());
        Ok(metadata)
    }
}

fn metadata(answer: Vec<u8>) -> HashMap<String, Vec<u8>> {
    HashMap::from([
        ("result.json".to_owned(), answer.clone()),
        ("result.txt".to_owned(), answer),
        ("version".to_owned(), VERSION.into()),
    ])
}

/// Whether a check found anything.
fn is_bad(answer: &[u8]) -> bool {
    let answer: Value = serde_json::from_slice(answer).unwrap_or_default();
    answer["warnings"].as_array().is_some_and(|warnings| !warnings.is_empty()) || answer["buildError"].is_object()
}

/// What can be asked.
fn all() -> Value {
    let request = |name: &str, description: &str| {
        let files = ["result.json", "result.txt"].map(|name| json!({ "name": name }));
        json!({
            "name": format!("frontend.{name}"),
            "version": VERSION,
            "type": "rpc",
            "description": description,
            "metadata": files,
        })
    };
    json!([
        request("outline", "List all parameters current build target supports"),
        request("targets", "List all targets current build supports"),
        request("lint", "Lint a Dockerfile"),
        request("subrequests.describe", "List available subrequest types"),
    ])
}
