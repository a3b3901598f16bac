//! `--mount key=value,...`.

use skep_wire::{BindOptions, DriverConfig, ImageOptions, Mount, TmpfsOptions, VolumeOptions};

use super::volume::absolute;
use crate::cli::csv;
use crate::cli::flags::FlagValue;
use crate::cli::value::read_size;

/// All mounts of a container.
#[derive(Debug, Default)]
pub(crate) struct Mounts(pub(crate) Vec<Mount>);

impl FlagValue for Mounts {
    const TYPE: &'static str = "mount";

    fn set(&mut self, text: &str) -> Result<(), String> {
        self.0.push(parse(text)?);
        Ok(())
    }
}

fn parse(text: &str) -> Result<Mount, String> {
    let mut mount = Mount { kind: "volume".to_owned(), ..Mount::default() };
    for field in csv::fields(text)? {
        let (key, value) = match field.split_once('=') {
            Some((key, value)) => (key.to_lowercase(), value),
            None => {
                let key = field.to_lowercase();
                if !matches!(
                    key.as_str(),
                    "readonly" | "ro" | "volume-nocopy" | "bind-nonrecursive" | "bind-create-src"
                ) {
                    return Err(format!("invalid field '{field}' must be a key=value pair"));
                }
                (key, "true")
            }
        };
        set_field(&mut mount, &key, value, &field)?;
    }
    check(&mount)?;
    Ok(mount)
}

fn set_field(mount: &mut Mount, key: &str, value: &str, field: &str) -> Result<(), String> {
    let switch = || {
        let mut on = false;
        on.set(value).map(|()| on).map_err(|_| format!("invalid value for {key}: {value}"))
    };
    match key {
        "type" => mount.kind = value.to_lowercase(),
        "source" | "src" if value == "." || value.starts_with("./") || value.starts_with("../") => {
            mount.source = absolute(value).map_err(|e| e.to_string())?;
        }
        "source" | "src" => value.clone_into(&mut mount.source),
        "target" | "dst" | "destination" => value.clone_into(&mut mount.target),
        "readonly" | "ro" => mount.read_only = switch()?,
        "consistency" => mount.consistency = value.to_lowercase(),
        "bind-propagation" => bind(mount).propagation = value.to_lowercase(),
        "bind-nonrecursive" => bind(mount).non_recursive = switch()?,
        "bind-create-src" => bind(mount).create_mountpoint = switch()?,
        "bind-recursive" => match value {
            "enabled" => {}
            "disabled" => bind(mount).non_recursive = true,
            "writable" => bind(mount).read_only_non_recursive = true,
            "readonly" => bind(mount).read_only_force_recursive = true,
            _ => {
                return Err(format!(
                    "invalid value for {key}: {value} (must be \"enabled\", \"disabled\", \"writable\", or \"readonly\")"
                ));
            }
        },
        "volume-nocopy" => volume(mount).no_copy = switch()?,
        "volume-subpath" => value.clone_into(&mut volume(mount).subpath),
        "volume-label" => {
            let (name, value) = value.split_once('=').unwrap_or((value, ""));
            volume(mount).labels.insert(name.to_owned(), value.to_owned());
        }
        "volume-driver" => value.clone_into(&mut driver(mount).name),
        "volume-opt" => {
            let (name, value) = value.split_once('=').unwrap_or((value, ""));
            driver(mount).options.insert(name.to_owned(), value.to_owned());
        }
        "image-subpath" => {
            value.clone_into(&mut mount.image_options.get_or_insert_with(ImageOptions::default).subpath);
        }
        "tmpfs-size" => {
            tmpfs(mount).size_bytes = read_size(value).map_err(|_| format!("invalid value for {key}: {value}"))?;
        }
        "tmpfs-mode" => {
            tmpfs(mount).mode =
                u32::from_str_radix(value, 8).map_err(|_| format!("invalid value for {key}: {value}"))?;
        }
        _ => return Err(format!("unexpected key '{key}' in '{field}'")),
    }
    Ok(())
}

fn bind(mount: &mut Mount) -> &mut BindOptions {
    mount.bind_options.get_or_insert_with(BindOptions::default)
}

fn volume(mount: &mut Mount) -> &mut VolumeOptions {
    mount.volume_options.get_or_insert_with(VolumeOptions::default)
}

fn driver(mount: &mut Mount) -> &mut DriverConfig {
    volume(mount).driver_config.get_or_insert_with(DriverConfig::default)
}

fn tmpfs(mount: &mut Mount) -> &mut TmpfsOptions {
    mount.tmpfs_options.get_or_insert_with(TmpfsOptions::default)
}

fn check(mount: &Mount) -> Result<(), String> {
    if mount.kind.is_empty() {
        return Err("type is required".to_owned());
    }
    if mount.target.is_empty() {
        return Err("target is required".to_owned());
    }
    let kind = mount.kind.as_str();
    for (options, given) in [
        ("volume", mount.volume_options.is_some()),
        ("image", mount.image_options.is_some()),
        ("bind", mount.bind_options.is_some()),
        ("tmpfs", mount.tmpfs_options.is_some()),
    ] {
        if given && kind != options {
            return Err(format!("cannot mix '{options}-*' options with mount type '{kind}'"));
        }
    }
    if let Some(bind) = &mount.bind_options {
        let requires = |option: &str, what: &str| {
            Err(format!("option 'bind-recursive={option}' requires '{what}' to be specified in conjunction"))
        };
        if bind.read_only_non_recursive && !mount.read_only {
            return requires("writable", "readonly");
        }
        if bind.read_only_force_recursive && !mount.read_only {
            return requires("readonly", "readonly");
        }
        if bind.read_only_force_recursive && bind.propagation != "rprivate" {
            return requires("readonly", "bind-propagation=rprivate");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_reach_their_place() {
        let mount = parse("type=bind,src=/a,dst=/b,readonly,bind-propagation=rslave").expect("good");
        assert_eq!((mount.kind.as_str(), mount.source.as_str(), mount.read_only), ("bind", "/a", true));
        assert_eq!(mount.bind_options.expect("given").propagation, "rslave");
        let mount = parse("target=/x,volume-opt=a=b,volume-label=l,volume-nocopy,\"volume-opt=o=1,2\"").expect("good");
        let options = mount.volume_options.expect("given");
        assert_eq!(options.driver_config.expect("given").options["o"], "1,2");
        assert!(options.no_copy && options.labels.contains_key("l"));
        let mount = parse("type=tmpfs,target=/x,tmpfs-size=1m,tmpfs-mode=1777").expect("good");
        assert_eq!(mount.tmpfs_options.map(|t| (t.size_bytes, t.mode)), Some((1 << 20, 0o1777)));
    }

    #[test]
    fn errors_are_dockers() {
        for (text, error) in [
            ("type=foo", "target is required"),
            ("xyz", "invalid field 'xyz' must be a key=value pair"),
            ("type=volume,target=/x,readonly=foo", "invalid value for readonly: foo"),
            ("type=tmpfs,target=/x,tmpfs-size=foo", "invalid value for tmpfs-size: foo"),
            ("type=bind,src=/a,target=/b,volume-driver=x", "cannot mix 'volume-*' options with mount type 'bind'"),
            ("type=bind,src=/a,target=/b,foo=x", "unexpected key 'foo' in 'foo=x'"),
        ] {
            assert_eq!(parse(text), Err(error.to_owned()), "{text}");
        }
    }
}
