// Builds through dockerode, against the engine that DOCKER_HOST names, which has busybox:latest.

"use strict";

const assert = require("node:assert");
const fs = require("node:fs");
const path = require("node:path");
const Docker = require("dockerode");

const docker = new Docker({ socketPath: process.env.DOCKER_HOST.replace("unix://", "") });

/** Builds a folder's files; resolves to what was told. */
async function build(folder, options) {
  const stream = await docker.buildImage({ context: folder, src: fs.readdirSync(folder) }, options);
  return new Promise((resolve, reject) =>
    docker.followProgress(stream, (error, told) => (error ? reject(error) : resolve(told)))
  );
}

function project(name, dockerfile) {
  const folder = path.join(process.env.HOME, name);
  fs.mkdirSync(folder, { recursive: true });
  fs.writeFileSync(path.join(folder, "Dockerfile"), dockerfile);
  fs.writeFileSync(path.join(folder, "file"), "content\n");
  return folder;
}

const text = (told) => told.map((line) => line.stream || line.status || JSON.stringify(line)).join("");

async function output(image, command) {
  const chunks = [];
  const sink = new (require("node:stream").Writable)({
    write: (chunk, _, done) => { chunks.push(chunk); done(); },
  });
  const [result, container] = await docker.run(image, command, sink, { Tty: true });
  assert.strictEqual(result.StatusCode, 0);
  await container.remove();
  return Buffer.concat(chunks).toString().replace(/\r/g, "");
}

/** With arguments, labels and a name, step by step. */
async function classic() {
  const folder = project("classic", "FROM busybox\nARG WHO\nLABEL who=$WHO\nCOPY file /f\nRUN echo hello $WHO\n");
  const told = text(await build(folder, { t: "node:1", buildargs: { WHO: "you" }, labels: { a: "b" }, nocache: true }));
  for (const part of ["Step 5/6 : RUN", "hello you", "Successfully built", "Successfully tagged node:1"]) {
    assert.ok(told.includes(part), told);
  }
  const image = await docker.getImage("node:1").inspect();
  assert.deepStrictEqual(image.Config.Labels, { a: "b", who: "you" });
  assert.strictEqual(await output("node:1", ["cat", "/f"]), "content\n");
  await docker.getImage("node:1").remove();
}

/** BuildKit, with the context in the request and a session beside it. */
async function withBuildKit() {
  const folder = project("kit", "FROM busybox\nARG WHO\nCOPY <<EOF /here\nfrom $WHO\nEOF\nRUN echo hello $WHO\n");
  const told = text(await build(folder, { t: "node:2", version: "2", nocache: true, buildargs: { WHO: "kit" } }));
  assert.ok(told.includes("hello kit"), told);
  assert.strictEqual(await output("node:2", ["cat", "/here"]), "from kit\n");
  await docker.getImage("node:2").remove();
}

/** What fails is in the last line that is told. */
async function failing(options, expected) {
  const folder = project("fails", "FROM busybox\nRUN echo before; exit 7\n");
  const told = await build(folder, options);
  assert.ok(told.some((line) => String(line.error).includes(expected)), JSON.stringify(told));
  assert.ok(JSON.stringify(told).includes("before"), JSON.stringify(told));
}

(async () => {
  await classic();
  await withBuildKit();
  await failing({}, "returned a non-zero code: 7");
  await failing({ version: "2" }, "did not complete successfully: exit code: 7");
  console.log("built in four ways");
})().catch((error) => {
  console.error(error);
  process.exit(1);
});
