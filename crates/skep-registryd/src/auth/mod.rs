//! Who may do what.
//!
//! ```text
//!  Authorization ──▶ Caller (anybody, a user, a token) ──▶ may it? ──▶ yes
//!                └─▶ wrong: 401                         └─▶ no: 401 with a challenge for who is nobody, 403 for who is known
//! ```
//! There are four ways to run: open; users of a password file (`Basic`); the same with tokens that the registry issues itself,
//! which is what clients need to pull without credentials and push with them (with `Basic` alone a client decides from its
//! first question whether it sends credentials at all); and tokens of somebody else.

mod htpasswd;
mod rules;
mod token;
mod watched;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderMap;
use http::header::{AUTHORIZATION, HOST};

use crate::error::{Code, Refusal, Result, refuse};
use crate::name::RepositoryName;
pub use htpasswd::Htpasswd;
pub use rules::Rules;
pub(crate) use token::{Access, Grant};
pub use token::{Issuer, TokenSource, Verifier};
pub use watched::FileError;

/// What somebody wants to do in a repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    /// Reading.
    Pull,
    /// Adding.
    Push,
    /// Removing.
    Delete,
}

impl Action {
    /// Its name in tokens and rules.
    pub fn name(self) -> &'static str {
        match self {
            Action::Pull => "pull",
            Action::Push => "push",
            Action::Delete => "delete",
        }
    }

    /// The action of that name.
    pub fn named(name: &str) -> Option<Self> {
        [Action::Pull, Action::Push, Action::Delete].into_iter().find(|action| action.name() == name)
    }
}

/// What a request needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Need {
    /// Nothing.
    Nothing,
    /// To be somebody.
    Login,
    /// To see the list of repositories.
    Catalog,
    /// To do this there.
    Repository(RepositoryName, Action),
}

/// Who reads an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Audience {
    /// Clients, who know how to get a token.
    Programs,
    /// Browsers, who know passwords only.
    People,
}

/// How callers are known.
#[derive(Debug, Default)]
pub enum Scheme {
    /// Everybody may do everything.
    #[default]
    Open,
    /// Users of a password file.
    Basic(Htpasswd),
    /// The same, and tokens of the registry's own.
    Issuing(Htpasswd, Issuer),
    /// Tokens of another service.
    Token(Verifier),
}

/// Who may do what.
#[derive(Debug, Default)]
pub struct Authority {
    /// How callers are known.
    pub scheme: Scheme,
    /// What users may do; everything without.
    pub rules: Option<Rules>,
    /// Who is nobody may read.
    pub anonymous_pull: bool,
}

/// Who sent a request.
#[derive(Debug, Clone)]
pub(crate) enum Caller {
    /// Everybody may do everything.
    Anybody,
    /// Nobody known.
    Anonymous,
    /// A user by name.
    User(String),
    /// Whoever holds this.
    Token(Grant),
}

impl Authority {
    /// Whether there is anything to be known about callers.
    pub(crate) fn is_open(&self) -> bool {
        matches!(self.scheme, Scheme::Open)
    }

    /// Reads the files of users, rights and keys again. They are read when they change, too; here it is known whether they are good.
    pub(crate) fn read_again(&self) -> Result<(), FileError> {
        match &self.scheme {
            Scheme::Open => {}
            Scheme::Basic(users) | Scheme::Issuing(users, _) => users.read_again()?,
            Scheme::Token(verifier) => verifier.read_again()?,
        }
        self.rules.as_ref().map_or(Ok(()), Rules::read_again)
    }

    /// Who sent this. Credentials that are there have to be good, even where none are needed.
    pub(crate) async fn identify(&self, headers: &HeaderMap) -> Result<Caller> {
        if self.is_open() {
            return Ok(Caller::Anybody);
        }
        let Some(header) = headers.get(AUTHORIZATION) else { return Ok(Caller::Anonymous) };
        let (kind, value) = header.to_str().ok().and_then(|text| text.split_once(' ')).unwrap_or_default();
        let value = value.trim();
        let caller = match &self.scheme {
            Scheme::Open => Some(Caller::Anybody),
            Scheme::Token(verifier) if kind.eq_ignore_ascii_case("bearer") => verifier.verify(value).map(Caller::Token),
            Scheme::Issuing(_, issuer) if kind.eq_ignore_ascii_case("bearer") => {
                issuer.verify(value).map(Caller::Token)
            }
            Scheme::Basic(users) | Scheme::Issuing(users, _) if kind.eq_ignore_ascii_case("basic") => {
                login(users, value).await.map(Caller::User)
            }
            Scheme::Basic(_) | Scheme::Issuing(..) | Scheme::Token(_) => None,
        };
        match caller {
            Some(caller) => Ok(caller),
            None => refuse(Code::Unauthorized, "authentication required"),
        }
    }

    /// Whether a caller may have what a request needs.
    pub(crate) fn check(&self, caller: &Caller, need: &Need) -> Result<()> {
        let allowed = match (need, caller) {
            (Need::Nothing, _) | (_, Caller::Anybody) => true,
            (Need::Login, Caller::Anonymous) => false,
            (Need::Login, Caller::User(_) | Caller::Token(_)) => true,
            (Need::Catalog, Caller::Anonymous) => self.anonymous_pull,
            (Need::Catalog, Caller::User(_)) => true,
            (Need::Catalog, Caller::Token(grant)) => grant.allows("registry", "catalog", "*"),
            (Need::Repository(name, action), caller) => self.may(caller, name, *action),
        };
        if allowed {
            return Ok(());
        }
        match caller {
            // Another token may do.
            Caller::Anonymous | Caller::Token(_) => refuse(Code::Unauthorized, "authentication required"),
            Caller::User(_) | Caller::Anybody => {
                Err(Refusal::new(Code::Denied, "requested access to the resource is denied").into())
            }
        }
    }

    /// Whether a caller may do this there.
    pub(crate) fn may(&self, caller: &Caller, name: &RepositoryName, action: Action) -> bool {
        match caller {
            Caller::Anybody => true,
            Caller::Anonymous => self.user_may(None, name, action),
            Caller::User(user) => self.user_may(Some(user), name, action),
            Caller::Token(grant) => grant.allows("repository", name.as_str(), action.name()),
        }
    }

    /// Whether the holder of a token for the catalogue sees a repository in it: with a token of the registry's own, what its user
    /// may pull.
    pub(crate) fn shows(&self, grant: &Grant, name: &RepositoryName) -> bool {
        match &self.scheme {
            Scheme::Issuing(..) => {
                self.user_may(Some(grant.sub.as_str()).filter(|user| !user.is_empty()), name, Action::Pull)
            }
            Scheme::Open | Scheme::Basic(_) | Scheme::Token(_) => true,
        }
    }

    /// The same of a user, or of nobody.
    pub(crate) fn user_may(&self, user: Option<&str>, name: &RepositoryName, action: Action) -> bool {
        let public = self.anonymous_pull && action == Action::Pull;
        match (&self.rules, user) {
            (None, Some(_)) => true,
            (None, None) => public,
            (Some(rules), user) => public || rules.allow(user, name, action),
        }
    }

    /// What `WWW-Authenticate` says to who has to be somebody else.
    pub(crate) fn challenge(
        &self,
        headers: &HeaderMap,
        https: bool,
        need: &Need,
        audience: Audience,
    ) -> Option<String> {
        let tokens = |source: &TokenSource| {
            let realm = match &source.realm {
                Some(realm) => realm.clone(),
                None => own_realm(headers, https)?,
            };
            let mut text = format!("Bearer realm=\"{realm}\",service=\"{}\"", source.service);
            if let Some(scope) = scope(need) {
                text.push_str(&format!(",scope=\"{scope}\""));
            }
            if headers.contains_key(AUTHORIZATION) {
                text.push_str(",error=\"invalid_token\"");
            }
            Some(text)
        };
        match &self.scheme {
            Scheme::Open => None,
            Scheme::Issuing(..) if audience == Audience::People => Some("Basic realm=\"skep registry\"".to_owned()),
            Scheme::Basic(_) => Some("Basic realm=\"skep registry\"".to_owned()),
            Scheme::Issuing(_, issuer) => tokens(&issuer.source),
            Scheme::Token(verifier) => tokens(&verifier.source),
        }
    }
}

/// The registry's own token endpoint, under the name that the client knows the registry by.
fn own_realm(headers: &HeaderMap, https: bool) -> Option<String> {
    let host = headers.get(HOST)?.to_str().ok()?;
    let good = host.bytes().all(|c| c.is_ascii_alphanumeric() || matches!(c, b'.' | b'-' | b':' | b'[' | b']'));
    good.then(|| format!("{}://{host}/token", if https { "https" } else { "http" }))
}

fn scope(need: &Need) -> Option<String> {
    match need {
        Need::Nothing | Need::Login => None,
        Need::Catalog => Some("registry:catalog:*".to_owned()),
        // Who pushes looks at what is there, too.
        Need::Repository(name, Action::Push) => Some(format!("repository:{name}:pull,push")),
        Need::Repository(name, action) => Some(format!("repository:{name}:{}", action.name())),
    }
}

/// The user whose name and password these are.
pub(crate) async fn login(users: &Htpasswd, encoded: &str) -> Option<String> {
    let decoded = String::from_utf8(STANDARD.decode(encoded).ok()?).ok()?;
    let (user, password) = decoded.split_once(':')?;
    users.verify(user, password).await.then(|| user.to_owned())
}
