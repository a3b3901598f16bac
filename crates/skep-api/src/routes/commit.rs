//! `POST /commit`: a container's changes as an image.

use http::{Method, StatusCode};
use skep_engine::model::image::CommitImage;
use skep_wire::{ContainerConfig, IdResponse};

use super::images::reference;
use crate::convert;
use crate::http::router::{Route, route};
use crate::http::{Answer, ApiError, Request};

pub(crate) fn routes() -> Vec<Route> {
    vec![route(Method::POST, "/commit", commit)]
}

async fn commit(mut request: Request) -> Result<Answer, ApiError> {
    let config = request.json_if_any::<Option<ContainerConfig>>().await?.flatten();
    let query = &request.query;
    let tagged = match query.text("repo") {
        "" => None,
        repository => Some(reference(repository, query.text("tag"))?),
    };
    let options = CommitImage {
        reference: tagged,
        author: query.text("author").to_owned(),
        comment: query.text("comment").to_owned(),
        changes: query.all("changes"),
        config: config.map(convert::create::config).transpose()?,
        created_by: String::new(),
        pause: query.filled("pause").is_none() || query.flag("pause"),
    };
    let id = request.engine.commit_container(request.query.text("container"), options).await?;
    Answer::json_with(StatusCode::CREATED, &IdResponse { id: id.to_string() })
}
