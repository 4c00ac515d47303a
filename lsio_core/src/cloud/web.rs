//! Web servers.

use std::sync::Arc;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use http::{HeaderMap, HeaderValue, header::AUTHORIZATION};
use object_store::{ClientConfigKey, ObjectStore, RetryConfig, http::HttpBuilder};
use url::Url;

use super::{
    explain::{Signing, StoreDescription},
    http::{Connector, client_options},
};
use crate::store_options::{StoreOptions, http};

/// A server, and all that decides how it is read.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct WebSettings {
    root: Url,
    query: Option<String>,
    login: Option<(String, String)>,
    config: Vec<(ClientConfigKey, String)>,
}

/// Reads the options.
pub(super) fn setup(
    root: &Url,
    query: Option<String>,
    login: Option<(String, String)>,
    options: &StoreOptions,
) -> WebSettings {
    let config = options.of("http");
    let config = config.filter_map(|(name, value)| Some((http(name)?, value.to_owned())));
    WebSettings { root: root.clone(), query, login, config: config.collect() }
}

impl WebSettings {
    /// Makes the store.
    ///
    /// # Errors
    /// If an option is invalid.
    pub(super) fn build(
        self,
        connector: Connector,
        retry: RetryConfig,
    ) -> Result<(Arc<dyn ObjectStore>, StoreDescription), String> {
        let mut options = client_options().with_allow_http(self.root.scheme() == "http");
        let mut access = Signing::Open;
        if let Some((user, password)) = self.login {
            let login = BASE64_STANDARD.encode(format!("{user}:{password}"));
            let mut value =
                HeaderValue::try_from(format!("Basic {login}")).map_err(|e| e.to_string())?;
            value.set_sensitive(true);
            options = options.with_default_headers(HeaderMap::from_iter([(AUTHORIZATION, value)]));
            access = Signing::With("the URL".to_owned());
        }
        let at = self.root.origin().ascii_serialization();
        let mut url = self.root;
        url.set_query(self.query.as_deref());
        let mut builder = HttpBuilder::new()
            .with_url(url)
            .with_client_options(options)
            .with_retry(retry)
            .with_http_connector(connector);
        for (key, value) in self.config {
            builder = builder.with_config(key, value);
        }
        let store = builder.build().map_err(|e| e.to_string())?;
        Ok((
            Arc::new(store),
            StoreDescription { what: at.clone(), at, access, region_option: None },
        ))
    }
}
