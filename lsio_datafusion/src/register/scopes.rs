//! A scope for the planning of each query.

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use datafusion::{
    catalog::Session,
    error::Result,
    execution::{SessionState, context::QueryPlanner},
    logical_expr::LogicalPlan,
    physical_plan::ExecutionPlan,
};

use crate::snapshot::QueryScope;

/// Plans each query in a [`QueryScope`] of its own.
pub(super) struct ScopedPlanner(pub(super) Arc<dyn QueryPlanner + Send + Sync>);

impl fmt::Debug for ScopedPlanner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[async_trait]
impl QueryPlanner for ScopedPlanner {
    async fn create_physical_plan(
        &self,
        plan: &LogicalPlan,
        session: &dyn Session,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        // A plan within a query belongs to its scope.
        let is_within = session.config().get_extension::<QueryScope>().is_some();
        let Some(state) = session.as_any().downcast_ref::<SessionState>().filter(|_| !is_within)
        else {
            return self.0.create_physical_plan(plan, session).await;
        };
        let mut state = state.clone();
        state.config_mut().set_extension(QueryScope::new());
        self.0.create_physical_plan(plan, &state).await
    }
}
