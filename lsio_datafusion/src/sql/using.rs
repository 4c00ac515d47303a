//! Columns of `JOIN … USING (time)`.

use datafusion::sql::sqlparser::ast::{
    Expr, GroupByExpr, Ident, Join, JoinConstraint, JoinOperator, ObjectName, OrderBy, OrderByKind,
    Query, ReplaceSelectElement, ReplaceSelectItem, Select, SelectItem, SetExpr, TableAlias,
    TableFactor, TableWithJoins, VisitMut,
};

use super::exprs::{call, replace_columns};

/// Qualifies columns of USING by the table that has their values: the left one of an inner or left join, the
/// right one of a right join, `coalesce(a.time, b.time)` of a full join.
///
/// DataFusion 55.2 finds them ambiguous in WHERE, where `plan_selection` passes the filter's own columns as
/// those of USING, and after a second USING; elsewhere it takes the left table's, which are NULL where only
/// the right one has a row.
pub(super) fn qualify(query: &mut Query) {
    let order_by = query.order_by.as_mut();
    match query.body.as_mut() {
        SetExpr::Select(select) => qualify_select(select, order_by),
        body => qualify_set(body),
    }
}

fn qualify_set(body: &mut SetExpr) {
    match body {
        SetExpr::Select(select) => qualify_select(select, None),
        SetExpr::SetOperation { left, right, .. } => {
            qualify_set(left);
            qualify_set(right);
        }
        _ => {}
    }
}

fn qualify_select(select: &mut Select, order_by: Option<&mut OrderBy>) {
    let mut shared: Vec<UsingColumn> = Vec::new();
    for tables in &select.from {
        for found in joined(tables) {
            if let Some(at) = shared.iter().position(|known| same(&known.name, &found.name)) {
                // A column of two FROM items is ambiguous.
                shared.remove(at);
            } else {
                shared.push(found);
            }
        }
    }
    if shared.is_empty() {
        return;
    }
    replace(&mut select.selection, &shared);
    shared.retain(|shared| !shared.is_plain);
    if shared.is_empty() {
        return;
    }
    for item in &mut select.projection {
        replace_item(item, &shared);
    }
    if let GroupByExpr::Expressions(expressions, _) = &mut select.group_by {
        replace(expressions, &shared);
    }
    replace(&mut select.having, &shared);
    replace(&mut select.qualify, &shared);
    // ORDER BY means the list's item of this name.
    shared.retain(|shared| {
        !select.projection.iter().any(|item| match item {
            SelectItem::ExprWithAlias { alias, .. } => same(alias, &shared.name),
            SelectItem::Wildcard(_) => true,
            _ => false,
        })
    });
    if let Some(OrderBy { kind: OrderByKind::Expressions(expressions), .. }) = order_by {
        replace(expressions, &shared);
    }
}

/// Column of USING.
struct UsingColumn {
    name: Ident,
    value: Expr,
    /// Whether DataFusion finds this value outside WHERE.
    is_plain: bool,
}

/// Replaces a column of NATURAL JOIN in WHERE. Returns whether there was one. DataFusion 55.2 calls it
/// ambiguous in WHERE; the columns of a NATURAL JOIN aren't known before.
pub(super) fn qualify_natural(select: &mut Select, name: &str) -> bool {
    let name = Ident::with_quote('"', name);
    let mut shared: Vec<UsingColumn> = Vec::new();
    for tables in &select.from {
        let mut tables = tables.clone();
        for join in &mut tables.joins {
            if let Some(constraint) = constraint(&mut join.join_operator)
                && matches!(constraint, JoinConstraint::Natural)
            {
                *constraint = JoinConstraint::Using(vec![ObjectName::from(vec![name.clone()])]);
            }
        }
        shared.extend(joined(&tables));
    }
    shared.retain(|shared| same(&shared.name, &name));
    if shared.len() != 1 {
        return false;
    }
    replace(&mut select.selection, &shared)
}

fn joined(tables: &TableWithJoins) -> Vec<UsingColumn> {
    let mut shared: Vec<UsingColumn> = Vec::new();
    for (at, Join { relation, join_operator, .. }) in tables.joins.iter().enumerate() {
        let Some((kind, JoinConstraint::Using(names))) = kind(join_operator) else { continue };
        for name in names {
            let [name] = name.0.as_slice() else { continue };
            let Some(name) = name.as_ident() else { continue };
            let before = shared.iter().position(|known| same(&known.name, name));
            let left = match before {
                Some(at) => Some(shared[at].value.clone()),
                // The text doesn't say which of several tables.
                None if at > 0 => None,
                None => column(&tables.relation, name),
            };
            let right = column(relation, name);
            let value = match kind {
                // Both are equal.
                JoinSide::Inner => left.or(right),
                JoinSide::Left => left,
                JoinSide::Right => right,
                JoinSide::Full => {
                    left.zip(right).map(|(left, right)| call("coalesce", vec![left, right]))
                }
            };
            let is_first = before.map(|before| shared.remove(before)).is_none();
            let is_plain = is_first && matches!(kind, JoinSide::Inner | JoinSide::Left);
            shared.extend(value.map(|value| UsingColumn { name: name.clone(), value, is_plain }));
        }
    }
    shared
}

enum JoinSide {
    Inner,
    Left,
    Right,
    Full,
}

/// Constraint of a join that may be natural.
fn constraint(operator: &mut JoinOperator) -> Option<&mut JoinConstraint> {
    match operator {
        JoinOperator::Join(constraint)
        | JoinOperator::Inner(constraint)
        | JoinOperator::Left(constraint)
        | JoinOperator::LeftOuter(constraint)
        | JoinOperator::Right(constraint)
        | JoinOperator::RightOuter(constraint)
        | JoinOperator::FullOuter(constraint) => Some(constraint),
        _ => None,
    }
}

/// Names the subqueries of joins that have no alias. DataFusion 55.2 keeps the inner tables' names for their
/// columns, and confuses two subqueries of one table.
pub(super) fn name_subqueries(select: &mut Select) {
    let mut number = 0_usize;
    let is_joined = select.from.len() > 1 || select.from.iter().any(|from| !from.joins.is_empty());
    if !is_joined {
        return;
    }
    for tables in &mut select.from {
        let joined = tables.joins.iter_mut().map(|join| &mut join.relation);
        for table in std::iter::once(&mut tables.relation).chain(joined) {
            if let TableFactor::Derived { alias: alias @ None, .. } = table {
                number += 1;
                *alias = Some(TableAlias {
                    explicit: true,
                    name: Ident::with_quote('"', format!("subquery_{number}")),
                    columns: Vec::new(),
                    at: None,
                });
            }
        }
    }
}

fn kind(operator: &JoinOperator) -> Option<(JoinSide, &JoinConstraint)> {
    match operator {
        JoinOperator::Join(constraint) | JoinOperator::Inner(constraint) => {
            Some((JoinSide::Inner, constraint))
        }
        JoinOperator::Left(constraint) | JoinOperator::LeftOuter(constraint) => {
            Some((JoinSide::Left, constraint))
        }
        JoinOperator::Right(constraint) | JoinOperator::RightOuter(constraint) => {
            Some((JoinSide::Right, constraint))
        }
        JoinOperator::FullOuter(constraint) => Some((JoinSide::Full, constraint)),
        _ => None,
    }
}

/// Column of a table that has a name.
fn column(table: &TableFactor, name: &Ident) -> Option<Expr> {
    let (TableFactor::Table { alias, .. }
    | TableFactor::Derived { alias, .. }
    | TableFactor::TableFunction { alias, .. }
    | TableFactor::Function { alias, .. }
    | TableFactor::NestedJoin { alias, .. }) = table
    else {
        return None;
    };
    let mut path: Vec<Ident> = match (alias, table) {
        (Some(alias), _) if alias.columns.is_empty() => vec![alias.name.clone()],
        (None, TableFactor::Table { name, args: None, .. }) => {
            name.0.iter().map(|part| part.as_ident().cloned()).collect::<Option<_>>()?
        }
        _ => return None,
    };
    for part in &mut path {
        // A path is quoted as text.
        if part.quote_style == Some('\'') {
            part.quote_style = Some('"');
        }
    }
    path.push(name.clone());
    Some(Expr::CompoundIdentifier(path))
}

fn replace_item(item: &mut SelectItem, shared: &[UsingColumn]) {
    match item {
        SelectItem::UnnamedExpr(expr) => {
            let name = match &*expr {
                Expr::Identifier(name) => shared.iter().find(|shared| same(&shared.name, name)),
                _ => None,
            };
            replace(expr, shared);
            if let Some(named) = name {
                *item = SelectItem::ExprWithAlias { expr: expr.clone(), alias: named.name.clone() };
            }
        }
        SelectItem::ExprWithAlias { expr, .. } => {
            replace(expr, shared);
        }
        SelectItem::Wildcard(options) => {
            let replaced = options.opt_replace.get_or_insert(ReplaceSelectItem { items: vec![] });
            for UsingColumn { name, value, .. } in shared {
                if !replaced.items.iter().any(|item| same(&item.column_name, name)) {
                    replaced.items.push(Box::new(ReplaceSelectElement {
                        expr: value.clone(),
                        column_name: name.clone(),
                        as_keyword: true,
                    }));
                }
            }
        }
        _ => {}
    }
}

fn replace(expressions: &mut impl VisitMut, shared: &[UsingColumn]) -> bool {
    let value = |name: &Ident| shared.iter().find(|shared| same(&shared.name, name));
    replace_columns(expressions, |name| value(name).map(|shared| &shared.value))
}

fn same(a: &Ident, b: &Ident) -> bool {
    a.value == b.value
}
