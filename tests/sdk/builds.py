"""Builds through Docker's SDK for Python (the classic builder), against the engine that DOCKER_HOST names, which has busybox:latest."""

import io
import pathlib
import tarfile
import tempfile

import docker
import docker.errors


def main():
    client = docker.from_env(timeout=60)
    with tempfile.TemporaryDirectory() as folder:
        from_a_folder(client, pathlib.Path(folder))
    from_a_file(client)
    from_an_archive(client)
    of_a_step_that_fails(client)
    print("built in four ways")


def from_a_folder(client, folder):
    (folder / "Dockerfile").write_text(
        "FROM busybox AS first\nARG WHO\nLABEL who=$WHO\nCOPY . /src\nRUN test ! -e /src/secret && echo hello $WHO\n"
        "FROM first\nRUN exit 1\n"
    )
    (folder / "file").write_text("content\n")
    (folder / "secret").write_text("hush\n")
    (folder / ".dockerignore").write_text("secret\n")
    arguments = {"path": str(folder), "target": "first", "buildargs": {"WHO": "you"}, "labels": {"a": "b"}, "rm": True}
    image, log = client.images.build(tag="sdk:1", **arguments)
    said = "".join(line.get("stream", "") for line in log)
    assert "Step 5/6 : RUN" in said and "hello you" in said and "Successfully tagged sdk:1" in said, said
    assert image.tags == ["sdk:1"] and image.labels == {"who": "you", "a": "b"}, image.attrs
    assert client.containers.run("sdk:1", ["cat", "/src/file"], remove=True) == b"content\n"
    again, log = client.images.build(**arguments)
    said = "".join(line.get("stream", "") for line in log)
    assert again.id == image.id and "Using cache" in said, said
    client.images.remove("sdk:1")


def from_a_file(client):
    lines = list(client.api.build(fileobj=io.BytesIO(b"FROM busybox\nENV A=b\n"), tag="sdk:2", decode=True, nocache=True))
    assert any(line.get("aux", {}).get("ID", "").startswith("sha256:") for line in lines), lines
    assert "A=b" in client.images.get("sdk:2").attrs["Config"]["Env"]
    client.images.remove("sdk:2")


def from_an_archive(client):
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w:gz") as tar:
        for name, text in {"sub/Other": b"FROM busybox\nCOPY sub/file /f\n", "sub/file": b"packed"}.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(text)
            tar.addfile(entry, io.BytesIO(text))
    archive.seek(0)
    image, _ = client.images.build(
        fileobj=archive, custom_context=True, encoding="gzip", dockerfile="sub/Other", tag="sdk:3"
    )
    assert client.containers.run(image.id, ["cat", "/f"], remove=True) == b"packed"
    client.images.remove("sdk:3")


def of_a_step_that_fails(client):
    try:
        client.images.build(fileobj=io.BytesIO(b"FROM busybox\nRUN echo before; exit 7\n"))
    except docker.errors.BuildError as error:
        said = "".join(line.get("stream", "") for line in error.build_log)
        assert "returned a non-zero code: 7" in error.msg and "before" in said, (error.msg, said)
    else:
        raise AssertionError("a step that fails fails the build")


main()
