//! `-v`: a directory of the host or a volume, in the short form `[source:]target[:options]`.

use std::path::Path;

/// What a `-v` asks for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Short {
    /// A volume without a name at this path.
    Anonymous(String),
    /// An entry for `Binds`: a directory or a named volume.
    Bind(String),
}

/// Reads one `-v`. A source that starts with a dot is relative to the working directory of the client.
pub(crate) fn parse(spec: &str) -> Result<Short, String> {
    if spec.is_empty() {
        return Err("invalid empty volume spec".to_owned());
    }
    // Docker takes one or two letters as a target, whatever they are, and leaves the judgement to the engine.
    if spec.len() <= 2 {
        return Ok(Short::Anonymous(spec.to_owned()));
    }
    let fields: Vec<&str> = spec.split(':').collect();
    if fields.iter().any(|field| field.is_empty()) {
        return Err(format!("invalid spec: {spec}: empty section between colons"));
    }
    match fields.as_slice() {
        [target] => Ok(Short::Anonymous((*target).to_owned())),
        [source, _] | [source, _, _] => {
            let rest = &spec[source.len()..];
            let source = match source.starts_with('.') {
                true => absolute(source).map_err(|e| e.to_string())?,
                false => (*source).to_owned(),
            };
            Ok(Short::Bind(format!("{source}{rest}")))
        }
        _ => Err(format!("invalid spec: {spec}: too many colons")),
    }
}

/// The absolute form of a path below the working directory, with `.` and `..` resolved by name.
pub(crate) fn absolute(path: &str) -> std::io::Result<String> {
    let mut out = std::env::current_dir()?;
    for part in Path::new(path).components() {
        match part {
            std::path::Component::ParentDir => {
                out.pop();
            }
            std::path::Component::CurDir => {}
            other => out.push(other),
        }
    }
    Ok(out.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_make_binds() {
        assert_eq!(parse("/data"), Ok(Short::Anonymous("/data".into())));
        assert_eq!(parse("vol:/data:ro"), Ok(Short::Bind("vol:/data:ro".into())));
        assert_eq!(parse("/a:/b"), Ok(Short::Bind("/a:/b".into())));
        let here = std::env::current_dir().expect("a directory").display().to_string();
        assert_eq!(parse("./x/..:/b:z"), Ok(Short::Bind(format!("{here}:/b:z"))));
    }

    #[test]
    fn errors_are_dockers() {
        assert_eq!(parse(""), Err("invalid empty volume spec".into()));
        assert_eq!(parse("/a:/b:/c:/d"), Err("invalid spec: /a:/b:/c:/d: too many colons".into()));
        assert_eq!(parse("/a::/b"), Err("invalid spec: /a::/b: empty section between colons".into()));
    }
}
