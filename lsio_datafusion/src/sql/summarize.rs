//! `SUMMARIZE 'store.zarr'` and `SUMMARIZE SELECT …`, as in DuckDB.

use arrow::datatypes::DataType;
use datafusion::{
    common::{Column, Result, ScalarValue},
    functions::core::expr_fn::r#struct,
    functions_aggregate::expr_fn::{
        approx_distinct, approx_percentile_cont, avg, count, max, min, stddev,
    },
    logical_expr::{
        Case, Cast, Expr, ExprFunctionExt as _, LogicalPlan, LogicalPlanBuilder, col, lit, when,
    },
    sql::sqlparser::{
        keywords::Keyword,
        tokenizer::{Token, TokenWithSpan},
    },
};

/// Columns of a summary in DuckDB's order, with their types.
const COLUMNS: [(&str, DataType); 12] = [
    ("column_name", DataType::Utf8),
    ("column_type", DataType::Utf8),
    ("min", DataType::Utf8),
    ("max", DataType::Utf8),
    ("approx_unique", DataType::Int64),
    ("avg", DataType::Float64),
    ("std", DataType::Float64),
    ("q25", DataType::Float64),
    ("q50", DataType::Float64),
    ("q75", DataType::Float64),
    ("count", DataType::Int64),
    ("null_percentage", DataType::Decimal128(9, 2)),
];

/// Name of the column that numbers the rows of a summary.
const ROW: &str = "row";

/// Form of EXPLAIN before a summary.
pub(super) struct ExplainedSummary {
    pub(super) analyze: bool,
    pub(super) verbose: bool,
}

/// Removes `EXPLAIN` from a statement, if a summary follows.
pub(super) fn explained(tokens: &mut Vec<TokenWithSpan>) -> Option<ExplainedSummary> {
    let mut how = ExplainedSummary { analyze: false, verbose: false };
    let mut begun = false;
    for at in 0..tokens.len() {
        match &tokens[at].token {
            Token::Whitespace(_) => {}
            Token::Word(word) if word.keyword == Keyword::EXPLAIN && !begun => begun = true,
            Token::Word(word) if word.keyword == Keyword::ANALYZE && begun => how.analyze = true,
            Token::Word(word) if word.keyword == Keyword::VERBOSE && begun => how.verbose = true,
            Token::Word(word) if begun && word.value.eq_ignore_ascii_case("summarize") => {
                tokens.drain(..at);
                return Some(how);
            }
            _ => return None,
        }
    }
    None
}

/// Query that a statement summarizes, if it does.
pub(super) fn summarized(tokens: &[TokenWithSpan]) -> Option<Vec<TokenWithSpan>> {
    let is_blank = |token: &TokenWithSpan| matches!(token.token, Token::Whitespace(_));
    let first = tokens.iter().position(|token| !is_blank(token))?;
    let Token::Word(word) = &tokens[first].token else { return None };
    if word.quote_style.is_some() || !word.value.eq_ignore_ascii_case("summarize") {
        return None;
    }
    let rest = &tokens[first + 1..];
    let is_query = match rest.iter().find(|token| !is_blank(token)).map(|token| &token.token) {
        Some(Token::Word(word)) => {
            matches!(word.keyword, Keyword::SELECT | Keyword::WITH | Keyword::VALUES)
        }
        Some(Token::LParen) => true,
        _ => false,
    };
    let mut query = Vec::with_capacity(rest.len() + 3);
    if !is_query {
        let new = |token| TokenWithSpan::new(token, tokens[first].span);
        query.extend([
            new(Token::make_keyword("SELECT")),
            new(Token::Mul),
            new(Token::make_keyword("FROM")),
        ]);
    }
    query.extend_from_slice(rest);
    Some(query)
}

/// Summarizes the rows of a plan in one pass: one row for each of its columns. Mean, standard deviation and
/// quantiles are NULL for columns that aren't numeric.
pub(super) fn summary(rows: LogicalPlan) -> Result<LogicalPlan> {
    let columns: Vec<(Expr, String, DataType)> = (rows.schema().iter())
        .map(|(qualifier, field)| {
            let column = Expr::Column(Column::from((qualifier, field)));
            (column, field.name().clone(), field.data_type().clone())
        })
        .collect();
    let mut aggregates = Vec::new();
    let mut cases: Vec<Vec<Expr>> = vec![Vec::new(); COLUMNS.len()];
    for (row, (column, name, data_type)) in columns.into_iter().enumerate() {
        let statistics = statistics(&column, &name, &data_type)?;
        for (at, statistic) in statistics.into_iter().enumerate() {
            cases[at].push(match statistic {
                Some(SummaryCell::Known(value)) => value,
                Some(SummaryCell::Aggregated(aggregate)) => {
                    let name = format!("{at}_{row}");
                    aggregates.push(aggregate.alias(&name));
                    Expr::Column(Column::from_name(name))
                }
                None => lit(ScalarValue::Null),
            });
        }
    }
    let numbers = (0_i64..).zip(&cases[0]).map(|(row, _)| vec![lit(row)]).collect();
    let numbers = LogicalPlanBuilder::values(numbers)?;
    let numbers = numbers.project([col("column1").alias(ROW)])?.build()?;
    let mut items = vec![col(ROW)];
    for ((name, data_type), values) in COLUMNS.into_iter().zip(cases) {
        // One flat list: planning takes time with the square of the depth of expressions.
        let branch = |(row, statistic): (i64, Expr)| {
            (Box::new(lit(row)), Box::new(cast(statistic, data_type.clone())))
        };
        let branches = (0_i64..).zip(values).map(branch).collect();
        let value = Expr::Case(Case::new(Some(Box::new(col(ROW))), branches, None));
        items.push(cast(value, data_type).alias(name));
    }
    LogicalPlanBuilder::from(rows)
        .aggregate(Vec::<Expr>::new(), aggregates)?
        .cross_join(numbers)?
        .project(items)?
        .sort([col(ROW).sort(true, true)])?
        .project(COLUMNS.map(|(name, _)| Expr::Column(Column::from_name(name))))?
        .build()
}

enum SummaryCell {
    Known(Expr),
    Aggregated(Expr),
}

/// Cells of [`COLUMNS`] for one column.
fn statistics(column: &Expr, name: &str, data_type: &DataType) -> Result<Vec<Option<SummaryCell>>> {
    let is_ordered = data_type.is_numeric()
        || data_type.is_temporal()
        || data_type.is_string()
        || *data_type == DataType::Boolean;
    let number = || cast(column.clone(), DataType::Float64);
    let ordered = |aggregate: fn(Expr) -> Expr| {
        is_ordered.then(|| SummaryCell::Aggregated(aggregate(column.clone())))
    };
    let numeric =
        |aggregate: Expr| data_type.is_numeric().then_some(SummaryCell::Aggregated(aggregate));
    let quantile =
        |part: f64| numeric(approx_percentile_cont(number().sort(true, true), lit(part), None));
    // DataFusion 55.2 can't count distinct floats, nor structures of them.
    let distinct = if data_type.is_floating() {
        approx_distinct(r#struct(vec![column.clone()]))
            .filter(column.clone().is_not_null())
            .build()?
    } else {
        approx_distinct(column.clone())
    };
    let rows = count(lit(1_i64));
    let missing = cast(rows.clone() - count(column.clone()), DataType::Float64) * lit(100.0)
        / when(rows.clone().gt(lit(0_i64)), cast(rows.clone(), DataType::Float64)).end()?;
    Ok(vec![
        Some(SummaryCell::Known(lit(name))),
        Some(SummaryCell::Known(lit(data_type.to_string()))),
        ordered(min),
        ordered(max),
        Some(SummaryCell::Aggregated(distinct)),
        numeric(avg(number())),
        numeric(stddev(number())),
        quantile(0.25),
        quantile(0.5),
        quantile(0.75),
        Some(SummaryCell::Aggregated(rows)),
        Some(SummaryCell::Aggregated(missing)),
    ])
}

fn cast(expr: Expr, data_type: DataType) -> Expr {
    Expr::Cast(Cast::new(Box::new(expr), data_type))
}
