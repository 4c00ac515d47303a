//! Names of the items of a SELECT list, where DataFusion would give two the same.

use std::{collections::HashSet, ops::ControlFlow};

use datafusion::sql::sqlparser::ast::{
    Expr, GroupByExpr, Ident, OrderByKind, Query, Select, SelectItem, SetExpr, visit_expressions,
    visit_expressions_mut,
};

/// Gives the items of a SELECT list names that differ: casts are named as written, repeated columns
/// `v_1`, as in DuckDB.
///
/// DataFusion 55.2 names a cast as what is cast, refuses two items of one name, and takes the cast for
/// the column where ORDER BY names it.
pub(super) fn distinguish(query: &mut Query) {
    let sorted = match query.order_by.as_ref().map(|order| &order.kind) {
        Some(OrderByKind::Expressions(expressions)) => {
            expressions.iter().flat_map(|sorted| columns(&sorted.expr)).collect()
        }
        _ => HashSet::new(),
    };
    if let SetExpr::Select(select) = query.body.as_mut() {
        distinguish_items(select, sorted);
    }
}

fn distinguish_items(select: &mut Select, mut named: HashSet<String>) {
    if let GroupByExpr::Expressions(expressions, _) = &select.group_by {
        named.extend(expressions.iter().flat_map(columns));
    }
    named.extend(select.having.iter().flat_map(columns));
    let keys: Vec<Option<String>> = select.projection.iter().map(key).collect();
    let has_wildcard = select.projection.iter().any(|item| matches!(item, SelectItem::Wildcard(_)));
    let mut taken: HashSet<String> = HashSet::new();
    for (at, item) in select.projection.iter_mut().enumerate() {
        let SelectItem::UnnamedExpr(expr) = item else {
            if let SelectItem::ExprWithAlias { alias, .. } = item {
                taken.insert(alias.value.clone());
            }
            continue;
        };
        let Some(key) = &keys[at] else { continue };
        let text = expr.to_string();
        let is_cast = *key != text;
        let is_shared = keys.iter().filter(|other| other.as_ref() == Some(key)).count() > 1;
        let name = if is_cast && (is_shared || has_wildcard || named.contains(key)) {
            Some(text)
        } else if is_shared && taken.contains(&text) {
            let plain = if let Expr::CompoundIdentifier(parts) = &*expr {
                parts.last().map(|part| part.value.clone())
            } else {
                None
            };
            Some(plain.unwrap_or_else(|| match &*expr {
                Expr::Identifier(name) => name.value.clone(),
                _ => text,
            }))
        } else {
            taken.insert(text);
            None
        };
        if let Some(name) = name {
            let free = (1..).map(|number| format!("{name}_{number}"));
            let name = if taken.contains(&name) {
                free.into_iter().find(|name| !taken.contains(name)).unwrap_or(name)
            } else {
                name
            };
            taken.insert(name.clone());
            *item = SelectItem::ExprWithAlias {
                expr: expr.clone(),
                alias: Ident::with_quote('"', name),
            };
        }
    }
}

/// What DataFusion's name of an item follows from: its text without casts and parentheses.
fn key(item: &SelectItem) -> Option<String> {
    let SelectItem::UnnamedExpr(expr) = item else { return None };
    let mut bare = expr.clone();
    let _: ControlFlow<()> = visit_expressions_mut(&mut bare, |expr| {
        while let Expr::Cast { expr: inner, .. } | Expr::Nested(inner) = expr {
            *expr = inner.as_ref().clone();
        }
        ControlFlow::Continue(())
    });
    Some(bare.to_string())
}

/// The texts of the columns that an expression names.
fn columns(expr: &Expr) -> Vec<String> {
    let mut columns = Vec::new();
    let _: ControlFlow<()> = visit_expressions(expr, |expr| {
        if matches!(expr, Expr::Identifier(_) | Expr::CompoundIdentifier(_)) {
            columns.push(expr.to_string());
        }
        ControlFlow::Continue(())
    });
    columns
}
