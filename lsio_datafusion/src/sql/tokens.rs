//! Rewriting of tokens before they are parsed.

use datafusion::sql::sqlparser::{
    dialect::Dialect,
    keywords::Keyword,
    tokenizer::{Token, TokenWithSpan, Tokenizer, TokenizerError, Word},
};

use super::from_first::select_all;

/// Tokens of a statement for the parser:
///
/// - `**` is `^`,
/// - numbers may have underscores between their digits, or end in `L`,
/// - a name that begins with what would be a number, `2e3m`, is one name,
/// - `FROM t` without a list of columns selects all of them.
pub(super) fn tokens(
    dialect: &dyn Dialect,
    sql: &str,
) -> Result<Vec<TokenWithSpan>, TokenizerError> {
    let mut joined: Vec<TokenWithSpan> = Vec::new();
    for mut token in Tokenizer::new(dialect, sql).tokenize_with_location()? {
        token.token = number(token.token);
        // The fraction of 1_000.5, whose integer part was taken for a name.
        if let Token::Number(fraction, long) = &token.token
            && let [.., whole, point] = joined.as_mut_slice()
            && point.token == Token::Period
            && let Token::Number(digits, false) = &whole.token
        {
            whole.token = Token::Number(format!("{digits}.{fraction}"), *long);
            whole.span.end = token.span.end;
            joined.pop();
            continue;
        }
        match joined.last_mut() {
            // White space is a token too, so these stand side by side.
            Some(last) => match join(&last.token, &token.token) {
                Some(both) => {
                    last.token = both;
                    last.span.end = token.span.end;
                }
                None => joined.push(token),
            },
            None => joined.push(token),
        }
    }
    Ok(select_all(joined))
}

/// Joins two tokens that mean one.
fn join(left: &Token, right: &Token) -> Option<Token> {
    match (left, right) {
        (Token::Mul, Token::Mul) => Some(Token::Caret),
        (Token::Number(digits, false), Token::Word(word)) if word.quote_style.is_none() => {
            Some(Token::make_word(&format!("{digits}{}", word.value), None))
        }
        _ => None,
    }
}

/// Parses a word as a number: `1_000`, `10L`.
fn number(token: Token) -> Token {
    let Token::Word(Word { value, quote_style: None, keyword: Keyword::NoKeyword }) = &token else {
        return token;
    };
    if !value.starts_with(|first: char| first.is_ascii_digit()) {
        return token;
    }
    let (digits, long) = match value.strip_suffix('L') {
        Some(digits) => (digits, true),
        None => (value.as_str(), false),
    };
    let is_number = (digits.split('_'))
        .all(|part| !part.is_empty() && part.bytes().all(|digit| digit.is_ascii_digit()));
    if is_number { Token::Number(digits.replace('_', ""), long) } else { token }
}
