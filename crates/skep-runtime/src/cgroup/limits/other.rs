//! Limits that are a file or two each: pids, huge pages, network, RDMA, and the files of v2 by name.

use std::borrow::Cow;

use super::{Limit, Otherwise, Setting, Step};
use crate::cgroup::{Controllers, Error, Result, Version};
use crate::spec::Resources;

pub(super) fn steps(
    resources: &Resources,
    version: &dyn Fn(Controllers) -> Version,
    steps: &mut Vec<Step>,
) -> Result<()> {
    if let Some(pids) = resources.pids {
        let value = if pids.limit > 0 { pids.limit.to_string() } else { "max".to_owned() };
        let otherwise = if pids.limit > 0 { Otherwise::Warn } else { Otherwise::Ignore };
        steps.push(Step::Write(Setting {
            otherwise,
            ..Setting::new(Limit::Pids, Controllers::PIDS, "pids.max", value)
        }));
    }
    huge_pages(resources, version(Controllers::HUGETLB), steps)?;
    if let Some(network) = &resources.network {
        if let Some(class) = network.class_id {
            steps.push(Step::write(Limit::NetworkClass, Controllers::NET_CLS, "net_cls.classid", class));
        }
        for priority in &network.priorities {
            let value = format!("{} {}", priority.name, priority.priority);
            steps.push(Step::write(Limit::NetworkPriority, Controllers::NET_PRIO, "net_prio.ifpriomap", value));
        }
    }
    for (device, limits) in &resources.rdma {
        let mut value = device.clone();
        for (key, limit) in [("hca_handle", limits.hca_handles), ("hca_object", limits.hca_objects)] {
            if let Some(limit) = limit {
                value.push_str(&format!(" {key}={limit}"));
            }
        }
        steps.push(Step::write(Limit::Rdma, Controllers::RDMA, "rdma.max", value));
    }
    unified(resources, version, steps)
}

fn huge_pages(resources: &Resources, version: Version, steps: &mut Vec<Step>) -> Result<()> {
    for pages in &resources.hugepage_limits {
        let size = &pages.page_size;
        if size.is_empty() || !size.chars().all(|character| character.is_ascii_alphanumeric()) {
            return Err(Error::Invalid { limit: Limit::HugePages, reason: format!("{size:?} is not a page size") });
        }
        // Reservations are limited too, or a mapping within the limit could still fail on use; older kernels can't.
        let (limit, reserved) = match version {
            Version::V1 => ("limit_in_bytes", "rsvd.limit_in_bytes"),
            Version::V2 => ("max", "rsvd.max"),
        };
        let setting = |suffix| {
            Setting::new(Limit::HugePages, Controllers::HUGETLB, format!("hugetlb.{size}.{suffix}"), pages.limit)
        };
        steps.push(Step::Write(setting(limit)));
        steps.push(Step::Write(Setting { otherwise: Otherwise::Ignore, ..setting(reserved) }));
    }
    Ok(())
}

/// Files of v2 by name. They come last, so they win over the same limit said in another way.
fn unified(resources: &Resources, version: &dyn Fn(Controllers) -> Version, steps: &mut Vec<Step>) -> Result<()> {
    for (file, value) in &resources.unified {
        let limit = Limit::File(file.clone());
        if file.contains('/') || file.contains('\0') || !file.contains('.') || file.starts_with('.') {
            return Err(Error::Invalid { limit, reason: "not the name of a file of cgroup v2".to_owned() });
        }
        let controller = match file.split('.').next().unwrap_or_default() {
            "cpu" => Controllers::CPU,
            "cpuset" => Controllers::CPUSET,
            "memory" => Controllers::MEMORY,
            "io" => Controllers::BLKIO,
            "pids" => Controllers::PIDS,
            "hugetlb" => Controllers::HUGETLB,
            "rdma" => Controllers::RDMA,
            // `cgroup.*` and controllers that did not exist when this was written.
            _ => Controllers::NONE,
        };
        if controller != Controllers::NONE && version(controller) == Version::V1 {
            let reason = format!("the {controller} controller of this machine is cgroup v1");
            return Err(Error::Invalid { limit, reason });
        }
        let file: Cow<'static, str> = Cow::Owned(file.clone());
        let value = value.lines(); // several lines are several writes, as for io.max
        steps.extend(value.map(|line| Step::write(limit.clone(), controller, file.clone(), line)));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgroup::limits::tests::lines;
    use crate::spec::{HugepageLimit, InterfacePriority, NetworkPriority, Pids, Rdma};

    fn plan(resources: &Resources, version: Version) -> std::result::Result<Vec<String>, String> {
        let mut list = Vec::new();
        steps(resources, &|_| version, &mut list).map_err(|error| error.to_string())?;
        Ok(lines(list))
    }

    #[test]
    fn pids() {
        let pids =
            |limit| plan(&Resources { pids: Some(Pids { limit }), ..Resources::default() }, Version::V2).unwrap();
        assert_eq!(pids(100), ["pids.max=100"]);
        assert_eq!(pids(0), ["pids.max=max"]);
        assert_eq!(pids(-1), ["pids.max=max"]);
    }

    #[test]
    fn huge_pages_network_and_rdma() {
        let resources = Resources {
            hugepage_limits: vec![HugepageLimit { page_size: "2MB".into(), limit: 4096 }],
            network: Some(NetworkPriority {
                class_id: Some(7),
                priorities: vec![InterfacePriority { name: "eth0".into(), priority: 3 }],
            }),
            rdma: [("mlx5_1".to_owned(), Rdma { hca_handles: Some(3), hca_objects: Some(10000) })].into(),
            ..Resources::default()
        };
        let v1 = plan(&resources, Version::V1).unwrap();
        assert_eq!(v1[..2], ["hugetlb.2MB.limit_in_bytes=4096", "hugetlb.2MB.rsvd.limit_in_bytes=4096"]);
        assert_eq!(
            v1[2..],
            ["net_cls.classid=7", "net_prio.ifpriomap=eth0 3", "rdma.max=mlx5_1 hca_handle=3 hca_object=10000"]
        );
        assert_eq!(plan(&resources, Version::V2).unwrap()[..2], ["hugetlb.2MB.max=4096", "hugetlb.2MB.rsvd.max=4096"]);
        let bad = HugepageLimit { page_size: "../x".into(), limit: 1 };
        assert!(plan(&Resources { hugepage_limits: vec![bad], ..Resources::default() }, Version::V2).is_err());
    }

    #[test]
    fn files_by_name() {
        let unified =
            |file: &str| Resources { unified: [(file.to_owned(), "1\n2".to_owned())].into(), ..Resources::default() };
        assert_eq!(plan(&unified("memory.high"), Version::V2).unwrap(), ["memory.high=1", "memory.high=2"]);
        assert!(plan(&unified("memory.high"), Version::V1).is_err());
        assert!(plan(&unified("cgroup.max.depth"), Version::V1).is_ok());
        for bad in ["../memory.max", "memory", ".", "memory.max/x", ""] {
            assert!(plan(&unified(bad), Version::V2).is_err(), "{bad}");
        }
    }
}
