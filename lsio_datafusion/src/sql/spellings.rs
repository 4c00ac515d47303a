//! DuckDB's functions and joins that are other expressions and joins of DataFusion's.

use datafusion::sql::sqlparser::ast::{
    BinaryOperator, CastKind, DataType, ExactNumberInfo, Expr, Function, FunctionArg,
    FunctionArgExpr, FunctionArguments, Ident, JoinOperator, ObjectName, TableWithJoins, Value,
};

/// What a call of a function that DataFusion 55.2 lacks is otherwise.
pub(super) fn respelled(name: &str, function: &Function) -> Option<Expr> {
    let FunctionArguments::List(list) = &function.args else { return None };
    let args: Vec<&Expr> = list
        .args
        .iter()
        .map(|arg| match arg {
            FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => Some(expr),
            _ => None,
        })
        .collect::<Option<_>>()?;
    match (name, args.as_slice()) {
        ("mod", [left, right]) => Some(binary(nested(left), BinaryOperator::Modulo, nested(right))),
        ("isinf", [of]) => Some(beside_infinity(of, BinaryOperator::Eq)),
        ("isfinite", [of]) => Some(beside_infinity(of, BinaryOperator::Lt)),
        ("count_if" | "countif", [condition]) if function.filter.is_none() => {
            let mut count = function.clone();
            count.name = ObjectName::from(vec![Ident::new("count")]);
            if let FunctionArguments::List(list) = &mut count.args {
                let one = Expr::Value(Value::Number("1".to_owned(), false).into());
                list.args = vec![FunctionArg::Unnamed(FunctionArgExpr::Expr(one))];
            }
            count.filter = Some(Box::new((*condition).clone()));
            Some(Expr::Function(count))
        }
        _ => None,
    }
}

/// `SEMI JOIN` and `ANTI JOIN`, which DataFusion 55.2 plans with `LEFT` in front.
pub(super) fn respell_joins(tables: &mut TableWithJoins) {
    for join in &mut tables.joins {
        match &mut join.join_operator {
            JoinOperator::Semi(constraint) => {
                join.join_operator = JoinOperator::LeftSemi(constraint.clone());
            }
            JoinOperator::Anti(constraint) => {
                join.join_operator = JoinOperator::LeftAnti(constraint.clone());
            }
            _ => {}
        }
    }
}

fn nested(expr: &Expr) -> Expr {
    Expr::Nested(Box::new(expr.clone()))
}

fn binary(left: Expr, op: BinaryOperator, right: Expr) -> Expr {
    Expr::Nested(Box::new(Expr::BinaryOp { left: Box::new(left), op, right: Box::new(right) }))
}

/// The magnitude of an expression, compared with infinity.
fn beside_infinity(of: &Expr, op: BinaryOperator) -> Expr {
    let magnitude = super::second_try::call("abs", of.clone());
    let infinity = Expr::Cast {
        kind: CastKind::Cast,
        expr: Box::new(Expr::Value(Value::SingleQuotedString("inf".to_owned()).into())),
        data_type: DataType::Double(ExactNumberInfo::None),
        format: None,
        array: false,
    };
    binary(magnitude, op, infinity)
}
