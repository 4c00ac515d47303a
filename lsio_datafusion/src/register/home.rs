//! `~/` at the start of paths, which in a shell is the home directory.

use std::{borrow::Cow, path::Path, sync::Arc};

use async_trait::async_trait;
use datafusion::{
    catalog::{Session, TableProvider, TableProviderFactory},
    error::Result,
    logical_expr::CreateExternalTable,
};
use lsio_core::Environment;

use crate::LsioConfig;

/// A path with the home directory for `~`. A file of that name comes first.
pub(super) fn expand_home<'a>(path: &'a str, environment: &Environment) -> Cow<'a, str> {
    let expanded = || {
        let rest = path.strip_prefix('~')?;
        if !(rest.is_empty() || rest.starts_with('/')) || Path::new("~").exists() {
            return None;
        }
        let home = environment.var("HOME")?;
        Some(format!("{}{rest}", home.trim_end_matches('/')))
    };
    expanded().map_or(Cow::Borrowed(path), Cow::Owned)
}

/// A factory of external tables, whose locations may start in the home directory.
#[derive(Debug)]
pub(super) struct HomeFactory(pub(super) Arc<dyn TableProviderFactory>);

#[async_trait]
impl TableProviderFactory for HomeFactory {
    async fn create(
        &self,
        state: &dyn Session,
        command: &CreateExternalTable,
    ) -> Result<Arc<dyn TableProvider>> {
        if !command.locations.iter().any(|location| location.starts_with('~')) {
            return self.0.create(state, command).await;
        }
        let resources = LsioConfig::of(state.config_options()).resources();
        let mut command = command.clone();
        for location in &mut command.locations {
            *location = expand_home(location, resources.environment()).into_owned();
        }
        self.0.create(state, &command).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_own_home() {
        let environment = Environment::of_process();
        let home = environment.var("HOME").unwrap();
        let expand = |path| expand_home(path, &environment);
        assert_eq!(expand("~/a.zarr?x=~"), format!("{home}/a.zarr?x=~"));
        assert_eq!(expand("~"), home);
        for path in ["~other/a", "a/~/b", "s3://b/~", ""] {
            assert_eq!(expand(path), path);
        }
        assert_eq!(expand_home("~", &Environment::default()), "~");
    }
}
