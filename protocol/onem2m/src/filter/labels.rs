//! `lbq`: a query over labels of the form `key` or `key:value` (TS-0004 7.3.3.17.22).

/// A parsed query.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Query<'a> {
    /// `key`
    Has(&'a str),
    /// `NT key`
    Not(&'a str),
    /// `key EQ v`, `key IN (a,b)`
    In(&'a str, Vec<&'a str>),
    /// `key NE v`, `key NI (a,b)`: the key must exist.
    NotIn(&'a str, Vec<&'a str>),
}

/// Reads a query; `None` if it is none.
pub(super) fn parse(text: &str) -> Option<Query<'_>> {
    let text = text.trim();
    let Some((first, rest)) = text.split_once(' ') else { return (!text.is_empty()).then_some(Query::Has(text)) };
    let rest = rest.trim();
    if first == "NT" {
        return (!rest.is_empty() && !rest.contains(' ')).then_some(Query::Not(rest));
    }
    let (operator, value) = rest.split_once(' ').or_else(|| rest.find('(').and_then(|i| rest.split_at_checked(i)))?;
    let value = value.trim();
    let list = || {
        let inner = value.strip_prefix('(')?.strip_suffix(')')?;
        let values: Vec<_> = inner.split(',').map(str::trim).collect();
        (!values.iter().any(|v| v.is_empty())).then_some(values)
    };
    let one = || (!value.is_empty()).then(|| vec![value]);
    match operator {
        "EQ" => one().map(|v| Query::In(first, v)),
        "NE" => one().map(|v| Query::NotIn(first, v)),
        "IN" => list().map(|v| Query::In(first, v)),
        "NI" => list().map(|v| Query::NotIn(first, v)),
        _ => None,
    }
}

impl Query<'_> {
    /// Whether these labels satisfy it.
    pub(super) fn holds<'l>(&self, labels: impl Iterator<Item = &'l str> + Clone) -> bool {
        let values = |key: &str| {
            let key = key.to_owned();
            labels.clone().filter_map(move |label| match label.split_once(':') {
                Some((k, v)) if k == key => Some(Some(v)),
                None if label == key => Some(None),
                _ => None,
            })
        };
        match self {
            Self::Has(key) => values(key).next().is_some(),
            Self::Not(key) => values(key).next().is_none(),
            Self::In(key, wanted) => values(key).any(|v| v.is_some_and(|v| wanted.contains(&v))),
            Self::NotIn(key, unwanted) => {
                values(key).next().is_some() && !values(key).any(|v| v.is_some_and(|v| unwanted.contains(&v)))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holds(query: &str, labels: &[&str]) -> bool {
        parse(query).unwrap().holds(labels.iter().copied())
    }

    #[test]
    fn ts0004_7_3_3_17_labels_query() {
        let labels = ["room:kitchen", "floor:1", "lamp"];
        for (query, expected) in [
            ("room", true),
            ("lamp", true),
            ("window", false),
            ("NT room", false),
            ("NT window", true),
            ("room EQ kitchen", true),
            ("room EQ bath", false),
            ("room NE bath", true),
            ("room NE kitchen", false),
            // NE and NI need the key to exist.
            ("window NE bath", false),
            ("window NI (a,b)", false),
            ("room IN (bath, kitchen)", true),
            ("room IN(bath,kitchen)", true),
            ("room IN (bath)", false),
            ("room NI (bath,hall)", true),
            ("room NI (bath,kitchen)", false),
        ] {
            assert_eq!(holds(query, &labels), expected, "{query}");
        }
        for bad in ["", " ", "NT", "a XX b", "a IN b", "a IN (", "a IN ()", "a EQ", "NT a b", "a b"] {
            assert!(parse(bad).is_none() || bad == "NT", "{bad}");
        }
    }

    proptest::proptest! {
        #[test]
        fn never_panics(text in "[A-Za-z (),é:]{0,30}") {
            if let Some(query) = parse(&text) {
                query.holds(["a:b", "c"].into_iter());
            }
        }
    }
}
