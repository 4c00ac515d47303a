//! `FROM t` without `SELECT`.

use datafusion::sql::sqlparser::{
    keywords::Keyword,
    tokenizer::{Token, TokenWithSpan},
};

/// Position of a token in a query.
#[derive(Clone, Copy, PartialEq, Eq)]
enum QueryPosition {
    /// Possible start of a query.
    Start,
    /// After WITH, among named queries.
    With,
    /// After UNION and the like.
    SetOperator,
    /// In the FROM clause that begins a query.
    FromFirst { from: usize },
    /// Anywhere else.
    Within,
}

/// Inserts `SELECT *` before every `FROM` that begins a query without a `SELECT` after it.
///
/// sqlparser 0.62 drops what follows FROM in such queries, and DataFusion 55.2 plans them without columns.
pub(super) fn select_all(tokens: Vec<TokenWithSpan>) -> Vec<TokenWithSpan> {
    let mut begun = Vec::new();
    // One for each open parenthesis.
    let mut outer: Vec<QueryPosition> = Vec::new();
    let mut place = QueryPosition::Start;
    let mut previous = &Token::EOF;
    let mut end = |place: QueryPosition| {
        if let QueryPosition::FromFirst { from } = place {
            begun.push(from);
        }
    };
    for (at, TokenWithSpan { token, .. }) in tokens.iter().enumerate() {
        if matches!(token, Token::Whitespace(_)) {
            continue;
        }
        place = match (token, place) {
            (Token::LParen, _) => {
                outer.push(if place == QueryPosition::Start {
                    QueryPosition::Within
                } else {
                    place
                });
                QueryPosition::Start
            }
            (Token::RParen, _) => {
                end(place);
                outer.pop().unwrap_or(QueryPosition::Within)
            }
            (Token::SemiColon, _) => {
                end(place);
                outer.clear();
                QueryPosition::Start
            }
            (Token::Word(word), _) => match (word.keyword, place) {
                (Keyword::FROM, QueryPosition::Start | QueryPosition::SetOperator) => {
                    QueryPosition::FromFirst { from: at }
                }
                (Keyword::FROM, QueryPosition::With) if previous == &Token::RParen => {
                    QueryPosition::FromFirst { from: at }
                }
                // CREATE VIEW v AS FROM t
                (Keyword::FROM, QueryPosition::Within) if is_as(previous) => {
                    QueryPosition::FromFirst { from: at }
                }
                (Keyword::UNION | Keyword::EXCEPT | Keyword::INTERSECT, _) => {
                    end(place);
                    QueryPosition::SetOperator
                }
                (
                    Keyword::ALL | Keyword::DISTINCT | Keyword::BY | Keyword::NAME,
                    QueryPosition::SetOperator,
                ) => QueryPosition::SetOperator,
                (
                    Keyword::EXPLAIN
                    | Keyword::ANALYZE
                    | Keyword::VERBOSE
                    | Keyword::DESCRIBE
                    | Keyword::DESC,
                    QueryPosition::Start,
                ) => QueryPosition::Start,
                (Keyword::WITH, QueryPosition::Start | QueryPosition::Within)
                    if place == QueryPosition::Start || is_as(previous) =>
                {
                    QueryPosition::With
                }
                (Keyword::SELECT, _) => QueryPosition::Within,
                (_, QueryPosition::With | QueryPosition::FromFirst { .. }) => place,
                _ if place == QueryPosition::Start
                    && word.value.eq_ignore_ascii_case("summarize") =>
                {
                    place
                }
                _ => QueryPosition::Within,
            },
            (_, QueryPosition::With | QueryPosition::FromFirst { .. }) => place,
            _ => QueryPosition::Within,
        };
        previous = token;
    }
    end(place);
    if begun.is_empty() {
        return tokens;
    }
    // Nested queries end before the outer ones.
    begun.sort_unstable();
    let mut begun = begun.into_iter().peekable();
    let mut with_select = Vec::with_capacity(tokens.len() + 2 * begun.len());
    for (at, token) in tokens.into_iter().enumerate() {
        if begun.next_if_eq(&at).is_some() {
            let new = |new| TokenWithSpan::new(new, token.span);
            with_select.extend([new(Token::make_keyword("SELECT")), new(Token::Mul)]);
        }
        with_select.push(token);
    }
    with_select
}

fn is_as(token: &Token) -> bool {
    matches!(token, Token::Word(word) if word.keyword == Keyword::AS)
}
