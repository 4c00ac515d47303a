//! Distinct names for the items of a SELECT list.

use std::{collections::HashSet, ops::ControlFlow};

use datafusion::sql::sqlparser::ast::{
    Expr, GroupByExpr, Ident, OrderByKind, Query, Select, SelectItem, SetExpr,
};

use crate::walk::{SyntaxRewriter, rewrite_syntax, visit_expressions};

/// Gives the items of a SELECT list distinct names: casts as written, repeated columns `v_1`, as in DuckDB.
///
/// DataFusion 55.2 names a cast like its argument, refuses two items of one name, and takes the cast for the
/// column where ORDER BY names it.
pub(super) fn distinguish(query: &mut Query) {
    let sorted = match query.order_by.as_ref().map(|order| &order.kind) {
        Some(OrderByKind::Expressions(expressions)) => {
            expressions.iter().flat_map(|sorted| columns(&sorted.expr)).collect()
        }
        _ => HashSet::new(),
    };
    if let SetExpr::Select(select) = query.body.as_mut() {
        group_by_all(select);
        distinguish_items(select, sorted);
    }
}

fn distinguish_items(select: &mut Select, mut named: HashSet<String>) {
    if let GroupByExpr::Expressions(expressions, _) = &select.group_by {
        named.extend(expressions.iter().flat_map(columns));
    }
    named.extend(select.having.iter().flat_map(columns));
    let keys = keys(select);
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
        let is_qualified = matches!(&*expr, Expr::CompoundIdentifier(_));
        let is_cast = *key != text && !is_qualified;
        let is_shared = keys.iter().filter(|other| other.as_ref() == Some(key)).count() > 1;
        let name = if is_cast && (is_shared || has_wildcard || named.contains(key)) {
            Some(text)
        } else if is_shared && (taken.contains(&text) || (is_qualified && taken.contains(key))) {
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
            taken.extend([text, key.clone()]);
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

/// Groups by all items of the list where two groups would have the same name, as items have distinct names.
///
/// The added groups depend on the others. DataFusion 55.2 refuses two groups of one name.
fn group_by_all(select: &mut Select) {
    let GroupByExpr::Expressions(groups, modifiers) = &select.group_by else { return };
    if !modifiers.is_empty() || groups.len() < 2 {
        return;
    }
    let mut keys: Vec<String> = Vec::new();
    for group in groups {
        let text = group.to_string();
        let position = text.parse().ok().and_then(|position: usize| position.checked_sub(1));
        let item = match position {
            Some(position) => select.projection.get(position),
            None => select.projection.iter().find(|item| match item {
                SelectItem::UnnamedExpr(expr) => expr.to_string() == text,
                SelectItem::ExprWithAlias { alias, .. } => alias.to_string() == text,
                _ => false,
            }),
        };
        match item {
            Some(SelectItem::UnnamedExpr(expr)) => keys.push(key(expr)),
            Some(SelectItem::ExprWithAlias { expr, .. }) => keys.push(key(expr)),
            // The list lacks this group.
            _ => return,
        }
    }
    let distinct: HashSet<&String> = keys.iter().collect();
    let has_window = select.projection.iter().any(|item| match item {
        SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } => {
            let window = visit_expressions(expr, &mut |expr| match expr {
                Expr::Function(function) if function.over.is_some() => ControlFlow::Break(()),
                _ => ControlFlow::Continue(()),
            });
            window.is_break()
        }
        _ => true,
    });
    if distinct.len() < keys.len() && !has_window {
        select.group_by = GroupByExpr::All(Vec::new());
    }
}

/// Keys of the items without an alias. A qualified column has the key of a plain one.
fn keys(select: &Select) -> Vec<Option<String>> {
    let is_listed = |name: &Ident| {
        select.projection.iter().any(
            |item| matches!(item, SelectItem::UnnamedExpr(Expr::Identifier(plain)) if plain == name),
        )
    };
    let key = |item: &SelectItem| match item {
        SelectItem::UnnamedExpr(Expr::CompoundIdentifier(parts)) => match parts.last() {
            Some(last) if is_listed(last) => Some(last.to_string()),
            _ => Some(Expr::CompoundIdentifier(parts.clone()).to_string()),
        },
        SelectItem::UnnamedExpr(expr) => Some(key(expr)),
        _ => None,
    };
    select.projection.iter().map(key).collect()
}

/// Key of DataFusion's name for an expression: its text without casts and parentheses.
fn key(expr: &Expr) -> String {
    let mut bare = expr.clone();
    rewrite_syntax(&mut bare, &mut Bare);
    bare.to_string()
}

/// Takes casts and parentheses away.
struct Bare;

impl SyntaxRewriter for Bare {
    fn leave_expr(&mut self, expr: &mut Expr) {
        while let Expr::Cast { expr: inner, .. } | Expr::Nested(inner) = expr {
            *expr = inner.as_ref().clone();
        }
    }
}

/// Columns that an expression names.
fn columns(expr: &Expr) -> Vec<String> {
    let mut columns = Vec::new();
    let _: ControlFlow<()> = visit_expressions(expr, &mut |expr| {
        if matches!(expr, Expr::Identifier(_) | Expr::CompoundIdentifier(_)) {
            columns.push(expr.to_string());
        }
        ControlFlow::Continue(())
    });
    columns
}
