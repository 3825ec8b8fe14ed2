import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { connect as connectHttp2 } from "node:http2";
import { request as requestHttps } from "node:https";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { TaskService } from "@fastgpu/contracts/fastgpu/scheduler/v1/task_service_pb";
import { Fault } from "@fastgpu/domain/fault";
import { createChannel } from "@fastgpu/rpc/channel";
import { createClient } from "@fastgpu/rpc/client";
import { createTestCertificate } from "@fastgpu/testkit/certificate";
import { describe, expect, test } from "vitest";
import { goodKey, startAll } from "./harness.ts";

describe("the clear-text port", () => {
  test("tells the protocols apart however the first bytes are cut", async () => {
    await using all = await startAll();
    for (const cut of [1, 2, 3, 4, 5]) {
      const text = "PUT /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
      expect(await sendInPieces(all.gateway.port, text, cut)).toContain("HTTP/1.1 200");
    }
    const session = connectHttp2(all.url);
    const stream = session.request({ ":path": "/healthz" });
    const status = await new Promise((resolve) =>
      stream.once("response", (headers) => resolve(headers[":status"])),
    );
    expect(status).toBe(200);
    session.close();
  });

  test("that is taken is a fault which names it and the setting", async () => {
    await using all = await startAll();
    const second = startAll({ port: all.gateway.port });
    const fault = await second.then(
      () => undefined,
      (error: unknown) => Fault.from(error),
    );
    expect(fault?.message).toContain(String(all.gateway.port));
    expect(fault?.message).toContain(`pid ${process.pid}`);
    expect(fault?.hint).toContain("gateway.port");
  });

  test("is refused beyond this machine, unless told to", async () => {
    const open = startAll({ host: "0.0.0.0" });
    await expect(open).rejects.toThrow("without TLS");
    await using all = await startAll({ host: "0.0.0.0", insecure: true });
    expect((await fetch(`${all.url}/healthz`)).status).toBe(200);
  });
});

/** Sends a text in two pieces, and answers what comes back. */
function sendInPieces(port: number, text: string, cut: number): Promise<string> {
  return new Promise((resolve, reject) => {
    let received = "";
    const socket = connect({ port, host: "127.0.0.1", noDelay: true }, () => {
      socket.write(text.slice(0, cut));
      // The second piece in a packet of its own: otherwise the kernel joins them.
      setTimeout(() => socket.write(text.slice(cut)), 20);
    });
    socket.on("data", (chunk) => (received += chunk.toString()));
    socket.once("end", () => resolve(received));
    socket.once("error", reject);
  });
}

test("under TLS, HTTP/1.1 and gRPC are agreed by ALPN", async () => {
  const directory = mkdtempSync(join(tmpdir(), "gateway-"));
  const certFile = join(directory, "cert.pem");
  const keyFile = join(directory, "key.pem");
  const { certPem: ca, keyPem } = createTestCertificate();
  writeFileSync(certFile, ca);
  writeFileSync(keyFile, keyPem);
  await using all = await startAll({ tls: { certFile, keyFile } });
  const status = await new Promise((resolve, reject) => {
    requestHttps(
      { host: "localhost", port: all.gateway.port, path: "/healthz", ca, agent: false },
      (response) => resolve(response.resume().statusCode),
    )
      .once("error", reject)
      .end();
  });
  expect(status).toBe(200);
  const channel = createChannel({
    address: `localhost:${all.gateway.port}`,
    tls: { caPem: ca },
    token: async () => goodKey,
  });
  const task = await createClient(TaskService, channel).getTask({
    name: "projects/proj-a/tasks/t",
  });
  expect(task.name).toBe("projects/proj-a/tasks/t");
  channel.close();
  rmSync(directory, { recursive: true });
});
