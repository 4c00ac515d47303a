//! Documentation shown by `\h FUNCTION` and `information_schema.routines`.

use std::{collections::HashMap, sync::LazyLock};

use datafusion::logical_expr::{Documentation, DocumentationBuilder, window_doc_sections};

/// Functions with description and syntax.
const FUNCTIONS: &[(&str, &str, &str)] = &[
    (
        "weighted_avg",
        "The mean of values, each as heavy as its weight. A weight counts only where its value isn't NULL.",
        "weighted_avg(value, weight)",
    ),
    ("corr", "The correlation of two columns, over the rows that have both.", "corr(y, x)"),
    ("covar_samp", "The covariance of a sample, over the rows that have both.", "covar_samp(y, x)"),
    (
        "covar_pop",
        "The covariance of a population, over the rows that have both.",
        "covar_pop(y, x)",
    ),
    ("var", "The variance of a sample.", "var(value)"),
    ("var_pop", "The variance of a population.", "var_pop(value)"),
    ("stddev", "The standard deviation of a sample.", "stddev(value)"),
    ("stddev_pop", "The standard deviation of a population.", "stddev_pop(value)"),
    ("regr_slope", "The slope of the line that fits the rows best.", "regr_slope(y, x)"),
    ("regr_intercept", "Where that line crosses x = 0.", "regr_intercept(y, x)"),
    ("regr_r2", "The part of y's variance that the line explains.", "regr_r2(y, x)"),
    ("regr_avgx", "The mean of x, over the rows that have both.", "regr_avgx(y, x)"),
    ("regr_avgy", "The mean of y, over the rows that have both.", "regr_avgy(y, x)"),
    ("regr_sxx", "The sum of the squared distances of x from its mean.", "regr_sxx(y, x)"),
    ("regr_syy", "The sum of the squared distances of y from its mean.", "regr_syy(y, x)"),
    (
        "percentile_cont",
        "A quantile, between two values where need be: numpy's default method. A list of fractions gives a list.",
        "percentile_cont(value, fraction)",
    ),
    ("median", "The value in the middle, or the mean of both.", "median(value)"),
    (
        "quantile_disc",
        "A quantile that is one of the values, of any type.",
        "quantile_disc(value, fraction)",
    ),
    (
        "arg_max",
        "The value where the key is largest; the smallest of several. Rows that lack either don't count.",
        "arg_max(value, key)",
    ),
    (
        "arg_min",
        "The value where the key is smallest; the smallest of several. Rows that lack either don't count.",
        "arg_min(value, key)",
    ),
    ("mode", "The most frequent value; the smallest of several.", "mode(value)"),
    ("regr_sxy", "The sum of the products of both distances.", "regr_sxy(y, x)"),
    ("fsum", "The sum, with what rounding loses made up for.", "fsum(value)"),
    ("favg", "The mean, with what rounding loses made up for.", "favg(value)"),
    ("product", "The product of all values.", "product(value)"),
    ("geomean", "The geometric mean: the exponential of the mean of logarithms.", "geomean(value)"),
    ("sem", "The standard deviation of a population over the root of the number.", "sem(value)"),
    ("skewness", "How far a sample leans to one side.", "skewness(value)"),
    (
        "kurtosis",
        "How heavy the tails of a sample are; 0 of a normal distribution.",
        "kurtosis(value)",
    ),
    ("kurtosis_pop", "How heavy the tails of a population are.", "kurtosis_pop(value)"),
    (
        "entropy",
        "The bits that a value takes on average, by how often each is there.",
        "entropy(value)",
    ),
    (
        "histogram",
        "The numbers of values in buckets of equal width, as a list: numpy's histogram. Values outside of the \
         bounds aren't counted; the last bucket includes the upper bound.",
        "histogram(value, low, high, count)",
    ),
    ("mad", "The median of the distances from the median.", "mad(value)"),
    ("count_if", "The number of rows where a condition holds.", "count_if(condition)"),
];

/// Documentation of a function.
pub(super) fn documentation(name: &str) -> Option<&'static Documentation> {
    static ALL: LazyLock<HashMap<&str, Documentation>> = LazyLock::new(|| {
        let section = window_doc_sections::DOC_SECTION_AGGREGATE;
        let one = |&(name, does, call): &(&'static str, &str, &str)| {
            (name, DocumentationBuilder::new_with_details(section.clone(), does, call).build())
        };
        FUNCTIONS.iter().map(one).collect()
    });
    ALL.get(name)
}
