//! What clients are told that the engine can do: names from BuildKit's lists (`solver/pb/caps.go`, `frontend/gateway/pb/caps.go`). What is
//! not in them, clients don't use.

use skep_buildkit::proto::moby::buildkit::v1::apicaps::ApiCap;

/// Of the gateway.
const FRONTEND: [&str; 22] = [
    "solve.base",
    "resolveimage",
    "resolveimage.resolvemode",
    "readfile",
    "readdir",
    "statfile",
    "gateway.exec",
    "gateway.exec.extrahosts",
    "gateway.exec.signals",
    "gateway.exec.secretenv",
    "return",
    "returnmap",
    "importcaches",
    "proto.refarray",
    "reference.output",
    "frontend.inputs",
    "gateway.solve.metadata",
    "frontend.caps",
    "gateway.solve.evaluate",
    "gateway.evaluate",
    "gateway.warnings",
    "source.metaresolver",
];

/// Of sources, steps and exporters.
const STEPS: [&str; 56] = [
    "source.image",
    "source.image.resolvemode",
    "source.image.layerlimit",
    "source.local",
    "source.local.unique",
    "source.local.sessionid",
    "source.local.includepatterns",
    "source.local.followpaths",
    "source.local.excludepatterns",
    "source.local.sharedkeyhint",
    "source.git",
    "source.git.keepgitdir",
    "source.git.fullurl",
    "source.git.subdir",
    "source.git.checksum",
    "source.git.httpauth",
    "source.git.mountsshsock",
    "source.http",
    "source.http.checksum",
    "source.ocilayout",
    "exec.meta.base",
    "exec.meta.cgroup.parent",
    "exec.meta.network",
    "exec.meta.proxyenv",
    "exec.meta.security",
    "exec.meta.setsdefaultpath",
    "exec.meta.ulimit",
    "exec.mount.bind",
    "exec.mount.bind.readwrite-nooutput",
    "exec.mount.cache",
    "exec.mount.cache.sharing",
    "exec.mount.selector",
    "exec.mount.tmpfs",
    "exec.mount.tmpfs.size",
    "exec.mount.secret",
    "exec.mount.ssh",
    "exec.cgroup",
    "exec.secretenv",
    "file.base",
    "file.rm.wildcard",
    "file.rm.nofollowsymlink",
    "file.symlink.create",
    "file.copy.includeexcludepatterns",
    "file.copy.modestring",
    "mergeop",
    "diffop",
    "constraints",
    "platform",
    "meta.ignorecache",
    "meta.description",
    "exporter.image.annotations",
    "exporter.image.attestations",
    "exporter.sourcedateepoch",
    "exporter.multiple",
    "gc.freespacefilter",
    "history.filter",
];

/// Of the gateway.
pub(crate) fn frontend() -> Vec<ApiCap> {
    FRONTEND.iter().map(cap).collect()
}

/// Of sources, steps and exporters.
pub(crate) fn steps() -> Vec<ApiCap> {
    STEPS.iter().map(cap).collect()
}

fn cap(id: &&str) -> ApiCap {
    ApiCap { id: (*id).to_owned(), enabled: true, ..ApiCap::default() }
}
