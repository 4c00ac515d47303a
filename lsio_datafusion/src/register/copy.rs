//! `COPY … TO 'file'` never replaces what exists without being asked to.
//!
//! DataFusion 55.2 replaces a file, and writes beside the files of a directory, without notice.

use std::{fs, io, path::Path, sync::Arc};

use async_trait::async_trait;
use datafusion::{
    catalog::Session,
    common::{config_err, exec_err, plan_err},
    datasource::listing::ListingTableUrl,
    error::{DataFusionError, Result},
    execution::context::QueryPlanner,
    logical_expr::{Analyze, LogicalPlan, dml::CopyTo},
    physical_plan::ExecutionPlan,
    physical_planner::{DefaultPhysicalPlanner, PhysicalPlanner as _},
};
use futures::StreamExt as _;
use lsio_core::cloud::public_text;
use object_store::{ObjectStoreExt as _, path::Path as ObjectPath};

use super::{copied_csv::told_apart, home::expand_home};
use crate::{LsioConfig, write::is_zarr};

/// The option that allows replacing; DataFusion prefixes it with `format.`.
const OVERWRITE: [&str; 2] = ["overwrite", "format.overwrite"];

/// Checks the target of COPY, then plans by the session's own planner.
#[derive(Debug)]
pub(super) struct CopyGuard(pub(super) Option<Arc<dyn QueryPlanner + Send + Sync>>);

#[async_trait]
impl QueryPlanner for CopyGuard {
    async fn create_physical_plan(
        &self,
        plan: &LogicalPlan,
        session: &dyn Session,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let checked = match plan {
            LogicalPlan::Copy(copy) => Some(LogicalPlan::Copy(checked(copy, session).await?)),
            // EXPLAIN ANALYZE runs the statement.
            LogicalPlan::Analyze(analyze) => match analyze.input.as_ref() {
                LogicalPlan::Copy(copy) => {
                    let input = Arc::new(LogicalPlan::Copy(checked(copy, session).await?));
                    Some(LogicalPlan::Analyze(Analyze { input, ..analyze.clone() }))
                }
                _ => None,
            },
            _ => None,
        };
        let is_copy = checked.is_some();
        let plan = checked.as_ref().unwrap_or(plan);
        let planned = match &self.0 {
            Some(planner) => planner.create_physical_plan(plan, session).await,
            None => DefaultPhysicalPlanner::default().create_physical_plan(plan, session).await,
        };
        if is_copy { told_apart(planned?) } else { planned }
    }
}

/// Removes our option from the statement.
///
/// # Errors
/// If the target exists and may not be replaced.
async fn checked(copy: &CopyTo, session: &dyn Session) -> Result<CopyTo> {
    // Its writer looks at the target itself.
    if is_zarr(copy) {
        return Ok(copy.clone());
    }
    let mut copy = copy.clone();
    let config = LsioConfig::of(session.config_options());
    copy.output_url = expand_home(&copy.output_url, config.resources().environment()).into_owned();
    let mut overwrite = config.overwrite;
    for key in OVERWRITE {
        match copy.options.remove(key).as_deref().map(str::trim) {
            None => {}
            Some("true") => overwrite = true,
            Some("false") => overwrite = false,
            Some(value) => {
                return config_err!("the option overwrite is true or false, not '{value}'");
            }
        }
    }
    let target = public_text(&copy.output_url);
    match found(&copy.output_url, session).await? {
        CopyTarget::Nothing => Ok(copy),
        CopyTarget::File if overwrite => Ok(copy),
        CopyTarget::File => exec_err!(
            "'{target}' exists: COPY replaces it with OPTIONS (overwrite true), or choose another name"
        ),
        CopyTarget::Directory => exec_err!(
            "the directory '{target}' isn't empty: COPY would put its files among those; remove it, or choose another name"
        ),
    }
}

/// Content at the target of COPY.
enum CopyTarget {
    Nothing,
    File,
    /// Directory that isn't empty.
    Directory,
}

async fn found(target: &str, session: &dyn Session) -> Result<CopyTarget> {
    let url = ListingTableUrl::parse(target)?;
    if url.get_glob().is_some() {
        return plan_err!("COPY writes to one file or directory, not to the pattern '{target}'");
    }
    if url.scheme() == "file" {
        return Ok(local(&Path::new("/").join(url.prefix().as_ref()))?);
    }
    // The writer reports an unknown store.
    let Ok(store) = session.runtime_env().object_store(&url) else {
        return Ok(CopyTarget::Nothing);
    };
    if !url.is_collection() {
        match store.head(url.prefix()).await {
            Ok(_) => return Ok(CopyTarget::File),
            Err(object_store::Error::NotFound { .. }) => {}
            Err(error) => return Err(unknown(target, error)),
        }
    }
    let below: &ObjectPath = url.prefix();
    match store.list(Some(below)).next().await {
        None | Some(Err(object_store::Error::NotFound { .. })) => Ok(CopyTarget::Nothing),
        Some(Ok(_)) => Ok(CopyTarget::Directory),
        Some(Err(error)) => Err(unknown(target, error)),
    }
}

fn local(path: &Path) -> io::Result<CopyTarget> {
    match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(CopyTarget::Nothing),
        Err(error) => Err(error),
        Ok(metadata) if metadata.is_file() => Ok(CopyTarget::File),
        Ok(metadata) if metadata.is_dir() => {
            let is_empty = fs::read_dir(path)?.next().is_none();
            Ok(if is_empty { CopyTarget::Nothing } else { CopyTarget::Directory })
        }
        // Devices and pipes hold nothing that could be lost.
        Ok(_) => Ok(CopyTarget::Nothing),
    }
}

fn unknown(target: &str, error: object_store::Error) -> DataFusionError {
    let target = public_text(target);
    DataFusionError::from(error).context(format!("whether '{target}' exists can't be told"))
}
