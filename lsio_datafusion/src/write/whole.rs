//! Writes variables whose values are all in memory.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use arrow::array::ArrayRef;
use datafusion::{
    common::runtime::JoinSet,
    error::{DataFusionError, Result},
};
use lsio_core::{grid::Region, write::StoreWriter};

use crate::error::external;

/// Writes all values of an array, in C order. Tasks encode its objects side by side.
pub(super) async fn write_whole(
    writer: &Arc<StoreWriter>,
    array: usize,
    values: &ArrayRef,
    workers: usize,
) -> Result<()> {
    let Some(own) = writer.arrays().get(array) else { return Ok(()) };
    let shape = own.grid().shape().to_vec();
    let all = Region { start: vec![0; shape.len()], shape };
    let stored = own.stored(values).map_err(external)?;
    let objects = own.grid().len();
    let next = Arc::new(AtomicU64::new(0));
    let mut tasks = JoinSet::new();
    for _ in 0..u64::try_from(workers).unwrap_or(1).clamp(1, objects.max(1)) {
        let (writer, next) = (Arc::clone(writer), Arc::clone(&next));
        let (all, stored) = (all.clone(), stored.clone());
        tasks.spawn(async move {
            let Some(own) = writer.arrays().get(array) else { return Ok(()) };
            loop {
                let object = next.fetch_add(1, Ordering::Relaxed);
                if object >= objects {
                    return Ok(());
                }
                own.write_part(&all, &own.grid().region(object), &stored).await?;
                tokio::task::yield_now().await;
            }
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.map_err(|error| DataFusionError::External(error.into()))?.map_err(external)?;
    }
    Ok(())
}
