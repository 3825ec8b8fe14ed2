import { glob } from "node:fs/promises";
import type { DescService } from "@bufbuild/protobuf";
import { expect, test } from "vitest";
import { internalServices, publicServices, routes } from "./routes.ts";

test("every service of proto/ is either public or internal, by decision", async () => {
  const root = new URL("../../../libs/contracts/src/fastgpu/", import.meta.url);
  const inProto: string[] = [];
  for await (const file of glob("**/*_pb.ts", { cwd: root.pathname })) {
    const exported = (await import(new URL(file, root).href)) as Record<string, DescService>;
    for (const one of Object.values(exported)) {
      if (typeof one === "object" && one.kind === "service") inProto.push(one.typeName);
    }
  }
  const decided = [...publicServices.map(([service]) => service), ...internalServices];
  expect(inProto.toSorted()).toEqual(decided.map((service) => service.typeName).toSorted());
});

test("what only services may call has no route", () => {
  for (const service of internalServices) {
    for (const method of service.methods) {
      expect(routes.has(`/${service.typeName}/${method.name}`)).toBe(false);
    }
  }
  expect(routes.has("/fastgpu.auth.v1.ProjectService/GetProject")).toBe(true);
  expect(routes.has("/fastgpu.auth.v1.ProjectService/ResolveProject")).toBe(false);
});
