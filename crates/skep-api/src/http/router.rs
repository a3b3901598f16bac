//! From method and path to a handler.
//!
//! Patterns are written as in Docker's API description: `/containers/{id}/json`. The placeholder `{name}` takes as many
//! components as it needs, since image names contain slashes; any other takes one.

use std::future::Future;
use std::pin::Pin;

use http::Method;

use crate::http::{Answer, ApiError, Request};

/// What a handler gives back.
pub(crate) type Handling = Pin<Box<dyn Future<Output = Result<Answer, ApiError>> + Send>>;

/// What happens to a handler whose client has gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Effect {
    /// It ends: nobody reads the answer.
    Reads,
    /// It goes on: half a change is worse than an unseen one.
    Changes,
}

/// One endpoint.
pub(crate) struct Route {
    method: Method,
    pattern: &'static str,
    pub(crate) effect: Effect,
    pub(crate) handler: Box<dyn Fn(Request) -> Handling + Send + Sync>,
}

/// An endpoint. HEAD and GET read, all other methods change.
pub(crate) fn route<F>(
    method: Method,
    pattern: &'static str,
    handler: impl Fn(Request) -> F + Send + Sync + 'static,
) -> Route
where
    F: Future<Output = Result<Answer, ApiError>> + Send + 'static,
{
    let effect = if method == Method::GET || method == Method::HEAD { Effect::Reads } else { Effect::Changes };
    Route { method, pattern, effect, handler: Box::new(move |request| Box::pin(handler(request))) }
}

impl Route {
    /// The same endpoint, whose handler ends with its client though it is no GET.
    pub(crate) fn cancellable(self) -> Self {
        Route { effect: Effect::Reads, ..self }
    }

    /// What the placeholders stand for, if the path is of this pattern.
    fn matches(&self, path: &str) -> Option<Vec<String>> {
        let pattern: Vec<&str> = self.pattern.split('/').collect();
        let path: Vec<&str> = path.split('/').collect();
        components(&pattern, &path)
    }
}

fn components(pattern: &[&str], path: &[&str]) -> Option<Vec<String>> {
    let Some((first, pattern)) = pattern.split_first() else { return path.is_empty().then(Vec::new) };
    if *first == "{name}" {
        // What follows it in the pattern takes its own; the name takes all the rest.
        let taken = path.len().checked_sub(pattern.len()).filter(|&taken| taken > 0)?;
        let name = path[..taken].join("/");
        let mut rest = components(pattern, &path[taken..])?;
        rest.insert(0, name);
        return Some(rest).filter(|params| !params[0].is_empty());
    }
    let (component, path) = path.split_first()?;
    if first.starts_with('{') {
        let mut rest = components(pattern, path)?;
        rest.insert(0, (*component).to_owned());
        return Some(rest).filter(|params| !params[0].is_empty());
    }
    if first == component { components(pattern, path) } else { None }
}

/// All endpoints; the first that matches is taken.
pub(crate) struct Router(Vec<Route>);

impl Router {
    pub(crate) fn new(routes: Vec<Route>) -> Self {
        Router(routes)
    }

    /// The endpoint for a decoded path without its version, and what its placeholders stand for.
    pub(crate) fn find(&self, method: &Method, path: &str) -> Option<(&Route, Vec<String>)> {
        self.0
            .iter()
            .filter(|route| route.method == *method)
            .find_map(|route| route.matches(path).map(|params| (route, params)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_may_contain_slashes_and_ids_may_not() {
        let router = Router::new(
            ["/images/json", "/images/{name}/json", "/images/{name}/get", "/containers/{id}/json", "/info"]
                .map(|pattern| route(Method::GET, pattern, |_| async { Ok(Answer::no_content()) }))
                .into(),
        );
        let find = |path: &str| router.find(&Method::GET, path).map(|(route, params)| (route.pattern, params));
        let found = |pattern, params: &[&str]| Some((pattern, params.iter().map(|&p| p.to_owned()).collect()));
        assert_eq!(find("/info"), found("/info", &[]));
        assert_eq!(find("/info/"), None);
        assert_eq!(find("/images/json"), found("/images/json", &[]));
        assert_eq!(find("/images/a/json"), found("/images/{name}/json", &["a"]));
        assert_eq!(find("/images/r:5/a/b:c/json"), found("/images/{name}/json", &["r:5/a/b:c"]));
        assert_eq!(find("/images/json/json"), found("/images/{name}/json", &["json"]));
        assert_eq!(find("/images//json"), None);
        assert_eq!(find("/containers/a/json"), found("/containers/{id}/json", &["a"]));
        assert_eq!(find("/containers/a/b/json"), None);
        assert_eq!(find("/containers//json"), None);
        assert_eq!(router.find(&Method::POST, "/info").map(|_| ()), None);
    }
}
