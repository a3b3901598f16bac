//! `/token`: tokens for users of the password file, and for nobody where nobody may pull.

use http::header::{AUTHORIZATION, CACHE_CONTROL, WWW_AUTHENTICATE};
use serde_json::json;

use crate::auth::{Access, Action, Authority, Grant, Scheme, login};
use crate::error::{Code, Refusal, Result};
use crate::http::Request;
use crate::http::answer::Answer;
use crate::http::server::Shared;

/// More scopes than a client has reason to ask for at once.
const SCOPES: usize = 100;

/// `GET /token?service=S&scope=repository:NAME:pull,push`.
pub(crate) async fn get(shared: &Shared, request: &Request) -> Result<Answer> {
    let Scheme::Issuing(users, issuer) = &shared.authority.scheme else {
        return Err(Refusal::new(Code::Unsupported, "this registry issues no tokens").into());
    };
    let header = request.header(AUTHORIZATION);
    let user = match header.split_once(' ') {
        None if header.is_empty() => None,
        Some((kind, encoded)) if kind.eq_ignore_ascii_case("basic") => match login(users, encoded.trim()).await {
            Some(user) => Some(user),
            None => return Ok(again()),
        },
        _ => return Ok(again()),
    };
    // Nobody gets a token where it would be good for nothing: clients take the refusal for what it is.
    if user.is_none() && !shared.authority.anonymous_pull && shared.authority.rules.is_none() {
        return Ok(again());
    }
    let scopes = request.query.all("scope").flat_map(|scope| scope.split(' ')).filter(|scope| !scope.is_empty());
    let access = scopes.take(SCOPES).filter_map(|scope| granted(&shared.authority, user.as_deref(), scope)).collect();
    let grant = Grant { sub: user.unwrap_or_default(), access };
    let (token, expires_in) = issuer.issue(&grant).map_err(|error| {
        tracing::error!(%error, "signing a token");
        Refusal::new(Code::Unknown, "the token could not be signed")
    })?;
    let issued_at = chrono::Utc::now().to_rfc3339_opts(chrono::SecondsFormat::Secs, true);
    let body = json!({"token": token, "access_token": token, "expires_in": expires_in, "issued_at": issued_at});
    Ok(Answer::json("application/json", &body).header(CACHE_CONTROL, "no-store"))
}

fn again() -> Answer {
    let refusal = Refusal::new(Code::Unauthorized, "authentication required");
    crate::http::error::answer(&refusal.into()).header(WWW_AUTHENTICATE, "Basic realm=\"skep registry\"")
}

/// The part of a scope that a user may have.
fn granted(authority: &Authority, user: Option<&str>, scope: &str) -> Option<Access> {
    let (kind, rest) = scope.split_once(':')?;
    let (name, wanted) = rest.rsplit_once(':')?;
    let actions: Vec<String> = match kind {
        "repository" => {
            let repository = name.parse().ok()?;
            let wanted = if wanted == "*" { "pull,push,delete" } else { wanted };
            let allowed = |action: &&str| {
                Action::named(action).is_some_and(|action| authority.user_may(user, &repository, action))
            };
            wanted.split(',').filter(allowed).map(str::to_owned).collect()
        }
        // What the list shows is filtered once more.
        "registry" if name == "catalog" && (user.is_some() || authority.anonymous_pull) => vec!["*".to_owned()],
        _ => return None,
    };
    (!actions.is_empty()).then(|| Access { kind: kind.to_owned(), name: name.to_owned(), actions })
}
