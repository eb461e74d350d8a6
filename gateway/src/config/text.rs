//! Names of fields and methods as the configuration file has them: lists of texts.

/// A list of header names.
pub(super) mod header_names {
    use http::HeaderName;
    use serde::de::{self, Deserialize, Deserializer};
    use serde::ser::Serializer;

    pub(in super::super) fn serialize<S: Serializer>(
        names: &[HeaderName],
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(names.iter().map(HeaderName::as_str))
    }

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Vec<HeaderName>, D::Error> {
        let texts = Vec::<String>::deserialize(deserializer)?;
        let names = texts.iter().map(|text| {
            text.parse()
                .map_err(|_| de::Error::custom(format!("`{text}` is not a header name")))
        });
        names.collect()
    }
}

/// A list of header names that may be left out.
pub(super) mod some_header_names {
    use http::HeaderName;
    use serde::de::Deserializer;
    use serde::ser::Serializer;

    use super::header_names;

    pub(in super::super) fn serialize<S: Serializer>(
        names: &Option<Vec<HeaderName>>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match names {
            Some(names) => header_names::serialize(names, serializer),
            None => serializer.serialize_none(),
        }
    }

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Vec<HeaderName>>, D::Error> {
        header_names::deserialize(deserializer).map(Some)
    }
}

/// A list of methods, in capital letters; GET brings HEAD with it.
pub(super) mod methods {
    use http::Method;
    use serde::de::{self, Deserialize, Deserializer};
    use serde::ser::Serializer;

    pub(in super::super) fn serialize<S: Serializer>(
        methods: &[Method],
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(methods.iter().map(Method::as_str))
    }

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Vec<Method>, D::Error> {
        let mut methods: Vec<Method> = Vec::new();
        for text in Vec::<String>::deserialize(deserializer)? {
            let method = Method::from_bytes(text.as_bytes())
                .ok()
                .filter(|_| {
                    let mut bytes = text.bytes();
                    bytes.all(|byte| byte.is_ascii_uppercase() || byte == b'-')
                })
                .ok_or_else(|| {
                    de::Error::custom(format!(
                        "`{text}` is not a method: write it in capital letters"
                    ))
                })?;
            if !methods.contains(&method) {
                methods.push(method);
            }
        }
        let get = methods.iter().position(|method| method == Method::GET);
        if let Some(get) = get
            && !methods.contains(&Method::HEAD)
        {
            methods.insert(get + 1, Method::HEAD);
        }
        Ok(methods)
    }
}
