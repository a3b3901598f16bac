//! The connections of a build: one that the engine asks over, one that it is asked over.

use skep_buildkit::grpc::{self, Channel};
use skep_buildkit::provider::Provider;
use skep_buildkit::session::Announcement;
use skep_client::{Client, HeaderName, Method};

use crate::cli::Failure;

/// What HTTP is upgraded to.
const PROTOCOL: &str = "h2c";

/// Opens the session in which `provider` answers the engine. It lasts until the program ends.
pub(super) async fn open(client: &Client, provider: Provider, id: &str, shared_key: &str) -> Result<(), Failure> {
    let routes = provider.routes();
    let announcement = Announcement {
        id: id.to_owned(),
        name: "skep".to_owned(),
        shared_key: shared_key.to_owned(),
        methods: routes.methods().to_vec(),
    };
    let mut request = client.request(Method::POST, "/session");
    for (name, value) in announcement.headers() {
        request = request.header(HeaderName::from_static(name), value);
    }
    let (reader, writer) = request.upgrade_to(PROTOCOL).await?.split();
    tokio::spawn(async move {
        if let Err(error) = grpc::serve(tokio::io::join(reader, writer), routes).await {
            // The build itself fails with what this means to it.
            tracing::debug!(%error, "the session broke off");
        }
    });
    Ok(())
}

/// Connects to the engine's builder.
pub(crate) async fn builder(client: &Client) -> Result<Channel, Failure> {
    let (reader, writer) = client.request(Method::POST, "/grpc").upgrade_to(PROTOCOL).await?.split();
    let connected = Channel::connect(tokio::io::join(reader, writer)).await;
    let (channel, driver) = connected.map_err(|error| Failure::message(error.to_string()))?;
    tokio::spawn(async move {
        if let Err(error) = driver.await {
            tracing::debug!(%error, "the connection to the builder broke off");
        }
    });
    Ok(channel)
}
