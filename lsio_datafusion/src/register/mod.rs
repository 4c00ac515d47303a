//! Registration of Zarr with a session.

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::{
    catalog::{MemoryCatalogProviderList, TableFunction},
    config::Dialect,
    error::Result,
    execution::{SessionStateBuilder, runtime_env::RuntimeEnv},
    logical_expr::ScalarUDF,
    optimizer::AnalyzerRule,
    physical_optimizer::PhysicalOptimizerRule,
    prelude::{DataFrame, SessionConfig, SessionContext},
};
use lsio_core::{OpenOptions, Resources};

mod catalog;
mod clarify;
mod copied_csv;
mod copy;
mod factory;
mod glob;
mod home;
mod location;
mod metadata;
mod scopes;
mod url_table;
mod words;

use self::{
    catalog::UrlCatalogList,
    copy::CopyGuard,
    factory::ZarrTableFactory,
    home::HomeFactory,
    metadata::{Metadata, MetadataFunction},
    scopes::ScopedPlanner,
    url_table::ZarrUrlTableFactory,
    words::{WordedPlanner, worded_analyzers, worded_optimizers},
};
pub use self::{clarify::clarify, location::open_dataset};
pub(crate) use self::{location::resolve, words::in_words};
use crate::{
    AggregatePushdown, BothZeros, FlagMeaning, FloatKeys, JoinPushdown, LsioConfig,
    RepeatedValueNotes, ZarrTable,
    analyze::{
        CalendarFunctions, CastArguments, ComparedLiterals, CopiedTimes, DistantTimes,
        ExactAggregates, ExactSums, FloatLabels, LimitedLaterals, MissingValues, OrderedDurations,
        PartialTimes, WideIntegers,
    },
    error::external,
    functions::{
        self,
        time::{self, TimePlanner},
    },
    plan_sql,
    repeated_names::FiltersByName,
    scan::GridOrder,
    sql::{DigitNames, NamedCasts, Operators},
    write::{ZarrFormatFactory, ZarrTargets},
};

/// Bytes buffered above a scan with sorted rows.
const SORTED_BUFFER_BYTES: usize = 32 << 20;

/// Zarr in a session: `read_zarr` and `register_zarr` beside DataFusion's own `read_parquet` and
/// `register_parquet`.
///
/// ```
/// # use datafusion::prelude::SessionContext;
/// use lsio_datafusion::prelude::*;
///
/// # #[tokio::main]
/// # async fn main() -> datafusion::error::Result<()> {
/// # let directory = tempfile::tempdir()?;
/// # let store = directory.path().join("store.zarr");
/// # lsio_synthetic::write::GroupWriter::create(&store, serde_json::json!({}))?.whole_array(
/// #     &lsio_synthetic::write::SyntheticArray {
/// #         name: "t", data_type: "int32", dims: &[("x", 3)], chunks: &[3], shards: None,
/// #         compression: lsio_synthetic::write::Compression::None, fill_value: 0.into(),
/// #         attributes: serde_json::json!({}),
/// #     },
/// #     &[1_i32, 2, 3],
/// # )?;
/// # let path = store.display();
/// let ctx = SessionContext::new().with_zarr();
/// let rows = ctx.query(&format!("SELECT sum(t) FROM '{path}'")).await?.collect().await?;
/// # assert_eq!(rows[0].num_rows(), 1);
/// # Ok(())
/// # }
/// ```
#[async_trait]
pub trait ZarrSession: Sized {
    /// Adds to an existing session all that [`ZarrSessionBuilder::with_zarr`] adds to a new one. What is
    /// registered in the session stays.
    #[must_use]
    fn with_zarr(self) -> Self;

    /// The same, where the session reads with these resources instead of the process's: see
    /// [`ZarrSessionBuilder::with_zarr_resources`].
    #[must_use]
    fn with_zarr_resources(self, resources: Resources) -> Self;

    /// Plans a SQL statement, as DataFusion's [`SessionContext::sql`] does, and knows more of it, as DuckDB
    /// does:
    ///
    /// - names that begin with a digit: `SELECT avg(2m_temperature) FROM 'era5.zarr'`,
    /// - `^` and `**` as power, of higher precedence than `*`,
    /// - `FROM 'era5.zarr'` alone, and `FROM 'era5.zarr' SELECT …`,
    /// - `ORDER BY ALL`,
    /// - `SUMMARIZE 'era5.zarr'`, and `SUMMARIZE SELECT …`.
    ///
    /// If the session's `datafusion.sql_parser.dialect` isn't the generic one, that dialect is parsed.
    ///
    /// # Errors
    /// Those of [`SessionContext::sql`].
    async fn query(&self, sql: &str) -> Result<DataFrame>;

    /// Reads a Zarr group or array as a DataFrame. The location is a path or URL, with options after a `?`
    /// where wanted: `store.zarr?dims=time,latitude`.
    ///
    /// # Errors
    /// If the location can't be opened or holds several grids.
    async fn read_zarr(&self, location: &str, options: OpenOptions) -> Result<DataFrame>;

    /// Registers a Zarr group or array as a table.
    ///
    /// # Errors
    /// Those of [`ZarrSession::read_zarr`].
    async fn register_zarr(&self, name: &str, location: &str, options: OpenOptions) -> Result<()>;
}

#[async_trait]
impl ZarrSession for SessionContext {
    fn with_zarr(self) -> Self {
        rebuilt(self, SessionStateBuilder::with_zarr)
    }

    fn with_zarr_resources(self, resources: Resources) -> Self {
        rebuilt(self, |builder| builder.with_zarr_resources(resources))
    }

    async fn query(&self, sql: &str) -> Result<DataFrame> {
        let plan = plan_sql(&self.state(), sql).await?;
        self.execute_logical_plan(plan).await
    }

    async fn read_zarr(&self, location: &str, options: OpenOptions) -> Result<DataFrame> {
        let state = self.state();
        let (config, runtime) = (state.config_options(), state.runtime_env());
        let dataset = open_dataset(location, options, config, runtime).await?;
        self.read_table(Arc::new(ZarrTable::of_query(dataset).map_err(external)?))
    }

    async fn register_zarr(&self, name: &str, location: &str, options: OpenOptions) -> Result<()> {
        let state = self.state();
        let (config, runtime) = (state.config_options(), state.runtime_env());
        let dataset = open_dataset(location, options, config, runtime).await?;
        self.register_table(name, Arc::new(ZarrTable::new(dataset).map_err(external)?))?;
        Ok(())
    }
}

/// The session with another state, in place: what knows it by its state goes on knowing it.
fn rebuilt(
    session: SessionContext,
    teach: impl FnOnce(SessionStateBuilder) -> SessionStateBuilder,
) -> SessionContext {
    let builder = SessionStateBuilder::new_from_existing(session.state());
    let state = teach(builder.with_session_id(session.session_id())).build();
    *session.state_ref().write() = state;
    session
}

/// Zarr for a session that is being built.
pub trait ZarrSessionBuilder {
    /// Adds Zarr to the session:
    ///
    /// - `CREATE EXTERNAL TABLE … STORED AS ZARR`,
    /// - paths as tables: `SELECT … FROM 'store.zarr'`,
    /// - the functions `zarr_variables('store')`, `zarr_attributes('store')` and `flag_meaning(column)`,
    /// - the rules that keep integers from wrapping, compare floats with literals as numpy does, compute
    ///   `date_part` and `date_trunc` in calendars that SQL doesn't know, and compute with times outside 1677
    ///   to 2262,
    /// - the settings under `lsio.`.
    ///
    /// Call it after the session's catalogs and runtime are set. The session reads with the resources of the
    /// process, which are as the environment says ([`Resources::of_process`]).
    #[must_use]
    fn with_zarr(self) -> Self;

    /// The same, where the session reads with these resources.
    ///
    /// ```
    /// use datafusion::prelude::SessionContext;
    /// use lsio_core::{Resources, cache::DiskCache};
    /// use lsio_datafusion::prelude::*;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let directory = tempfile::tempdir()?;
    /// # let scratch = directory.path().join("cache");
    /// let resources = Resources::builder().with_cache(DiskCache::open(scratch, 20 << 30)?).build();
    /// let ctx = SessionContext::new().with_zarr_resources(resources);
    /// # let _ = ctx;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    fn with_zarr_resources(self, resources: Resources) -> Self;
}

impl ZarrSessionBuilder for SessionStateBuilder {
    fn with_zarr(self) -> Self {
        self.taught(None)
    }

    fn with_zarr_resources(self, resources: Resources) -> Self {
        self.taught(Some(resources))
    }
}

/// Teaches a session Zarr.
trait Taught {
    /// With these resources, or those that it has.
    fn taught(self, resources: Option<Resources>) -> Self;
}

impl Taught for SessionStateBuilder {
    fn taught(mut self, resources: Option<Resources>) -> Self {
        let mut config = self.config().take().unwrap_or_default();
        // DataFusion's default is 1 GiB for each partition with sorted rows.
        let execution = &mut config.options_mut().execution;
        execution.sort_pushdown_buffer_capacity =
            execution.sort_pushdown_buffer_capacity.min(SORTED_BUFFER_BYTES);
        if config.options().extensions.get::<LsioConfig>().is_none() {
            config = SessionConfig::with_option_extension(config, LsioConfig::default());
        }
        let own = config.options_mut().extensions.get_mut::<LsioConfig>();
        let has_others = match (own, resources) {
            (Some(own), Some(resources)) => {
                own.resources = resources.into();
                true
            }
            _ => false,
        };
        let runtime = self.runtime_env().take().unwrap_or_else(|| Arc::new(RuntimeEnv::default()));
        let catalogs = self
            .catalog_list()
            .take()
            .unwrap_or_else(|| Arc::new(MemoryCatalogProviderList::new()));
        let resources = LsioConfig::of(config.options()).resources();
        let url_tables = ZarrUrlTableFactory::new(resources.clone(), Arc::clone(&runtime));
        let paths = |catalogs| UrlCatalogList::new(catalogs, Arc::new(url_tables), resources);

        // Before DataFusion's own rules: these see types as the user wrote them, and type coercion sees their
        // results.
        let mut analyzer = self.analyzer().take().unwrap_or_default();
        let rules: [Arc<dyn AnalyzerRule + Send + Sync>; 13] = [
            Arc::new(ZarrTargets),
            Arc::new(CastArguments),
            Arc::new(LimitedLaterals),
            Arc::new(PartialTimes),
            Arc::new(CalendarFunctions),
            Arc::new(DistantTimes),
            Arc::new(ComparedLiterals),
            Arc::new(FloatLabels),
            Arc::new(WideIntegers),
            Arc::new(ExactAggregates),
            Arc::new(OrderedDurations),
            Arc::new(CopiedTimes),
            Arc::new(DigitNames),
        ];
        if analyzer.rules.iter().any(|known| known.name() == rules[0].name()) {
            // The session has Zarr already.
            *self.analyzer() = Some(analyzer);
            let catalogs = if has_others { Arc::new(paths(catalogs)) } else { catalogs };
            return self.with_config(config).with_runtime_env(runtime).with_catalog_list(catalogs);
        }
        analyzer.rules.splice(0..0, rules);
        // After type coercion: conversions may give NaN, and types of sums are final.
        analyzer.rules.push(Arc::new(ExactSums));
        analyzer.rules.push(Arc::new(MissingValues));
        worded_analyzers(&mut analyzer.rules);
        *self.analyzer() = Some(analyzer);
        let mut optimizer = self.optimizer().take().unwrap_or_default();
        optimizer.rules.push(Arc::new(BothZeros));
        worded_optimizers(&mut optimizer.rules);
        *self.optimizer() = Some(optimizer);

        // After filters are pushed into the scan, before rows are distributed.
        let mut physical = self.physical_optimizers().take().unwrap_or_default().rules;
        let own: [Arc<dyn PhysicalOptimizerRule + Send + Sync>; 4] = [
            Arc::new(RepeatedValueNotes),
            Arc::new(FloatKeys),
            Arc::new(JoinPushdown::default()),
            Arc::new(AggregatePushdown),
        ];
        let at = physical.iter().position(|rule| rule.name() == "EnsureRequirements");
        let at = at.unwrap_or(physical.len());
        physical.splice(at..at, own);
        for rule in &mut physical {
            if matches!(rule.name(), "FilterPushdown" | "FilterPushdown(Post)") {
                *rule = Arc::new(FiltersByName(Arc::clone(rule)));
            }
        }
        // Behind the notes and the keys.
        if let Some((join, later)) = physical.get_mut(at + 2..).and_then(<[_]>::split_first_mut) {
            *join = Arc::new(JoinPushdown::before(later.to_vec()));
        }

        // Rows that partitions would bring together in any order.
        physical.push(Arc::new(GridOrder));

        let formats = self.file_formats().get_or_insert_default();
        formats.push(Arc::new(ZarrFormatFactory::default()));
        for factory in self.table_factories().get_or_insert_default().values_mut() {
            *factory = Arc::new(HomeFactory(Arc::clone(factory)));
        }
        let planner = CopyGuard(self.query_planner().take());
        let planner = ScopedPlanner(Arc::new(WordedPlanner(Arc::new(planner))));
        self = self.with_query_planner(Arc::new(planner));

        self.scalar_functions()
            .get_or_insert_default()
            .push(Arc::new(ScalarUDF::new_from_impl(FlagMeaning::default())));
        functions::register(self.scalar_functions().get_or_insert_default());
        // In dialects in which `^` is exclusive or, it stays that.
        if matches!(config.options().sql_parser.dialect, Dialect::Generic | Dialect::DuckDB) {
            let planners = self.expr_planners().get_or_insert_default();
            planners.insert(0, Arc::new(Operators::default()));
        }

        functions::padding::bound(self.scalar_functions().get_or_insert_default());
        functions::aggregate::register(self.aggregate_functions().get_or_insert_default());
        let words = time::functions().into_iter().map(Arc::new);
        self.scalar_functions().get_or_insert_default().extend(words);
        // Before DataFusion's planner of aggregates, after which none runs.
        self.expr_planners().get_or_insert_default().insert(0, Arc::new(NamedCasts));
        self.expr_planners().get_or_insert_default().push(Arc::new(TimePlanner));

        let functions = self.table_functions().get_or_insert_default();
        for metadata in [Metadata::Variables, Metadata::Attributes] {
            let name = metadata.function_name().to_owned();
            let function = MetadataFunction::new(metadata, Arc::clone(&runtime));
            functions.insert(name.clone(), Arc::new(TableFunction::new(name, Arc::new(function))));
        }
        self.with_config(config)
            .with_runtime_env(runtime)
            .with_catalog_list(Arc::new(paths(catalogs)))
            .with_physical_optimizer_rules(physical)
            .with_table_factory("ZARR".to_owned(), Arc::new(ZarrTableFactory))
    }
}
