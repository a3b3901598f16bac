//! The catalogue for people.

use std::sync::Arc;

use serde_json::json;
use skep_registryd::auth::{Authority, Htpasswd, Issuer, Scheme, TokenSource};

use crate::client::{OCI_INDEX, OCI_MANIFEST, Server, descriptor};

fn text(server: &Server, path: &str) -> String {
    let reply = server.get(path).expect(200);
    assert_eq!(reply.header("content-type"), Some("text/html; charset=utf-8"));
    assert!(reply.header("content-security-policy").is_some_and(|policy| policy.contains("default-src 'none'")));
    String::from_utf8(reply.body).expect("text")
}

#[test]
fn repositories_and_tags_are_shown() {
    let server = Server::start();
    assert!(text(&server, "/").contains("There are none"));
    let child = server.image("team/app", "v1", "a layer");
    let size = server.get("/v2/team/app/manifests/v1").body.len();
    let platform = json!({"os": "linux", "architecture": "arm64", "variant": "v8"});
    let entry = json!({"mediaType": OCI_MANIFEST, "digest": child, "size": size, "platform": platform});
    server.manifest("team/app", "multi", OCI_INDEX, &json!({"schemaVersion": 2, "manifests": [entry]}));
    assert!(text(&server, "/").contains("<a href=\"/ui/team/app\">team/app</a>"));
    let page = text(&server, "/ui/team/app");
    for part in ["<td>v1</td>", "linux/amd64", "linux/arm64/v8", &child, "1 platforms", "7B"] {
        assert!(page.contains(part), "{part} is not in {page}");
    }
    server.get("/ui/none").refused(404, "NAME_UNKNOWN");
    server.get("/ui/../x").refused(400, "NAME_INVALID");
    server.send("POST", "/", &[], b"").refused(405, "UNSUPPORTED");
}

#[test]
fn nothing_from_outside_becomes_markup() {
    let server = Server::start();
    let evil = "<script>alert(1)</script>\"'&";
    let config = json!({"architecture": evil, "os": "linux"}).to_string();
    server.blob("a", config.as_bytes());
    server.blob("a", b"x");
    let manifest = json!({
        "schemaVersion": 2,
        "config": descriptor("m/t", config.as_bytes()),
        "layers": [descriptor(evil, b"x")],
    });
    server.manifest("a", "v1", OCI_MANIFEST, &manifest);
    let page = text(&server, "/ui/a");
    assert!(
        !page.contains("<script") && page.contains("&lt;script&gt;alert(1)&lt;/script&gt;&quot;&#39;&amp;"),
        "{page}"
    );
}

#[test]
fn a_browser_is_asked_for_a_password() {
    let server = Server::with(|settings| {
        let path = settings.root.join("htpasswd");
        std::fs::write(&path, format!("ana:{}\n", bcrypt::hash("secret", 4).expect("a hash"))).expect("written");
        let users = Htpasswd::open(&path).expect("users");
        let source = TokenSource { realm: None, service: "s".to_owned(), issuer: "i".to_owned() };
        let issuer = Issuer::open(&settings.root.join("token.key"), source).expect("an issuer");
        settings.authority = Arc::new(Authority { scheme: Scheme::Issuing(users, issuer), ..Authority::default() });
    });
    for path in ["/", "/ui/a"] {
        let reply = server.get(path).refused(401, "UNAUTHORIZED");
        assert!(reply.header("www-authenticate").is_some_and(|challenge| challenge.starts_with("Basic ")));
    }
}
