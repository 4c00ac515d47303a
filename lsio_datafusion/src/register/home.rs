//! `~/` at the start of paths, which in a shell is the home directory.

use std::{borrow::Cow, env, path::Path, sync::Arc};

use async_trait::async_trait;
use datafusion::{
    catalog::{Session, TableProvider, TableProviderFactory},
    error::Result,
    logical_expr::CreateExternalTable,
};

/// A path with the home directory for `~`. A file of that name comes first.
pub(super) fn expand_home(path: &str) -> Cow<'_, str> {
    let expanded = || {
        let rest = path.strip_prefix('~')?;
        if !(rest.is_empty() || rest.starts_with('/')) || Path::new("~").exists() {
            return None;
        }
        let home = env::var("HOME").ok().filter(|home| !home.is_empty())?;
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
        let mut command = command.clone();
        for location in &mut command.locations {
            *location = expand_home(location).into_owned();
        }
        self.0.create(state, &command).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_own_home() {
        let home = env::var("HOME").unwrap();
        assert_eq!(expand_home("~/a.zarr?x=~"), format!("{home}/a.zarr?x=~"));
        assert_eq!(expand_home("~"), home);
        for path in ["~other/a", "a/~/b", "s3://b/~", ""] {
            assert_eq!(expand_home(path), path);
        }
    }
}
