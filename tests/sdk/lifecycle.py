"""What programs do through Docker's SDK for Python, against the engine that DOCKER_HOST names, which has busybox:latest.

Every step is a function of its own, cleans up behind itself, and fails with a traceback. Steps named on the command line are
run alone.
"""

import io
import queue
import sys
import tarfile
import threading
import time
import traceback

import docker
import docker.errors
import docker.types

IMAGE = "busybox:latest"
SLEEP = ["sleep", "1000"]


def sleeper(client, **options):
    return client.containers.run(IMAGE, SLEEP, detach=True, init=True, **options)


def raises(kind, function, *arguments, **options):
    """The error of the call, which must be of this kind."""
    try:
        result = function(*arguments, **options)
    except kind as error:
        return error
    raise AssertionError(f"{kind.__name__} expected, got {result!r}")


def same(found, expected):
    assert found == expected, f"expected {expected!r}, found {found!r}"


def system(client):
    assert client.ping() is True
    version = client.version()
    lowest, highest = (tuple(map(int, version[key].split("."))) for key in ("MinAPIVersion", "ApiVersion"))
    negotiated = tuple(map(int, client.api.api_version.split(".")))
    assert lowest <= negotiated <= highest, (lowest, negotiated, highest)
    same(version["Os"], "linux")
    info = client.info()
    same(info["OSType"], "linux")
    assert info["NCPU"] >= 1 and info["MemTotal"] > 0 and info["ID"], info
    assert client.df()["Images"]


def versions(client):
    """An old and the newest version of the API, both asked for by name."""
    offered = client.version()
    for version in (offered["MinAPIVersion"], offered["ApiVersion"]):
        other = docker.from_env(version=version)
        same(other.api.api_version, version)
        same(other.containers.run(IMAGE, ["echo", version], remove=True), f"{version}\n".encode())
        other.close()


def images(client):
    assert IMAGE in [tag for image in client.images.list() for tag in image.tags]
    image = client.images.get(IMAGE)
    assert image.id.startswith("sha256:")
    same(image.attrs["Os"], "linux")
    same(client.images.list(name="busybox")[0].id, image.id)
    same(len(client.images.list(filters={"reference": "nothing-like-this"})), 0)
    assert image.history()
    assert image.tag("other", "name")
    image.reload()
    assert "other:name" in image.tags, image.tags
    saved = b"".join(client.images.get("other:name").save(named="other:name"))
    client.images.remove("other:name")
    raises(docker.errors.ImageNotFound, client.images.get, "other:name")
    same([loaded.id for loaded in client.images.load(saved)], [image.id])
    client.images.remove("other:name")
    raises(docker.errors.ImageNotFound, client.containers.create, "not-here:at-all")


def run(client):
    same(client.containers.run(IMAGE, ["echo", "hello"], remove=True), b"hello\n")
    both = "echo out; echo err >&2"
    same(client.containers.run(IMAGE, ["sh", "-c", both], remove=True), b"out\n")
    same(client.containers.run(IMAGE, ["sh", "-c", both], remove=True, stdout=False, stderr=True), b"err\n")
    same(client.containers.run(IMAGE, ["sh", "-c", "echo $A; pwd; hostname"], environment={"A": "b"}, remove=True,
                               working_dir="/tmp", hostname="named"), b"b\n/tmp\nnamed\n")
    lines = client.containers.run(IMAGE, ["seq", "3"], stream=True, remove=True)
    same(b"".join(lines), b"1\n2\n3\n")
    error = raises(docker.errors.ContainerError, client.containers.run, IMAGE,
                   ["sh", "-c", "echo bad >&2; exit 3"], remove=True)
    same((error.exit_status, error.stderr), (3, b"bad\n"))
    error = raises(docker.errors.APIError, client.containers.run, IMAGE, ["no-such-program"], remove=True)
    same(error.status_code, 400)
    assert "executable file not found" in error.explanation, error.explanation
    client.containers.list(all=True)[0].remove()  # of the failed start, which the SDK leaves
    same(client.containers.list(all=True), [])


def limits(client):
    container = sleeper(client, mem_limit="64m", nano_cpus=500_000_000, pids_limit=50, cap_drop=["ALL"],
                        ulimits=[docker.types.Ulimit(name="nofile", soft=100, hard=200)],
                        restart_policy={"Name": "on-failure", "MaximumRetryCount": 2},
                        log_config=docker.types.LogConfig(type="json-file", config={"max-size": "1m"}),
                        tmpfs={"/scratch": "size=1m"}, ports={"80/tcp": ("127.0.0.1", None)}, labels=["marked"],
                        healthcheck=None, shm_size="16m", sysctls={"net.ipv4.ip_forward": "0"})
    host = container.attrs["HostConfig"]
    same((host["Memory"], host["NanoCpus"], host["PidsLimit"]), (64 << 20, 500_000_000, 50))
    same(container.exec_run(["sh", "-c", "ulimit -n"]).output, b"100\n")
    container.reload()
    same(container.ports["80/tcp"][0]["HostIp"], "127.0.0.1")
    container.remove(force=True)


def lists(client):
    one = sleeper(client, name="one", labels={"which": "1"})
    client.containers.create(IMAGE, name="two")
    same([container.name for container in client.containers.list()], ["one"])
    same({container.name for container in client.containers.list(all=True)}, {"one", "two"})
    same([container.name for container in client.containers.list(filters={"label": "which=1"})], ["one"])
    same([c.name for c in client.containers.list(all=True, filters={"status": "created"})], ["two"])
    same(client.containers.list(limit=1)[0].name, "two")
    same(client.containers.get(one.short_id).id, one.id)
    same(one.image.id, client.images.get(IMAGE).id)
    same(raises(docker.errors.APIError, client.containers.create, IMAGE, name="one").status_code, 409)
    raises(docker.errors.NotFound, client.containers.get, "three")
    for name in ("one", "two"):
        client.containers.get(name).remove(force=True)


def logs(client):
    script = "for i in 1 2 3; do echo out $i; echo err $i >&2; sleep 0.1; done"
    container = client.containers.run(IMAGE, ["sh", "-c", script], detach=True)
    followed = b"".join(container.logs(stream=True, follow=True, stderr=False))
    same(followed, b"out 1\nout 2\nout 3\n")
    same(container.wait()["StatusCode"], 0)
    same(container.logs(stdout=False, stderr=True), b"err 1\nerr 2\nerr 3\n")
    same(len(container.logs().splitlines()), 6)
    same(container.logs(tail=1), b"err 3\n")
    assert container.logs(timestamps=True, tail=1).startswith(b"20")
    same(container.logs(since=int(time.time()) + 100), b"")
    container.remove()
    container = client.containers.run(IMAGE, ["echo", "from a terminal"], detach=True, tty=True)
    container.wait()
    same(container.logs(), b"from a terminal\r\n")
    container.remove()


def attach(client):
    container = client.containers.create(IMAGE, ["cat"], stdin_open=True)
    stream = container.attach_socket(params={"stdin": 1, "stdout": 1, "stderr": 1, "stream": 1})
    container.start()
    stream._sock.sendall(b"through\n")
    head = stream.read(8)
    same(head, b"\x01\0\0\0\0\0\0\x08")
    same(stream.read(8), b"through\n")
    stream._sock.shutdown(1)
    stream.close()
    container.remove(force=True)


def execute(client):
    container = sleeper(client)
    for _ in range(50):  # output that comes right behind the head of the answer
        same(container.exec_run(["echo", "one"]), (0, b"one\n"))
    same(container.exec_run("sh -c 'exit 4'").exit_code, 4)
    same(container.exec_run(["sh", "-c", "echo out; echo err >&2"], demux=True).output, (b"out\n", b"err\n"))
    same(container.exec_run(["sh", "-c", "echo $A; pwd; id -un"], environment=["A=b"], workdir="/tmp",
                            user="user").output, b"b\n/tmp\nuser\n")
    same(b"".join(container.exec_run(["seq", "3"], stream=True).output), b"1\n2\n3\n")
    same(container.exec_run(["tty"], tty=True).output.strip(), b"/dev/pts/0")
    same(container.exec_run(["true"], detach=True).output, "")
    _, stream = container.exec_run(["cat"], stdin=True, socket=True)
    stream._sock.sendall(b"text")
    stream._sock.shutdown(1)
    same(stream.read(), b"\x01\0\0\0\0\0\0\x04text")
    stream.close()
    made = client.api.exec_create(container.id, ["sh", "-c", "exit 7"])["Id"]
    client.api.exec_start(made)
    state = client.api.exec_inspect(made)
    same((state["Running"], state["ExitCode"], state["ContainerID"]), (False, 7, container.id))
    result = container.exec_run(["no-such-program"])
    same(result.exit_code, 127)
    container.remove(force=True)
    stopped = client.containers.create(IMAGE)
    same(raises(docker.errors.APIError, stopped.exec_run, "true").status_code, 409)
    stopped.remove()


def files(client):
    container = sleeper(client)
    content = b"some text\n" * 10_000
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        entry = tarfile.TarInfo("folder/file")
        entry.size, entry.mode, entry.uid, entry.mtime = len(content), 0o640, 1000, 1_600_000_000
        archive.addfile(entry, io.BytesIO(content))
    assert container.put_archive("/tmp", packed.getvalue())
    same(container.exec_run(["stat", "-c", "%a %u %s %Y", "/tmp/folder/file"]).output, b"640 1000 100000 1600000000\n")
    parts, stat = container.get_archive("/tmp/folder")
    same(stat["name"], "folder")
    with tarfile.open(fileobj=io.BytesIO(b"".join(parts))) as archive:
        same(set(archive.getnames()), {"folder", "folder/file"})
        same(archive.extractfile("folder/file").read(), content)
    raises(docker.errors.NotFound, container.get_archive, "/nothing")
    raises(docker.errors.NotFound, container.put_archive, "/nothing", packed.getvalue())
    assert {"Path": "/tmp/folder/file", "Kind": 1} in container.diff()
    with tarfile.open(fileobj=io.BytesIO(b"".join(container.export()))) as archive:
        assert "tmp/folder/file" in archive.getnames()
    container.remove(force=True)


def states(client):
    container = sleeper(client, name="before")

    def status():
        container.reload()
        return container.status

    same(status(), "running")
    container.rename("after")
    container.reload()
    same(container.name, "after")
    container.pause()
    same(status(), "paused")
    container.unpause()
    same(status(), "running")
    top = container.top()
    assert any("sleep" in " ".join(process) for process in top["Processes"]), top
    assert "PID" in top["Titles"], top
    container.top(ps_args="-o pid,comm")
    started = container.attrs["State"]["StartedAt"]
    container.restart(timeout=5)
    same(status(), "running")
    assert container.attrs["State"]["StartedAt"] > started
    container.kill("SIGSTOP")
    container.kill("CONT")
    container.stop(timeout=5)
    same(status(), "exited")
    same(container.wait()["StatusCode"], 143)
    container.stop()
    container.start()
    same(status(), "running")
    raises(docker.errors.APIError, container.remove)
    done = queue.Queue()
    waiter = threading.Thread(target=lambda: done.put(docker.from_env().api.wait(container.id, condition="removed")))
    waiter.start()
    time.sleep(0.3)
    container.remove(force=True)
    same(done.get(timeout=30)["StatusCode"], 137)
    waiter.join()
    raises(docker.errors.NotFound, client.containers.get, "after")


def stats(client):
    container = sleeper(client)
    sample = container.stats(stream=False)
    same(sample["name"], "/" + container.name)
    assert sample["memory_stats"]["usage"] > 0 and sample["cpu_stats"]["cpu_usage"]["total_usage"] > 0, sample
    assert sample["cpu_stats"]["system_cpu_usage"] > sample["precpu_stats"]["system_cpu_usage"] > 0, sample
    assert sample["pids_stats"]["current"] >= 1 and sample["networks"]["eth0"], sample
    samples = container.stats(stream=True, decode=True)
    first, second = next(samples), next(samples)
    assert first["read"] < second["read"]
    same(second["preread"], first["read"])
    samples.close()
    container.remove(force=True)


def volumes(client):
    volume = client.volumes.create("kept", labels={"a": "b"})
    same((volume.name, volume.attrs["Driver"], volume.attrs["Labels"]), ("kept", "local", {"a": "b"}))
    assert "kept" in [each.name for each in client.volumes.list()]
    same([each.name for each in client.volumes.list(filters={"label": "a=b"})], ["kept"])
    client.containers.run(IMAGE, ["sh", "-c", "echo text > /data/file"], volumes={"kept": {"bind": "/data"}},
                          remove=True)
    mount = docker.types.Mount("/other", "kept", read_only=True)
    same(client.containers.run(IMAGE, ["cat", "/other/file"], mounts=[mount], remove=True), b"text\n")
    error = raises(docker.errors.ContainerError, client.containers.run, IMAGE, ["touch", "/other/file"],
                   mounts=[mount], remove=True)
    assert b"Read-only file system" in error.stderr, error.stderr
    user = client.containers.create(IMAGE, volumes=["kept:/data"])
    same(raises(docker.errors.APIError, volume.remove).status_code, 409)
    user.remove()
    volume.remove()
    raises(docker.errors.NotFound, client.volumes.get, "kept")
    anonymous = client.volumes.create()
    same(len(anonymous.name), 64)
    assert anonymous.name in client.volumes.prune()["VolumesDeleted"]


def networks(client):
    same({network.name for network in client.networks.list()}, {"bridge", "host", "none"})
    bridge = client.networks.get("bridge")
    container = sleeper(client)
    container.reload()
    address = container.attrs["NetworkSettings"]["Networks"]["bridge"]["IPAddress"]
    bridge.reload()
    same([each.id for each in bridge.containers], [container.id])
    assert address in container.exec_run(["ip", "addr"]).output.decode()
    container.remove(force=True)
    same(client.networks.list(names=["bridge"])[0].id, bridge.id)


def events(client):
    since = time.time()
    live = queue.Queue()
    other = docker.from_env()
    stream = other.events(decode=True, filters={"type": "container"})

    def listen():
        for event in stream:
            live.put(event["Action"])

    listener = threading.Thread(target=listen, daemon=True)
    listener.start()
    container = client.containers.run(IMAGE, ["true"], detach=True, name="evented")
    container.wait()
    container.remove()
    expected = ["create", "start", "die", "destroy"]
    seen = []
    while "destroy" not in seen:
        seen.append(live.get(timeout=20))
    same([action for action in seen if action in expected], expected)
    stream.close()
    time.sleep(1.1)  # `until` of the SDK has whole seconds
    past = list(client.events(since=int(since), until=int(time.time()), decode=True, filters={"container": "evented"}))
    same([event["Action"] for event in past if event["Action"] in expected], expected)
    same(past[0]["Actor"]["Attributes"]["name"], "evented")
    assert all(event["time"] and event["timeNano"] for event in past)
    same(list(client.events(since=1, until=2)), [])


def prune(client):
    container = client.containers.run(IMAGE, ["true"], detach=True)
    container.wait()
    same(client.containers.prune()["ContainersDeleted"], [container.id])


STEPS = [system, versions, images, run, limits, lists, logs, attach, execute, files, states, stats, volumes, networks,
         events, prune]


def main():
    wanted = sys.argv[1:]
    failed = []
    for step in STEPS:
        if wanted and step.__name__ not in wanted:
            continue
        client = docker.from_env(timeout=30)
        begin = time.monotonic()
        try:
            step(client)
            print(f"{step.__name__}: ok, {time.monotonic() - begin:.1f} s", flush=True)
        except Exception:
            failed.append(step.__name__)
            traceback.print_exc()
            for container in client.containers.list(all=True):
                container.remove(force=True, v=True)
        client.close()
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


main()
