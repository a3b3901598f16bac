//! The flags of `build`, and what they mean to the engine.

use std::collections::BTreeMap;
use std::path::PathBuf;

use skep_types::Reference;

use super::attributes::Attributes;
use super::output::Output;
use super::secret::{Agent, Secret};
use crate::cli::config::Proxy;
use crate::cli::container::options::lists::Ulimits;
use crate::cli::csv;
use crate::cli::flags::flags;
use crate::cli::value::{Size, SwapSize};

flags! {
    pub(crate) struct BuildFlags {
        add_host: Vec<String> => "add-host", "Add a custom host-to-IP mapping (format: \"host:ip\")";
        allow: Vec<String> => "allow",
            "Allow extra privileged entitlement (e.g., \"network.host\", \"security.insecure\", \"device\")";
        annotation: Vec<String> => "annotation", "Add annotation to the image";
        attest: Vec<String> => "attest", "Attestation parameters (format: \"type=sbom,generator=image\")";
        build_arg: Vec<String> => "build-arg", "Set build-time variables";
        build_context: Vec<String> => "build-context", "Additional build contexts (e.g., name=path)";
        builder: String => "builder", "Builder to use (only \"default\": the engine)";
        cache_from: Vec<String> => "cache-from",
            "External cache sources (e.g., \"user/app:cache\", \"type=local,src=path/to/dir\")";
        cache_to: Vec<String> => "cache-to",
            "Cache export destinations (e.g., \"user/app:cache\", \"type=local,dest=path/to/dir\")";
        call: String = "build" => "call", "Set method for evaluating build (\"check\", \"outline\", \"targets\")";
        cgroup_parent: String => "cgroup-parent", "Set the parent cgroup for the \"RUN\" instructions during build";
        check: bool => "check", "Shorthand for \"--call=check\"";
        compress: bool => "compress", "Accepted and not needed: only what changed is sent";
        cpu_period: i64 => "cpu-period", "Limit the CPU CFS (Completely Fair Scheduler) period of the steps";
        cpu_quota: i64 => "cpu-quota", "Limit the CPU CFS (Completely Fair Scheduler) quota of the steps";
        cpu_shares: i64 => "cpu-shares" 'c', "CPU shares of the steps (relative weight)";
        cpuset_cpus: String => "cpuset-cpus", "CPUs in which to allow execution of the steps (0-3, 0,1)";
        cpuset_mems: String => "cpuset-mems", "MEMs in which to allow execution of the steps (0-3, 0,1)";
        debug: bool => "debug" 'D', "Say more about warnings";
        file: String => "file" 'f', "Name of the Dockerfile (default: \"PATH/Dockerfile\")";
        force_rm: bool => "force-rm", "Accepted and not needed: nothing of a step stays";
        iidfile: String => "iidfile", "Write the image ID to a file";
        label: Vec<String> => "label", "Set metadata for an image";
        load: bool => "load", "Shorthand for \"--output=type=docker\"";
        memory: Size => "memory" 'm', "Memory limit of the steps";
        memory_swap: SwapSize => "memory-swap",
            "Limit of memory plus swap of the steps: -1 to enable unlimited swap";
        metadata_file: String => "metadata-file", "Write build result metadata to a file";
        network: String = "default" => "network", "Set the networking mode for the \"RUN\" instructions during build";
        no_cache: bool => "no-cache", "Do not use cache when building the image";
        no_cache_filter: Vec<String> => "no-cache-filter", "Do not cache specified stages";
        on_error: String => "on-error",
            "What to do when a step fails: \"shell\" opens a shell where it failed, with what it wrote";
        output: Vec<String> => "output" 'o', "Output destination (format: \"type=local,dest=path\")";
        platform: Vec<String> => "platform", "Set target platform for build";
        progress: String = "auto" => "progress",
            "Set type of progress output (\"auto\", \"none\", \"plain\", \"quiet\", \"rawjson\", \"tty\"). Use plain to show container output";
        provenance: Option<String> => "provenance", "Shorthand for \"--attest=type=provenance\"";
        pull: bool => "pull", "Always attempt to pull all referenced images";
        push: bool => "push", "Shorthand for \"--output=type=registry\"";
        quiet: bool => "quiet" 'q', "Suppress the build output and print image ID on success";
        rm: bool = true => "rm", "Accepted and not needed: nothing of a step stays";
        sbom: Option<String> => "sbom", "Shorthand for \"--attest=type=sbom\"";
        secret: Vec<String> => "secret", "Secret to expose to the build (format: \"id=mysecret[,src=/local/secret]\")";
        shm_size: Size => "shm-size", "Shared memory size for build containers";
        squash: bool => "squash", "Squash newly built layers into a single new layer";
        ssh: Vec<String> => "ssh", "SSH agent socket or keys to expose to the build (format: \"default|<id>[=<socket>|<key>[,<key>]]\")";
        tag: Vec<String> => "tag" 't', "Name and optionally a tag (format: \"name:tag\")";
        target: String => "target", "Set the target build stage to build";
        ulimit: Ulimits => "ulimit", "Ulimit options";
    }
}

/// What the engine is asked for, and what of this machine it may have.
#[derive(Debug, Default)]
pub(super) struct Request {
    /// The attributes of BuildKit's Dockerfile frontend.
    pub(super) attributes: Attributes,
    /// Directories of this machine by the names that the engine knows them by.
    pub(super) directories: BTreeMap<String, PathBuf>,
    pub(super) outputs: Vec<Output>,
    pub(super) secrets: Vec<Secret>,
    pub(super) agents: Vec<Agent>,
    pub(super) cache_from: Vec<Cache>,
    pub(super) cache_to: Vec<Cache>,
    pub(super) entitlements: Vec<String>,
}

/// A cache elsewhere.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Cache {
    pub(super) kind: String,
    pub(super) attributes: BTreeMap<String, String>,
}

impl BuildFlags {
    /// Everything but the context and the Dockerfile.
    pub(super) fn request(&self, proxy: &Proxy, stdout_is_terminal: bool) -> Result<Request, String> {
        let attributes = self.attributes(proxy)?;
        let mut request = Request { attributes, entitlements: self.allow.clone(), ..Request::default() };
        if self.network == "host" {
            request.entitlements.push("network.host".to_owned());
        }
        for text in &self.build_context {
            named_context(text, &mut request)?;
        }
        request.secrets = self.secret.iter().map(|text| Secret::parse(text)).collect::<Result<_, _>>()?;
        request.agents = self.ssh.iter().map(|text| Agent::parse(text)).collect::<Result<_, _>>()?;
        request.cache_from = self.cache_from.iter().map(|text| cache(text)).collect::<Result<_, _>>()?;
        request.cache_to = self.cache_to.iter().map(|text| cache(text)).collect::<Result<_, _>>()?;
        request.outputs = self.outputs(stdout_is_terminal)?;
        Ok(request)
    }

    /// What is made of the result: an image of the engine unless something else is said.
    fn outputs(&self, stdout_is_terminal: bool) -> Result<Vec<Output>, String> {
        let mut outputs = Vec::new();
        for text in &self.output {
            outputs.push(Output::parse(text, stdout_is_terminal)?);
        }
        if self.push && self.load && !self.output.is_empty() {
            return Err("push and load may not be set together with --output".to_owned());
        }
        if self.push {
            outputs.push(Output::registry());
        } else if outputs.is_empty() || self.load {
            outputs.push(Output::image());
        }
        self.name_and_annotate(&mut outputs)?;
        Ok(outputs)
    }

    fn name_and_annotate(&self, outputs: &mut [Output]) -> Result<(), String> {
        let mut names = Vec::new();
        for tag in &self.tag {
            let reference: Reference =
                tag.parse().map_err(|_| format!("invalid tag {tag:?}: invalid reference format"))?;
            names.push(reference.or_latest().to_string());
        }
        for output in outputs.iter_mut() {
            let images = matches!(output.kind.as_str(), "moby" | "oci" | "docker");
            if images && !names.is_empty() {
                output.attributes.insert("name".to_owned(), names.join(","));
            }
            let pushes = output.attributes.get("push").is_some_and(|value| value == "true");
            if pushes && !output.attributes.contains_key("name") {
                return Err("tag is needed when pushing to registry".to_owned());
            }
            for text in self.annotation.iter().filter(|_| images) {
                let (key, value) =
                    text.split_once('=').ok_or_else(|| format!("invalid annotation {text:?}: expected key=value"))?;
                let (level, key) = key.split_once(':').unwrap_or(("manifest", key));
                output.attributes.insert(format!("annotation-{level}.{key}"), value.to_owned());
            }
        }
        Ok(())
    }
}

/// `NAME=path`, `NAME=docker-image://…`, `NAME=https://…`.
fn named_context(text: &str, request: &mut Request) -> Result<(), String> {
    let (name, value) = text
        .split_once('=')
        .filter(|(name, _)| !name.is_empty())
        .ok_or_else(|| format!("invalid context value: {text}, expected key=value"))?;
    let value = if value.contains("://") || super::context::is_remote(value) {
        value.to_owned()
    } else {
        let path = PathBuf::from(value);
        if !path.is_dir() {
            return Err(format!("failed to get build context {name}: path {value:?} is no directory"));
        }
        request.directories.insert(name.to_owned(), path);
        format!("local:{name}")
    };
    request.attributes.insert(format!("context:{name}"), value);
    Ok(())
}

/// `user/app:cache` or `type=local,src=…`.
fn cache(text: &str) -> Result<Cache, String> {
    let fields = csv::fields(text)?;
    if fields.iter().all(|field| !field.contains('=')) {
        let attributes = [("ref".to_owned(), text.to_owned())].into();
        return Ok(Cache { kind: "registry".to_owned(), attributes });
    }
    let mut cache = Cache::default();
    for field in &fields {
        let (key, value) = field.split_once('=').ok_or_else(|| format!("invalid value {field}"))?;
        match key.trim().to_lowercase().as_str() {
            "type" => value.clone_into(&mut cache.kind),
            key => drop(cache.attributes.insert(key.to_owned(), value.to_owned())),
        }
    }
    if cache.kind.is_empty() {
        return Err(format!("type required form> {text:?}"));
    }
    Ok(cache)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::flags::{Order, parse};

    fn request(words: &[&str]) -> Result<Request, String> {
        let words: Vec<String> = words.iter().map(|&word| word.to_owned()).collect();
        let (flags, _) = parse::<BuildFlags>(&words, Order::Mixed).expect("good flags");
        flags.request(&Proxy::default(), false)
    }

    #[test]
    fn flags_become_attributes() {
        let found = request(&[
            "-t",
            "app",
            "-t",
            "app:2",
            "--target=t",
            "--build-arg",
            "A=b=c",
            "--label",
            "x=y",
            "--no-cache",
            "--pull",
            "--platform",
            "linux/amd64,linux/arm64",
            "--add-host",
            "db:10.0.0.1",
            "--network=none",
            "--ulimit",
            "nofile=1:2",
            "--shm-size=64m",
            "--memory=64m",
            "--cpuset-cpus=0",
            "--squash",
            "--provenance=false",
            "--sbom=true",
            "--annotation",
            "index:a=b",
        ])
        .expect("good");
        let attribute = |key: &str| found.attributes.get(key).map(String::as_str);
        for (key, value) in [
            ("target", "t"),
            ("build-arg:A", "b=c"),
            ("label:x", "y"),
            ("no-cache", ""),
            ("image-resolve-mode", "pull"),
            ("platform", "linux/amd64,linux/arm64"),
            ("add-hosts", "db=10.0.0.1"),
            ("force-network-mode", "none"),
            ("ulimit", "nofile=1:2"),
            ("shm-size", "67108864"),
            ("skep.memory", "67108864"),
            ("skep.cpuset-cpus", "0"),
            ("skep.squash", "true"),
            ("attest:provenance", "disabled=true"),
            ("attest:sbom", ""),
        ] {
            assert_eq!(attribute(key), Some(value), "{key}");
        }
        let [output] = found.outputs.as_slice() else { panic!("one output") };
        assert_eq!(output.attributes["name"], "docker.io/library/app:latest,docker.io/library/app:2");
        assert_eq!(output.attributes["annotation-index.a"], "b");
    }

    #[test]
    fn contexts_and_caches_have_short_forms() {
        let found = request(&[
            "--build-context",
            "src=.",
            "--build-context",
            "b=docker-image://busybox",
            "--cache-from",
            "x/y:c",
            "--cache-to",
            "type=local,dest=d,mode=max",
        ])
        .expect("good");
        assert_eq!(found.directories["src"], PathBuf::from("."));
        assert_eq!(found.attributes["context:src"], "local:src");
        assert_eq!(found.attributes["context:b"], "docker-image://busybox");
        assert_eq!(found.cache_from[0].attributes["ref"], "x/y:c");
        assert_eq!((found.cache_to[0].kind.as_str(), found.cache_to[0].attributes["mode"].as_str()), ("local", "max"));
    }

    #[test]
    fn mistakes_are_named() {
        for (words, wanted) in [
            (vec!["--push"], "tag is needed when pushing to registry"),
            (vec!["-t", "A:"], "invalid tag \"A:\": invalid reference format"),
            (vec!["--build-context", "x"], "invalid context value: x, expected key=value"),
            (vec!["--attest", "mode=max"], "attestation type not specified"),
        ] {
            assert_eq!(request(&words).expect_err(wanted), wanted);
        }
    }
}
